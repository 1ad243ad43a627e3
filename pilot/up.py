"""Bring a stack up: build or fetch what is missing, make passphrase and state, repair what a killed `pulumi` left, run
`pulumi up`, say where to go. The one command for all that can be put right; what it refuses, it says before it touches
anything."""

from __future__ import annotations

import argparse
import socket
import sys
from urllib.parse import urlsplit

from pilot import converge, keeper, leave, new_state, world
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import Session, open_session
from stack.jobs import commands, disk
from stack.jobs.names import LOOPBACK
from stack.jobs.world import WORDS


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument(
        "--new-state", action="store_true",
        help="put the state aside, of which the passphrase is lost, and take the running pilot over; data stay",
    )  # fmt: skip
    parser.add_argument("--take-over", action="store_true", help="take the pilot over from another checkout or stack")
    parser.add_argument(
        "--new-database", action="store_true",
        help="begin with an empty database though there are homes, or another data directory, of this pilot",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    converge.say_words(word for word in WORDS if getattr(arguments, word.lower()))
    if arguments.new_state:
        new_state.begin(arguments.stack)
    session = open_session(arguments.stack, build=True)
    if wrong := keeper.wrong_reserve(session.settings):
        raise PilotError(wrong)
    leave.take_back(session)
    # Also where an earlier one did not come to its end.
    code = new_state.take_over(session) if new_state.is_begun(arguments.stack) else converge.converge(session)
    if code == 0:
        with world.report(session):
            lines = welcome(session)
        print(box(lines))
    elif told := disk.full(session.settings.site.data_dir):
        print(f"error: {told}", file=sys.stderr)
    return code


def welcome(session: Session) -> list[str]:
    """What a person needs now."""
    outputs = session.outputs()
    address = urlsplit(outputs["url"])
    lines = [
        f"Coder         {outputs['url']}",
        f"sign in as    {outputs['email']}",
        f"password      {commands.for_stack('make password', session.stack)}",
        f"workspace     {commands.for_stack('make workspace NAME=demo', session.stack)}",
    ]
    if address.hostname == LOOPBACK:
        # The browser may be on another machine, and this address is of this one alone.
        # The same port on both sides: it is in the addresses of the apps.
        another = commands.for_stack("pulumi config set port <port>", session.stack)
        lines += [
            f"over SSH      ssh -L {address.port}:localhost:{address.port} {socket.gethostname()}",
            f"              where {address.port} is taken there: {another}",
        ]
    return lines


def box(lines: list[str]) -> str:
    """The lines in a frame."""
    width = max(map(len, lines))
    edge = "─" * (width + 2)
    return "\n".join([f"┌{edge}┐", *(f"│ {line:{width}} │" for line in lines), f"└{edge}┘"])
