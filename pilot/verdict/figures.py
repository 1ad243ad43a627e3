"""From raw answers to figures: pure functions. RAM is in GiB, time in hours; None is "cannot be known".

What a workspace was at a time follows from its builds: a start makes it run from the moment it is asked for, a stop
parks it from the moment it is done, so what is counted as parked was given back. After a build that failed or was
cancelled nobody knows: those hours are `unclear`, and count as held wherever RAM is added up.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from pilot.verdict import samples
from pilot.verdict.collect import Raw
from pilot.verdict.engine import WORKSPACE_LABEL

State = Literal["running", "parked", "unclear", "absent"]
MIB_PER_GIB: Final = 1024
HOUR: Final = timedelta(hours=1)
REPORT_INTERVAL: Final = timedelta(seconds=60)
"""scripts/keep-alive.sh of the template reports this often."""
REST: Final = 10 * REPORT_INTERVAL
"""As there: a longer rest ends a run."""
FRESH: Final = timedelta(seconds=150)
"""A report of work no older than two and a half intervals says that Claude was at work."""
PAST_LIMIT: Final = "past the keep-alive limit"
"""In the watcher's message when a run goes on and no longer counts."""
WORKING: Final = "working for "
"""So begins what the watcher leaves for the dashboard while Claude is at work."""
REASON_LENGTH: Final = 200
AUTOMATIC: Final = ("autostop", "dormancy")
UNSETTLED: Final = ("pending", "running", "canceling")


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


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start: from the request to the end of the agent's start scripts."""

    time: datetime
    workspace: str
    seconds: float | None
    """None: not ready yet, never ready, or the agent began anew since, which overwrites the time."""
    status: str
    """The build's."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One failed build, with the first line of Coder's reason."""

    time: datetime
    workspace: str
    transition: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class WorkspaceFigures:
    """One workspace in the period."""

    name: str
    template: str
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
    """At the most, see `_used_until`."""
    autostops: int
    hand_stops: int
    spans: tuple[Span, ...]

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
    def existed_h(self) -> float:
        return self.hours("running", "parked", "unclear")

    @property
    def autoparked_h(self) -> float:
        """Parked by autostop: without it the container would have run on."""
        return sum(span.hours for span in self.spans if span.state == "parked" and span.after_autostop)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """A sum of which a part may be unknown: at least `low`, at the most `high`, or nobody knows how much (None)."""

    low: float
    high: float | None

    @property
    def known(self) -> bool:
        return self.high is not None and abs(self.high - self.low) < 1e-9


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Claude's runs, by the reports of the template's watcher."""

    total: int
    saved: int | None
    """At the most: an open tab would have kept some of them too. None where the idle time is unknown."""
    untold_sessions: int
    """Sessions of which neither Coder nor a sample tells what Claude did."""
    stopped_by_autostop: int
    stopped_by_hand: int
    stopped_past_limit: int

    @property
    def stopped(self) -> int:
        return self.stopped_by_autostop + self.stopped_past_limit


@dataclass(frozen=True, kw_only=True)
class Part:
    """Coder or Postgres."""

    ram_now_gib: float | None
    ram_mean_gib: float | None
    """Over the samples of the period; None without any."""
    ram_max_gib: float | None
    cpu_now_percent: float | None
    cpu_mean_percent: float | None

    @property
    def ram_gib(self) -> float | None:
        """The best that is known for the period: the mean, else what it is now."""
        return self.ram_mean_gib if self.ram_mean_gib is not None else self.ram_now_gib


@dataclass(frozen=True, kw_only=True)
class Disk:
    """In GiB."""

    data: float | None
    images: float | None
    volumes: float | None
    dumps: float | None
    dumps_count: int | None
    newest_dump: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """GiB hours of the period under one measure of a workspace's RAM."""

    given_back: Bounds
    always_on: Bounds
    """The same workspaces as containers that always run."""
    bare: Bounds
    """`docker run` per project: started and stopped by hand as here, and never by autostop."""
    pilot: Bounds | None
    """What this pilot held: workspaces, Coder and Postgres; None where the latter are unknown."""


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
    """Settled ones of the period, cancelled ones not among them."""
    failures: tuple[Failure, ...]
    """Oldest first."""
    cancelled: int
    parts: Mapping[str, Part]
    samples: tuple[samples.Sample, ...]
    watched_h: float
    down_h: float | None
    """None without samples."""
    disk: Disk
    by_limit: Comparison
    by_peak: Comparison
    removed: tuple[str, ...] | None
    kept: tuple[str, ...] | None
    warnings: tuple[str, ...] = field(default=())

    @property
    def days(self) -> float:
        return (self.until - self.since) / timedelta(days=1)

    @property
    def sessions(self) -> int:
        return sum(each.sessions for each in self.workspaces)

    @property
    def control_plane_gib(self) -> float | None:
        """Coder and Postgres together."""
        values = [part.ram_gib for part in self.parts.values()]
        return None if None in values else sum(value for value in values if value is not None)

    @property
    def control_plane_gib_h(self) -> float | None:
        """They never stop, so over the whole period."""
        gib = self.control_plane_gib
        return None if gib is None else gib * ((self.until - self.since) / HOUR)

    @property
    def net_gib_h(self) -> Bounds | None:
        """What parking gave back by measured peak, less what Coder and Postgres held."""
        cost, gain = self.control_plane_gib_h, self.by_peak.given_back
        if cost is None:
            return None
        return Bounds(low=gain.low - cost, high=None if gain.high is None else gain.high - cost)

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


