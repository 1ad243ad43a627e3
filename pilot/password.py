"""Print your password on the terminal, or the administrator's."""

from __future__ import annotations

import argparse
import sys

from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import open_session


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("--who", choices=("admin",), help="admin: the administrator's, for an emergency")


def run(arguments: argparse.Namespace) -> int:
    outputs = open_session(arguments.stack).outputs(secret=True)
    email, password = ("adminEmail", "adminPassword") if arguments.who else ("email", "password")
    if password not in outputs:
        raise PilotError(f"the stack {arguments.stack} is not up: run `make up STACK={arguments.stack}`")
    if arguments.who:
        # Nothing else shows it.
        print(f"sign in as {outputs[email]} with", file=sys.stderr, flush=True)
    print(outputs[password])
    return 0
