"""What the template's tests share: where things lie, and the record of a Coder that only notes what it is told."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolchain.paths import CHECKOUT

TEMPLATE = CHECKOUT / "terraform-template"
SCRIPTS = TEMPLATE / "scripts"
TESTS = Path(__file__).resolve().parent

PARTS = CHECKOUT / "workspace-image" / "parts.sh"

Tofu = Callable[..., subprocess.CompletedProcess[str]]
Script = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class FakeCoder:
    """What reached the agent's API and when (time.monotonic()), and the status that the next requests get,
    and after how long."""

    url: str
    requests: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    arrivals_s: list[float] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    status: int = 200
    takes_s: float = 0.0
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def states(self) -> list[str]:
        """The states of the app status, in the order of their arrival."""
        return [body["state"] for _, path, body in self.requests if path.endswith("/app-status")]

    def log(self) -> list[str]:
        """The lines of the agent's log."""
        return [line["output"] for _, path, body in self.requests if path.endswith("/logs") for line in body["logs"]]

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 20) -> None:
        """Returns when `condition` holds after a request; fails the test after `timeout_s`."""
        with self.arrived:
            assert self.arrived.wait_for(condition, timeout_s), f"Coder was only told {self.requests}"


# The functions that stand before a script.
TELL = SCRIPTS / "tell.sh"
BEFORE = {"code-server.sh": [TELL, PARTS], "entrypoint.sh": [TELL], "keep-alive.sh": [TELL]}


def with_parts(name: str | Path, folder: Path) -> Path:
    """The script as the workspace gets it, behind what it uses; one of the template's, or a changed one."""
    source = SCRIPTS / name
    joined = folder / f"joined-{source.name}"
    joined.write_text("\n".join(each.read_text() for each in [*BEFORE.get(source.name, []), source]))
    return joined
