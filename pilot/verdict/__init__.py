"""Say whether the pilot is worth keeping, from its own figures. Changes nothing."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

from pilot.arguments import add_stack
from pilot.server import admin
from pilot.session import PROJECT, PilotError, configured, open_session
from toolchain.paths import CHECKOUT

VERDICT_TIMEOUT_S = 120
DAYS_MAX = 366
FLAGS = {
    "sources": "print every figure with its source, not only the key figures",
    "json": "print every figure with its source as JSON",
}


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    options(parser)


def options(parser: argparse.ArgumentParser) -> None:
    """Add what the command and `python3 -m pilot.verdict` have in common."""
    parser.add_argument("--days", type=_days, default=7, help="how many days to look back, default: 7")
    for name, what in FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=what)
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a self-contained page with plots")


def run(arguments: argparse.Namespace) -> int:
    python = CHECKOUT / ".venv" / "bin" / "python"
    if not python.exists():
        raise PilotError(f"there is no virtual environment yet: `make up STACK={arguments.stack}` creates it")
    session = open_session(arguments.stack)
    words = ["--days", str(arguments.days), *(f"--{each}" for each in FLAGS if getattr(arguments, each))]
    words += ["--html", str(arguments.html.absolute())] if arguments.html else []
    with admin(session) as api:
        variables = {
            **os.environ,
            **site(arguments.stack),
            # Not an argument: every user of the box can read those.
            "CODER_TOKEN": api.token,
            "SETTINGS": json.dumps(configured(arguments.stack)),
            "PURGE": configured(arguments.stack)["purgeOnDestroy"],
        }
        return subprocess.run(
            [python, "-m", "pilot.verdict", *words], cwd=CHECKOUT, env=variables, check=False,
            timeout=VERDICT_TIMEOUT_S,
        ).returncode  # fmt: skip


def site(stack: str) -> dict[str, str]:
    """Where the stack's Coder, engine and data are, as environment variables."""
    values = configured(stack)
    return {
        "STACK": values["name"],
        "CODER_URL": f"http://127.0.0.1:{values['port']}",
        "DOCKER_HOST": values["dockerHost"],
        "DATA_DIRECTORY": str(PROJECT / values["dataDir"]),
    }


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= DAYS_MAX:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 1 to {DAYS_MAX}')
    return int(text)
