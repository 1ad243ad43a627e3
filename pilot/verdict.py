"""Say whether the pilot earned its keep: benefit, cost, alternatives and one line of verdict; changes nothing."""

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


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("--days", default="7", help="how many days to look back, default: 7")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one self-contained page with plots too")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    python = CHECKOUT / ".venv" / "bin" / "python"
    if not python.exists():
        raise PilotError(f"there is no virtual environment yet: run `make up STACK={arguments.stack}`, which makes it")
    session = open_session(arguments.stack)
    words = ["--days", arguments.days, *(["--json"] if arguments.json else [])]
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
            [python, "-m", "stack.verdict", *words], cwd=CHECKOUT, env=variables, check=False,
            timeout=VERDICT_TIMEOUT_S,
        ).returncode  # fmt: skip


def site(stack: str) -> dict[str, str]:
    """Where `stack.verdict` finds the stack, as environment."""
    values = configured(stack)
    return {
        "STACK": values["name"],
        "CODER_URL": f"http://127.0.0.1:{values['port']}",
        "DOCKER_HOST": values["dockerHost"],
        "DATA_DIRECTORY": str(PROJECT / values["dataDir"]),
    }
