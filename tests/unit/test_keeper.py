"""The keeper stops only who is idle, none of its parts stops another, and what was whole of samples and dumps stays."""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import os
import random
import signal
import socketserver
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from keeper import __main__ as program
from keeper import census, dumps, host, idle, journal, reserve
from keeper.coder import Coder, CoderError
from keeper.engine import Engine, EngineError, _first_file
from keeper.parking import Parking
from keeper.pressure import LOOK_AGAIN_S, PATIENCE_S, Pressure
from keeper.samples import Sampler
from stack.jobs import backups
from stack.jobs.names import KUBERNETES_TEMPLATE, TEMPLATE, WORKSPACE_LABEL
from stack.keeper import BUNDLE, zone
from tests.http_server import QuietHandler, serving

CHECKOUT = Path(__file__).resolve().parents[2]
HOUR = 3600.0
IDLE_S = 600.0
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)

RESTING = idle.Workspace(
    id="w", title="admin/demo", container_id="c", ram_mib=512, started_s=5 * HOUR, unused_s=3 * HOUR,
    claude="idle for 180 min",
)  # fmt: skip

TABLE = [
    ("nobody was there for hours", {}, ""),
    ("no watcher, no Claude", {"claude": ""}, ""),
    ("Claude has waited for longer than the idle time", {"claude": "waits for you for 10 min"}, ""),
    ("used right now", {"unused_s": 0}, "used 0 s ago"),
    ("used just within the idle time", {"unused_s": IDLE_S - 1}, "used 9 min ago"),
    ("used just before it", {"unused_s": IDLE_S}, ""),
    ("used in the future, the clock was set back", {"unused_s": -HOUR}, "was used"),
    ("just started", {"started_s": 30}, "just started"),
    ("Claude works", {"claude": "working for 3 min"}, "Claude works"),
    ("Claude works past the limit", {"claude": "working, but past the keep-alive limit"}, "Claude works"),
    ("Claude waits for a minute", {"claude": "waits for you for 1 min"}, "waits for you"),
    ("Claude ended its turn a minute ago", {"claude": "idle for 1 min"}, "idle for 1 min"),
    ("the watcher is not heard", {"claude": "keep-alive does not work on this Coder"}, "cannot be told"),
    ("no container", {"container_id": ""}, "no container"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "change", "reason"), TABLE, ids=[what for what, *_ in TABLE])
def test_who_stays_and_why(what: str, change: dict[str, Any], reason: str) -> None:
    found = idle.why_it_stays(replace(RESTING, **change), IDLE_S)
    assert (reason in found) if reason else (found == "")


def test_a_time_since_something_is_not_believed_before_the_clock_has_run_evenly_for_as_long() -> None:
    assert idle.why_it_stays(RESTING, IDLE_S, even_s=IDLE_S) == ""
    assert "the clock was set" in idle.why_it_stays(RESTING, IDLE_S, even_s=IDLE_S - 1)


def test_the_longest_unused_goes_first_and_a_start_counts_as_use() -> None:
    def one(title: str, unused_h: float, started_h: float = 9) -> idle.Workspace:
        return replace(RESTING, id=title, title=title, unused_s=unused_h * HOUR, started_s=started_h * HOUR)

    found = [one("b", 2), one("worker", 9), one("a", 2), one("longest", 8), one("new", 8, started_h=1)]
    found[1] = replace(found[1], claude="working for 1 min")
    assert [each.title for each in idle.order(found, IDLE_S)] == ["longest", "a", "b", "new"]
    assert idle.in_the_way(found, IDLE_S) == ["worker, 512 MiB: Claude works in it"]


def test_a_hundred_workspaces_in_any_order_give_the_same_one() -> None:
    made = [replace(RESTING, id=str(n), title=f"u/{n:03}", unused_s=HOUR + n) for n in range(100)]
    for seed in range(5):
        random.Random(seed).shuffle(made)  # noqa: S311  no secret
        assert idle.order(made, IDLE_S)[0].title == "u/099"


def test_the_words_of_the_templates_watcher_are_those_that_are_read() -> None:
    script = (CHECKOUT / "terraform-template" / "scripts" / "keep-alive.sh").read_text()
    for words in ("working for $", "waits for you for $", "idle for $", "keep-alive does not work", 'ask) ask "$2"'):
        assert words in script


