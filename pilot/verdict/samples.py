"""What the keeper's samples say: those of a period, and how long Coder was watched in it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from keeper import census, journal
from keeper.engine import Engine, EngineError, Usage
from keeper.samples import INTERVAL_S, PARTS, STANDALONE, Sample, part_of
from stack.jobs import names
from stack.jobs.kubernetes import Cluster

__all__ = [
    "GAP", "INTERVAL", "PARTS", "STANDALONE", "Sample", "Watch", "read", "stops", "usages", "usages_on_cluster",
    "watch",
]  # fmt: skip

INTERVAL: Final = timedelta(seconds=INTERVAL_S)
GAP: Final = timedelta(minutes=16)
"""Nothing is known about a longer gap between two samples; those of before the keeper are five minutes apart."""
CLOCK_TOLERANCE: Final = timedelta(seconds=5)
SIZES: Final = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
"""Of the Kubernetes API, in bytes."""


def usages(engine: Engine, stack: str) -> tuple[dict[str, Usage], dict[str, Usage]]:
    """What the running containers use: of `PARTS`, and by workspace id.

    Raises:
        EngineError: the engine does not answer.
    """
    parts = part_of(stack)
    running = census.running(engine, stack)

    def measure(container: dict[str, Any]) -> Usage | None:
        # A container that ended after the listing must not lose the others.
        with contextlib.suppress(EngineError):
            return engine.usage(container["Id"])
        return None

    with ThreadPoolExecutor(max(1, len(running))) as pool:
        measured = list(zip(running, pool.map(measure, running), strict=True))
    ours, workspaces = {}, {}
    for container, usage in measured:
        workspace = container["Labels"].get(names.WORKSPACE_LABEL)
        if usage is not None and workspace:
            workspaces[workspace] = usage
        elif usage is not None and (part := parts.get(container["Names"][0].removeprefix("/"))):
            ours[part] = usage
    return ours, workspaces


def usages_on_cluster(cluster: Cluster, namespace: str) -> dict[str, Usage]:
    """What the pods of workspaces use at this moment, by workspace id, as the cluster's metrics API tells it.

    Raises:
        ClusterError: the cluster has none, or refused, or did not answer.
    """
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={names.WORKSPACE_LABEL}"
    return {
        each["metadata"]["labels"][names.WORKSPACE_LABEL]: Usage(
            ram_mib=sum(_mib(container["usage"]["memory"]) for container in each["containers"]), cpu_percent=None
        )
        for each in cluster.call("GET", path)["items"]
    }


def _mib(quantity: str) -> float:
    """Of the API's way to write a size: "182716Ki", "1Gi", bytes."""
    number = quantity.rstrip("KMGTkmi")
    return int(number) * SIZES[quantity.removeprefix(number)] / 1024**2


def read(data_directory: Path, since: datetime, until: datetime) -> list[Sample]:
    """The samples of a period, oldest first; a broken line, as after a full disk, is skipped."""
    found: list[Sample] = []
    for record in journal.read(data_directory / names.SAMPLES):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            sample = Sample(**{**record, "time": datetime.fromisoformat(record["time"])})
            if since <= sample.time <= until:
                found.append(sample)
    return sorted(found, key=lambda each: each.time)


def stops(data_directory: Path) -> dict[str, dict[str, Any]]:
    """What the keeper noted of each workspace that it stopped for its memory, by the id of the stop's build."""
    return {str(each["build"]): each for each in journal.read(data_directory / names.STOPS) if "build" in each}


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What a series of samples says about time."""

    seen: timedelta
    """Between samples no further apart than `GAP`."""
    down: timedelta
    """Part of that: the time after a sample in which Coder did not answer."""
    clock_jumps: tuple[str, ...]


def watch(samples: Sequence[Sample]) -> Watch:
    """How long the samples cover, and how long of that Coder did not answer."""
    seen = down = timedelta()
    jumps = []
    for before, after in itertools.pairwise(samples):
        passed = after.time - before.time
        if before.boot == after.boot:
            jump = passed - timedelta(seconds=after.uptime_s - before.uptime_s)
            if abs(jump) > CLOCK_TOLERANCE:
                jumps.append(f"the clock was changed by {jump.total_seconds():+.0f} s before {_minute(after.time)}")
                continue
        if timedelta() < passed <= GAP:
            seen += passed
            down += timedelta() if before.answers else passed
    return Watch(seen=seen, down=down, clock_jumps=tuple(jumps))


def _minute(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
