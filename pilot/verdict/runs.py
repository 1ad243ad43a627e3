"""Runs of Claude, from the reports of the template's watcher: in Coder, or for older sessions in the samples."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pilot.verdict import samples
from pilot.verdict.builds import Build, agents, stamp
from pilot.verdict.collect import Raw
from pilot.verdict.sessions import History, Session

REPORT_INTERVAL: Final = timedelta(seconds=60)
"""How often the template's scripts/keep-alive.sh reports."""
REST: Final = 10 * REPORT_INTERVAL
"""A longer rest ends a run, as in that script."""
FRESH: Final = timedelta(seconds=150)
"""If the last report of work is at most this old, two and a half intervals, Claude was working."""
PAST_LIMIT: Final = "past the keep-alive limit"
"""In the watcher's message when a run goes on but no longer keeps the workspace alive."""
WORKING: Final = "working for "
"""The watcher's text for the dashboard begins like this while Claude is working."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The runs of the period."""

    total: int
    saved: int | None
    """At most: an open tab would have kept some of them alive too. None where the idle time is unknown."""
    untold_sessions: int
    """Sessions for which neither Coder nor a sample says what Claude did."""
    stopped_by_autostop: int
    stopped_by_hand: int
    stopped_past_limit: int

    @property
    def stopped(self) -> int:
        return self.stopped_by_autostop + self.stopped_past_limit


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the watcher said at one time."""

    time: datetime
    working: bool
    message: str


@dataclass(frozen=True, kw_only=True)
class Reports:
    """The reports of one session."""

    all: Sequence[Report]
    """Oldest first."""
    fresh: timedelta
    """If the last report of work is at most this old when the session ends, Claude was working."""
    known: bool
    """False: nobody knows what Claude did."""


def reports(raw: Raw, workspace: str, session: Session) -> Reports:
    """What Coder says about a session, else what the samples say.

    The next start takes over the apps, and with them every report of this session (Coder 2.30.0).
    """
    found = _in_coder(session.build)
    return found if found.known else _in_samples(raw.samples, workspace, session, raw.until)


def _in_coder(build: Build) -> Reports:
    apps = [app for agent in agents(build) for app in agent.get("apps") or []]
    found = [
        Report(time=time, working=each["state"] == "working", message=each["message"])
        for app in apps
        for each in app.get("statuses") or []
        if (time := stamp(each["created_at"])) is not None
    ]
    return Reports(all=sorted(found, key=lambda each: each.time), fresh=FRESH, known=bool(apps))


def _in_samples(seen: Sequence[samples.Sample], workspace: str, session: Session, until: datetime) -> Reports:
    end = session.end or until
    # A year has a hundred thousand samples, and most sessions are looked up here.
    first = bisect_left(seen, session.start, key=lambda each: each.time)
    last = bisect_right(seen, end, key=lambda each: each.time)
    texts = [(each.time, each.claude[workspace]) for each in seen[first:last] if workspace in each.claude]
    found = [Report(time=time, working=text.startswith(WORKING), message=text) for time, text in texts]
    # Shorter than the time between samples: too short for a run that autostop could have ended.
    short = end - session.start < samples.GAP
    return Reports(all=found, fresh=samples.INTERVAL + FRESH, known=bool(texts) or short)


def count(
    raw: Raw, histories: Mapping[str, History], templates: Mapping[str, Mapping[str, Any]], since: datetime
) -> Runs:
    """The runs of all workspaces since `since`."""
    total = saved = untold = autostop = hand = limit = 0
    unknown = False
    for workspace, template, session in _sessions(raw, histories, templates, since):
        told = reports(raw, workspace["id"], session)
        untold += not told.known
        for begin, end in _stretches(told.all):
            if end < since:
                continue
            total += 1
            deadline = _first_deadline(session, workspace, template, begin)
            unknown = unknown or template is None
            saved += deadline is not None and end > deadline
        if told.all and session.end is not None and session.end > since and session.ended_by != "failed":
            last = told.all[-1]
            if last.working and session.end - last.time <= told.fresh:
                autostop += session.ended_by == "autostop"
                hand += session.ended_by != "autostop"
            elif PAST_LIMIT in last.message and session.ended_by == "autostop":
                limit += 1
    return Runs(
        total=total,
        saved=None if unknown else saved,
        untold_sessions=untold,
        stopped_by_autostop=autostop,
        stopped_by_hand=hand,
        stopped_past_limit=limit,
    )


def _sessions(
    raw: Raw, histories: Mapping[str, History], templates: Mapping[str, Mapping[str, Any]], since: datetime
) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any] | None, Session]]:
    """The sessions that did not end before `since`, each with its workspace and template."""
    for workspace in raw.workspaces:
        for session in histories[workspace["id"]].sessions:
            if session.end is None or session.end >= since:
                yield workspace, templates.get(workspace["template_id"]), session


def _stretches(told: Iterable[Report]) -> list[tuple[datetime, datetime]]:
    """The runs in the reports: first and last report of each."""
    runs: list[tuple[datetime, datetime]] = []
    working = False
    for each in told:
        if each.working and working and each.time - runs[-1][1] <= REST:
            runs[-1] = (runs[-1][0], each.time)
        elif each.working:
            runs.append((each.time, each.time))
        working = each.working
    return runs


def _first_deadline(
    session: Session, workspace: Mapping[str, Any], template: Mapping[str, Any] | None, begin: datetime
) -> datetime | None:
    """The latest deadline that a run can have begun with: from the start, or from the activity at its beginning."""
    ttl_ms = workspace.get("ttl_ms")
    if not ttl_ms or template is None:
        return None
    ready = stamp(session.build["job"].get("completed_at")) or session.start
    return max(ready + timedelta(milliseconds=ttl_ms), begin + timedelta(milliseconds=template["activity_bump_ms"]))
