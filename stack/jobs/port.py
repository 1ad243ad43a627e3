"""Who listens on a port of this machine."""

from __future__ import annotations

import re
import subprocess

from stack.jobs import engine
from stack.jobs.names import LOOPBACK

CALL_TIMEOUT_S = 10


def holder(port: int, docker_host: str) -> str:
    """The container or the program that listens on the TCP port; "another program" where the machine does not tell."""
    listing = ["ps", "--filter", f"publish={port}", "--format", "{{.Names}}"]
    try:
        for container in engine.docker("--host", docker_host, *listing, timeout_s=CALL_TIMEOUT_S).split():
            # The filter does not look at the address, and `ps` makes one range of ports that follow each other.
            shown = engine.docker("--host", docker_host, "port", container, timeout_s=CALL_TIMEOUT_S)
            ends = tuple(f" {address}:{port}" for address in (LOOPBACK, "0.0.0.0"))  # noqa: S104  nothing is bound
            if any(line.endswith(ends) for line in shown.splitlines()):
                return f"the container {container}"
    except engine.JobError:
        pass
    try:
        # It names the programs of others to root alone.
        shown = subprocess.run(
            ["ss", "-Hltnp", f"sport = :{port}"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=CALL_TIMEOUT_S,
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        shown = ""
    found = re.search(r'users:\(\("([^"]+)",pid=(\d+)', shown)
    return f"{found[1]}, process {found[2]}" if found else "another program"
