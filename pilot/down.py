"""Retire a stack: stop every workspace, dump the database, remove containers and networks. Homes, database and
backups stay, and `up` brings all of it back. Works with Coder dead, too."""

from __future__ import annotations

import argparse
import sys

from pilot import heal, new_state, state
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import Session, open_session
from stack.jobs import postgres, retire
from stack.jobs.names import DATABASE, ROLE
from stack.settings import Site


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("--yes", action="store_true", help="with purgeOnDestroy: do not ask")


def run(arguments: argparse.Namespace) -> int:
    session = open_session(arguments.stack)
    if new_state.is_begun(arguments.stack):
        raise PilotError(f"the pilot is not taken over yet: run `make up STACK={arguments.stack}` to its end first")
    heal.recover(session)
    if not state.resources(session):
        print(f"the stack {session.stack} is down already")
        return 0
    if _purges(session) and not arguments.yes and not _agreed(session.settings.site):
        print("nothing was done")
        return 1
    return _destroy(session) and _destroy_after_healing(session)


def _destroy(session: Session) -> int:
    kept = not _purges(session)
    code = session.pulumi("destroy", "--yes", "--skip-preview", "--suppress-outputs")
    if code == 0 and kept:
        print(
            f"retired; homes, database and backups are kept: `make up STACK={session.stack}` brings all of it back, "
            "with stopped workspaces and a new `make password`"
        )
    return code


def _destroy_after_healing(session: Session) -> int:
    """`destroy` cannot begin where Coder does not answer or no longer knows our token: an `up` fixes that.

    Where even that fails, Coder cannot come back. Then the template, which `destroy` would not touch anyway, is
    dropped from the state with its provider, the one thing that needs Coder; the rest can go without.
    """
    state.say("the stack cannot be destroyed as it is: healing it first")
    if heal.heal(session) == 0:
        return _destroy(session)
    state.say("Coder does not come back: going on without it")
    heal.recover(session)
    state.forget_template(session)
    return _destroy(session)


def _purges(session: Session) -> bool:
    """Whether the state, which is what counts, says that everything is to be deleted."""
    for each in state.resources(session):
        if each["urn"].endswith("::retire"):
            return bool(each["inputs"]["environment"].get("PURGE") == "true")
    return False


def _agreed(site: Site) -> bool:
    print("purgeOnDestroy is true. These are deleted forever:")
    for each in [*retire.doomed(site.name).lines(), f"{site.data_dir} with the database and all backups"]:
        print(f"  - {each}")
    if not postgres.ready(site.postgres_container, ROLE, DATABASE):
        print("  - whatever else the database names, which does not answer now: `make up` first, to see all of it")
    if not sys.stdin.isatty():
        print("say `--yes` to agree, or `pulumi config set purgeOnDestroy false` and `make up` to keep them")
        return False
    return input(f"Type the name {site.name} to agree: ").strip() == site.name
