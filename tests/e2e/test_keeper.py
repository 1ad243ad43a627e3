"""The keeper looks after a pilot by itself: it samples, dumps, and when memory is short stops who is idle, nobody else.

Only the quick half is in `make test`. There Coder is made to say that every workspace was last used hours ago, and the
watchers that Claude is idle, so that nothing but the look inside stands between a workspace and its stop.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from keeper import host, journal
from keeper.engine import Engine
from pilot.verdict import samples
from stack.jobs import names
from tests import claude_api
from tests.e2e.browser_fixture import chromium
from tests.e2e.claude_fixture import answer_first_questions
from tests.e2e.pilot_fixture import Pilot, docker, eventually, request
from tests.e2e.retirement_fixture import command, container_of, sql
from tests.e2e.workspace_fixture import agent_of, gateway_of, inside, new_workspace, visit_editor

WORK = "bash -c 'until [ -e ~/finish ]; do sleep 1; done'"
WORKSPACES = ("idle", "tab", "worker")
EVEN_FOR = timedelta(hours=2)
# Whatever Coder notes of connections from now on.
UNUSED = """
CREATE OR REPLACE FUNCTION unused() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN NEW.last_used_at := now() - interval '3 hours'; RETURN NEW; END $$;
CREATE OR REPLACE TRIGGER unused BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION unused();
UPDATE workspaces SET name = name;
UPDATE provisioner_jobs SET started_at = now() - interval '3 hours', completed_at = now() - interval '3 hours'
  WHERE completed_at IS NOT NULL;
"""


def _keeper(pilot: Pilot) -> str:
    return f"{pilot.name}-keeper"


def _log(pilot: Pilot) -> str:
    return docker("logs", _keeper(pilot))


def _newest(pilot: Pilot) -> dict[str, Any]:
    return journal.tail(pilot.data / names.SAMPLES)[-1]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A pilot with workspaces: nobody is in `idle`."""

    pilot: Pilot
    workspaces: dict[str, dict[str, Any]]

    def seem_unused(self) -> None:
        """Let Coder and the watchers say that nobody has been there for hours."""
        sql(self.pilot, UNUSED)
        for each in self.workspaces.values():
            # The next look of the real watcher would write the truth.
            if container_of(each["id"]):
                inside(
                    self.pilot, each,
                    "pkill -f 'keep-alive.sh [w]atch'; echo 'idle for 180 min' >/tmp/coder-pilot/status",
                )  # fmt: skip

    def running(self) -> set[str]:
        return {name for name, each in self.workspaces.items() if container_of(each["id"])}


@pytest.fixture(scope="module")
def kept(make_pilot: Callable[..., Pilot]) -> Kept:
    pilot = make_pilot(pressureIdle="1m")
    pilot.up()
    # As if the keeper had watched the clock for a while.
    now, up_s = datetime.now(UTC) - EVEN_FOR, host.uptime_s() - EVEN_FOR.total_seconds()
    first = eventually(lambda: _newest(pilot), timeout_s=30, what="the first sample")
    before = (pilot.data / names.SAMPLES).read_text()
    moment = {**first, "time": now.isoformat(), "uptime_s": up_s, "workspace_ram_mib": {}, "claude": {}}
    (pilot.data / names.SAMPLES).write_text(json.dumps(moment) + "\n" + before)
    made = [new_workspace(pilot, name) for name in WORKSPACES]
    ready = (pilot.wait_workspace(each["id"], timeout_s=240) for each in made)
    return Kept(pilot=pilot, workspaces={each["name"]: each for each in ready})


def test_an_up_and_nothing_else_gives_the_verdict_its_samples(kept: Kept) -> None:
    pilot = kept.pilot
    assert _newest(pilot)["answers"]
    told = json.loads(command(pilot, "verdict", "--json"))["figures"]
    assert told["parts"]["keeper"]["ram_mean_gib"] > 0
    assert len(told["samples"]) >= 2
    assert told["samples"][-1]["host_total_mib"] == round(host.memory().total)


