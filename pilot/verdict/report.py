"""The figures in words: sections of rows, each with its source. Terminal, page and JSON show the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pilot.verdict.builds import Failure
from pilot.verdict.figures import Figures
from pilot.verdict.judge import Verdict, counted
from pilot.verdict.memory import Bounds, Comparison, Part
from pilot.verdict.workspaces import WorkspaceFigures
from stack import settings

UNKNOWN: Final = "unknown"
QUESTION: Final = "Is the pilot worth keeping?"
NO_WORKSPACES: Final = "No workspaces in this time: `make workspace NAME=demo` creates one."
REASONS_SHOWN: Final = 10

BUILDS: Final = "Coder: workspaces/{id}/builds"
STATS: Final = "Docker: containers/{id}/stats"
SAMPLES: Final = "samples.jsonl"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure."""

    name: str
    value: str
    source: str
    key: bool = False
    """One of the key figures, for which the terminal has a line of at most 100 columns."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Figures that belong together."""

    title: str
    rows: tuple[Row, ...]


WORKSPACE_HEADS: Final = (
    "workspace", "limit", "peak", "sessions", "up h", "used h ≤", "parked h", "unclear h", "autostops", "by hand",
)  # fmt: skip


def number(value: float | None, unit: str = "", digits: int = 1) -> str:
    """The value with its unit, or "unknown"."""
    if value is None:
        return UNKNOWN
    # Without the sign of one that is rounded to zero.
    return f"{round(value, digits) + 0.0:,.{digits}f} {unit}".rstrip()


def size(gib: float | None) -> str:
    """Memory or disk, in a unit that does not round it to "0.00"."""
    if gib is None:
        return UNKNOWN
    return number(gib, "GiB", 2) if gib >= 1 else number(gib * 1024, "MiB", 2 if gib * 1024 < 10 else 0)


def hours(value: float | None) -> str:
    """Hours; a few minutes are not rounded to "0.0"."""
    return number(value, digits=2 if value is not None and value < 1 else 1)


def bounds(value: Bounds | None, unit: str) -> str:
    """The value if it is known, else what is known about it."""
    if value is None:
        return UNKNOWN
    if value.known:
        return number(value.low, unit)
    most = f"the rest {UNKNOWN}" if value.high is None else f"at most {number(value.high, unit)}"
    # Nothing was measured, or almost nothing: that is not a zero.
    least = f"at least {number(value.low, unit)}" if round(value.low, 1) else UNKNOWN
    return f"{least}, {most}"


def headline(figures: Figures) -> str:
    """The period."""
    return (
        f"{figures.since:%Y-%m-%d %H:%M} to {figures.until:%Y-%m-%d %H:%M} UTC, {figures.days:.1f} days; "
        f"{looked(figures)}"
    )


def looked(figures: Figures) -> str:
    """Where the figures for RAM and CPU come from."""
    if not figures.samples:
        return "RAM and CPU of this moment only, no samples"
    return f"RAM and CPU from {counted(len(figures.samples), 'sample')}, {hours(figures.watched_h)} h watched"


def workspace_rows(figures: Figures) -> list[tuple[str, ...]]:
    """The rows of the workspaces' table."""
    return [
        (
            each.name + (" (deleted)" if each.deleted else f" ({each.building} running)" if each.building else ""),
            number(each.limit_gib, "GiB"),
            size(each.peak_gib),
            str(each.sessions),
            hours(each.running_h),
            hours(each.used_h),
            hours(each.parked_h),
            hours(each.unclear_h),
            str(each.autostops),
            str(each.hand_stops),
        )
        for each in figures.workspaces
    ]


def sections(figures: Figures) -> tuple[Section, ...]:
    """Every figure except those in the workspaces' table."""
    return (
        Section(title="Benefit", rows=tuple(_benefit(figures))),
        Section(title="Cost", rows=tuple(_cost(figures))),
        Section(title="Alternatives for the same workspaces and hours", rows=tuple(_alternatives(figures))),
    )


