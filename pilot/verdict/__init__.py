"""Say whether the pilot is worth keeping, from its own figures. Changes nothing."""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.server import admin
from pilot.session import open_session
from toolchain.paths import CHECKOUT

VERDICT_TIMEOUT_S = 900
"""Two questions to Coder for each workspace, so the time grows with their number."""
DAYS_MAX = 366
FLAGS = {
    "sources": "print every figure with its source, not only the key figures",
    "json": "print every figure with its source as JSON",
}


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("--days", type=_days, default=7, help="how many days to look back, default: 7")
    for name, what in FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=what)
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a self-contained page with plots")


def run(arguments: argparse.Namespace) -> int:
    python = CHECKOUT / ".venv" / "bin" / "python"
    if not python.exists():
        raise PilotError("there is no virtual environment yet: `make up` creates it")
    session = open_session(arguments.stack)
    words = ["--stack", session.stack, "--days", str(arguments.days)]
    words += [f"--{each}" for each in FLAGS if getattr(arguments, each)]
    words += ["--html", str(arguments.html.absolute())] if arguments.html else []
    with admin(session) as api:
        # The token is not an argument: every user of the box can read those.
        try:
            return subprocess.run(
                [python, "-m", "pilot.verdict", *words], cwd=CHECKOUT, env={**os.environ, "CODER_TOKEN": api.token},
                check=False, timeout=VERDICT_TIMEOUT_S,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            raise PilotError(
                f"there was no verdict within {VERDICT_TIMEOUT_S // 60} minutes; run `make doctor`"
            ) from None


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= DAYS_MAX:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 1 to {DAYS_MAX}')
    return int(text)
