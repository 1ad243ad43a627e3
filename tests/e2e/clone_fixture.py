"""A clone of HEAD with a HOME of its own, in which a test types what a newcomer types."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.parts import CODER_IMAGE, POSTGRES_IMAGE, WORKSPACE_IMAGE
from tests.e2e.pilot_fixture import CHECKOUT, NAME_PREFIX, free_port, sweep
from toolchain.paths import CACHE_VARIABLE, cache_directory

STACK = "front-door"
COMMAND_TIMEOUT_S = 400


@dataclass(frozen=True, kw_only=True)
class Clone:
    """A clone of HEAD, and a shell in which nothing of this checkout is on PATH."""

    directory: Path
    name: str
    port: int
    variables: dict[str, str]

    def make(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["make", "--silent", *words, f"STACK={STACK}"],
            cwd=self.directory, env=self.variables, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=COMMAND_TIMEOUT_S,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.directory, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()


def _without_checkout(path: str) -> str:
    ours = (str(CHECKOUT), str(cache_directory()))
    return os.pathsep.join(folder for folder in path.split(os.pathsep) if not folder.startswith(ours))


@contextlib.contextmanager
def cloned(folder: Path, purpose: str, workspace_image: str = WORKSPACE_IMAGE) -> Iterator[Clone]:
    """A clone in `folder` with the settings of a pilot of its own; what it left on the engine goes in the end."""
    directory, home = folder / "clone", folder / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, directory], check=True, timeout=60)
    made = Clone(
        directory=directory,
        name=f"{NAME_PREFIX}-{os.getpid()}-{purpose}",
        port=free_port(),
        variables={
            "PATH": _without_checkout(os.environ["PATH"]),
            "HOME": str(home),
            # What was built is not built again: how it is built is not what this is about.
            CACHE_VARIABLE: str(cache_directory()),
            # The settings of this machine's registries, where it has any.
            **{key: value for key, value in os.environ.items() if key.startswith(("PIP_", "UV_", "SSL_"))},
        },
    )
    settings = {
        "name": made.name, "port": str(made.port), "dataDir": ".local/data", "coderImage": CODER_IMAGE,
        "postgresImage": POSTGRES_IMAGE, "workspaceImages": workspace_image, "tailnet": "false",
    }  # fmt: skip
    lines = [f"  coder-pilot:{key}: {json.dumps(value)}" for key, value in settings.items()]
    (directory / f"Pulumi.{STACK}.yaml").write_text("\n".join(["config:", *lines, ""]))
    # The stack of a test is no part of the project.
    (directory / ".git" / "info" / "exclude").write_text(f"/Pulumi.{STACK}.yaml\n")
    try:
        yield made
    finally:
        sweep(made.name)
        shutil.rmtree(directory.parent, ignore_errors=True)