def stamp(text: str | None) -> datetime | None:
    """A time of Coder's; its zero is none."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text).astimezone(UTC)


@dataclass
class _Session:
    """From a start to the build that ended it; a start without a stop before it, as of an update, ends one too."""

    build: Mapping[str, Any]
    start: datetime
    end: datetime | None = None
    ended_by: str = ""
    """"autostop", "hand", "delete" or "failed"; "" while it runs."""


@dataclass
class _History:
    """The spans and sessions of one workspace's builds."""

    name: str
    until: datetime
    spans: list[Span] = field(default_factory=list)
    sessions: list[_Session] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    building: str = ""
    state: State = "absent"
    after_autostop: bool = False
    cursor: datetime | None = None

    def walk(self, builds: Iterable[Mapping[str, Any]]) -> _History:
        for build in builds:
            self._build(build)
        self._to(self.until)
        return self

    def _build(self, build: Mapping[str, Any]) -> None:
        number, transition, job = build["build_number"], build["transition"], build["job"]
        begin = self._time(build["created_at"], number)
        self._to(begin)
        status = _status(build)
        good = status in ("succeeded", *UNSETTLED)
        opens = transition == "start" and good
        if self.sessions and self.sessions[-1].end is None and (opens or status not in UNSETTLED):
            self.sessions[-1].end = begin
            self.sessions[-1].ended_by = _ended_by(build) if good else "failed"
        if opens:
            self.sessions.append(_Session(build=build, start=begin))
        if transition == "start":
            self._become("running" if good else "unclear")
        if status in UNSETTLED:
            self.building = transition
            return
        self._to(self._time(job.get("completed_at") or build["updated_at"], number))
        if status != "succeeded":
            self._become("unclear")
        elif transition == "stop":
            if self.state == "parked":
                # Stopped again: who stopped it first is what counts.
                return
            self._become("parked", after_autostop=build["reason"] in AUTOMATIC)
        elif transition == "delete":
            self._become("absent")

    def _become(self, state: State, *, after_autostop: bool = False) -> None:
        self.state, self.after_autostop = state, after_autostop

    def _to(self, time: datetime) -> None:
        if self.cursor is not None and time > self.cursor and self.state != "absent":
            self.spans.append(Span(start=self.cursor, end=time, state=self.state, after_autostop=self.after_autostop))
        self.cursor = time if self.cursor is None else max(time, self.cursor)

    def _time(self, text: str, number: int) -> datetime:
        """The time, moved so that none lies before the one before it: a clock that was set makes no negative hours."""
        time = stamp(text) or self.until
        if self.cursor is not None and time < self.cursor:
            self.warnings.append(
                f"{self.name}, build {number}: its time lies {_size(self.cursor - time)} before the one before it; the "
                f"clock was set, so hours around it are uncertain"
            )
            return self.cursor
        if time > self.until:
            self.warnings.append(
                f"{self.name}, build {number}: its time lies {_size(time - self.until)} in the future; the clock was "
                f"set, so hours around it are uncertain"
            )
            return self.until
        return time


