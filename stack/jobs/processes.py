"""Plugins and providers that a `pulumi` which has ended left running: some providers never end by themselves, and a
`pulumi` that is killed ends none."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("plugins", "dynamic_tf_plugins")
"""Where the programs of plugins and providers lie in a PULUMI_HOME."""
GRACE_S = 2
POLL_INTERVAL_S = 0.02


def home() -> Path:
    """The PULUMI_HOME of this process, as Pulumi finds it."""
    return Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")


def end_left_behind(pulumi_home: Path) -> list[int]:
    """End the plugins and providers of `pulumi_home` that no living `pulumi` started; their process ids."""
    programs = [f"{(pulumi_home / name).resolve()}{os.sep}" for name in FOLDERS]
    left = [pid for pid, exe in _processes() if exe.startswith(tuple(programs)) and not _is_held(pid, programs)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in filter(_alive, left):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline_s = time.monotonic() + GRACE_S
        while any(map(_alive, left)) and time.monotonic() < deadline_s:
            time.sleep(POLL_INTERVAL_S)
    return left


def _is_held(pid: int, programs: list[str]) -> bool:
    """Whether a `pulumi` is above the process, with nothing but plugins between them."""
    while parent := _parent(pid):
        exe = _exe(parent)
        if not exe.startswith(tuple(programs)):
            return Path(exe).name == "pulumi"
        pid = parent
    return False


def _processes() -> Iterator[tuple[int, str]]:
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            yield int(each.name), _exe(int(each.name))


def _exe(pid: int) -> str:
    """The program's file, "" where it is another user's or gone."""
    try:
        return str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        # The name in parentheses may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[1])
    except (OSError, IndexError):
        return 0


def _alive(pid: int) -> bool:
    # A zombie's program is gone.
    return _exe(pid) != ""
