"""Retire a stack: stop every workspace, dump the database, remove containers and networks. Homes, database and
backups stay, and `up` brings all of it back. Works with Coder dead, too; with Postgres dead, --without-dump."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from pilot import cluster, converge, drift, new_state, state
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import Session, open_session
from stack.jobs import disk, engine, pilot_file, postgres, retire
from stack.jobs.names import DATABASE, ROLE
from stack.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("--yes", action="store_true", help="with purgeOnDestroy: do not ask")
    parser.add_argument("--without-dump", action="store_true", help="do not dump the database; its files stay")


def run(arguments: argparse.Namespace) -> int:
    session = open_session(arguments.stack)
    state.clear_lock(session)  # What was cut short is mended before it is read.
    if new_state.is_begun(arguments.stack):
        raise PilotError("the pilot is not taken over yet: run `make up` to its end first")
    converge.refuse_other_owner(session)
    if state.resources(session):
        converge.recover(session)
    elif _runs(session):
        state.say("the state does not know the pilot that runs: taking it in first")
        if code := converge.converge(session):
            return code
    else:
        converge.recover(session)
        print(f"the stack {session.stack} is down already")
        return 0
    if purges(session) and not arguments.yes and not _agreed(session.settings):
        print("nothing was done")
        return 1
    if arguments.without_dump:
        # The job runs from the state, which knows nothing of it: the plugin passes its environment on.
        session = dataclasses.replace(session, environment={**session.environment, retire.WITHOUT_DUMP: "yes"})
    code = _destroy(session)
    return code if code == 0 or _could_begin(session) else _destroy_after_repair(session)


def _runs(session: Session) -> bool:
    """Whether the pilot's own containers are there."""
    site = session.settings.site
    return engine.state(site.coder_container) is not None and engine.state(site.postgres_container) is not None


def _destroy(session: Session) -> int:
    kept = not purges(session)
    code = session.pulumi("destroy", "--yes", "--skip-preview", "--suppress-outputs")
    if code == 0 and kept:
        password = "" if session.settings.member.password else " and a new `make password`"
        print(
            f"retired; homes, database and backups are kept: `make up` brings all of it back, with stopped workspaces"
            f"{password}. Leave out Pulumi's `pulumi stack rm` above: it deletes Pulumi.{session.stack}.yaml"
        )
    return code


def _could_begin(session: Session) -> bool:
    """Whether Coder answers, knows our token and is there to be retired: what stopped `destroy` then is its own end.

    A database that could not be dumped, above all. To repair would change nothing, and hide what was said.
    """
    if not any(each["urn"].endswith("::retire") for each in state.resources(session)):
        return False
    site = session.settings.site
    answer = drift.coder(session.settings)
    return bool(answer["answers"]) and answer["generations"].get("token") == pilot_file.token_generation(site.data_dir)


def _destroy_after_repair(session: Session) -> int:
    """`destroy` cannot begin where Coder does not answer or no longer knows our token: an `up` fixes that.

    Where even that fails, Coder cannot come back. Then the template, which `destroy` would not touch anyway, is
    dropped from the state with its provider, the one thing that needs Coder; the rest can go without.
    """
    dumps = not purges(session) and retire.WITHOUT_DUMP not in session.environment
    if dumps and (told := disk.full(session.settings.site.data_dir)):
        raise PilotError(f"{told}. Then run `make down` again, or `make down WITHOUT_DUMP=yes`")
    state.say("the stack cannot be destroyed as it is: repairing it first")
    if converge.converge(session) == 0:
        return _destroy(session)
    state.say("Coder does not come back: going on without it")
    converge.recover(session)
    state.forget_template(session)
    return _destroy(session)


def purges(session: Session) -> bool:
    """Whether the state, which is what counts, says that everything is to be deleted."""
    for each in state.resources(session):
        if each["urn"].endswith("::retire"):
            return bool(each["inputs"]["environment"].get("PURGE") == "true")
    return False


def _agreed(settings: Settings) -> bool:
    site, there = settings.site, cluster.known(settings.kubernetes)
    claims = retire.Claims(cluster=there, namespace=settings.kubernetes.namespace) if there else None
    print("purgeOnDestroy is true. These are deleted forever:")
    for each in [*retire.doomed(site.name, claims).lines(), f"{site.data_dir} with the database and all backups"]:
        print(f"  - {each}")
    if not postgres.ready(site.postgres_container, ROLE, DATABASE):
        print("  - whatever else the database names, which does not answer now: `make up` first, to see all of it")
    if not sys.stdin.isatty():
        print("`make down YES=yes` agrees; or `pulumi config set purgeOnDestroy false` and `make up` to keep them")
        return False
    return input(f"Type the name {site.name} to agree: ").strip() == site.name
