"""A sample: whether Coder answers, and what everything uses at this moment; one line of <data directory>/samples.jsonl.

It has the time since boot beside the wall clock, to distinguish a clock that was changed from time that passed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from keeper import census, host
from keeper.engine import Engine
from stack.jobs import names

INTERVAL_S = 60
PARTS = ("coder", "postgres", "keeper")
STANDALONE = "standalone"
"""The container of the setting `standaloneContainer`, in `ram_mib`."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One moment; a part that was not running is not in `ram_mib`."""

    time: datetime
    boot: str
    uptime_s: float
    answers: bool
    ram_mib: dict[str, float]
    """Of `PARTS`, and of `STANDALONE`."""
    cpu_percent: dict[str, float]
    """Of one core, of the same; since the sample before."""
    workspace_ram_mib: dict[str, float]
    """By workspace id."""
    claude: dict[str, str]
    """What the template's watcher says about Claude ("working for 3 min"), by workspace id."""
    host_available_mib: float | None = None
    host_total_mib: float | None = None
    """None in samples of before."""

    def record(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {**asdict(self), "time": self.time.isoformat()}


def part_of(stack: str) -> dict[str, str]:
    """The part by the name of its container."""
    made = (names.coder_container, names.postgres_container, names.keeper_container)
    return {container(stack): part for container, part in zip(made, PARTS, strict=True)}


@dataclass(kw_only=True)
class Sampler:
    """Takes samples; remembers counters of CPU time from one to the next."""

    engine: Engine
    stack: str
    standalone: str
    """The name of a container that is not the pilot's, "" for none."""
    answers: Callable[[], bool]
    reported: Callable[[], dict[str, str]] = dict
    """What is not in a container here but on a cluster says about Claude, as Coder was told."""
    _before: dict[str, tuple[float, int]] = field(default_factory=dict)
    """By container id: the uptime at that moment, and the CPU time in nanoseconds."""

    def take(self) -> Sample:
        """The sample of this moment.

        Raises:
            EngineError: the engine does not answer.
        """
        containers = census.running(self.engine, self.stack)
        parts = part_of(self.stack)
        ram_mib, cpu_percent, workspace_ram_mib = {}, {}, {}
        seen: dict[str, tuple[float, int]] = {}
        measured = {self.standalone: (STANDALONE, "")} if self.standalone else {}
        for container in containers:
            name, workspace = container["Names"][0].removeprefix("/"), container["Labels"].get(names.WORKSPACE_LABEL)
            if workspace or name in parts:
                measured[container["Id"]] = parts.get(name, ""), workspace or ""
        # A container that ended after the listing must not lose the others.
        for container_id, counters in self.engine.counters(measured):
            (part, workspace), now_s = measured[container_id], host.uptime_s()
            before_s, before_ns = self._before.get(container_id, (now_s, 0))
            seen[container_id] = now_s, counters.cpu_ns
            if part:
                ram_mib[part] = round(counters.ram_mib, 1)
                percent = 100 * (counters.cpu_ns - before_ns) / ((now_s - before_s) * 1e9) if now_s > before_s else -1
                if percent >= 0:
                    cpu_percent[part] = round(percent, 2)
            else:
                workspace_ram_mib[workspace] = round(counters.ram_mib, 1)
        self._before = seen
        memory = host.memory()
        return Sample(
            time=datetime.now(UTC),
            boot=host.boot(),
            uptime_s=round(host.uptime_s(), 2),
            answers=self.answers(),
            ram_mib=ram_mib,
            cpu_percent=cpu_percent,
            workspace_ram_mib=workspace_ram_mib,
            claude={**census.claude(self.engine, containers), **self.reported()},
            host_available_mib=round(memory.available),
            host_total_mib=round(memory.total),
        )
