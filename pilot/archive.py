"""Folders as streams of tar, as `docker cp` gives and takes them: what is in one, and how it becomes another's."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO

from pilot.configuration import PilotError

CHUNK = 1 << 20
KINDS = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "same"}


@dataclass
class Contents:
    """What a stream had in it, by path."""

    entries: dict[str, tuple[object, ...]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    """Devices and pipes. Sockets are in no stream of Docker's."""
    files: int = 0
    size: int = 0
    """Bytes of all files."""

    @property
    def checksum(self) -> str:
        """Of every path with its kind, mode, time and content: 16 hexadecimal digits."""
        lines = "".join(f"{path!r} {entry!r}\n" for path, entry in sorted(self.entries.items()))
        return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()[:16]


def read(stream: IO[bytes], chosen: Callable[[str], bool] = lambda _: True) -> Contents:
    """What is in the stream, read to its end.

    Raises:
        PilotError: it is broken off, or no folder.
    """
    found = Contents()
    for _ in _members(stream, found, chosen):
        pass
    return found


def rewrite(
    stream: IO[bytes],
    sink: IO[bytes],
    folder: str,
    owner: tuple[int, int],
    chosen: Callable[[str], bool] = lambda _: True,
) -> Contents:
    """Copy the stream below `folder`, all of it the owner's (a user's and a group's number); what was in it.

    Raises:
        PilotError: the stream is broken off, or no folder.
        OSError: the sink takes no more.
    """
    found = Contents()
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as out:
        for member, content in _members(stream, found, chosen):
            member.name = f"{folder}/{member.name}".removesuffix("/.")
            if member.islnk():
                member.linkname = f"{folder}/{_path(member.linkname)}"
            member.uid, member.gid = owner
            member.uname = member.gname = ""
            # They would win over what was set here.
            member.pax_headers = {}
            out.addfile(member, content)
    return found


class _Counted:
    """A member's content, whose digest is taken while somebody reads it."""

    def __init__(self, content: IO[bytes]) -> None:
        self.content, self.digest = content, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.content.read(size)
        self.digest.update(data)
        return data


def _members(
    stream: IO[bytes], found: Contents, chosen: Callable[[str], bool]
) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Each member that is copied, which is noted in `found` once its content was read or left."""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                path = _path(member.name)
                if not chosen(path):
                    continue
                kind = KINDS.get(member.type)
                if kind is None:
                    found.left_out.append(path)
                    continue
                content = tar.extractfile(member) if kind == "file" else None
                counted = _Counted(content) if content is not None else None
                size, mode, mtime_s = member.size, member.mode, int(member.mtime)
                what: object = _path(member.linkname) if kind == "same" else member.linkname
                member.name = path
                yield member, counted  # type: ignore[misc]
                if counted is not None:
                    while counted.read(CHUNK):
                        pass
                    what, found.files, found.size = counted.digest.hexdigest(), found.files + 1, found.size + size
                # A link has no mode of its own, and one that has two names shows those of the file.
                found.entries[path] = (kind, what) if kind in ("link", "same") else (kind, mode, mtime_s, what)
            # The rest of the stream is padding; who writes it would be cut off.
            while stream.read(CHUNK):
                pass
    except (tarfile.TarError, EOFError) as error:
        raise PilotError(f"it could not be read to its end: {error}") from None


def _path(name: str) -> str:
    """The path in the folder; "." is the folder itself.

    Raises:
        PilotError: it leads out of it.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PilotError(f"a path leads out of the folder: {name!r}")
    return "/".join(parts) or "."
