"""Print your password on the terminal, or the administrator's."""

from __future__ import annotations

import argparse
import sys

from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import open_session


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("--who", default="", help="admin: the administrator's, for an emergency")


def run(arguments: argparse.Namespace) -> int:
    outputs = open_session(arguments.stack).outputs(secret=True)
    if arguments.who not in ("", "admin", outputs.get("username")):
        raise PilotError(f"WHO={arguments.who} is no account of `up`: leave it out for yours, or WHO=admin")
    of_admin = arguments.who == "admin"
    email, password = ("adminEmail", "adminPassword") if of_admin else ("email", "password")
    if password not in outputs:
        raise PilotError(f"the stack {arguments.stack} is not up: run `make up`")
    if of_admin:
        # Nothing else shows it.
        print(f"sign in as {outputs[email]} with", file=sys.stderr, flush=True)
    print(outputs[password])
    return 0
