"""The host's memory and clocks; /proc of a container shows the host's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

MEMINFO = Path("/proc/meminfo")
CLOCK_TOLERANCE_S = 5


@dataclass(frozen=True, kw_only=True)
class Memory:
    """In MiB."""

    available: float
    """What programs can still have without swapping, as the kernel estimates it."""
    total: float


def memory(file: Path = MEMINFO) -> Memory:
    """The host's memory now."""
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return Memory(**{key: int(lines[name].split()[0]) / 1024 for key, name in
                     (("available", "MemAvailable"), ("total", "MemTotal"))})  # fmt: skip


def boot() -> str:
    """Another one after each boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def uptime_s() -> float:
    """Seconds since the boot, which nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """How long the wall clock has run evenly, so that the age of a time that Coder noted is to be believed.

    A clock that is set forward by an hour makes everything an hour older.
    """

    def __init__(self, newest_samples: Sequence[Mapping[str, Any]], now_s: float, up_s: float, boot_id: str) -> None:
        """`newest_samples` end with the newest; each has its "wall_s", "uptime_s" and "boot"."""
        self._offset_s = now_s - up_s
        self._even_since_s = up_s
        for sample in reversed(newest_samples):
            offset_s = sample["wall_s"] - sample["uptime_s"]
            if sample["boot"] != boot_id or abs(offset_s - self._offset_s) > CLOCK_TOLERANCE_S:
                break
            self._even_since_s = min(self._even_since_s, sample["uptime_s"])

    def even_s(self, now_s: float, up_s: float) -> float:
        """For how many seconds up to now the clock has run evenly."""
        if abs(now_s - up_s - self._offset_s) > CLOCK_TOLERANCE_S:
            self._even_since_s = up_s
        # Slow corrections, as by NTP, are followed.
        self._offset_s = now_s - up_s
        return up_s - self._even_since_s


def moments(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What `Clock` needs of samples; one that is not whole is left out."""
    found = []
    for each in records:
        try:
            wall_s = datetime.fromisoformat(each["time"]).timestamp()
            found.append({"wall_s": wall_s, "uptime_s": float(each["uptime_s"]), "boot": each["boot"]})
        except (KeyError, TypeError, ValueError):
            continue
    return found
