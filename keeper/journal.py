"""Files of one JSON object a line: appended whole, begun anew before they grow too large."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stack.jobs.names import ROTATED

TAIL_BYTES = 64 * 1024


class Journal:
    """A file that is kept in two: the older one goes when the newer one has half of what may be kept."""

    def __init__(self, file: Path, *, limit_bytes: int, limit_lines: int) -> None:
        self._file = file
        self._half_bytes, self._half_lines = limit_bytes // 2, limit_lines // 2
        self._lines = sum(1 for _ in _lines(file))

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line; all of it or, where the disk is full, nothing.

        By the number of lines and not by their age, which a clock that was set would change.

        Raises:
            OSError: it could not be written.
        """
        with contextlib.suppress(FileNotFoundError):
            if self._lines >= self._half_lines or self._file.stat().st_size >= self._half_bytes:
                self._file.replace(self._file.with_name(self._file.name + ROTATED))
                self._lines = 0
        append(self._file, record)
        self._lines += 1


def append(file: Path, record: Mapping[str, Any]) -> None:
    """Add a line in one write; on a line of its own, also where the last one was cut.

    Raises:
        OSError: it could not be written; what was there is as it was.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        line = b"\n" * cut + json.dumps(record).encode() + b"\n"
        written = os.write(descriptor, line)
        if written < len(line):
            os.ftruncate(descriptor, size)
            raise OSError(28, "No space left on device", str(file))
    finally:
        os.close(descriptor)


def tail(file: Path) -> list[dict[str, Any]]:
    """The newest records; broken lines are skipped."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - TAIL_BYTES))
            lines = stream.read().splitlines()
    except OSError:
        return []
    return list(_records(lines))


def read(file: Path) -> Iterator[dict[str, Any]]:
    """All records that are kept, oldest first; broken lines, as after a full disk, are skipped."""
    for each in (file.with_name(file.name + ROTATED), file):
        yield from _records(_lines(each))


def _lines(file: Path) -> Iterator[bytes]:
    with contextlib.suppress(FileNotFoundError), file.open("rb") as stream:
        yield from stream


def _records(lines: Iterator[bytes] | list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                yield record
