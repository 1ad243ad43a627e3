"""One workspace after another is stopped until enough memory is free: the rule for the keeper and for `make room`."""

from __future__ import annotations

import contextlib
import http
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from keeper import census, host, idle, journal, probe
from keeper.coder import Coder, CoderError
from keeper.engine import Engine
from stack.jobs import names

STOP_TIMEOUT_S = 300
BUILDING = ("pending", "running", "canceling")


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """A stop that was asked for."""

    title: str
    build_id: str
    asked_s: float
    """The uptime then."""
    ram_mib: float | None
    available_mib: float


@dataclass(kw_only=True)
class Parking:
    """Chooses, stops and follows, one workspace at a time; no method waits for a stop."""

    engine: Engine
    coder: Coder
    stack: str
    idle_s: float
    say: Callable[[str], None]
    stops: Path
    """Where each stop is noted, for the verdict."""
    stopping: Stopping | None = None
    in_the_way: list[str] = field(default_factory=list)
    """A line for each workspace that stayed at the last look."""
    _left: dict[str, tuple[float, str]] = field(default_factory=dict)
    """By workspace id: until when it is left alone, as uptime, and why."""

    def park_one(self, wanted_mib: float, even_s: float) -> bool:
        """Ask for the stop of the one that goes next; whether there is one.

        Raises:
            CoderError: Coder refused or did not answer.
            EngineError: the engine did not.
        """
        up_s, memory = host.uptime_s(), host.memory()
        found = census.workspaces(self.engine, self.stack, self.coder.running())
        self.in_the_way = idle.in_the_way(found, self.idle_s, even_s)
        for each in idle.order(found, self.idle_s, even_s):
            reason = self._reason_inside(each, up_s) or self._ask(each, memory, wanted_mib)
            if not reason:
                return True
            self.in_the_way.append(f"{each.title}: {reason}")
        return False

    def _reason_inside(self, each: idle.Workspace, up_s: float) -> str:
        until_s, reason = self._left.get(each.id, (0.0, ""))
        if up_s < until_s:
            return reason
        reason = probe.why_it_stays(self.engine, each.container_id)
        return self._leave(each, reason) if reason else ""

    def _leave(self, each: idle.Workspace, reason: str) -> str:
        """Leave it alone for as long as one that was just used."""
        self._left[each.id] = host.uptime_s() + self.idle_s, reason
        self.say(f"{each.title} stays: {reason}")
        return reason

    def _ask(self, each: idle.Workspace, memory: host.Memory, wanted_mib: float) -> str:
        """Ask for the stop; why Coder does not stop this one, "" where it does."""
        has = "" if each.ram_mib is None else f", has {idle.size(each.ram_mib)}"
        figures = f"{idle.size(memory.available)} of memory available, wanted are {idle.size(wanted_mib)}"
        try:
            build_id = self.coder.stop(each.id)
        except CoderError as error:
            if error.status in (0, http.HTTPStatus.UNAUTHORIZED):
                raise
            return self._leave(each, str(error))
        self.stopping = Stopping(
            title=each.title, build_id=build_id, asked_s=host.uptime_s(), ram_mib=each.ram_mib,
            available_mib=memory.available,
        )  # fmt: skip
        self.say(f"stopping {each.title}, unused for {idle.duration(each.rest_s)}{has}: {figures}")
        record = {
            "time": datetime.now(UTC).isoformat(), "build": build_id, "workspace": each.id, "ram_mib": each.ram_mib,
            "available_mib": round(memory.available), "wanted_mib": round(wanted_mib), "unused_s": round(each.rest_s),
        }  # fmt: skip
        # The stop is asked for: with a full disk only the verdict will not know why.
        with contextlib.suppress(OSError):
            journal.append(self.stops, record)
        return ""

    def follow(self) -> str | None:
        """What became of the stop, None while it goes on, "" where it went well.

        Raises:
            CoderError: Coder did not answer.
        """
        assert self.stopping is not None  # noqa: S101  asked only while there is one
        asked = self.stopping
        late = host.uptime_s() - asked.asked_s > STOP_TIMEOUT_S
        try:
            status = self.coder.build(asked.build_id)["job"]["status"]
        except CoderError:
            if not late:
                raise
            status = "lost"
        if status in BUILDING and not late:
            return None
        self.stopping = None
        available = host.memory().available
        if status == "succeeded":
            self.say(
                f"stopped {asked.title}: {idle.size(available)} of memory available, before "
                f"{idle.size(asked.available_mib)}"
            )
            return ""
        problem = f"{asked.title} did not stop: its build is {status} after {host.uptime_s() - asked.asked_s:.0f} s"
        self.say(problem)
        return problem


def stops_file(data: Path) -> Path:
    """Where the stops are noted, below the data directory."""
    return data / names.STOPS