def test_a_claude_that_never_started_keeps_no_workspace() -> None:
    script = (CHECKOUT / "terraform-template" / "scripts" / "keep-alive.sh").read_text()
    assert 'show "not started"' in script
    assert idle.why_it_stays(replace(RESTING, claude="not started"), IDLE_S) == ""


# The clock.


def _moment(wall_s: float, uptime_s: float, boot: str = "b") -> dict[str, Any]:
    return {"wall_s": wall_s, "uptime_s": uptime_s, "boot": boot}


def test_samples_of_before_say_that_the_clock_ran_evenly_also_for_a_keeper_that_just_started() -> None:
    past = [_moment(1000 + each, 100 + each) for each in range(0, 1200, 60)]
    assert host.Clock(past, 2260, 1360, "b").even_s(2260, 1360) == 1260
    assert host.Clock([], 2260, 1360, "b").even_s(2260, 1360) == 0
    # Another boot, or a clock that was set meanwhile.
    assert host.Clock([_moment(1000, 100, "a")], 2260, 1360, "b").even_s(2260, 1360) == 0
    assert host.Clock(past, 2260 + HOUR, 1360, "b").even_s(2260 + HOUR, 1360) == 0


@pytest.mark.parametrize("jump_s", [-HOUR, HOUR, 10 * 365 * 24 * HOUR])
def test_a_clock_that_is_set_begins_anew(jump_s: float) -> None:
    clock = host.Clock([_moment(1000, 100)], 2000, 1100, "b")
    assert clock.even_s(2100, 1200) == 1100
    assert clock.even_s(2105 + jump_s, 1205) == 0
    assert clock.even_s(2205 + jump_s, 1305) == 100


# The reserve.


@pytest.mark.parametrize(("text", "mib"), [("10%", 3200), ("8192", 8192), ("0", 0)])
def test_the_reserve_is_a_size_or_a_share(text: str, mib: float) -> None:
    assert reserve.mib(text, 32_000) == mib
    assert reserve.problem(text, 32_000) == ""


def test_a_reserve_that_the_host_does_not_have_stops_nobody_and_is_told() -> None:
    assert "run `pulumi config set memoryReserve 10%`" in reserve.problem("65536", 32_000)


# A Coder and an engine, as far as the keeper asks them.


@dataclass
class Box:
    """What runs, who is connected, and what was asked for."""

    workspaces: dict[str, dict[str, Any]] = field(default_factory=dict)
    inside: dict[str, str] = field(default_factory=dict)
    """What the look into a workspace prints."""
    stopped: list[str] = field(default_factory=list)
    status: str = "succeeded"
    refuses: int = 0
    unstoppable: str = ""
    answers: bool = True

    def add(self, name: str, unused_s: float, claude: str = "idle for 600 min", inside: str = "looked\n") -> None:
        used = datetime.now(UTC) - timedelta(seconds=unused_s)
        old = (datetime.now(UTC) - timedelta(days=2)).isoformat()
        self.workspaces[name] = {
            "id": name, "owner_name": "admin", "name": name, "last_used_at": used.isoformat(), "claude": claude,
            "template_name": TEMPLATE,
            "latest_build": {"created_at": old, "job": {"completed_at": old, "status": "succeeded"}},
        }  # fmt: skip
        self.inside[name] = inside


