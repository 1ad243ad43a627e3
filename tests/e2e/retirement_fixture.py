"""What the tests of a pilot's end have in common: its commands, what must never be lost, and images that misbehave."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.parts import POSTGRES_IMAGE
from tests.e2e.pilot_fixture import CHECKOUT, STACK_LABEL, Pilot, docker

COMMAND_TIMEOUT_S = 400


def variables(pilot: Pilot) -> dict[str, str]:
    """The environment of a command that works on `pilot`'s folder."""
    return {**os.environ, **pilot.variables, "CODER_PILOT_PROJECT": str(pilot.directory)}


def command(pilot: Pilot, *words: str, check: bool = True) -> str:
    """Run `python3 -m pilot` as the Makefile does; what it printed, both streams.

    Raises:
        AssertionError: it failed, unless `check` is false; or it did not fail, though it is.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pilot", *words, "--stack", pilot.stack],
        cwd=CHECKOUT, env=variables(pilot), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, timeout=COMMAND_TIMEOUT_S,
    )  # fmt: skip
    assert (done.returncode == 0) == check, done.stdout
    return done.stdout


def sql(pilot: Pilot, query: str) -> list[str]:
    """The rows that Coder's database answers."""
    return docker(
        "exec", f"{pilot.name}-postgres", "psql", "--no-align", "--tuples-only", "--username", "coder",
        "--dbname", "coder", "--command", query,
    ).splitlines()  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Belongings:
    """What must survive: rows by their ids, and the marker files of homes by their checksums."""

    users: frozenset[str]
    workspaces: frozenset[str]
    templates: frozenset[str]
    homes: frozenset[str]


def belongings(pilot: Pilot) -> Belongings:
    """What the pilot has now; Postgres has to run."""
    workspaces = sql(pilot, "SELECT id || ' ' || name FROM workspaces WHERE NOT deleted")
    return Belongings(
        users=frozenset(sql(pilot, "SELECT id || ' ' || username || ' ' || email FROM users WHERE NOT deleted")),
        workspaces=frozenset(workspaces),
        templates=frozenset(sql(pilot, "SELECT id || ' ' || name FROM templates WHERE NOT deleted")),
        homes=frozenset(f"{each} {checksum(each.split()[0])}" for each in workspaces),
    )


def checksum(workspace_id: str) -> str:
    """Of every file in the folder `kept` of a workspace's home, whether it runs or not."""
    return docker(
        "run", "--rm", "--network", "none", "--volume", f"coder-{workspace_id}-home:/home/coder:ro",
        "--entrypoint", "sh", POSTGRES_IMAGE, "-c", "cd /home/coder/kept && find . -type f | sort | xargs sha256sum",
    )  # fmt: skip


def assert_whole(pilot: Pilot, before: Belongings) -> None:
    """Everything is there again, the admin may log in, and the pilot is converged."""
    pilot.variables.pop("token", None)
    assert belongings(pilot) == before
    assert pilot.call("GET", "/api/v2/users/me")["username"] == "admin"
    pilot.up("--expect-no-changes")


def furnished(pilot: Pilot, name: str = "demo") -> dict[str, Any]:
    """A new running workspace with files in its home."""
    workspace = pilot.create_workspace(name)
    script = "mkdir -p ~/kept/deep && echo marker > ~/kept/marker && head -c 100000 /dev/urandom > ~/kept/deep/random"
    docker("exec", container_of(workspace["id"]), "sh", "-c", f"HOME=/home/coder; {script}")
    return workspace


def container_of(workspace_id: str) -> str:
    """The name of a running workspace's container."""
    return docker("ps", "--filter", f"label=coder.workspace_id={workspace_id}", "--format", "{{.Names}}")


def left_over(pilot: Pilot) -> list[str]:
    """Containers and networks that carry the pilot's label."""
    label = f"label={STACK_LABEL}={pilot.name}"
    containers = docker("ps", "--all", "--filter", label, "--format", "{{.Names}}").splitlines()
    return containers + docker("network", "ls", "--filter", label, "--format", "{{.Name}}").splitlines()


def identity(container: str) -> tuple[str, str]:
    """The container's id and when it was started."""
    shown = docker("container", "inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.State.Running}}", container)
    identifier, started, running = shown.split()
    assert running == "true", container
    return identifier, started


def new_state(pilot: Pilot) -> None:
    """Lose the state: the next `up` has new passwords."""
    for file in sorted((pilot.directory / ".pulumi-state").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    config = pilot.directory / f"Pulumi.{pilot.stack}.yaml"
    config.write_text("\n".join(line for line in config.read_text().splitlines() if "encryptionsalt" not in line))
    pilot.pulumi("stack", "init")
    pilot.variables.pop("token", None)


def derived_image(name: str, base: str, program: str, script: str, folder: Path) -> str:
    """An image like `base` whose `program` is a shell script; the original is beside it as <program>.real."""
    (folder / "script").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "Dockerfile").write_text(
        f"FROM {base}\nUSER root\nRUN mv {program} {program}.real\nCOPY script {program}\n"
        f"RUN chmod 755 {program}\n" + ("USER coder\n" if "coder" in program else "")
    )
    docker("build", "--tag", name, str(folder))
    return name


def kill_at(pilot: Pilot, moment: str | float, *arguments: str) -> str:
    """Run `pulumi`, and end it with SIGKILL when a line has `moment`, or after that many seconds; what it printed.

    Only `pulumi` itself is hit, as by the kernel when memory is short: its plugins notice by themselves.
    """
    log = pilot.directory / "killed.log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            ["pulumi", *arguments, "--stack", pilot.stack, "--non-interactive", "--yes", "--skip-preview"],
            cwd=pilot.directory, env=variables(pilot), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
        )  # fmt: skip
        deadline_s = time.monotonic() + (moment if isinstance(moment, float) else 120.0)
        while process.poll() is None and time.monotonic() < deadline_s:
            if isinstance(moment, str) and moment in log.read_text():
                break
            time.sleep(0.02)
        process.kill()
        process.wait(30)
    return log.read_text()


def states(workspaces: Iterable[dict[str, Any]]) -> set[str]:
    """The states that Coder says workspaces are in."""
    return {each["latest_build"]["status"] for each in workspaces}
