"""Bring a stack up: build or fetch what is missing, make passphrase and state, run `pulumi up`, say where to go."""

from __future__ import annotations

import argparse
import socket
from urllib.parse import urlsplit

from pilot import heal, new_state, world
from pilot.arguments import add_stack
from pilot.session import Session, open_session
from stack.jobs.names import LOOPBACK


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument(
        "--new-state", action="store_true",
        help="put the state aside, of which the passphrase is lost, and take the running pilot over; data stay",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    if arguments.new_state:
        new_state.begin(arguments.stack)
    session = open_session(arguments.stack, build=True)
    # Also where an earlier one did not come to its end.
    code = new_state.take_over(session) if new_state.is_begun(arguments.stack) else heal.up(session)
    if code == 0:
        with world.report(session):
            lines = welcome(session)
        print(box(lines))
    return code


def welcome(session: Session) -> list[str]:
    """What a person needs now."""
    outputs = session.outputs()
    stack = "" if session.stack == "local" else f" STACK={session.stack}"
    address = urlsplit(outputs["url"])
    lines = [
        f"Coder         {outputs['url']}",
        f"sign in as    {outputs['adminEmail']}",
        f"password      make password{stack}",
        f"workspace     make workspace NAME=demo{stack}",
    ]
    if address.hostname == LOOPBACK:
        # The browser may be on another machine, and this address is of this one alone.
        lines.append(f"over SSH      ssh -L {address.port}:localhost:{address.port} {socket.gethostname()}")
    return lines


def box(lines: list[str]) -> str:
    """The lines in a frame."""
    width = max(map(len, lines))
    edge = "─" * (width + 2)
    return "\n".join([f"┌{edge}┐", *(f"│ {line:{width}} │" for line in lines), f"└{edge}┘"])