class FakeEngine(Engine):
    """Each workspace's container is called as it is."""

    box: Box

    def containers(self, stack: str) -> list[dict[str, Any]]:
        if not self.box.answers:
            raise EngineError("Docker does not answer")
        return [
            {"Id": name, "Names": [f"/{name}"], "State": "running", "Labels": {WORKSPACE_LABEL: name}}
            for name in self.box.workspaces
        ]

    def side_by_side(
        self, paths: Mapping[str, str], at_once: int, limit_bytes: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        used = {"memory_stats": {"usage": 512 << 20}, "cpu_stats": {"cpu_usage": {"total_usage": 1}}}
        for name, path in paths.items():
            status = _tar(b"status", b"0", f"{self.box.workspaces[name]['claude']}\n".encode())
            yield name, status if "/archive?" in path else json.dumps(used).encode()

    def run(self, container_id: str, command: list[str]) -> str:
        return self.box.inside[container_id]


@pytest.fixture
def box() -> Box:
    return Box()


@pytest.fixture
def coder(box: Box) -> Iterator[Coder]:
    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802  http.server's name
            self._answer()

        def do_POST(self) -> None:  # noqa: N802  http.server's name
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer()

        def _answer(self) -> None:
            if box.refuses:
                self.answer(box.refuses, {"message": "You are signed out."})
                return
            path = urlsplit(self.path).path.removeprefix("/api/v2/").split("/")
            if path == ["workspaces"]:
                offset = int(self.path.partition("offset=")[2] or 0)
                running = [each for name, each in box.workspaces.items() if name not in box.stopped]
                self.answer(200, {"workspaces": running[offset : offset + 25]})
            elif path[0] == "workspaces" and path[1] == box.unstoppable:
                self.answer(400, {"message": "Unable to validate parameters"})
            elif path[0] == "workspaces":
                box.stopped.append(path[1])
                self.answer(201, {"id": f"build-{path[1]}"})
            else:
                self.answer(200, {"job": {"status": box.status}})

    with serving(Handler) as url:
        yield Coder(url=url, token="t", timeout_s=5)


@dataclass
class Watched:
    """A keeper's pressure part on a clock of its own."""

    pressure: Pressure
    said: list[str]
    available_mib: float = 1000
    up_s: float = 100_000

    def turn(self, seconds: float = 5) -> str:
        self.up_s += seconds
        return self.pressure.turn(self.up_s, self.up_s)

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds // 5)):
            self.turn()


@pytest.fixture
def watched(box: Box, coder: Coder, tmp_path: Path) -> Watched:
    engine = FakeEngine(host="unix:///none")
    object.__setattr__(engine, "box", box)
    said: list[str] = []
    parking = Parking(
        engine=engine, coder=coder, stack="s", idle_s=IDLE_S, say=said.append, stops=tmp_path / "stops.jsonl"
    )
    clock = host.Clock([_moment(0, 0)], 100_000, 100_000, "b")
    made = Watched(Pressure(reserve="10%", parking=parking, clock=clock, say=said.append), said)
    made.pressure.memory = lambda: host.Memory(available=made.available_mib, total=32_000)
    return made


def test_the_first_stop_is_asked_for_within_75_seconds_and_not_before_a_minute(box: Box, watched: Watched) -> None:
    box.add("demo", HOUR)
    watched.run(PATIENCE_S)
    assert box.stopped == []
    watched.run(15)
    assert box.stopped == ["demo"]
    assert "stopping admin/demo, unused for 1 h 00 min, has 512 MiB" in watched.said[0]


def test_memory_that_is_short_for_a_moment_is_nobodys_loss(box: Box, watched: Watched) -> None:
    box.add("demo", HOUR)
    for _ in range(20):
        watched.run(PATIENCE_S - 10)
        watched.available_mib = 5000
        watched.turn()
        watched.available_mib = 1000
    assert box.stopped == []


def test_one_goes_at_a_time_and_the_next_only_where_memory_is_still_short(box: Box, watched: Watched) -> None:
    for hours in (1, 3, 2):
        box.add(f"h{hours}", hours * HOUR)
    box.status = "running"
    watched.run(PATIENCE_S + 120)
    assert box.stopped == ["h3"]
    box.status = "succeeded"
    watched.run(10)
    assert box.stopped == ["h3", "h2"]
    watched.available_mib = 5000
    watched.run(PATIENCE_S + 120)
    assert box.stopped == ["h3", "h2"]
    noted = list(journal.read(watched.pressure.parking.stops))
    assert [(each["build"], each["ram_mib"]) for each in noted] == [("build-h3", 512), ("build-h2", 512)]


@pytest.mark.parametrize(
    "shown", ["connected\nlooked\n", "session\nlooked\n", "busy\nlooked\n", "silent\nlooked\n", "no agent\n", ""]
)
def test_who_is_found_in_use_inside_stays_though_everything_else_says_idle(
    box: Box, watched: Watched, shown: str
) -> None:
    box.add("longest", 9 * HOUR, inside=shown)
    watched.run(PATIENCE_S + IDLE_S - 10)
    assert box.stopped == []
    box.add("other", HOUR)
    watched.run(LOOK_AGAIN_S + 10)
    assert box.stopped == ["other"]


def test_a_clock_that_is_set_forward_stops_nobody_who_is_connected(box: Box, watched: Watched) -> None:
    box.add("demo", 60)
    # Both clocks were an hour apart, and Coder's times are an hour old now.
    box.workspaces["demo"]["last_used_at"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    watched.run(30)
    watched.up_s += 5
    watched.pressure.turn(watched.up_s + HOUR, watched.up_s)
    for _ in range(int(IDLE_S // 5) - 1):
        watched.up_s += 5
        watched.pressure.turn(watched.up_s + HOUR, watched.up_s)
    assert box.stopped == []


def test_a_workspace_that_does_not_stop_is_told_and_the_next_one_goes(box: Box, watched: Watched) -> None:
    box.add("stuck", 9 * HOUR)
    box.add("other", HOUR)
    box.status = "failed"
    watched.run(PATIENCE_S + 5)
    assert "admin/stuck did not stop: its build is failed" in watched.turn()
    box.status = "succeeded"
    watched.run(10)
    assert box.stopped == ["stuck", "other"]


def test_a_workspace_whose_stop_coder_refuses_is_left_alone_and_the_next_one_goes(box: Box, watched: Watched) -> None:
    box.add("refused", 9 * HOUR)
    box.add("other", HOUR)
    box.unstoppable = "refused"
    watched.run(PATIENCE_S + 10)
    assert box.stopped == ["other"]
    assert "admin/refused stays: Coder refused, 400: Unable to validate parameters" in watched.said
    watched.run(LOOK_AGAIN_S)
    assert "admin/refused: Coder refused, 400: Unable to validate parameters" in watched.pressure.parking.in_the_way


def test_a_stop_that_never_ends_is_given_up(box: Box, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    box.add("stuck", 9 * HOUR)
    box.status = "running"
    watched.run(PATIENCE_S + 10)
    up_s = host.uptime_s()
    monkeypatch.setattr(host, "uptime_s", lambda: up_s + 301)
    assert "did not stop" in watched.turn()
    assert watched.pressure.parking.stopping is None


def test_what_coder_refuses_stops_nobody_and_says_what_fixes_it(box: Box, watched: Watched) -> None:
    box.add("demo", HOUR)
    box.refuses = 401
    watched.run(PATIENCE_S - 5)
    watched.turn()
    with pytest.raises(CoderError, match="`make up` makes a new one"):
        watched.turn()
    assert "`make up` makes a new one" in watched.turn()
    box.refuses = 0
    watched.run(LOOK_AGAIN_S + 5)
    assert box.stopped == ["demo"]


@pytest.mark.parametrize(("status", "answers", "told"), [(0, True, ""), (401, True, "`make up`"), (500, False, "")])
def test_a_look_at_coder_tells_a_token_that_is_refused_from_a_server_that_is_ill(
    box: Box, coder: Coder, status: int, answers: bool, told: str
) -> None:
    box.refuses = status
    found = coder.check()
    assert found[0] is answers
    assert told in found[1]
    assert bool(found[1]) is bool(told)
    assert Coder(url="http://127.0.0.1:9").check() == (False, "")


def test_a_hundred_workspaces_are_all_looked_at(box: Box, watched: Watched) -> None:
    for number in range(100):
        box.add(f"w{number}", HOUR if number < 99 else 5 * HOUR)
    watched.run(PATIENCE_S + 10)
    assert box.stopped == ["w99"]


def test_a_workspace_on_a_cluster_has_none_of_this_machines_memory(box: Box, watched: Watched) -> None:
    box.add("there", 5 * HOUR)
    box.workspaces["there"]["template_name"] = KUBERNETES_TEMPLATE
    watched.run(PATIENCE_S + 10)
    assert box.stopped == []
    # It is not in the way either.
    assert "there" not in " ".join(watched.said)
    box.add("here", HOUR)
    watched.run(PATIENCE_S + 10)
    assert box.stopped == ["here"]


@pytest.mark.parametrize(
    ("state", "message", "time", "told"),
    [
        ("", "", "", "idle"),
        ("working", "Claude is working", "11:59", "working for some time"),
        ("working", "Claude is working", "11:50", "idle"),
        ("idle", "Claude waits for you", "11:50", "waits for you"),
        ("idle", "Claude is working, but past the keep-alive limit", "11:50", "working, but past the keep-alive limit"),
        # Of the session before.
        ("idle", "Claude is working, but past the keep-alive limit", "10:00", "idle"),
        ("idle", "\x1b[31mred\nmore", "11:59", "[31mred"),
    ],
)
def test_what_coder_was_told_of_a_claude_on_a_cluster_is_sampled(
    state: str, message: str, time: str, told: str
) -> None:
    status = {"state": state, "message": message, "created_at": f"2026-01-02T{time}:00Z"} if state else None
    build = {"status": "running", "created_at": "2026-01-02T11:00:00Z"}
    there = {"id": "w", "template_name": KUBERNETES_TEMPLATE, "latest_build": build, "latest_app_status": status}
    here = {**there, "id": "h", "template_name": TEMPLATE}
    parked = {**there, "id": "p", "latest_build": {**build, "status": "stopped"}}
    assert census.reported([there, here, parked], datetime(2026, 1, 2, 12, tzinfo=UTC)) == {"w": told}


def test_nobody_goes_for_a_reserve_of_nothing_or_of_more_than_there_is(box: Box, watched: Watched) -> None:
    box.add("demo", HOUR)
    for text, said in (("0", False), ("64000", True)):
        watched.pressure.reserve = text
        watched.run(PATIENCE_S * 3)
        assert bool(watched.turn()) is said
    assert box.stopped == []
    assert len(watched.said) == 1


# Samples.


def test_a_line_after_one_that_was_cut_is_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b'{"n": 1}\n{"n": 2')
    journal.append(file, {"n": 3})
    assert file.read_bytes() == b'{"n": 1}\n{"n": 2\n{"n": 3}\n'
    assert [each["n"] for each in journal.read(file)] == [1, 3]


def test_a_line_that_does_not_fit_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f"
    journal.append(file, {"n": 1})
    write = os.write
    monkeypatch.setattr(os, "write", lambda to, text: write(to, text[:4]))
    with pytest.raises(OSError, match="No space left"):
        journal.append(file, {"n": 2})
    assert file.read_bytes() == b'{"n": 1}\n'


def test_what_is_kept_is_at_most_what_was_set_and_at_least_half_of_it(tmp_path: Path) -> None:
    file = tmp_path / "f"
    by_lines = journal.Journal(file, limit_bytes=1 << 20, limit_lines=20)
    for number in range(100):
        by_lines.append({"n": number})
        kept = [each["n"] for each in journal.read(file)]
        assert kept == list(range(number + 1))[-len(kept) :]
        assert min(number + 1, 10) <= len(kept) <= 20
    # A keeper that starts anew goes on counting.
    assert len(list(journal.read(file))) == 20
    journal.Journal(file, limit_bytes=1 << 20, limit_lines=20).append({"n": 100})
    assert [each["n"] for each in journal.read(file)] == list(range(90, 101))


def test_the_size_of_the_samples_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "f"
    by_size = journal.Journal(file, limit_bytes=2000, limit_lines=10**6)
    for number in range(500):
        by_size.append({"n": number})
        assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 2100
    assert [each["n"] for each in journal.read(file)][-1] == 499


def test_the_tail_of_a_large_file_is_its_newest_lines(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("".join(f'{{"n": {number}}}\n' for number in range(20_000)))
    found = journal.tail(file)
    assert found[-1] == {"n": 19_999}
    assert len(found) < 10_000
    assert journal.tail(tmp_path / "none") == []


def test_cpu_time_is_told_from_the_second_sample_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used_ns = iter([5_000_000_000, 6_200_000_000])

    class One(Engine):
        def containers(self, stack: str) -> list[dict[str, Any]]:
            return [
                {"Id": "a", "Names": ["/s-server"], "State": "running", "Labels": {}},
                {"Id": "b", "Names": ["/s-other"], "State": "running", "Labels": {}},
            ]

        def side_by_side(
            self, paths: Mapping[str, str], at_once: int, limit_bytes: int | None = None
        ) -> Iterator[tuple[str, bytes]]:
            memory = {"usage": 200 << 20, "stats": {"inactive_file": 50 << 20}}
            for key in paths:
                used = {"total_usage": 0 if key == "beside" else next(used_ns)}
                yield key, json.dumps({"memory_stats": memory, "cpu_stats": {"cpu_usage": used}}).encode()

    sampler = Sampler(engine=One(host=""), stack="s", standalone="beside", answers=lambda: True)
    monkeypatch.setattr(host, "uptime_s", lambda: 50.0)
    first = sampler.take()
    assert (first.ram_mib, first.cpu_percent) == ({"standalone": 150, "coder": 150}, {})
    monkeypatch.setattr(host, "uptime_s", lambda: 110.0)
    assert sampler.take().cpu_percent == {"standalone": 0, "coder": 2}


@contextlib.contextmanager
def _engine(folder: Path, answer: Callable[[str], tuple[int, object]]) -> Iterator[Engine]:
    """An engine on a socket, which answers many at a time."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  http.server's name
            self.answer(*answer(self.path))

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(str(folder / "docker.sock"), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Engine(host=f"unix://{folder}/docker.sock", timeout_s=10)
        server.shutdown()


def test_what_many_containers_use_is_asked_side_by_side_and_one_that_has_ended_loses_no_other(tmp_path: Path) -> None:
    count = 40
    all_are_there = threading.Barrier(count, timeout=10)

    def answer(path: str) -> tuple[int, object]:
        number = all_are_there.wait()
        if path.startswith("/containers/c7/"):
            return 404, {"message": "No such container: c7"}
        return 200, {"memory_stats": {"usage": 1 << 20}, "cpu_stats": {"cpu_usage": {"total_usage": number}}}

    with _engine(tmp_path, answer) as engine:
        found = dict(engine.counters(f"c{number}" for number in range(count)))
    assert found.keys() == {f"c{number}" for number in range(count) if number != 7}


def _tar(name: bytes, kind: bytes, content: bytes) -> bytes:
    header = name.ljust(124, b"\0") + f"{len(content):011o}".encode() + b"\0"
    header = header.ljust(156, b"\0") + kind
    return header.ljust(512, b"\0") + content.ljust(-(-len(content) // 512) * 512, b"\0")


def test_a_file_of_an_archive_is_read_past_headers_of_pax_and_where_it_was_cut() -> None:
    whole = _tar(b"x", b"x", b"30 mtime=1\n") + _tar(b"status", b"0", b"idle for 3 min\n")
    assert _first_file(whole) == "idle for 3 min\n"
    assert _first_file(whole[: 512 * 3 + 4]) == "idle"
    assert _first_file(_tar(b"link", b"2", b"")) == _first_file(b"junk") == ""


# Dumps.


def _local(*when: int) -> float:
    return time.mktime((*when, 0, 0, 0, -1))  # type: ignore[arg-type]


@pytest.fixture(params=["UTC0", "CET-1CEST,M3.5.0,M10.5.0/3"])
def local_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("local_zone")
def test_a_dump_is_due_at_the_local_time_every_day_also_where_summer_time_begins() -> None:
    at = (2, 30)
    assert dumps.due_since(at, _local(2026, 11, 26, 2, 30)) == _local(2026, 11, 26, 2, 30)
    assert dumps.due_since(at, _local(2026, 11, 26, 2, 29)) == _local(2026, 11, 25, 2, 30)
    days = [dumps.due_since(at, _local(2026, 3, day, 12, 0)) for day in range(27, 32)]
    assert all(22 * HOUR < after - before < 26 * HOUR for before, after in itertools.pairwise(days))
    assert dumps.due_since(at, _local(2026, 1, 1, 1, 0)) == _local(2025, 12, 31, 2, 30)


def test_a_dump_from_the_future_says_nothing_of_last_night() -> None:
    now_s = NOW.timestamp()
    found = dumps.newest(["20260101T000000.000Z.dump", "20271126T000000.000Z.dump", "mine.dump"], now_s)
    assert found == ("20260101T000000.000Z.dump", datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    assert dumps.newest(["20271126T000000.000Z.dump"], now_s) is None


PG_DUMP = """#!/bin/sh
[ ! -e "$STATE/down" ] || { echo "pg_dump: error: could not connect to the server" >&2; exit 1; }
while [ $# -gt 1 ]; do [ "$1" != --file ] || printf 'PGDMP whole' >"$2"; shift; done
"""
PG_RESTORE = """#!/bin/sh
[ "$1" != --list ] || { echo ' 1; TABLE DATA public users '; exit 0; }
[ ! -e "$STATE/cut" ] || { echo "pg_restore: error: unexpected end of file" >&2; exit 1; }
"""


@dataclass
class Night:
    """Dumps with programs that only look like Postgres's."""

    dumps: dumps.Dumps
    data: Path
    state: Path
    said: list[str]
    up_s: float = 1000

    def turn(self, seconds: float = 5) -> str:
        self.up_s += seconds
        return self.dumps.turn(self.up_s)

    def settle(self) -> str:
        """Until nothing runs any more."""
        problem = self.turn()
        for _ in range(1000):
            if not self.dumps.is_at_work():
                return self.turn(0) if not self.dumps.is_at_work() else problem
            time.sleep(0.01)
            problem = self.turn(0)
        raise AssertionError("it does not end")

    @property
    def files(self) -> list[str]:
        return sorted(each.name for each in (self.data / backups.FOLDER).iterdir())


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    for name, text in (("pg_dump", PG_DUMP), ("pg_restore", PG_RESTORE)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(tmp_path))
    (tmp_path / "data" / backups.FOLDER).mkdir(parents=True)
    said: list[str] = []
    made = dumps.Dumps(tmp_path / "data", (0, 0), 3, 0, said.append, 1000)
    return Night(made, tmp_path / "data", tmp_path, said)


def test_what_was_slept_through_is_dumped_ten_minutes_after_the_start_and_once(night: Night) -> None:
    night.turn(dumps.OVERDUE_DELAY_S - 5)
    assert night.files == []
    assert night.settle() == ""
    (name,) = night.files
    assert backups._OWN_NAME.fullmatch(name)
    assert stat.S_IMODE((night.data / backups.FOLDER / name).stat().st_mode) == 0o600
    night.turn(HOUR)
    assert night.files == [name]


def test_a_pilot_of_today_owes_no_dump_of_last_night(night: Night) -> None:
    night.dumps = dumps.Dumps(night.data, (0, 0), 3, time.time(), night.said.append, 1000)
    night.turn(dumps.OVERDUE_DELAY_S)
    night.turn()
    assert night.files == []
    # With a dump of the day before, it is not of today.
    old = f"{datetime.now(UTC) - timedelta(days=1):%Y%m%dT%H%M%S}.000Z.dump"
    (night.data / backups.FOLDER / old).touch()
    night.settle()
    assert len(night.files) == 2


def test_a_failed_dump_is_told_leaves_nothing_and_is_tried_again(night: Night) -> None:
    (night.state / "down").touch()
    night.turn(dumps.OVERDUE_DELAY_S)
    assert "could not connect to the server" in night.settle()
    assert night.files == []
    (night.state / "down").unlink()
    assert "could not connect" in night.turn(dumps.RETRY_S - 5)
    assert not night.dumps.is_at_work()
    assert night.settle() == ""
    assert len(night.files) == 1


def test_a_dump_that_cannot_be_read_back_to_its_end_is_none(night: Night) -> None:
    (night.state / "cut").touch()
    night.turn(dumps.OVERDUE_DELAY_S)
    assert "unexpected end of file" in night.settle()
    assert night.files == []


def test_a_dump_that_hangs_is_ended_and_the_keeper_that_ends_takes_its_half_along(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    (night.state / "bin" / "pg_dump").write_text("#!/bin/sh\nsleep 600\n")
    night.turn(dumps.OVERDUE_DELAY_S)
    night.turn()
    (half,) = night.files
    assert half.endswith(dumps.PARTIAL_SUFFIX)
    begun_s = time.monotonic()
    assert "did not end within" in night.turn(dumps.TIMEOUT_S)
    assert time.monotonic() - begun_s < 5
    assert night.files == []
    night.turn(dumps.RETRY_S)
    night.dumps.close()
    assert night.files == []


def test_the_halves_of_a_keeper_that_was_killed_go_and_those_of_others_stay(night: Night) -> None:
    (night.data / backups.FOLDER / f"20260101T000000.000Z{dumps.PARTIAL_SUFFIX}").touch()
    (night.data / backups.FOLDER / "20260101T000000.000Z.partial").touch()
    dumps.Dumps(night.data, (0, 0), 3, 0, print, 0)
    assert night.files == ["20260101T000000.000Z.partial"]


def test_the_folder_of_dumps_is_made_anew_where_somebody_moved_it_away(night: Night) -> None:
    (night.data / backups.FOLDER).rmdir()
    night.turn(dumps.OVERDUE_DELAY_S)
    assert night.settle() == ""
    assert len(night.files) == 1


def test_dumps_made_under_a_wrong_clock_do_not_push_out_the_newest_one(night: Night) -> None:
    for year in (2090, 2091, 2092):
        (night.data / backups.FOLDER / f"{year}0101T000000.000Z.dump").touch()
    night.turn(dumps.OVERDUE_DELAY_S)
    night.settle()
    assert [name[:4] for name in night.files] == [f"{datetime.now(UTC):%Y}", "2091", "2092"]


# The loop.


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> program.Keeper:
    (tmp_path / backups.FOLDER).mkdir()
    monkeypatch.setattr(program, "ALIVE", tmp_path / "alive")
    return program.Keeper(
        {
            "DATA_DIRECTORY": str(tmp_path), "STACK": "s", "ENGINE": "unix:///nonexistent", "CODER_URL":
            "http://127.0.0.1:9", "CODER_TOKEN": "t", "STANDALONE_CONTAINER": "", "SAMPLES_MIB": "64",
            "SAMPLES_DAYS": "60", "MEMORY_RESERVE": "0", "PRESSURE_IDLE_S": "600", "BACKUP_AT": "03:30",
            "BACKUPS_KEPT": "3",
        }
    )  # fmt: skip


def _status(keeper: program.Keeper) -> dict[str, str]:
    found: dict[str, str] = json.loads((keeper._data / "keeper.json").read_text())["problems"]
    return found


def test_a_part_that_fails_or_hangs_stops_no_other_and_is_told(
    keeper: program.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(_: float) -> str:
        time.sleep(60)
        return ""

    monkeypatch.setattr(program, "TURN_TIMEOUT_S", 0.2)
    monkeypatch.setattr(keeper._dumps, "turn", hang)
    begun_s = time.monotonic()
    keeper.round()
    assert time.monotonic() - begun_s < 5
    found = _status(keeper)
    assert set(found) == {"backup", "samples"}
    assert "longer than" in found["backup"]
    assert "Docker at unix:///nonexistent does not answer" in found["samples"]
    assert program.ALIVE.exists()
    monkeypatch.setattr(keeper._dumps, "turn", lambda _: "")
    keeper.round()
    assert set(_status(keeper)) == {"samples"}


def test_a_full_disk_is_named_and_passes(keeper: program.Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeper, "_sample", full)
    keeper.round()
    assert "ran out of space" in _status(keeper)["samples"]
    monkeypatch.setattr(keeper, "_sample", lambda: "")
    keeper._sample_from_s = 0
    keeper.round()
    assert _status(keeper) == {}


def test_a_keeper_whose_engine_is_gone_for_five_minutes_starts_anew_and_not_in_the_middle_of_a_dump(
    keeper: program.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    up_s = host.uptime_s()
    assert not keeper.is_lost()
    monkeypatch.setattr(host, "uptime_s", lambda: up_s + program.ENGINE_LOST_S + 60)
    assert keeper.is_lost()
    monkeypatch.setattr(keeper._dumps, "is_at_work", lambda: True)
    assert not keeper.is_lost()


def test_a_signal_ends_it_in_order(keeper: program.Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr(program, "Keeper", lambda _: keeper)
    monkeypatch.setattr(keeper, "close", lambda: closed.append(True))
    monkeypatch.setattr(keeper, "round", lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            program.main({})
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (ended.value.code, closed) == (0, [True])


# What is in the image.


def test_the_keeper_imports_the_standard_library_and_what_is_in_its_image_alone() -> None:
    import sys

    in_image = {path.removesuffix(".py").replace("/", ".") for path in BUNDLE.sources if path.endswith(".py")}
    for path, source in BUNDLE.sources.items():
        if not path.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(source.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or "", *(f"{node.module}.{each.name}" for each in node.names)]
            for module in modules:
                known = module.split(".")[0] in sys.stdlib_module_names
                assert known or any(each == module or module.startswith(f"{each}.") or each.startswith(f"{module}.")
                                    for each in in_image), (path, module)  # fmt: skip


def test_the_machines_time_zone_is_told_by_its_rule(tmp_path: Path) -> None:
    file = tmp_path / "localtime"
    file.write_bytes(b"TZif2\0\0\n\0binary\0\nCET-1CEST,M3.5.0,M10.5.0/3\n")
    assert zone(file) == "CET-1CEST,M3.5.0,M10.5.0/3"
    assert zone(tmp_path / "none") == zone(Path("/dev/null")) == "UTC0"
    with contextlib.suppress(FileNotFoundError):
        assert zone(Path("/usr/share/zoneinfo/Europe/Berlin")) == "CET-1CEST,M3.5.0,M10.5.0/3"
