"""The rule: compare the figures with the thresholds, and say the result in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pilot.verdict.figures import Figures
from pilot.verdict.memory import Bounds
from stack import settings

Outcome = Literal["keep", "retire", "too early"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One condition of the rule."""

    rule: str
    found: str
    met: bool | None
    """None: unknown."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer, and what led to it."""

    outcome: Outcome
    line: str
    checks: tuple[Check, ...]


def judge(figures: Figures, thresholds: settings.Verdict) -> Verdict:
    """Keep, retire or too early.

    Too early without a workspace or before `verdictMinDays`. After that: retire if a condition is not met, too early
    if one is unknown, else keep.
    """
    enough = Check(
        rule=f"at least {counted(thresholds.min_days, 'day')} of history (verdictMinDays)",
        found=f"{figures.days:.1f} days",
        # Time passes between the question and the answer: 6.999 days are 7.
        met=figures.days + 0.01 >= thresholds.min_days,
    )
    net = _net(figures, thresholds)
    checks = (enough, _used(figures), net, _failed(figures, thresholds), _stopped(figures, thresholds))
    if not figures.workspaces:
        return Verdict(outcome="too early", line="too early: there was no workspace in this time", checks=checks)
    if not enough.met:
        line = f"too early: {enough.found} of history, the rule requires {thresholds.min_days}"
        return Verdict(outcome="too early", line=line, checks=checks)
    broken = [each for each in checks if each.met is False]
    if broken:
        return Verdict(outcome="retire", line=f"retire: {_reasons(broken)}", checks=checks)
    unknown = [each for each in checks if each.met is None]
    if unknown:
        return Verdict(outcome="too early", line=f"too early: {_reasons(unknown)}", checks=checks)
    return Verdict(outcome="keep", line=f"keep: {_reasons([net])}", checks=checks)


def counted(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _reasons(checks: list[Check]) -> str:
    return "; ".join(f"{each.found}, required: {each.rule}" for each in checks)


def _used(figures: Figures) -> Check:
    return Check(rule="at least one session", found=counted(figures.sessions, "session"), met=figures.sessions > 0)


def _net(figures: Figures, thresholds: settings.Verdict) -> Check:
    wanted = thresholds.min_net_gib_h_per_day
    rule = f"at least {wanted} GiB·h a day of RAM given back, minus the pilot's own (verdictMinNetGibHPerDay)"
    net = figures.net_gib_h
    if net is None or figures.days <= 0:
        return Check(rule=rule, found="the RAM of Coder, Postgres or the keeper is unknown", met=None)
    daily = Bounds(low=net.low / figures.days, high=None if net.high is None else net.high / figures.days)
    # Without the sign of one that is rounded to zero.
    low, high = (f"{round(each or 0.0, 1) + 0.0:.1f}" for each in (daily.low, daily.high))
    if daily.known:
        return Check(rule=rule, found=f"{low} GiB·h a day net", met=daily.low >= wanted)
    span = f"at least {low}" if daily.high is None else f"{low} to {high}"
    met = True if daily.low >= wanted else None if daily.high is None or daily.high >= wanted else False
    return Check(rule=rule, found=f"{span} GiB·h a day net, some workspaces were never measured", met=met)


def _failed(figures: Figures, thresholds: settings.Verdict) -> Check:
    share = figures.failed_percent
    return Check(
        rule=f"at most {thresholds.max_failed_percent} % of builds failed (verdictMaxFailedPercent)",
        found="no build in this time"
        if share is None else f"{len(figures.failures)} of {figures.builds} builds failed ({share:.1f} %)",
        met=None if share is None else share <= thresholds.max_failed_percent,
    )  # fmt: skip


def _stopped(figures: Figures, thresholds: settings.Verdict) -> Check:
    runs, most = figures.runs, thresholds.max_stopped_runs
    met: bool | None = runs.stopped <= most
    if met and runs.untold_sessions:
        met = None
    untold = f", {counted(runs.untold_sessions, 'session')} unknown without samples" if runs.untold_sessions else ""
    return Check(
        rule=f"at most {counted(most, 'Claude run')} interrupted by autostop (verdictMaxStoppedRuns)",
        found=f"{runs.stopped} of {runs.total} runs interrupted{untold}",
        met=met,
    )
