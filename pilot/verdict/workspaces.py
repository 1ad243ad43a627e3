"""One workspace in the period: its hours, its memory, its use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pilot.verdict.builds import PRESSURE, automatic, created, stamp
from pilot.verdict.collect import Raw
from pilot.verdict.runs import reports
from pilot.verdict.sessions import HOUR, History, Session, Span, State
from stack.jobs.names import KUBERNETES_TEMPLATE

MIB_PER_GIB: Final = 1024


@dataclass(frozen=True, kw_only=True)
class WorkspaceFigures:
    """One workspace in the period."""

    name: str
    template: str
    on_cluster: bool
    deleted: bool
    building: str
    """The transition of a build that still runs, else ""."""
    limit_gib: float | None
    peak_gib: float | None
    """The highest that was measured."""
    measured: int
    """How often."""
    sessions: int
    used_h: float | None
    """At most, see `_used_until`."""
    autostops: int
    pressure_stops: int
    """Asked for by the keeper, because the host's memory was short."""
    hand_stops: int
    spans: tuple[Span, ...]

    @property
    def taken_gib(self) -> float | None:
        """What it takes while it runs: what was measured, and on a cluster its limit, which the node sets aside."""
        return self.limit_gib if self.on_cluster else self.peak_gib

    def hours(self, *states: State) -> float:
        return sum(span.hours for span in self.spans if span.state in states)

    @property
    def running_h(self) -> float:
        return self.hours("running")

    @property
    def parked_h(self) -> float:
        return self.hours("parked")

    @property
    def unclear_h(self) -> float:
        return self.hours("unclear")

    @property
    def held_h(self) -> float:
        """The hours for which its memory counts."""
        return self.running_h + self.unclear_h

    @property
    def existed_h(self) -> float:
        return self.hours("running", "parked", "unclear")

    @property
    def autoparked_h(self) -> float:
        """Parked by autostop, without which the container would have run on."""
        return sum(span.hours for span in self.spans if span.state == "parked" and span.after_autostop)


def title(record: Mapping[str, Any]) -> str:
    """A workspace's name with its owner's, of Coder's record."""
    return f"{record['owner_name']}/{record['name']}"


def template_title(record: Mapping[str, Any]) -> str:
    """The name of a workspace's template as the dashboard shows it."""
    return str(record["template_display_name"] or record["template_name"])


def of(
    raw: Raw, record: Mapping[str, Any], history: History, template: Mapping[str, Any] | None, since: datetime
) -> WorkspaceFigures:
    """The figures of the workspace in `record`, from `since` on; its template is None where Coder has none."""
    key = record["id"]
    builds = raw.builds.get(key, [])
    spans = tuple(
        Span(start=max(span.start, since), end=span.end, state=span.state, after_autostop=span.after_autostop)
        for span in history.spans
        if span.end > since
    )
    sessions = [each for each in history.sessions if each.end is None or each.end > since]
    used = [_used_h(raw, each, each is history.sessions[-1], record, template, since) for each in sessions]
    measured = [each.workspace_ram_mib[key] for each in raw.samples if key in each.workspace_ram_mib]
    now = (raw.workspace_usage or {}).get(key)
    measured += [now.ram_mib] if now is not None else []
    limit = raw.parameters.get(key, {}).get("memory_mb", "")
    stops = [
        each for each in builds
        if each["transition"] == "stop" and each["job"]["status"] == "succeeded" and created(each) >= since
    ]  # fmt: skip
    pressed = sum(each["reason"] == PRESSURE for each in stops)
    autostops = sum(map(automatic, stops)) - pressed
    return WorkspaceFigures(
        name=history.title,
        template=template_title(record),
        on_cluster=record["template_name"] == KUBERNETES_TEMPLATE,
        deleted=history.state == "absent" and bool(builds) and not history.building,
        building=history.building,
        limit_gib=int(limit) / MIB_PER_GIB if limit.isdecimal() else None,
        peak_gib=max(measured) / MIB_PER_GIB if measured else None,
        measured=len(measured),
        sessions=len(sessions),
        used_h=None if None in used else sum(each for each in used if each is not None),
        autostops=autostops,
        pressure_stops=pressed,
        hand_stops=len(stops) - autostops - pressed,
        spans=spans,
    )


def _used_h(
    raw: Raw, session: Session, newest: bool, workspace: Mapping[str, Any], template: Mapping[str, Any] | None,
    since: datetime,
) -> float | None:  # fmt: skip
    last = _used_until(raw, session, newest, workspace, template)
    if last is None:
        return None
    return max(0.0, (min(last, session.end or raw.until) - max(session.start, since)) / HOUR)


def _used_until(
    raw: Raw, session: Session, newest: bool, workspace: Mapping[str, Any], template: Mapping[str, Any] | None
) -> datetime | None:
    """The latest time at which a person or Claude can have been working.

    A person who stopped it was there. For the newest session Coder knows when it was last used. For an older one that
    autostop ended, the deadline tells: activity moves it to that moment plus the activity bump.
    """
    if session.end is not None and session.ended_by != "autostop":
        return session.end
    worked = [each.time for each in reports(raw, workspace["id"], session).all if each.working]
    last = stamp(workspace.get("last_used_at"))
    if newest and last is not None:
        return max([last, session.start, *worked])
    deadline = stamp(session.build.get("deadline"))
    if deadline is None or template is None:
        return None
    return max([deadline - timedelta(milliseconds=template["activity_bump_ms"]), session.start, *worked])
