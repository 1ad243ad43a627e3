"""Note what Coder, Postgres and the running workspaces use at this moment, for the verdict; the timer runs this."""

from __future__ import annotations

import argparse
import subprocess
import sys

from pilot.arguments import add_stack
from pilot.session import PROJECT, PilotError
from pilot.verdict import site
from toolchain.paths import CHECKOUT

SAMPLE_TIMEOUT_S = 60


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)


def run(arguments: argparse.Namespace) -> int:
    if not (PROJECT / f"Pulumi.{arguments.stack}.yaml").exists():
        raise PilotError(f"there is no Pulumi.{arguments.stack}.yaml")
    # The standard library is enough for a sample, so no virtual environment is needed.
    return subprocess.run(
        [sys.executable, "-m", "stack.verdict", "sample"], cwd=CHECKOUT, env=site(arguments.stack), check=False,
        timeout=SAMPLE_TIMEOUT_S,
    ).returncode  # fmt: skip