def test_the_keeper_is_small_and_leaves_no_volume_behind(kept: Kept, figures: Callable[[str, object], None]) -> None:
    ((_, found),) = Engine(host="unix:///var/run/docker.sock").counters([_keeper(kept.pilot)])
    volumes = docker("inspect", "--format", '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}}{{end}}{{end}}',
                     _keeper(kept.pilot))  # fmt: skip
    assert volumes == ""
    figures("keeper's memory", f"{found.ram_mib:.1f} MiB")
    assert found.ram_mib <= 25


def test_its_token_may_see_and_stop_workspaces_and_little_else(kept: Kept) -> None:
    pilot = kept.pilot
    shown = docker("inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", _keeper(pilot))
    token = dict(line.partition("=")[::2] for line in shown.splitlines())["CODER_TOKEN"]
    assert len(request(pilot.url, "GET", "/api/v2/workspaces", token=token)["workspaces"]) == len(WORKSPACES)
    for method, path, body in (
        ("POST", "/api/v2/users", {"username": "x", "email": "x@example.com", "login_type": "none"}),
        ("POST", "/api/v2/users/me/keys/tokens", {"scope": "all"}),
        ("GET", "/api/v2/users/me/gitsshkey", None),
        ("GET", "/api/v2/deployment/config", None),
    ):
        with pytest.raises(OSError, match="HTTP Error 40"):
            request(pilot.url, method, path, body, token)


