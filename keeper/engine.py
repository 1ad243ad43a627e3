"""The Docker Engine's HTTP API over its socket: what runs, what it uses, and a look into a container.

Paths and fields: Docker Engine API, version 1.41 and later.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from stack.jobs.names import STACK_LABEL

TIMEOUT_S = 30
MIB = 1024 * 1024
FILE_LIMIT_BYTES = 64 * 1024
OUTPUT_LIMIT_BYTES = 1024 * 1024
TAR_BLOCK_BYTES = 512
COUNTERS_AT_ONCE = 64
"""Waiting costs the engine nothing."""
FILES_AT_ONCE = 4
"""For each the engine starts a program of its own."""


class EngineError(Exception):
    """The engine does not answer, or refused; the message is one sentence."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a container uses at one moment."""

    ram_mib: float
    """As `docker stats` shows it: without file cache that the kernel would drop."""
    cpu_percent: float | None
    """Of one core; None if the engine has no earlier value to compare with."""


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What a container uses, and what it has used since its start."""

    ram_mib: float
    cpu_ns: int


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine, at unix:///path."""

    host: str
    timeout_s: float = TIMEOUT_S

    def get(self, path: str) -> Any:
        """The JSON that the engine answers.

        Raises:
            EngineError: it does not answer or refuses.
        """
        return json.loads(self._call("GET", path))

    def side_by_side(
        self, paths: Mapping[str, str], at_once: int, limit_bytes: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """What the engine answers, by the keys of `paths`, each as soon as it is there; a refusal is left out.

        So many are asked before the first answer is awaited: one after the other, the seconds would add up.
        """
        left = iter(paths.items())
        while batch := list(itertools.islice(left, at_once)):
            with contextlib.ExitStack() as open_ones:
                asked = []
                for key, path in batch:
                    connection = _Connection(self.host.removeprefix("unix://"), self.timeout_s)
                    open_ones.callback(connection.close)
                    with contextlib.suppress(OSError, http.client.HTTPException):
                        connection.request("GET", path)
                        asked.append((key, connection))
                for key, connection in asked:
                    with contextlib.suppress(OSError, http.client.HTTPException):
                        answer = connection.getresponse()
                        text = answer.read(limit_bytes)
                        if answer.status == http.HTTPStatus.OK:
                            yield key, text

    def files(self, container_ids: Iterable[str], path: str) -> dict[str, str]:
        """The text of a file in each of the containers that have it, as far as it is small, by the container's id."""
        paths = {each: f"/containers/{each}/archive?path={quote(path)}" for each in container_ids}
        return {
            each: _first_file(archive) for each, archive in self.side_by_side(paths, FILES_AT_ONCE, FILE_LIMIT_BYTES)
        }

    def run(self, container_id: str, command: list[str]) -> str:
        """What a command prints in a container, as the container's own user.

        Raises:
            EngineError: it cannot be run, or does not end in time.
        """
        body = {"AttachStdout": True, "AttachStderr": True, "Tty": True, "Cmd": command}
        made = json.loads(self._call("POST", f"/containers/{container_id}/exec", body=body))
        shown = self._call("POST", f"/exec/{made['Id']}/start", OUTPUT_LIMIT_BYTES, {"Detach": False, "Tty": True})
        return shown.decode(errors="replace").replace("\r\n", "\n")

    def _call(self, method: str, path: str, limit_bytes: int | None = None, body: object = None) -> bytes:
        connection = _Connection(self.host.removeprefix("unix://"), self.timeout_s)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read(limit_bytes)
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"Docker at {self.host} does not answer: {error}") from None
        finally:
            connection.close()
        if answer.status not in (http.HTTPStatus.OK, http.HTTPStatus.CREATED):
            raise EngineError(f"Docker at {self.host}: {path.partition('?')[0]}: {answer.status}")
        return text

    def containers(self, stack: str) -> list[dict[str, Any]]:
        """The containers of a stack, stopped ones too."""
        return self._labelled("/containers/json?all=1&", stack)

    def networks(self, stack: str) -> list[dict[str, Any]]:
        """The networks of a stack."""
        return self._labelled("/networks?", stack)

    def disk(self) -> dict[str, Any]:
        """What `docker system df` sees: Images, Volumes, sizes in bytes."""
        found: dict[str, Any] = self.get("/system/df")
        return found

    def usage(self, container_id: str) -> Usage | None:
        """What a running container uses; takes about two seconds, as CPU is a difference. None if it has ended."""
        shown = self.get(f"/containers/{container_id}/stats?stream=false")
        ram_mib = _ram_mib(shown)
        return None if ram_mib is None else Usage(ram_mib=ram_mib, cpu_percent=_cpu_percent(shown))

    def counters(self, containers: Iterable[str]) -> Iterator[tuple[str, Counters]]:
        """What each of the containers uses, by the id or name that was given; without those that have ended.

        One takes up to a second, for the engine of 20.10 looks at them once a second; many take no longer.
        """
        paths = {each: f"/containers/{quote(each)}/stats?stream=false&one-shot=true" for each in containers}
        for each, text in self.side_by_side(paths, COUNTERS_AT_ONCE):
            shown = json.loads(text)
            ram_mib = _ram_mib(shown)
            if ram_mib is not None:
                yield each, Counters(ram_mib=ram_mib, cpu_ns=int(shown["cpu_stats"]["cpu_usage"]["total_usage"]))

    def _labelled(self, path: str, stack: str) -> list[dict[str, Any]]:
        filters = json.dumps({"label": [f"{STACK_LABEL}={stack}"]})
        found: list[dict[str, Any]] = self.get(f"{path}filters={quote(filters)}")
        return found


def _ram_mib(shown: dict[str, Any]) -> float | None:
    memory = shown.get("memory_stats") or {}
    if "usage" not in memory:
        return None
    cache = memory.get("stats") or {}
    inactive = cache.get("total_inactive_file", cache.get("inactive_file", 0))
    return float(memory["usage"] - inactive) / MIB


def _cpu_percent(shown: dict[str, Any]) -> float | None:
    now, before = shown["cpu_stats"], shown.get("precpu_stats") or {}
    if "system_cpu_usage" not in before or "system_cpu_usage" not in now:
        return None
    system_ns = now["system_cpu_usage"] - before["system_cpu_usage"]
    used_ns = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    return 100.0 * float(used_ns / system_ns) * int(now.get("online_cpus") or 1) if system_ns > 0 else None


def _first_file(archive: bytes) -> str:
    """The first plain file of a tar archive, cut where the archive is; the module `tarfile` takes 2 MB of memory."""
    at = 0
    while at + TAR_BLOCK_BYTES <= len(archive):
        header = archive[at : at + TAR_BLOCK_BYTES]
        # Fields of ustar: the size in octal, then the type: "x" and "g" are headers of PAX.
        size, kind = int(header[124:136].rstrip(b" \0") or b"0", 8), header[156:157]
        at += TAR_BLOCK_BYTES
        if kind in (b"0", b"\0"):
            return archive[at : at + size].decode(errors="replace")
        at += -(-size // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
    return ""
