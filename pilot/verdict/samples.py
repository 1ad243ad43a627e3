"""The timer's samples: one line of JSON each in <data directory>/samples.jsonl. Standard library only.

A sample says whether Coder answered, and what Coder, Postgres and every running workspace used at that moment. It has
the time since boot beside the wall clock, to distinguish a clock that was changed from time that passed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pilot.verdict.engine import Engine, EngineError, Usage
from stack.jobs import coder, data_directory, names
from stack.jobs.names import WORKSPACE_LABEL

NAME: Final = data_directory.SAMPLES
PARTS: Final = ("coder", "postgres")
CLAUDE_STATUS: Final = "/tmp/coder-pilot/status"  # noqa: S108  the template writes it there
CLAUDE_STATUS_MAX: Final = 60
INTERVAL: Final = timedelta(minutes=5)
"""As in ops/systemd/coder-pilot-sample.timer."""
GAP: Final = timedelta(minutes=16)
"""More than three times the timer's 5 minutes: nothing is known about a longer gap between two samples."""
CLOCK_TOLERANCE: Final = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One moment; a part that was not running is not in `ram_mib`."""

    time: datetime
    boot: str
    uptime_s: float
    answers: bool
    ram_mib: dict[str, float]
    """Of "coder" and "postgres"."""
    cpu_percent: dict[str, float]
    """Of one core; of "coder" and "postgres"."""
    workspace_ram_mib: dict[str, float]
    """By workspace id."""
    claude: dict[str, str]
    """What the template's watcher says about Claude ("working for 3 min"), by workspace id."""


def take(engine: Engine, stack: str, coder_url: str, now: datetime) -> Sample:
    """The sample of this moment.

    Raises:
        EngineError: the engine does not answer.
    """
    ours, workspaces = usages(engine, stack)
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    return Sample(
        time=now,
        boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        uptime_s=uptime_s,
        answers=coder.answers(coder_url),
        ram_mib={name: round(each.ram_mib, 1) for name, each in ours.items()},
        cpu_percent={name: round(each.cpu_percent, 2) for name, each in ours.items() if each.cpu_percent is not None},
        workspace_ram_mib={name: round(each.ram_mib, 1) for name, each in workspaces.items()},
        claude=claude(engine, stack),
    )


def claude(engine: Engine, stack: str) -> dict[str, str]:
    """What the watcher in each running workspace says about Claude, by workspace id; at most a line of plain text.

    Raises:
        EngineError: the engine does not answer.
    """
    found = {}
    for container in _running(engine, stack):
        # Without keep-alive, or before the watcher runs, the file does not exist.
        with contextlib.suppress(EngineError):
            if workspace := container["Labels"].get(WORKSPACE_LABEL):
                # Whoever works there may write into it, and a terminal shows it.
                line = engine.file(container["Id"], CLAUDE_STATUS).strip().partition("\n")[0]
                found[workspace] = "".join(filter(str.isprintable, line))[:CLAUDE_STATUS_MAX]
    return found


def usages(engine: Engine, stack: str) -> tuple[dict[str, Usage], dict[str, Usage]]:
    """What the running containers use: of "coder" and "postgres", and by workspace id.

    Raises:
        EngineError: the engine does not answer.
    """
    parts = {names.coder_container(stack): "coder", names.postgres_container(stack): "postgres"}
    running = _running(engine, stack)

    def measure(container: dict[str, Any]) -> Usage | None:
        # A container that ended after the listing must not lose the others.
        with contextlib.suppress(EngineError):
            return engine.usage(container["Id"])
        return None

    with ThreadPoolExecutor(max(1, len(running))) as pool:
        measured = list(zip(running, pool.map(measure, running), strict=True))
    ours, workspaces = {}, {}
    for container, usage in measured:
        workspace = container["Labels"].get(WORKSPACE_LABEL)
        if usage is not None and workspace:
            workspaces[workspace] = usage
        elif usage is not None and (part := parts.get(container["Names"][0].removeprefix("/"))):
            ours[part] = usage
    return ours, workspaces


def _running(engine: Engine, stack: str) -> list[dict[str, Any]]:
    return [each for each in engine.containers(stack) if each["State"] == "running"]


def append(file: Path, sample: Sample) -> None:
    """Add a line, in one write, so that a reader never sees half of it."""
    line = json.dumps({**asdict(sample), "time": sample.time.isoformat()})
    with file.open("a") as stream:
        stream.write(line + "\n")


def read(file: Path, since: datetime, until: datetime) -> list[Sample]:
    """The samples of a period, oldest first; a broken line, as after a full disk, is skipped."""
    found: list[Sample] = []
    with contextlib.suppress(FileNotFoundError):
        for line in file.read_text().splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                record = json.loads(line)
                sample = Sample(**{**record, "time": datetime.fromisoformat(record["time"])})
                if since <= sample.time <= until:
                    found.append(sample)
    return sorted(found, key=lambda each: each.time)


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
