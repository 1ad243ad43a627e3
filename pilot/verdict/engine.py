"""The Docker Engine's HTTP API, with GET requests only, so nothing can be changed here.

Paths and fields: Docker Engine API, version 1.41 and later.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import tarfile
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from stack.jobs.names import STACK_LABEL

TIMEOUT_S = 30
MIB = 1024 * 1024


class EngineError(Exception):
    """The engine does not answer, or refused; the message is one sentence."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a container uses at one moment."""

    ram_mib: float
    """As `docker stats` shows it: without file cache that the kernel would drop."""
    cpu_percent: float | None
    """Of one core; None if the engine has no earlier value to compare with."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine, at unix:///path."""

    host: str

    def get(self, path: str) -> Any:
        """The JSON that the engine answers.

        Raises:
            EngineError: it does not answer or refuses.
        """
        return json.loads(self._read(path))

    def file(self, container_id: str, path: str) -> str:
        """The text of a small file in a container.

        Raises:
            EngineError: there is no such file, or the engine does not answer.
        """
        archive = self._read(f"/containers/{container_id}/archive?path={quote(path)}")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            member = tar.extractfile(tar.getmembers()[0])
            return member.read().decode(errors="replace") if member else ""

    def _read(self, path: str) -> bytes:
        connection = _Connection(self.host.removeprefix("unix://"))
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"Docker at {self.host} does not answer: {error}") from None
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
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
        memory = shown.get("memory_stats") or {}
        if "usage" not in memory:
            return None
        cache = memory.get("stats") or {}
        inactive = cache.get("total_inactive_file", cache.get("inactive_file", 0))
        return Usage(ram_mib=(memory["usage"] - inactive) / MIB, cpu_percent=_cpu_percent(shown))

    def _labelled(self, path: str, stack: str) -> list[dict[str, Any]]:
        filters = json.dumps({"label": [f"{STACK_LABEL}={stack}"]})
        found: list[dict[str, Any]] = self.get(f"{path}filters={quote(filters)}")
        return found


def _cpu_percent(shown: dict[str, Any]) -> float | None:
    now, before = shown["cpu_stats"], shown.get("precpu_stats") or {}
    if "system_cpu_usage" not in before or "system_cpu_usage" not in now:
        return None
    system_ns = now["system_cpu_usage"] - before["system_cpu_usage"]
    used_ns = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    return 100.0 * float(used_ns / system_ns) * int(now.get("online_cpus") or 1) if system_ns > 0 else None
