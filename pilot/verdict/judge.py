"""The rule: figures against thresholds, one line out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pilot.verdict.figures import Figures
from pilot.verdict.memory import Bounds

Outcome = Literal["keep", "retire", "too early"]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Each field is the setting of the same name in camelCase, see stack/settings.py."""

    verdict_min_days: int
    verdict_min_net_gib_h_per_day: int
    verdict_max_failed_percent: int
    verdict_max_stopped_runs: int

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Thresholds:
        """From the settings as text.

        Raises:
            ValueError: one is missing or no whole number.
        """
        numbers = {}
        for key, name in KEYS.items():
            if not values.get(key, "").isdecimal():
                raise ValueError(f'{key} is "{values.get(key, "")}": run `pulumi config set {key} <whole number>`')
            numbers[name] = int(values[key])
        return cls(**numbers)


KEYS: Final[Mapping[str, str]] = {
    "verdictMinDays": "verdict_min_days",
    "verdictMinNetGibHPerDay": "verdict_min_net_gib_h_per_day",
    "verdictMaxFailedPercent": "verdict_max_failed_percent",
    "verdictMaxStoppedRuns": "verdict_max_stopped_runs",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One condition of the rule."""

    rule: str
    found: str
    met: bool | None
    """None: cannot be told."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer, and what led to it."""

    outcome: Outcome
    line: str
    checks: tuple[Check, ...]


def judge(figures: Figures, thresholds: Thresholds) -> Verdict:
    """Keep, retire or too early.

    Too early without a workspace or before `verdictMinDays`. Then one condition that is not met says retire; else one
    that cannot be told says too early; else keep.
    """
    enough = Check(
        rule=f"at least {thresholds.verdict_min_days} days of history (verdictMinDays)",
        found=f"{figures.days:.1f} days",
        # The clock ticks between the question and the answer: 6.999 days are 7.
        met=figures.days + 0.01 >= thresholds.verdict_min_days,
    )
    net = _net(figures, thresholds)
    checks = (enough, _used(figures), net, _failed(figures, thresholds), _stopped(figures, thresholds))
    if not figures.workspaces:
        return Verdict(outcome="too early", line="too early: there was no workspace in this time", checks=checks)
    if not enough.met:
        line = f"too early: {enough.found} of history, the rule asks for {thresholds.verdict_min_days}"
        return Verdict(outcome="too early", line=line, checks=checks)
    broken = [each for each in checks if each.met is False]
    if broken:
        return Verdict(outcome="retire", line=f"retire: {_reasons(broken)}", checks=checks)
    unknown = [each for each in checks if each.met is None]
    if unknown:
        return Verdict(outcome="too early", line=f"too early: {_reasons(unknown)}", checks=checks)
    return Verdict(outcome="keep", line=f"keep: {_reasons([net])}", checks=checks)


def _reasons(checks: list[Check]) -> str:
    return "; ".join(f"{each.found}, asked: {each.rule}" for each in checks)


def _used(figures: Figures) -> Check:
    return Check(rule="somebody used a workspace", found=f"{figures.sessions} sessions", met=figures.sessions > 0)


def _net(figures: Figures, thresholds: Thresholds) -> Check:
    wanted = thresholds.verdict_min_net_gib_h_per_day
    rule = f"RAM given back less that of Coder and Postgres, at least {wanted} GiB·h a day (verdictMinNetGibHPerDay)"
    net = figures.net_gib_h
    if net is None or figures.days <= 0:
        return Check(rule=rule, found="the RAM of Coder and Postgres is unknown", met=None)
    daily = Bounds(low=net.low / figures.days, high=None if net.high is None else net.high / figures.days)
    if daily.known:
        return Check(rule=rule, found=f"{daily.low:.1f} GiB·h a day net", met=daily.low >= wanted)
    most = "nobody knows how much" if daily.high is None else f"{daily.high:.1f}"
    met = True if daily.low >= wanted else None if daily.high is None or daily.high >= wanted else False
    return Check(
        rule=rule, met=met,
        found=f"between {daily.low:.1f} and {most} GiB·h a day net, as some workspaces were never measured",
    )  # fmt: skip


def _failed(figures: Figures, thresholds: Thresholds) -> Check:
    share = figures.failed_percent
    return Check(
        rule=f"at most {thresholds.verdict_max_failed_percent} % of the builds failed (verdictMaxFailedPercent)",
        found="no build in this time"
        if share is None else f"{len(figures.failures)} of {figures.builds} builds failed ({share:.1f} %)",
        met=None if share is None else share <= thresholds.verdict_max_failed_percent,
    )  # fmt: skip


def _stopped(figures: Figures, thresholds: Thresholds) -> Check:
    runs = figures.runs
    met: bool | None = runs.stopped <= thresholds.verdict_max_stopped_runs
    if met and runs.untold_sessions:
        met = None
    untold = f", {runs.untold_sessions} sessions untold for want of samples" if runs.untold_sessions else ""
    return Check(
        rule=f"at most {thresholds.verdict_max_stopped_runs} working runs stopped by autostop (verdictMaxStoppedRuns)",
        found=f"{runs.stopped} of {runs.total} runs stopped{untold}",
        met=met,
    )