def _status(build: Mapping[str, Any]) -> str:
    """The job's status. Of one that is cancelled in the middle Coder 2.30.0 says "failed", for so Terraform ends."""
    job = build["job"]
    return "canceled" if job["status"] == "failed" and stamp(job.get("canceled_at")) else str(job["status"])


def _size(length: timedelta) -> str:
    return f"{length / HOUR:.1f} h" if length >= HOUR else f"{length.total_seconds():.0f} s"


def _ended_by(build: Mapping[str, Any]) -> str:
    if build["transition"] == "delete":
        return "delete"
    return "autostop" if build["reason"] in AUTOMATIC else "hand"


def compute(raw: Raw) -> Figures:
    """The figures of what was answered."""
    titles = {each["id"]: f"{each['owner_name']}/{each['name']}" for each in raw.workspaces}
    histories = {key: _History(name=titles[key], until=raw.until).walk(raw.builds.get(key, [])) for key in titles}
    since = max(raw.since, _born(raw))
    known = {each["id"]: each for each in raw.templates}
    watch = samples.watch(raw.samples)
    workspaces = tuple(
        found
        for each in sorted(raw.workspaces, key=lambda record: titles[record["id"]])
        if (found := _workspace(raw, each, histories[each["id"]], known.get(each["template_id"]), since)).spans
        or found.building
    )
    settled = [
        (titles[key], build)
        for key, builds in raw.builds.items()
        for build in builds
        if _in_period(build, since) and _status(build) in ("succeeded", "failed")
    ]
    names = {each["template_display_name"] or each["template_name"] for each in raw.workspaces
             if any(span.end > since for span in histories[each["id"]].spans)}  # fmt: skip
    parts = {name: _part(raw, name) for name in samples.PARTS}
    hours = (raw.until - since) / HOUR
    control = [part.ram_gib for part in parts.values()]
    control_gib_h = None if None in control else hours * sum(each for each in control if each is not None)
    return Figures(
        since=since,
        until=raw.until,
        workspaces=workspaces,
        templates_used=tuple(sorted(names)),
        templates_total=len(raw.templates),
        starts=_starts(raw, titles, since),
        runs=_runs(raw, histories, known, since),
        builds=len(settled),
        failures=tuple(
            sorted(
                (_failure(title, build, raw.errors) for title, build in settled if _status(build) == "failed"),
                key=lambda each: each.time,
            )
        ),
        cancelled=sum(
            _in_period(build, since) and _status(build) == "canceled"
            for builds in raw.builds.values()
            for build in builds
        ),
        parts=parts,
        samples=tuple(raw.samples),
        watched_h=watch.seen / HOUR,
        down_h=watch.down / HOUR if watch.seen else None,
        disk=_disk(raw),
        by_limit=_comparison(workspaces, lambda each: each.limit_gib, control_gib_h),
        by_peak=_comparison(workspaces, lambda each: each.peak_gib, control_gib_h),
        removed=_removed(raw),
        kept=_kept(raw),
        warnings=(*(text for each in histories.values() for text in each.warnings), *watch.clock_jumps),
    )


def _born(raw: Raw) -> datetime:
    """When the pilot's history begins: the admin's account, or an older build."""
    times = [stamp(raw.user.get("created_at"))]
    times += [stamp(builds[0]["created_at"]) for builds in raw.builds.values() if builds]
    return min((time for time in times if time is not None), default=raw.since)


def _in_period(build: Mapping[str, Any], since: datetime) -> bool:
    time = stamp(build["created_at"])
    return time is not None and time >= since


