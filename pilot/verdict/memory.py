"""Memory over time, in GiB hours: given back by parking, held by Coder, Postgres, keeper and the alternatives."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pilot.verdict.collect import Raw
from pilot.verdict.samples import STANDALONE
from pilot.verdict.workspaces import MIB_PER_GIB, WorkspaceFigures


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """A sum of which a part may be unknown: at least `low`, at most `high`; without a `high` nobody knows."""

    low: float
    high: float | None

    @property
    def known(self) -> bool:
        return self.high is not None and abs(self.high - self.low) < 1e-9

    def plus(self, more: float) -> Bounds:
        return Bounds(low=self.low + more, high=None if self.high is None else self.high + more)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Coder, Postgres or the keeper."""

    ram_now_gib: float | None
    ram_mean_gib: float | None
    """Over the samples of the period; None without any."""
    ram_max_gib: float | None
    cpu_now_percent: float | None
    cpu_mean_percent: float | None

    @property
    def ram_gib(self) -> float | None:
        """The best value for the period: the mean, else the present value."""
        return self.ram_mean_gib if self.ram_mean_gib is not None else self.ram_now_gib


@dataclass(frozen=True, kw_only=True)
class Standalone:
    """The container that the pilot is compared with, as the samples saw it."""

    name: str
    ram_mean_gib: float
    """While it ran."""
    share: float
    """Of the samples, in which it ran."""
    gib_h: float
    """Over the period, as in the samples."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """GiB hours of the period under one measure of a workspace's memory."""

    given_back: Bounds
    always_on: Bounds
    """The same workspaces as containers that always run."""
    bare: Bounds
    """`docker run` per project: started and stopped by hand as here, and never by autostop."""
    pilot: Bounds | None
    """What this pilot held: workspaces, Coder, Postgres and keeper; None where the latter are unknown."""


def part(raw: Raw, name: str) -> Part:
    """The figures of "coder", "postgres" or "keeper"."""
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


def standalone(raw: Raw, period_h: float) -> Standalone | None:
    """The container of the setting `standaloneContainer`; None where no sample saw it."""
    # In samples of before the keeper nobody looked for it.
    looked = [each for each in raw.samples if each.host_total_mib is not None]
    ram = [each.ram_mib[STANDALONE] / MIB_PER_GIB for each in looked if STANDALONE in each.ram_mib]
    if not raw.standalone or not ram:
        return None
    mean, share = statistics.fmean(ram), len(ram) / len(looked)
    return Standalone(name=raw.standalone, ram_mean_gib=mean, share=share, gib_h=mean * share * period_h)


def together_gib(parts: Iterable[Part]) -> float | None:
    """Coder, Postgres and keeper together; None where one of them is unknown."""
    values = [each.ram_gib for each in parts]
    return None if None in values else sum(value for value in values if value is not None)


def compare(
    workspaces: Sequence[WorkspaceFigures],
    ram_gib: Callable[[WorkspaceFigures], float | None],
    control_gib_h: float | None,
) -> Comparison:
    """Add up the workspaces' hours, each times its `ram_gib`; `control_gib_h` is what Coder, Postgres, keeper held."""

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

    held = total(lambda each: each.held_h)
    return Comparison(
        given_back=total(lambda each: each.parked_h),
        always_on=total(lambda each: each.existed_h),
        bare=total(lambda each: each.held_h + each.autoparked_h),
        pilot=None if control_gib_h is None else held.plus(control_gib_h),
    )