def _benefit(figures: Figures) -> Iterable[Row]:
    each = figures.workspaces
    there = [workspace for workspace in each if workspace.on_cluster]
    measured = sum(workspace.taken_gib is not None for workspace in each)
    yield Row(name="Workspaces", value=f"{len(each)}, {counted(figures.sessions, 'session')}", source=BUILDS, key=True)
    yield Row(
        name="Templates in use",
        value=f"{len(figures.templates_used)} of {figures.templates_total}"
        + (f": {', '.join(figures.templates_used)}" if figures.templates_used else ""),
        source="Coder: templates, workspaces",
    )  # fmt: skip
    yield Row(
        name="Stops", source=f"{BUILDS}, reason",
        value=f"{sum(one.autostops for one in each)} by autostop, "
        f"{sum(one.pressure_stops for one in each)} for memory, {sum(one.hand_stops for one in each)} by hand",
    )  # fmt: skip
    yield from _pressed(figures)
    parked = sum(one.parked_h for one in each)
    yield Row(name="Parked", value=number(parked, "h"), source=f"{BUILDS}, from stop to start", key=True)
    yield Row(
        name="RAM given back, by limit", value=bounds(figures.by_limit.given_back, "GiB·h"),
        source=f"{BUILDS}; workspacebuilds/{{id}}/parameters, memory_mb",
    )  # fmt: skip
    yield Row(
        name="RAM given back, by peak", key=True, value=bounds(figures.by_peak.given_back, "GiB·h"),
        source=f"{BUILDS}; {SAMPLES}, {STATS} ({measured} of {len(each)} known)"
        if there
        else f"{BUILDS}; {SAMPLES}, {STATS} ({measured} of {len(each)} measured)",
    )  # fmt: skip
    if there:
        yield _on_cluster(there)
    known = figures.ready_s()
    more = len(figures.starts) - len(known)
    yield Row(
        name="Start to ready", key=True, source=f"{BUILDS}, created_at to the agent's ready_at",
        value=f"median {number(figures.median_ready_s, 's')}, worst {number(known[-1] if known else None, 's')}, "
        f"of {counted(len(known), 'start')}" + (f", {more} {UNKNOWN}" if more else ""),
    )  # fmt: skip
    runs = figures.runs
    statuses = f"{BUILDS}, statuses of the apps; {SAMPLES}"
    untold = f"; {counted(runs.untold_sessions, 'session')} {UNKNOWN}" if runs.untold_sessions else ""
    saved = UNKNOWN if runs.saved is None else f"at most {runs.saved}"
    yield Row(
        name="Claude runs kept alive", key=True, source=statuses,
        value=(f"{saved} of {runs.total}" if runs.total else "no run was reported") + untold,
    )  # fmt: skip
    yield Row(
        name="Claude runs interrupted", key=True, source=statuses,
        value=f"{runs.stopped_by_autostop} by autostop, {runs.stopped_past_limit} past the limit, "
        f"{runs.stopped_by_hand} by hand{untold}",
    )  # fmt: skip


def _on_cluster(there: Sequence[WorkspaceFigures]) -> Row:
    """What of this is the cluster's."""
    gib_h = [each.parked_h * each.limit_gib for each in there if each.limit_gib is not None]
    measured = sum(each.peak_gib is not None for each in there)
    used = f"{measured} of {len(there)} measured" if measured else f"use {UNKNOWN}"
    return Row(
        name="Of it on the cluster", key=True,
        value=f"{number(sum(gib_h) if len(gib_h) == len(there) else None, 'GiB·h')}, "
        f"{counted(len(there), 'workspace')}, {used}",
        source="by limit, which the nodes set aside; the cluster's metrics API",
    )  # fmt: skip


def _pressed(figures: Figures) -> Iterable[Row]:
    """The workspaces that were stopped because the host's memory was short, the newest first."""
    stops = figures.pressed[::-1]
    if not stops:
        return
    together = sum(each.ram_mib or 0 for each in stops) / 1024
    yield Row(
        name="Stopped for memory", source="stops.jsonl",
        value=f"{counted(len(stops), 'time')}, which gave back {size(together)}",
    )  # fmt: skip
    for each in stops[:REASONS_SHOWN]:
        gave = UNKNOWN if each.ram_mib is None else size(each.ram_mib / 1024)
        yield Row(name="", value=f"{each.workspace}: {gave}", source=f"{each.time:%Y-%m-%d %H:%M}")
    if len(stops) > REASONS_SHOWN:
        yield Row(name="", value=f"and {len(stops) - REASONS_SHOWN} before", source="")


def _cost(figures: Figures) -> Iterable[Row]:
    for name, part in figures.parts.items():
        title = name.capitalize()
        yield Row(name=f"{title}, RAM", value=_ram(part), source=f"{STATS}; {SAMPLES}")
        yield Row(name=f"{title}, CPU of one core", value=_cpu(part), source=f"{STATS}; {SAMPLES}")
    yield Row(
        name="RAM of the pilot itself", key=True, value=number(figures.control_plane_gib_h, "GiB·h"),
        source="mean of the samples, over the period" if figures.samples else "RAM now, as if it were so all the time",
    )  # fmt: skip
    disk = figures.disk
    yield Row(name="Disk, database", value=size(disk.data), source="du in Postgres's container")
    yield Row(
        name="Disk, images", value=size(disk.images), source="Docker: system/df; shared layers count for each image"
    )
    yield Row(name="Disk, home volumes", value=size(disk.volumes), source="Docker: system/df")
    dumps = UNKNOWN if disk.dumps_count is None else f"{disk.dumps_count}, {size(disk.dumps)}"
    yield Row(
        name="Dumps", source="<dataDir>/backups",
        value=dumps + (f", newest {disk.newest_dump}" if disk.newest_dump else ""),
    )  # fmt: skip
    failed = len(figures.failures)
    yield Row(
        name="Failed builds", key=True, value=f"{failed} of {figures.builds}, {figures.cancelled} cancelled",
        source=f"{BUILDS}, job.status; workspacebuilds/{{id}}/logs",
    )  # fmt: skip
    reasons: dict[str, list[Failure]] = {}
    for each in figures.failures:
        reasons.setdefault(each.reason, []).append(each)
    # The newest failure first.
    shown = sorted(reasons.items(), key=lambda item: item[1][-1].time, reverse=True)
    for reason, alike in shown[:REASONS_SHOWN]:
        last = alike[-1]
        yield Row(
            name="", source=f"newest: {last.transition} of {last.workspace}, {last.time:%Y-%m-%d %H:%M}",
            value=f"{len(alike)} times: {reason}" if len(alike) > 1 else reason,
        )  # fmt: skip
    if len(shown) > REASONS_SHOWN:
        yield Row(name="", value=f"and {len(shown) - REASONS_SHOWN} other reasons", source="")
    yield Row(
        name="Downtime seen", key=True,
        value=f"{UNKNOWN}, no samples" if figures.down_h is None
        else f"{hours(figures.down_h)} h of {hours(figures.watched_h)} h watched",
        source=SAMPLES,
    )  # fmt: skip


