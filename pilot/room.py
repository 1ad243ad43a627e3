"""Stop idle workspaces, the longest unused first, until so much of the host's memory is available, or say what is in
the way. By the keeper's rule: none with a connection, none whose Claude works, none used within `pressureIdle`."""

from __future__ import annotations

import argparse
import sys
import time

from keeper import census, host, idle
from keeper.coder import CoderError
from keeper.engine import EngineError
from keeper.parking import Parking
from pilot import keeper
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.server import admin
from pilot.session import open_session
from stack.settings import memory_mb

POLL_INTERVAL_S = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("size", metavar="SIZE", help='how much is to be available: "20GiB", "512MiB"')


def run(arguments: argparse.Namespace) -> int:
    try:
        wanted_mib = memory_mb(arguments.size)
    except ValueError as error:
        raise PilotError(
            f"SIZE is {arguments.size or 'not given'}, allowed is {error}: `make room SIZE=20GiB`"
        ) from None
    memory = host.memory()
    if wanted_mib > memory.total:
        raise PilotError(f"SIZE is {idle.size(wanted_mib)}, and the host has {idle.size(memory.total)}")
    session = open_session(arguments.stack)
    with admin(session) as api:
        parking = keeper.parking(session.settings, api.token, print)
        even_s = keeper.even_s(session.settings.site)
        try:
            if not _may_suffice(parking, wanted_mib, even_s):
                return 1
            while host.memory().available < wanted_mib:
                if not parking.park_one(wanted_mib, even_s):
                    return _give_up(wanted_mib, "and no more can be stopped", parking.in_the_way)
                while parking.follow() is None:
                    time.sleep(POLL_INTERVAL_S)
        except (CoderError, EngineError) as error:
            raise PilotError(f"{error}; run `make doctor`") from None
    print(f"{idle.size(host.memory().available)} of the host's memory are available")
    return 0


def _may_suffice(parking: Parking, wanted_mib: float, even_s: float) -> bool:
    """Whether there would be enough without all that may be stopped; says what that is. Stops nothing."""
    available = host.memory().available
    if available >= wanted_mib:
        return True
    found = census.workspaces(parking.engine, parking.stack, parking.coder.running())
    idle_ones = idle.order(found, parking.idle_s, even_s)
    if not idle_ones:
        _give_up(wanted_mib, "and none can be stopped", idle.in_the_way(found, parking.idle_s, even_s))
        return False
    # One that nobody could measure may have as much as it takes.
    free_mib = sum(float("inf") if each.ram_mib is None else each.ram_mib for each in idle_ones)
    listed = ", ".join(
        each.title if each.ram_mib is None else f"{each.title} ({idle.size(each.ram_mib)})" for each in idle_ones
    )
    if available + free_mib >= wanted_mib:
        print(f"{idle.size(available)} are available; idle, and stopped one by one as far as needed: {listed}")
        return True
    too_little = f"and to stop all that are idle, {listed}, would free too little, so none was stopped"
    _give_up(wanted_mib, too_little, idle.in_the_way(found, parking.idle_s, even_s))
    return False


def _give_up(wanted_mib: float, why: str, in_the_way: list[str]) -> int:
    available = idle.size(host.memory().available)
    print(f"{available} are available, wanted are {idle.size(wanted_mib)}, {why}:", file=sys.stderr)
    for line in in_the_way or ["no workspace runs: the memory is used by something else"]:
        print(f"  {line}", file=sys.stderr)
    return 1
