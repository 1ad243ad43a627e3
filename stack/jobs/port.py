"""Whether an address of this machine and a port of it are there to be used, and who listens on a port."""

from __future__ import annotations

import errno
import re
import socket
import subprocess

from stack.jobs import engine
from stack.jobs.names import LOOPBACK

CALL_TIMEOUT_S = 10
FIX = "end that, or run `pulumi config set port <port>`"


def is_taken(port: int) -> bool:
    """Whether Docker could not publish the TCP port on loopback because somebody has it."""
    with socket.socket() as probe:
        # As Docker binds: connections of an earlier server that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            # Not one below 1024, which Docker may have though we may not.
            return error.errno == errno.EADDRINUSE
    return False


def taken(port: int, docker_host: str) -> str:
    """What to say of a port that is taken."""
    return f"port {port} of {LOOPBACK} is taken by {holder(port, docker_host)}"


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


def check_address(address: str) -> None:
    """See that it is this machine's: Docker would find out when the old container is gone.

    Raises:
        JobError: it is not.
    """
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            raise engine.JobError(
                f"agentAddress: this machine does not have {address}: `ip -brief address` shows those that it has, run "
                "`pulumi config set agentAddress <address>`"
            ) from None
