"""A dump every night, read back whole before it counts; what failed or was slept through is made up for."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from stack.jobs import backups, disk

OVERDUE_DELAY_S = 600
"""After the keeper's start, when everything else starts as well."""
RETRY_S = 600
TIMEOUT_S = 30 * 60
FUTURE_TOLERANCE_S = 60
PARTIAL_SUFFIX = ".keeper-partial"
# Read back to the last byte: what `pg_restore --list` alone would not notice is a file that was cut.
COMMAND = """
set -eu
pg_dump --format custom --compress 1 --file "$1"
pg_restore --list "$1" | grep -c ' TABLE DATA public users ' >/dev/null || { echo "it has no table users" >&2; exit 1; }
pg_restore --file /dev/null "$1"
"""
_NAME = re.compile(r"(\d{8}T\d{6})\.\d{3}Z" + re.escape(backups.DUMP_SUFFIX))


def due_since(at: tuple[int, int], now_s: float) -> float:
    """The last time, local, that it was `at` hours and minutes."""
    year, month, day = time.localtime(now_s)[:3]
    # -1: whether summer time counts on that day is for the zone to know.
    due_s = time.mktime((year, month, day, *at, 0, 0, 0, -1))
    return due_s if due_s <= now_s else time.mktime((year, month, day - 1, *at, 0, 0, 0, -1))


def newest(names: Iterable[str], now_s: float) -> tuple[str, float] | None:
    """Name and time of the newest dump; one from the future, made under a wrong clock, says nothing."""
    made = [
        (name, datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp())
        for name in names
        if (match := _NAME.fullmatch(name))
    ]
    return max((each for each in made if each[1] <= now_s + FUTURE_TOLERANCE_S), key=lambda each: each[1], default=None)


class Dumps:
    """Makes the dumps; `turn` never waits."""

    def __init__(
        self, data: Path, at: tuple[int, int], kept: int, since_s: float, say: Callable[[str], None], up_s: float
    ) -> None:
        """`since_s`: when the pilot was first seen, so that a new one owes no dump of last night."""
        self._data, self._at, self._kept, self._say = data, at, kept, say
        self._folder = data / backups.FOLDER
        self._since_s, self._begun_s = since_s, time.time()
        self._not_before_s = up_s
        self._overdue_from_s = up_s + OVERDUE_DELAY_S
        self._running: tuple[subprocess.Popen[bytes], Path, float] | None = None
        self._problem = ""
        for left in self._folder.glob(f"*{PARTIAL_SUFFIX}"):
            left.unlink(missing_ok=True)

    def turn(self, up_s: float) -> str:
        """Begin what is due, and see to what runs; the problem of the last attempt, "" for none.

        Raises:
            OSError: the folder of the backups cannot be read or written.
        """
        if self._running is not None:
            self._follow(*self._running, up_s)
        elif up_s >= self._not_before_s and self._is_due(up_s):
            self._begin(up_s)
        return self._problem

    def is_at_work(self) -> bool:
        return self._running is not None

    def _is_due(self, up_s: float) -> bool:
        now_s = time.time()
        due_s = due_since(self._at, now_s)
        # Somebody may have moved it away, with all that was in it.
        self._folder.mkdir(mode=0o700, exist_ok=True)
        last = newest((each.name for each in self._folder.iterdir()), now_s)
        if last[1] >= due_s if last else self._since_s > due_s:
            return False
        return due_s >= self._begun_s or up_s >= self._overdue_from_s

    def _begin(self, up_s: float) -> None:
        partial = self._folder / f"{backups.timestamp()}{PARTIAL_SUFFIX}"
        # The file is there before: pg_dump would make one that all may read.
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        process = subprocess.Popen(
            ["nice", "sh", "-c", COMMAND, "dump", str(partial)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._running = process, partial, up_s

    def _follow(self, process: subprocess.Popen[bytes], partial: Path, begun_s: float, up_s: float) -> None:
        code = process.poll()
        if code is None and up_s - begun_s < TIMEOUT_S:
            return
        self._running = None
        if code is None:
            self._end(process)
            self._fail(partial, f"it did not end within {TIMEOUT_S // 60} min", up_s)
            return
        said = process.stderr.read(4096).decode(errors="replace").strip() if process.stderr else ""
        if code != 0:
            self._fail(partial, said.partition("\n")[0] or f"it ended with {code}", up_s)
            return
        file = partial.with_name(partial.name.removesuffix(PARTIAL_SUFFIX) + backups.DUMP_SUFFIX)
        partial.replace(file)
        self._problem = ""
        self._say(f"dumped the database to {file}, {file.stat().st_size / 2**20:.1f} MiB, and read it back")
        backups.prune(str(self._data), self._kept)

    def _fail(self, partial: Path, reason: str, up_s: float) -> None:
        with contextlib.suppress(OSError):
            partial.unlink()
        self._not_before_s = up_s + RETRY_S
        self._problem = disk.explained(f"the database was not dumped: {reason}", str(self._data))
        self._say(f"{self._problem}; again in {RETRY_S // 60} min")

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        """End what runs; nothing of it is left."""
        if self._running is not None:
            process, partial, _ = self._running
            self._end(process)
            partial.unlink(missing_ok=True)