def _workspace(
    raw: Raw, record: Mapping[str, Any], history: _History, template: Mapping[str, Any] | None, since: datetime
) -> WorkspaceFigures:
    key = record["id"]
    builds = raw.builds.get(key, [])
    spans = tuple(
        Span(start=max(span.start, since), end=span.end, state=span.state, after_autostop=span.after_autostop)
        for span in history.spans
        if span.end > since
    )
    sessions = [each for each in history.sessions if each.end is None or each.end > since]
    used = [
        _used_h(each, each is history.sessions[-1], record, template, since, raw.until, _told(raw, key, each))
        for each in sessions
    ]
    measured = [each.workspace_ram_mib[key] for each in raw.samples if key in each.workspace_ram_mib]
    now = (raw.workspace_usage or {}).get(key)
    measured += [now.ram_mib] if now is not None else []
    limit = raw.parameters.get(key, {}).get("memory_mb", "")
    stops = [
        each for each in builds
        if each["transition"] == "stop" and each["job"]["status"] == "succeeded" and _in_period(each, since)
    ]  # fmt: skip
    automatic = sum(each["reason"] in AUTOMATIC for each in stops)
    return WorkspaceFigures(
        name=history.name,
        template=record["template_display_name"] or record["template_name"],
        deleted=history.state == "absent" and bool(builds) and not history.building,
        building=history.building,
        limit_gib=int(limit) / MIB_PER_GIB if limit.isdecimal() else None,
        peak_gib=max(measured) / MIB_PER_GIB if measured else None,
        measured=len(measured),
        sessions=len(sessions),
        used_h=None if None in used else sum(each for each in used if each is not None),
        autostops=automatic,
        hand_stops=len(stops) - automatic,
        spans=spans,
    )


def _used_h(
    session: _Session, newest: bool, workspace: Mapping[str, Any], template: Mapping[str, Any] | None,
    since: datetime, until: datetime, told: _Told,
) -> float | None:  # fmt: skip
    last = _used_until(session, newest, workspace, template, told)
    if last is None:
        return None
    begin = max(session.start, since)
    return max(0.0, (min(last, session.end or until) - begin) / HOUR)


def _used_until(
    session: _Session, newest: bool, workspace: Mapping[str, Any], template: Mapping[str, Any] | None, told: _Told
) -> datetime | None:
    """The latest time at which somebody, or Claude, can have been at work.

    Whoever stopped it by hand was there. Of the newest session Coder knows when it was last used. Of an older one that
    autostop ended, the deadline tells: activity moves it to then plus the activity bump.
    """
    if session.end is not None and session.ended_by != "autostop":
        return session.end
    reported = [each.time for each in told.reports if each.working]
    last = stamp(workspace.get("last_used_at"))
    if newest and last is not None:
        return max([last, session.start, *reported])
    deadline = stamp(session.build.get("deadline"))
    if deadline is None or template is None:
        return None
    return max([deadline - timedelta(milliseconds=template["activity_bump_ms"]), session.start, *reported])


