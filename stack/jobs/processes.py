"""Plugins, providers and language hosts that a `pulumi` which has ended left running: some providers never end by
themselves, and a `pulumi` that is killed ends nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDERS = ("plugins", "dynamic_tf_plugins")
"""Where the programs of plugins and providers lie in a PULUMI_HOME."""
LANGUAGE_HOST = "pulumi-language-"
"""What the names of language hosts begin with; they lie anywhere on PATH."""
ADOPTERS = ("init", "systemd")
"""Beside process 1, who takes what has lost its parent: a user's own systemd."""
GRACE_S = 2
POLL_INTERVAL_S = 0.02


def home() -> Path:
    """The PULUMI_HOME of this process, as Pulumi finds it."""
    return Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")


def end_left_behind(pulumi_home: Path) -> list[int]:
    """End the plugins and providers of `pulumi_home`, and the language hosts, that have lost who started them; their
    process ids."""
    folders = tuple(f"{(pulumi_home / name).resolve()}{os.sep}" for name in FOLDERS)

    def ours(exe: str) -> bool:
        return exe.startswith(folders) or Path(exe).name.startswith(LANGUAGE_HOST)

    left = [pid for pid, exe in _processes() if ours(exe) and _is_lost(pid, ours)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in filter(_alive, left):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline_s = time.monotonic() + GRACE_S
        while any(map(_alive, left)) and time.monotonic() < deadline_s:
            time.sleep(POLL_INTERVAL_S)
    return left


def _is_lost(pid: int, ours: Callable[[str], bool]) -> bool:
    """Whether only plugins, and who takes the lost, are above the process: any other may be `pulumi` by some name."""
    while (parent := _parent(pid)) > 1:
        exe = _exe(parent)
        if not ours(exe):
            return Path(exe).name in ADOPTERS
        pid = parent
    # In a container that one may be `pulumi` itself.
    return parent == 1 and "pulumi" not in Path(_exe(parent)).name


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
