"""The parts that the end-to-end tests run on: those that the toolchain builds, or those that are published.

With CODER_PILOT_TEST_IMAGES=published in the environment they are what a box runs: the images that Pulumi.yaml names,
or the Coder of CODER_PILOT_TEST_CODER_IMAGE, and the Pulumi on PATH with what `pulumi install` laid into this checkout.
`ci/test.sh --published` prepares all of that.
"""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from toolchain import environment, pieces
from toolchain.builder import Builder
from toolchain.paths import CHECKOUT, VENV

PUBLISHED = os.environ.get("CODER_PILOT_TEST_IMAGES") == "published"
TOOLS = ("tailscale", "testcontrol", "compose")
"""Of the tests themselves, and from the toolchain in any case."""


def _default(setting: str) -> str:
    return str(yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())["config"][setting]["default"])


if PUBLISHED:
    CODER_IMAGE = os.environ.get("CODER_PILOT_TEST_CODER_IMAGE") or _default("coderImage")
    POSTGRES_IMAGE, WORKSPACE_IMAGE = _default("postgresImage"), _default("workspaceImages")
    DEBIAN_IMAGE = "debian:trixie-slim"
else:
    CODER_IMAGE, POSTGRES_IMAGE, WORKSPACE_IMAGE = pieces.CODER_IMAGE, pieces.POSTGRES_IMAGE, pieces.WORKSPACE_IMAGE
    DEBIAN_IMAGE = pieces.DEBIAN_IMAGE
CODER_VERSION = CODER_IMAGE.rpartition(":v")[2].partition("-")[0]


def variables() -> dict[str, str]:
    """What a shell needs to have set so that `pulumi` and the tests' own tools answer."""
    builder = Builder(pieces.PIECES)
    if not PUBLISHED:
        return environment.variables(builder)
    folders = [VENV / "bin", *(builder.directory(name) / "bin" for name in TOOLS), os.environ["PATH"]]
    return {"PATH": os.pathsep.join(map(str, folders)), "VIRTUAL_ENV": str(VENV), "PULUMI_SKIP_UPDATE_CHECK": "true"}


def lay(directory: Path, home: Path) -> None:
    """Lay into a pilot's `directory` what `pulumi` needs to run its program, and make `home` its PULUMI_HOME."""
    if not PUBLISHED:
        environment.lay_pulumi_home(Builder(pieces.PIECES), home)
        return
    # Pulumi runs the Python of the folder's own `.venv`; the rest is where `pulumi install` put it.
    (directory / ".venv").symlink_to(VENV)
    home.mkdir()
    for name in ("plugins", "dynamic_tf_plugins"):
        (home / name).symlink_to(Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi") / name)
