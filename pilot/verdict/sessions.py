"""From a workspace's builds to spans and sessions.

A start makes a workspace run from the moment of the request, a stop parks it from the moment at which the stop is
done, so the RAM of a parked hour was really given back. After a build that failed or was cancelled the state is not
known: those hours are `unclear`, and count as running wherever RAM is added up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from pilot.verdict.builds import UNSETTLED, Build, automatic, stamp, status

State = Literal["running", "parked", "unclear", "absent"]
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A time in one state."""

    start: datetime
    end: datetime
    state: State
    after_autostop: bool = False

    @property
    def hours(self) -> float:
        return (self.end - self.start) / HOUR


@dataclass
class Session:
    """From a start to the build that ended it, which may be another start, as of an update."""

    build: Build
    """The start."""
    start: datetime
    end: datetime | None = None
    ended_by: str = ""
    """"autostop", "hand", "delete" or "failed"; "" while it runs."""


@dataclass
class History:
    """The spans and sessions of one workspace's builds."""

    title: str
    until: datetime
    spans: list[Span] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    building: str = ""
    """The transition of a build that is not settled yet, else ""."""
    state: State = "absent"
    after_autostop: bool = False
    cursor: datetime | None = None
    """Up to here the spans are known."""

    def walk(self, builds: Iterable[Build]) -> History:
        """Take the builds, oldest first."""
        for build in builds:
            self._build(build)
        self._to(self.until)
        return self

    def _build(self, build: Build) -> None:
        number, transition, job = build["build_number"], build["transition"], build["job"]
        begin = self._time(build["created_at"], number)
        self._to(begin)
        outcome = status(build)
        good = outcome in ("succeeded", *UNSETTLED)
        opens = transition == "start" and good
        if self.sessions and self.sessions[-1].end is None and (opens or outcome not in UNSETTLED):
            self.sessions[-1].end = begin
            self.sessions[-1].ended_by = _ended_by(build) if good else "failed"
        if opens:
            self.sessions.append(Session(build=build, start=begin))
        if transition == "start":
            self._become("running" if good else "unclear")
        if outcome in UNSETTLED:
            self.building = transition
            return
        self._to(self._time(job.get("completed_at") or build["updated_at"], number))
        if outcome != "succeeded":
            self._become("unclear")
        elif transition == "stop":
            # If it was parked already, the first stop is the one that counts.
            if self.state != "parked":
                self._become("parked", after_autostop=automatic(build))
        elif transition == "delete":
            self._become("absent")

    def _become(self, state: State, *, after_autostop: bool = False) -> None:
        self.state, self.after_autostop = state, after_autostop

    def _to(self, time: datetime) -> None:
        if self.cursor is not None and time > self.cursor and self.state != "absent":
            self.spans.append(Span(start=self.cursor, end=time, state=self.state, after_autostop=self.after_autostop))
        self.cursor = time if self.cursor is None else max(time, self.cursor)

    def _time(self, text: str, number: int) -> datetime:
        """The time, never before the previous one nor in the future: a clock change makes no negative hours."""
        time = stamp(text) or self.until
        if self.cursor is not None and time < self.cursor:
            return self._clock_changed(number, f"{_size(self.cursor - time)} before the previous one", self.cursor)
        if time > self.until:
            return self._clock_changed(number, f"{_size(time - self.until)} in the future", self.until)
        return time

    def _clock_changed(self, number: int, where: str, instead: datetime) -> datetime:
        self.warnings.append(
            f"{self.title}, build {number}: its time is {where}; the clock was changed, hours around it are uncertain"
        )
        return instead


def _size(length: timedelta) -> str:
    return f"{length / HOUR:.1f} h" if length >= HOUR else f"{length.total_seconds():.0f} s"


def _ended_by(build: Build) -> str:
    if build["transition"] == "delete":
        return "delete"
    return "autostop" if automatic(build) else "hand"