@pytest.fixture(scope="module")
def used(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """The same, with an editor open in `tab`, and the real Claude in a turn in `worker` with nobody connected."""
    pilot = kept.pilot
    with contextlib.ExitStack() as open_things:
        browser = open_things.enter_context(chromium(tmp_path_factory.mktemp("browser") / "home", only=pilot.url))
        api = open_things.enter_context(claude_api.serve(WORK, commands=1, address=gateway_of(pilot)))
        answer_first_questions(pilot, kept.workspaces["worker"], api)
        inside(pilot, kept.workspaces["worker"], "cd ~/project && (claude -p Work </dev/null &>/dev/null &)")
        visit_editor(pilot, kept.workspaces["tab"], browser.new_page())
        eventually(
            lambda: inside(pilot, kept.workspaces["worker"], "pgrep -f 'until \\[ -e' || true"),
            timeout_s=60, what="Claude's command",
        )  # fmt: skip
        yield kept


def _children_of_the_agent(used: Kept, name: str) -> list[str]:
    agent = "$(pgrep -f '^[^ ]*coder agent')"
    return inside(used.pilot, used.workspaces[name], f"pgrep -P {agent} || true").split()


@contextlib.contextmanager
def _websocket(url: str, token: str) -> Iterator[None]:
    """Open for as long as the context; nothing is said."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as connection:
        connection.sendall(
            f"GET {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a2VlcGVyLWtlZXBlci1rIQ==\r\n"
            f"Coder-Session-Token: {token}\r\n\r\n".encode()
        )
        assert b" 101 " in connection.recv(4096)
        yield


def test_only_who_is_idle_goes_though_coder_and_the_watchers_call_everybody_idle(used: Kept) -> None:
    pilot, idle = used.pilot, used.workspaces["idle"]
    used.seem_unused()
    said = command(pilot, "room", f"{int(host.memory().total)}MiB", check=False)
    assert "would free too little, so none was stopped" in said
    assert used.running() == set(WORKSPACES)
    has_mib = [float(each) for each in re.findall(r"admin/\w+ \(([\d.]+) MiB\)", said)]
    assert len(has_mib) == len(WORKSPACES), said

    def room() -> str:
        """What it says where it has something to do: other tests take memory and give it back between two looks."""
        used.seem_unused()
        # Less than all that Coder calls idle have, and more than one of them.
        wanted = f"{int(host.memory().available + 0.7 * sum(has_mib))}MiB"
        said = command(pilot, "room", wanted, check=False)
        return said if "stopped one by one as far as needed" in said else ""

    # As the agent runs one for `coder ssh`, VS Code on a desktop, or the dashboard's terminal.
    terminal = f"{pilot.url}/api/v2/workspaceagents/{agent_of(idle)['id']}/pty?reconnect={uuid.uuid4()}&command=bash"
    with _websocket(terminal, pilot.variables["token"]):
        eventually(lambda: _children_of_the_agent(used, "idle"), timeout_s=30, what="the terminal")
        said = eventually(room, timeout_s=60, what="a look at who may go")
    assert used.running() == set(WORKSPACES), said
    assert "admin/idle: a terminal, SSH or a script of the agent is at work in it" in said

    inside(pilot, idle, f"kill -9 {' '.join(_children_of_the_agent(used, 'idle'))}")
    said = eventually(room, timeout_s=60, what="a look at who may go")
    assert used.running() == set(WORKSPACES) - {"idle"}, said
    assert "stopping admin/idle, unused for 3 h 00 min" in said
    assert "admin/tab: somebody is connected to it" in said
    assert "admin/worker: Claude works in it" in said
    (noted,) = samples.stops(pilot.data).values()
    assert noted["workspace"] == used.workspaces["idle"]["id"]
    told = json.loads(command(pilot, "verdict", "--json"))["figures"]
    (pressed,) = told["pressed"]
    assert (pressed["workspace"], pressed["ram_mib"]) == ("admin/idle", noted["ram_mib"])
    assert sum(each["hand_stops"] for each in told["workspaces"]) == 0


WEEK_AGO = """
UPDATE users SET created_at = created_at - interval '7 days';
UPDATE workspaces SET created_at = created_at - interval '7 days';
UPDATE workspace_builds SET created_at = created_at - interval '7 days', updated_at = updated_at - interval '7 days';
UPDATE provisioner_jobs SET created_at = created_at - interval '7 days', started_at = started_at - interval '7 days',
  completed_at = completed_at - interval '7 days';
"""


def test_a_week_with_nothing_but_an_up_gives_a_verdict(used: Kept) -> None:
    pilot, file = used.pilot, used.pilot.data / names.SAMPLES
    real = [each for each in journal.tail(file) if each["workspace_ram_mib"]]
    sql(pilot, WEEK_AGO)
    now, up_s = datetime.now(UTC), host.uptime_s()
    week = [
        {
            **real[minute % len(real)],
            "time": (now - timedelta(minutes=minute)).isoformat(),
            "uptime_s": up_s - 60 * minute,
        }
        for minute in range(7 * 24 * 60, 0, -1)
    ]
    # The keeper goes on in the file that takes its place.
    file.write_text("".join(f"{json.dumps(each)}\n" for each in week))
    told = json.loads(command(pilot, "verdict", "--json"))["verdict"]
    assert told["outcome"] in ("keep", "retire"), told["line"]


@pytest.mark.usefixtures("used")
def test_status_and_doctor_tell_of_memory_and_of_what_the_keeper_did_last(kept: Kept) -> None:
    shown = command(kept.pilot, "status")
    assert re.search(r"Host's memory: [\d.]+ GiB of [\d.]+ GiB available; memoryReserve is 0", shown), shown
    assert re.search(r"Keeper: last sample \d+ (s|min) ago, no dump yet", shown), shown
    assert "keeper" in shown
    found = json.loads(command(kept.pilot, "doctor", "--json"))
    assert [each["level"] for each in found if each["check"] == "keeper"] == ["ok"]


# The long half.


@pytest.mark.drill
@pytest.mark.timeout(1200)
def test_the_reserve_and_a_real_process_press_and_only_who_is_idle_is_stopped(used: Kept) -> None:
    pilot = used.pilot
    pilot.transition(used.workspaces["idle"]["id"], "start")
    pilot.wait_workspace(used.workspaces["idle"]["id"])
    # There is as much as the reserve, until a process takes what is above it.
    reserve_mib = int(host.memory().available) - 1500
    pilot.write_config(memoryReserve=f"{reserve_mib}MiB")
    pilot.up()
    used.seem_unused()
    time.sleep(5)
    assert "stopping" not in _log(pilot)
    taken_mib = 2500
    hungry = subprocess.Popen(["python3", "-c", f"x = bytearray(b'1') * ({taken_mib} << 20); input()"],
                              stdin=subprocess.PIPE)  # fmt: skip
    begun_s = time.monotonic()
    try:
        eventually(lambda: host.memory().available < reserve_mib, timeout_s=30, what="short memory")
        short_s = time.monotonic()
        eventually(lambda: "stopping admin/idle" in _log(pilot), timeout_s=120, what="the stop")
        assert time.monotonic() - begun_s > 55
        assert time.monotonic() - short_s < 80
        eventually(lambda: "idle" not in used.running(), timeout_s=120, what="the end of its container")
        used.seem_unused()
        eventually(lambda: "no workspace can be stopped" in _log(pilot), timeout_s=120, what="what is in the way")
        assert used.running() == set(WORKSPACES) - {"idle"}
        assert "memory: " in command(pilot, "status")
    finally:
        hungry.communicate(b"\n")
        pilot.write_config(memoryReserve="0")
    pilot.up()


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_a_dump_at_a_set_time_is_restored_into_an_empty_pilot(
    kept: Kept, make_pilot: Callable[..., Pilot], tmp_path: Path
) -> None:
    pilot = kept.pilot
    due = datetime.now().astimezone() + timedelta(seconds=100)
    pilot.write_config(backupAt=f"{due:%H:%M}")
    pilot.up()
    dump = eventually(lambda: list((pilot.data / "backups").glob("*.dump")), timeout_s=240, what="the dump")[0]
    made = datetime.strptime(dump.name[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    assert 0 <= (made - due.replace(second=0, microsecond=0)).total_seconds() < 60
    assert "dumped the database" in _log(pilot)
    assert re.search(r"last dump \d", command(pilot, "status"))
    before = sql(pilot, "SELECT id || name FROM workspaces WHERE NOT deleted ORDER BY 1")
    other = make_pilot()
    command(other, "up")
    copy = shutil.copy(dump, tmp_path)
    command(other, "restore", str(copy))
    assert sql(other, "SELECT id || name FROM workspaces WHERE NOT deleted ORDER BY 1") == before
    other.remove()


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_without_coder_postgres_and_its_token_it_goes_on_sampling_and_says_so(kept: Kept) -> None:
    pilot = kept.pilot
    pilot.write_config(memoryReserve=f"{int(host.memory().total) - 1}MiB", pressureIdle="1h")
    pilot.up()
    docker("stop", f"{pilot.name}-server")
    eventually(lambda: not _newest(pilot)["answers"], timeout_s=120, what="a sample without Coder", interval_s=1)
    eventually(lambda: "Coder does not answer" in _log(pilot), timeout_s=120, what="that it says so", interval_s=1)
    docker("stop", f"{pilot.name}-postgres")
    eventually(lambda: "postgres" not in _newest(pilot)["ram_mib"], timeout_s=120, what="a sample without Postgres",
               interval_s=1)  # fmt: skip
    pilot.up()
    eventually(lambda: _newest(pilot)["answers"], timeout_s=120, what="a sample with Coder", interval_s=1)
    before = docker("inspect", "--format", "{{.Id}}", _keeper(pilot))
    sql(pilot, "DELETE FROM api_keys WHERE token_name LIKE 'coder-keeper-%'")
    eventually(lambda: "does not take the keeper's token" in _log(pilot), timeout_s=120, what="that it says so",
               interval_s=1)  # fmt: skip
    assert "does not take the keeper's token" in command(pilot, "status")
    pilot.write_config(memoryReserve="0", pressureIdle="1m")
    pilot.up()
    assert docker("inspect", "--format", "{{.Id}}", _keeper(pilot)) != before
    pilot.up("--expect-no-changes")
