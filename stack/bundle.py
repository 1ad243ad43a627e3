"""A folder that holds exactly the files that are meant: what is sent elsewhere is read from one.

What an editor, a tool or a person leaves beside the sources is in none: no credential is ever sent by accident.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
ROOT = Path(".build")
"""In the checkout, which is where `pulumi` runs the program; git ignores it."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Files under one name; `sources` maps the path in the folder to the file that it is a copy of."""

    name: str
    sources: Mapping[str, Path]

    @property
    def directory(self) -> Path:
        """Where `lay` puts the copies, relative to the checkout: the same in every checkout's state."""
        return ROOT / self.name

    def digest(self) -> str:
        """SHA-256, in hexadecimal, over paths and contents."""
        digest = hashlib.sha256()
        for path, source in sorted(self.sources.items()):
            digest.update(path.encode() + b"\0")
            digest.update(hashlib.sha256(source.read_bytes()).digest())
        return digest.hexdigest()

    def lay(self) -> Path:
        """Make the folder hold the copies and nothing else; the folder.

        A file that is right already is not touched, and one that is not is replaced in one step: another `pulumi` may
        be reading it.
        """
        for path in sorted(self.directory.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.is_symlink() or path.relative_to(self.directory).as_posix() not in self.sources:
                path.unlink(missing_ok=True)
        for name, source in self.sources.items():
            copy, content = self.directory / name, source.read_bytes()
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists() or copy.read_bytes() != content:
                partial = ROOT / f"{self.name}-{os.getpid()}.partial"
                partial.write_bytes(content)
                partial.replace(copy)
        return self.directory


def sources(folder: Path, *patterns: str) -> dict[str, Path]:
    """The files of `folder` that match one of the glob patterns, by their path in it; no hidden ones and no links."""
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(found)
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
    }
