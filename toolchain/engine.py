"""The Docker Engine of this machine: whether one answers, and how one is started where none runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from toolchain import debian
from toolchain.builder import ToolchainError

START_TIMEOUT_S = 90
LOG = Path("/var/log/dockerd.log")


def server_version(host: str = "") -> str | None:
    """The version of the engine that answers at `host`, without one at the shell's own; None where none does."""
    if shutil.which("docker") is None:
        return None
    address = ["--host", host] if host else []
    try:
        shown = subprocess.run(
            ["docker", *address, "version", "--format", "{{.Server.Version}}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    return shown.stdout.strip() if shown.returncode == 0 else None


def start() -> str:
    """Make sure that an engine answers, starting `dockerd` where none runs; its version.

    A running engine and its configuration are left alone.

    Raises:
        ToolchainError: this machine is not one on which we may start an engine, or it did not come up.
    """
    if running := server_version():
        return running
    if os.environ.get("DOCKER_HOST"):
        raise ToolchainError(
            f"no Docker Engine answers at DOCKER_HOST={os.environ['DOCKER_HOST']}: "
            "start it there, or `unset DOCKER_HOST`"
        )
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ToolchainError(
            "no Docker Engine answers, and this program starts one only as root on Debian or Ubuntu: "
            "install Docker Engine, start it, and add yourself to the group docker"
        )
    debian.ensure(["docker.io"])
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", "docker"], check=False, timeout=START_TIMEOUT_S)
    else:
        print(f"starting dockerd, log: {LOG}", file=sys.stderr, flush=True)
        launch(["dockerd"], LOG)
        return str(server_version())
    if _answers_while(lambda: True):
        return str(server_version())
    raise ToolchainError("the Docker service did not come up: see `journalctl --unit docker`")


def launch(command: Sequence[str], log: Path, host: str = "") -> subprocess.Popen[bytes]:
    """Run `command`, a dockerd, until it answers at `host`; its output goes to the end of `log`.

    Raises:
        ToolchainError: it did not come up; with the last lines of `log`.
    """
    with log.open("ab") as sink:
        # A session of its own: the engine outlives this program, as a service would.
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True)
    if _answers_while(lambda: daemon.poll() is None, host):
        return daemon
    raise ToolchainError(f"dockerd did not come up; the last lines of {log}:\n{_tail(log)}")


def _answers_while(alive: Callable[[], bool], host: str = "") -> bool:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and alive():
        if server_version(host):
            return True
        time.sleep(0.3)
    return server_version(host) is not None


def _tail(log: Path) -> str:
    return "\n".join(f"  | {line}" for line in log.read_text(errors="replace").splitlines()[-15:])
