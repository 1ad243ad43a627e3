"""From raw answers to figures: pure functions. RAM is in GiB, time in hours; None means that nobody can know."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pilot.verdict import costs, memory, runs, samples, workspaces
from pilot.verdict.builds import Failure, Pressed, Start, created, failures, pressed, stamp, start, status
from pilot.verdict.collect import Raw
from pilot.verdict.costs import Disk
from pilot.verdict.memory import Bounds, Comparison, Part, Standalone
from pilot.verdict.runs import Runs
from pilot.verdict.samples import Sample
from pilot.verdict.sessions import HOUR, History
from pilot.verdict.workspaces import WorkspaceFigures


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Everything the report says."""

    since: datetime
    """When the period, or the pilot in it, began."""
    until: datetime
    workspaces: tuple[WorkspaceFigures, ...]
    """Those that existed in the period."""
    templates_used: tuple[str, ...]
    templates_total: int
    starts: tuple[Start, ...]
    runs: Runs
    builds: int
    """Settled builds of the period, without those that were cancelled."""
    failures: tuple[Failure, ...]
    """Oldest first."""
    cancelled: int
    parts: Mapping[str, Part]
    samples: tuple[Sample, ...]
    watched_h: float
    down_h: float | None
    """None without samples."""
    disk: Disk
    by_limit: Comparison
    by_peak: Comparison
    standalone: Standalone | None
    pressed: tuple[Pressed, ...]
    """Oldest first."""
    removed: tuple[str, ...] | None
    kept: tuple[str, ...] | None
    warnings: tuple[str, ...]

    @property
    def days(self) -> float:
        return (self.until - self.since) / timedelta(days=1)

    @property
    def sessions(self) -> int:
        return sum(each.sessions for each in self.workspaces)

    @property
    def control_plane_gib(self) -> float | None:
        """Coder, Postgres and keeper together."""
        return memory.together_gib(self.parts.values())

    @property
    def control_plane_gib_h(self) -> float | None:
        """They never stop, so over the whole period."""
        gib = self.control_plane_gib
        return None if gib is None else gib * ((self.until - self.since) / HOUR)

    @property
    def net_gib_h(self) -> Bounds | None:
        """What parking gave back by what was taken, less what Coder, Postgres and keeper held."""
        cost = self.control_plane_gib_h
        return None if cost is None else self.by_peak.given_back.plus(-cost)

    def ready_s(self) -> list[float]:
        """How long the starts took, those that are known, shortest first."""
        return sorted(each.seconds for each in self.starts if each.seconds is not None)

    @property
    def median_ready_s(self) -> float | None:
        known = self.ready_s()
        return statistics.median(known) if known else None

    @property
    def failed_percent(self) -> float | None:
        return 100.0 * len(self.failures) / self.builds if self.builds else None


def compute(raw: Raw) -> Figures:
    """The figures of what was answered."""
    titles = {each["id"]: workspaces.title(each) for each in raw.workspaces}
    histories = {key: History(title=titles[key], until=raw.until).walk(raw.builds.get(key, [])) for key in titles}
    since = max(raw.since, _born(raw))
    templates = {each["id"]: each for each in raw.templates}
    there = tuple(
        found
        for each in sorted(raw.workspaces, key=workspaces.title)
        if (found := workspaces.of(raw, each, histories[each["id"]], templates.get(each["template_id"]), since)).spans
        or found.building
    )
    made = [(titles[key], each) for key, found in raw.builds.items() for each in found if created(each) >= since]
    settled = [(title, each) for title, each in made if status(each) in ("succeeded", "failed")]
    starts = [start(title, each) for title, each in made if each["transition"] == "start"]
    used = {workspaces.template_title(each) for each in raw.workspaces
            if any(span.end > since for span in histories[each["id"]].spans)}  # fmt: skip
    parts = {name: memory.part(raw, name) for name in samples.PARTS}
    control_gib = memory.together_gib(parts.values())
    control_gib_h = None if control_gib is None else control_gib * ((raw.until - since) / HOUR)
    watch = samples.watch(raw.samples)
    return Figures(
        since=since,
        until=raw.until,
        workspaces=there,
        templates_used=tuple(sorted(used)),
        templates_total=len(raw.templates),
        starts=tuple(sorted(starts, key=lambda each: each.time)),
        runs=runs.count(raw, histories, templates, since),
        builds=len(settled),
        failures=failures(settled, raw.errors),
        cancelled=sum(status(each) == "canceled" for _, each in made),
        parts=parts,
        samples=tuple(raw.samples),
        watched_h=watch.seen / HOUR,
        down_h=watch.down / HOUR if watch.seen else None,
        disk=costs.disk(raw),
        by_limit=memory.compare(there, lambda each: each.limit_gib, control_gib_h),
        standalone=memory.standalone(raw, (raw.until - since) / HOUR),
        pressed=pressed(made, raw.stops),
        by_peak=memory.compare(there, lambda each: each.taken_gib, control_gib_h),
        removed=costs.removed(raw),
        kept=costs.kept(raw),
        warnings=(*(text for each in histories.values() for text in each.warnings), *watch.clock_jumps),
    )


def _born(raw: Raw) -> datetime:
    """When the pilot's history begins: with the admin's account, or with an older build."""
    times = [stamp(raw.user.get("created_at"))]
    times += [created(found[0]) for found in raw.builds.values() if found]
    return min((time for time in times if time is not None), default=raw.since)