def _agents(build: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [agent for each in build.get("resources") or [] for agent in each.get("agents") or []]


@dataclass(frozen=True, kw_only=True)
class _Report:
    """What the template's watcher said of Claude."""

    time: datetime
    working: bool
    message: str


@dataclass(frozen=True, kw_only=True)
class _Told:
    """The reports of one session, oldest first; `fresh` says how old one of work may be at a stop in the work."""

    reports: Sequence[_Report]
    fresh: timedelta
    known: bool


def _told(raw: Raw, workspace: str, session: _Session) -> _Told:
    """What Coder tells of a session, else what the samples tell.

    The next start takes the apps over, and with them every report of this one (Coder 2.30.0).
    """
    told = _reported(session.build)
    return told if told.known else _sampled(raw.samples, workspace, session, raw.until)


def _reported(build: Mapping[str, Any]) -> _Told:
    """What Coder tells of the session that a start began."""
    apps = [app for agent in _agents(build) for app in agent.get("apps") or []]
    reports = [
        _Report(time=time, working=each["state"] == "working", message=each["message"])
        for app in apps
        for each in app.get("statuses") or []
        if (time := stamp(each["created_at"])) is not None
    ]
    return _Told(reports=sorted(reports, key=lambda each: each.time), fresh=FRESH, known=bool(apps))


def _sampled(seen: Sequence[samples.Sample], workspace: str, session: _Session, until: datetime) -> _Told:
    """What the samples, oldest first, tell of a session."""
    end = session.end or until
    # A year has a hundred thousand samples, and most sessions look here.
    first = bisect_left(seen, session.start, key=lambda each: each.time)
    last = bisect_right(seen, end, key=lambda each: each.time)
    texts = [(each.time, each.claude[workspace]) for each in seen[first:last] if workspace in each.claude]
    reports = [_Report(time=time, working=text.startswith(WORKING), message=text) for time, text in texts]
    # Shorter than the samples are apart: too short for a run that autostop could have ended.
    short = end - session.start < samples.GAP
    return _Told(reports=reports, fresh=samples.INTERVAL + FRESH, known=bool(texts) or short)


def _starts(raw: Raw, titles: Mapping[str, str], since: datetime) -> tuple[Start, ...]:
    found = []
    for key, builds in raw.builds.items():
        for build in builds:
            time = stamp(build["created_at"])
            if time is not None and time >= since and build["transition"] == "start":
                found.append(Start(time=time, workspace=titles[key], seconds=_ready_s(build), status=_status(build)))
    return tuple(sorted(found, key=lambda each: each.time))


def _ready_s(build: Mapping[str, Any]) -> float | None:
    """Seconds from the request to the last agent's readiness."""
    begin, agents = stamp(build["created_at"]), _agents(build)
    times = [stamp(agent.get("ready_at")) for agent in agents]
    if begin is None or not times or None in times or build["job"]["status"] != "succeeded":
        return None
    for agent in agents:
        connected, started = stamp(agent.get("first_connected_at")), stamp(agent.get("started_at"))
        # After a reboot of the box the agent starts anew, and its times with it.
        if connected is not None and started is not None and started - connected > timedelta(minutes=1):
            return None
    seconds = (max(time for time in times if time is not None) - begin).total_seconds()
    return seconds if seconds >= 0 else None


def _runs(
    raw: Raw, histories: Mapping[str, _History], templates: Mapping[str, Mapping[str, Any]], since: datetime
) -> Runs:
    total = saved = untold = autostop = hand = limit = 0
    unknown = False
    for record in raw.workspaces:
        template = templates.get(record["template_id"])
        for session in histories[record["id"]].sessions:
            if session.end is not None and session.end < since:
                continue
            told = _told(raw, record["id"], session)
            untold += not told.known
            reports = told.reports
            for begin, end in _stretches(reports):
                if end < since:
                    continue
                total += 1
                deadline = _first_deadline(session, record, template, begin)
                if template is None:
                    unknown = True
                elif deadline is not None and end > deadline:
                    saved += 1
            if reports and session.end is not None and session.end > since and session.ended_by != "failed":
                last = reports[-1]
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


def _stretches(reports: Sequence[_Report]) -> list[tuple[datetime, datetime]]:
    """The runs in the reports: first and last report of each."""
    runs: list[tuple[datetime, datetime]] = []
    at_work = False
    for each in reports:
        if each.working and at_work and each.time - runs[-1][1] <= REST:
            runs[-1] = (runs[-1][0], each.time)
        elif each.working:
            runs.append((each.time, each.time))
        at_work = each.working
    return runs


def _first_deadline(
    session: _Session, workspace: Mapping[str, Any], template: Mapping[str, Any] | None, begin: datetime
) -> datetime | None:
    """The latest deadline that a run can have begun with: that of the start, or the activity bump of its beginning."""
    ttl_ms = workspace.get("ttl_ms")
    if not ttl_ms or template is None:
        return None
    ready = stamp(session.build["job"].get("completed_at")) or session.start
    return max(ready + timedelta(milliseconds=ttl_ms), begin + timedelta(milliseconds=template["activity_bump_ms"]))


def _failure(title: str, build: Mapping[str, Any], errors: Mapping[str, str]) -> Failure:
    lines = (errors.get(build["id"]) or build["job"].get("error") or "").strip().splitlines()
    return Failure(
        time=datetime.fromisoformat(build["created_at"]),
        workspace=title,
        transition=build["transition"],
        reason=lines[0][:REASON_LENGTH] if lines else "no reason given",
    )


def _part(raw: Raw, name: str) -> Part:
    ram = [each.ram_mib[name] / MIB_PER_GIB for each in raw.samples if name in each.ram_mib]
    cpu = [each.cpu_percent[name] for each in raw.samples if name in each.cpu_percent]
    now = (raw.usage or {}).get(name)
    return Part(
        ram_now_gib=now.ram_mib / MIB_PER_GIB if now else None,
        ram_mean_gib=statistics.fmean(ram) if ram else None,
        ram_max_gib=max(ram) if ram else None,
        cpu_now_percent=now.cpu_percent if now else None,
        cpu_mean_percent=statistics.fmean(cpu) if cpu else None,
    )


def _comparison(
    workspaces: Sequence[WorkspaceFigures],
    ram_gib: Callable[[WorkspaceFigures], float | None],
    control_gib_h: float | None,
) -> Comparison:
    def total(hours: Callable[[WorkspaceFigures], float]) -> Bounds:
        low, high = 0.0, 0.0
        bounded = True
        for each in workspaces:
            gib = ram_gib(each)
            low += hours(each) * (gib or 0.0)
            # Not measured: it cannot have been more than its limit.
            most = gib if gib is not None else each.limit_gib
            bounded = bounded and (most is not None or hours(each) == 0)
            high += hours(each) * (most or 0.0)
        return Bounds(low=low, high=high if bounded else None)

    held = total(lambda each: each.running_h + each.unclear_h)
    pilot = None
    if control_gib_h is not None:
        pilot = Bounds(low=held.low + control_gib_h, high=None if held.high is None else held.high + control_gib_h)
    return Comparison(
        given_back=total(lambda each: each.parked_h),
        always_on=total(lambda each: each.existed_h),
        bare=total(lambda each: each.running_h + each.unclear_h + each.autoparked_h),
        pilot=pilot,
    )


def _disk(raw: Raw) -> Disk:
    gib = 1024.0**3
    images = volumes = None
    if raw.disk is not None and raw.containers is not None:
        used = {each["ImageID"] for each in raw.containers}
        named = {each.get("image") for each in raw.parameters.values()}
        images = sum(
            each["Size"] for each in raw.disk.get("Images") or []
            if each["Id"] in used or named & set(each.get("RepoTags") or [])
        ) / gib  # fmt: skip
        sizes = [(each.get("UsageData") or {}).get("Size", -1) for each in _volumes(raw)]
        # The engine says -1 where it did not measure.
        volumes = None if -1 in sizes else sum(sizes) / gib
    dumps = raw.dumps
    return Disk(
        data=None if raw.data_bytes is None else raw.data_bytes / gib,
        images=images,
        volumes=volumes,
        dumps=None if dumps is None else sum(size for _, size in dumps) / gib,
        dumps_count=None if dumps is None else len(dumps),
        newest_dump=dumps[-1][0] if dumps else "",
    )


def _volumes(raw: Raw) -> list[dict[str, Any]]:
    """The home volumes of the workspaces that Coder knows."""
    ours = {each["id"] for each in raw.workspaces}
    found = (raw.disk or {}).get("Volumes") or []
    return [each for each in found if (each.get("Labels") or {}).get(WORKSPACE_LABEL) in ours]


def _removed(raw: Raw) -> tuple[str, ...] | None:
    if raw.containers is None or raw.networks is None:
        return None
    return (
        *sorted(f"container {each['Names'][0].removeprefix('/')}" for each in raw.containers),
        *sorted(f"network {each['Name']}" for each in raw.networks),
    )


def _kept(raw: Raw) -> tuple[str, ...] | None:
    if raw.disk is None:
        return None
    titles = {each["id"]: f"{each['owner_name']}/{each['name']}" for each in raw.workspaces}
    homes = {each["Name"]: titles[each["Labels"][WORKSPACE_LABEL]] for each in _volumes(raw)}
    return tuple(f"volume {name} (home of {homes[name]})" for name in sorted(homes, key=lambda name: homes[name]))
