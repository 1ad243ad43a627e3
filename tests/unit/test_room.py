"""`make room` stops nobody where that cannot suffice, and `make status` says of each workspace why it stays."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from keeper import host, idle
from pilot import configuration, keeper, room
from stack.jobs.coder import Api

HOUR = 3600.0
RESTING = idle.Workspace(
    id="w", title="dev/demo", container_id="c", ram_mib=512, started_s=5 * HOUR, unused_s=3 * HOUR, claude=""
)


@dataclass
class Box:
    """A host whose memory grows with each workspace that is stopped."""

    found: list[idle.Workspace]
    available_mib: float = 1000
    inside: dict[str, str] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)

    def park_one(self, *_: float) -> bool:
        for each in idle.order(self.found, 600):
            if each.title not in self.stopped and not self.inside.get(each.container_id):
                self.stopped.append(each.title)
                self.available_mib += each.ram_mib or 0
                return True
        return False


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Box]:
    """Makes one."""

    def make(*found: idle.Workspace, **inside: str) -> Box:
        made = Box(list(found), inside=inside)
        parking: Any = SimpleNamespace(
            engine=None, coder=SimpleNamespace(running=lambda: ()), stack="s", idle_s=600, in_the_way=["what is left"],
            park_one=made.park_one, follow=lambda: "",
        )  # fmt: skip
        site = SimpleNamespace(name="s")
        settings = SimpleNamespace(site=site, keeper=SimpleNamespace(memory_reserve="10%"))
        monkeypatch.setattr(host, "memory", lambda: host.Memory(available=made.available_mib, total=32_000))
        monkeypatch.setattr(keeper, "parking", lambda *_: parking)
        monkeypatch.setattr(keeper, "even_s", lambda _: float("inf"))
        monkeypatch.setattr("keeper.census.workspaces", lambda *_: made.found)
        monkeypatch.setattr("keeper.probe.why_it_stays", lambda _, container: inside.get(container, ""))
        monkeypatch.setattr(room, "open_session", lambda _: SimpleNamespace(settings=settings))
        monkeypatch.setattr(room, "admin", lambda _: contextlib.nullcontext(Api(url="", token="t")))
        return made

    return make


def _room(size: str) -> int:
    return room.run(argparse.Namespace(stack="x", size=size))


def _one(title: str, **changes: Any) -> idle.Workspace:
    values: dict[str, Any] = {**vars(RESTING), "title": title, "id": title, "container_id": title[4:], **changes}
    return idle.Workspace(**values)


def test_nobody_is_stopped_where_all_that_are_idle_would_not_do(
    box: Callable[..., Box], capsys: pytest.CaptureFixture[str]
) -> None:
    made = box(_one("dev/a"), _one("dev/b", ram_mib=256), _one("dev/c", ram_mib=9000, unused_s=60))
    assert _room("2GiB") == 1
    assert made.stopped == []
    said = capsys.readouterr().err
    assert "1000 MiB are available, wanted are 2.0 GiB, and to stop all that are idle, dev/a (512 MiB), dev/b" in said
    assert "dev/c, 8.8 GiB: it was used 1 min ago" in said


def test_as_many_are_stopped_as_are_needed_after_it_was_said_which_may_be(
    box: Callable[..., Box], capsys: pytest.CaptureFixture[str]
) -> None:
    made = box(_one("dev/a", unused_s=4 * HOUR, started_s=9 * HOUR), _one("dev/b"))
    assert _room("1500MiB") == 0
    assert made.stopped == ["dev/a"]
    said = capsys.readouterr().out
    assert "idle, and stopped one by one as far as needed: dev/a (512 MiB), dev/b (512 MiB)" in said


def test_one_that_nobody_measured_may_have_enough(box: Callable[..., Box]) -> None:
    made = box(_one("dev/a", ram_mib=None))
    assert _room("20GiB") == 1
    assert made.stopped == ["dev/a"]


def test_enough_memory_stops_nobody(box: Callable[..., Box]) -> None:
    made = box(_one("dev/a"))
    assert _room("512MiB") == 0
    assert made.stopped == []


def test_status_says_who_goes_next_and_why_the_others_stay(box: Callable[..., Box]) -> None:
    box(
        _one("dev/tab", unused_s=4 * HOUR, started_s=9 * HOUR), _one("dev/next"), _one("dev/new", started_s=30),
        _one("dev/worker", claude="working for 3 min"), tab="somebody is connected to it",
    )  # fmt: skip
    settings: Any = SimpleNamespace(site=SimpleNamespace(name="s"), keeper=SimpleNamespace(memory_reserve="10%"))
    first, *others = keeper.memory_lines(settings, Api(url="", token="t"), {})
    assert first.endswith("the first to be stopped: dev/next, 512 MiB, unused for 3 h 00 min")
    assert others == [
        "  stays: dev/new, 512 MiB: it was just started", "  stays: dev/worker, 512 MiB: Claude works in it",
        "  stays: dev/tab: somebody is connected to it",
    ]  # fmt: skip


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(configuration.PilotError, match="`make room SIZE=20GiB`"):
        _room("much")
