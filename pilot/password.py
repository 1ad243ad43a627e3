"""Print the admin's password on the terminal."""

from __future__ import annotations

import argparse

from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import open_session


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)


def run(arguments: argparse.Namespace) -> int:
    outputs = open_session(arguments.stack).outputs(secret=True)
    if "adminPassword" not in outputs:
        raise PilotError(f"the stack {arguments.stack} is not up: run `make up STACK={arguments.stack}`")
    print(outputs["adminPassword"])
    return 0
