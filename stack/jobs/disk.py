"""A disk without space, named as such, with what to free."""

from __future__ import annotations

import os
from pathlib import Path

from stack.jobs import engine

FULL_BELOW_MB = 64
"""Postgres ends when it cannot have the next 16 MB for its log; until then one write or another fails."""
WORDS = ("no space left on device", "disk quota exceeded")
_NAMED = "ran out of space"


def free_mb(folder: str | Path) -> int:
    """MB that are free for `folder`, which may not be there yet."""
    found = os.statvfs(_nearest(folder))
    return found.f_bavail * found.f_frsize // 1_000_000


def is_meant(error: str) -> bool:
    """Whether the error is about space."""
    return any(words in error.lower() for words in WORDS)


def full(folder: str | Path) -> str | None:
    """What to do about the full disk of `folder`, the data directory most often; None where it has space."""
    return _told(folder) if free_mb(folder) < FULL_BELOW_MB else None


def explained(error: str, folder: str | Path) -> str:
    """`error`, where a full disk is behind it with that first: the disk of `folder`, or of Docker's own data."""
    if _NAMED in error:
        return error
    if told := full(folder):
        return f"{told}. {error}"
    if not is_meant(error):
        return error
    root = docker_root()
    return f"{(root and full(root)) or _told(folder)}. {error}"


def docker_root() -> str | None:
    """Where Docker keeps images, containers and volumes; None where it does not tell, or keeps them elsewhere."""
    try:
        root = engine.docker("info", "--format", "{{.DockerRootDir}}")
    except engine.JobError:
        return None
    return root if Path(root).is_absolute() and Path(root).exists() else None


def advice(folder: str | Path, root: str | Path | None) -> str:
    """What to free for `folder`, without a home or a database among it; `root` is where Docker keeps its own data."""
    dumps = Path(folder) / "backups"
    freed = [f"remove old dumps in {dumps}"] if dumps.exists() else []
    if root and _device(folder) == _device(root):
        freed.append("run `docker builder prune`")
    return ", ".join([*freed, f"see `df -h {folder}`"])


def _told(folder: str | Path) -> str:
    return f"the disk of {folder} {_NAMED}, {free_mb(folder)} MB are free now: {advice(folder, docker_root())}"


def _device(folder: str | Path) -> int:
    return _nearest(folder).stat().st_dev


def _nearest(folder: str | Path) -> Path:
    """The folder, or the first above it that is there."""
    return next(each for each in (Path(folder), *Path(folder).parents) if each.exists())