def _ram(part: Part) -> str:
    now = f"{size(part.ram_now_gib)} now"
    if part.ram_mean_gib is None:
        return f"{now}; over the period {UNKNOWN}"
    return f"{now}; mean {size(part.ram_mean_gib)}, most {size(part.ram_max_gib)}"


def _cpu(part: Part) -> str:
    return f"{number(part.cpu_now_percent, '%')} now; mean {number(part.cpu_mean_percent, '%')}"


def _alternatives(figures: Figures) -> Iterable[Row]:
    for title, by in (("limit", figures.by_limit), ("peak", figures.by_peak)):
        yield from _by(title, by)
    if beside := figures.standalone:
        seen_h = beside.share * figures.watched_h
        yield Row(
            name=f"Container {beside.name}", value=number(beside.gib_h, "GiB·h"),
            source=f"{SAMPLES}: mean {size(beside.ram_mean_gib)}, in {hours(seen_h)} h of {hours(figures.watched_h)} h",
        )  # fmt: skip
    yield Row(
        name="Saved against always on",
        key=True,
        value=bounds(figures.net_gib_h, "GiB·h"),
        source="RAM given back by peak, less RAM of Coder, Postgres and keeper",
    )


def _by(title: str, by: Comparison) -> Iterable[Row]:
    yield Row(
        name=f"This pilot, by {title}", value=bounds(by.pilot, "GiB·h"),
        source="RAM in running hours, and RAM of Coder, Postgres and keeper",
    )  # fmt: skip
    yield Row(name=f"Always on, by {title}", value=bounds(by.always_on, "GiB·h"), source="RAM in all hours")
    yield Row(
        name=f"docker run per project, by {title}", value=bounds(by.bare, "GiB·h"),
        source="RAM in running hours and in those parked by autostop",
    )  # fmt: skip


def retiring(figures: Figures, *, purge: bool, data_directory: str) -> tuple[str, list[str], str, list[str]]:
    """What `make down` would remove and keep: two titles, each followed by its list."""
    removed = [UNKNOWN] if figures.removed is None else list(figures.removed)
    volumes = [UNKNOWN + ": volumes"] if figures.kept is None else list(figures.kept)
    data = [f"{data_directory}/postgres", f"{data_directory}/backups"]
    state = "the state in the checkout, with the passwords"
    if purge:
        return "Retiring would remove (purgeOnDestroy is true)", [*removed, *volumes, *data], "and keep", [state]
    return "Retiring would remove", removed, "and keep", [*volumes, *data, state]


def check_rows(verdict: Verdict) -> list[tuple[str, str, str]]:
    """The rule: each condition, what was found, whether it is met."""
    words = {True: "yes", False: "no", None: UNKNOWN}
    return [(each.rule, each.found, words[each.met]) for each in verdict.checks]


def what_to_type(figures: Figures, verdict: Verdict, thresholds: settings.Verdict) -> list[str]:
    """What follows from the answer, as commands; docs/endings.md has the whole way of each end."""
    if verdict.outcome == "keep":
        return [
            "Coder stays. The standalone editor can go once its projects are here: "
            "`make import FROM=<container>:<path> NAME=<workspace>` for each, and then what docs/endings.md says under "
            '"Keep"'
        ]
    if verdict.outcome == "retire":
        return [
            "`make leave` ends Coder and goes on with the homes by one script, `workspace`",
            "`make down` ends Coder and only keeps the homes; docs/endings.md says more of both",
        ]
    earliest = figures.since + timedelta(days=thresholds.min_days)
    if not figures.workspaces:
        return ["`make workspace NAME=demo`"]
    if earliest > figures.until:
        return [f"`make verdict` again, on {earliest:%Y-%m-%d} at the earliest"]
    return ["`make verdict` again once what is unknown above is known; docs/verdict.md says how"]
