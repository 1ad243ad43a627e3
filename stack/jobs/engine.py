"""The Docker Engine as jobs see it: its own command line, every call bounded in time."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CALL_TIMEOUT_S = 60
READY_TIMEOUT_S = 180
POLL_INTERVAL_S = 0.1
LOG_TAIL_LINES = 15
RESTARTS_TOLERATED = 3


class JobError(Exception):
    """The job cannot go on; the message is for the person who runs `pulumi`."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What the engine says of a container."""

    running: bool
    healthy: bool
    restarts: int
    started_at: str


def docker(*arguments: str, stdin: str | None = None, timeout_s: float = CALL_TIMEOUT_S) -> str:
    """Run the `docker` command; its standard output without the last newline.

    Raises:
        JobError: it failed, is not installed, or did not end in time.
    """
    try:
        done = subprocess.run(
            ["docker", *arguments], input=stdin or "", capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except FileNotFoundError:
        raise JobError("the command `docker` is not on PATH: install Docker's command line") from None
    except subprocess.TimeoutExpired:
        raise JobError(f"`docker {arguments[0]}` did not end within {timeout_s:.0f} s") from None
    if done.returncode != 0:
        raise JobError(f"`docker {arguments[0]}` failed: {done.stderr.strip()}")
    return done.stdout.removesuffix("\n")


def inspect(*names: str, host: str | None = None) -> list[dict[str, Any]]:
    """What the engine says of those containers, networks, volumes and images that it has; the rest is left out.

    Args:
        host: the engine's address, else that of the environment.

    Raises:
        JobError: the engine does not answer.
    """
    if not names:
        return []
    try:
        done = subprocess.run(
            ["docker", *(("--host", host) if host else ()), "inspect", *names], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=CALL_TIMEOUT_S,
        )  # fmt: skip
    except FileNotFoundError:
        raise JobError("the command `docker` is not on PATH: install Docker's command line") from None
    except subprocess.TimeoutExpired:
        raise JobError(f"`docker inspect` did not end within {CALL_TIMEOUT_S} s") from None
    # The client warns of its own files, and does what it was asked for all the same.
    reasons = [line.lower() for line in done.stderr.splitlines() if not line.startswith("WARNING")]
    if done.returncode != 0 and not (reasons and all("no such object" in line for line in reasons)):
        raise JobError(f"`docker inspect` failed: {done.stderr.strip()}")
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


def state(container: str) -> State | None:
    """The container's state, None where the engine has no such container.

    Raises:
        JobError: the engine does not answer.
    """
    try:
        shown = docker("container", "inspect", container)
    except JobError as error:
        if "no such container" in str(error).lower():
            return None
        raise
    record = json.loads(shown)[0]
    return State(
        running=record["State"]["Running"],
        healthy=record["State"].get("Health", {}).get("Status") == "healthy",
        restarts=record["RestartCount"],
        started_at=record["State"]["StartedAt"],
    )


def remove_container(container: str, stop_grace_s: int | None = None) -> None:
    """Stop a container in order and remove it. Without `stop_grace_s` it has the time that it was made with.

    Raises:
        JobError: the engine refuses.
    """
    grace = [] if stop_grace_s is None else ["--time", str(stop_grace_s)]
    docker("stop", *grace, container, timeout_s=2 * CALL_TIMEOUT_S + (stop_grace_s or 0))
    # Without --volumes: nothing that might be somebody's work goes with it.
    docker("rm", "--force", container)


def log_tail(container: str) -> str:
    """The container's last log lines, indented."""
    done = subprocess.run(
        ["docker", "logs", "--tail", str(LOG_TAIL_LINES), container],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        timeout=CALL_TIMEOUT_S,
    )  # fmt: skip
    return "\n".join(f"  | {line}" for line in done.stdout.splitlines())


def start_and_wait(container: str, ready: Callable[[], bool], timeout_s: float = READY_TIMEOUT_S) -> None:
    """Start the container where it is stopped, and wait until `ready` says so.

    Raises:
        JobError: there is no such container, it keeps ending, or `ready` stayed false; with its last log lines.
    """
    found = state(container)
    if found is None:
        raise JobError(f"the container {container} is gone: run `make up`")
    if not found.running:
        docker("start", container)
    restarts_before = found.restarts
    deadline_s = time.monotonic() + timeout_s
    while not ready():
        found = state(container)
        if found is None:
            raise JobError(f"the container {container} vanished while it was waited for: run `make up`")
        if found.restarts - restarts_before >= RESTARTS_TOLERATED:
            raise JobError(f"the container {container} keeps ending; its last log lines:\n{log_tail(container)}")
        if time.monotonic() > deadline_s:
            raise JobError(
                f"the container {container} did not become ready within {timeout_s:.0f} s; "
                f"its last log lines:\n{log_tail(container)}"
            )
        time.sleep(POLL_INTERVAL_S)
