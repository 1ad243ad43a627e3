"""Repair what a plain `up` cannot: locks and operations that a killed `pulumi` left, containers and networks that
somebody removed, changed or made twice, a template that is gone from Coder. Ends with an `up`. Deletes no data."""

from __future__ import annotations

import argparse

from pilot import state
from pilot.arguments import add_stack
from pilot.session import Session, open_session
from stack.jobs import names, pilot_file, postgres
from stack.settings import Site

REFRESHED = ("docker:index/container:Container", "docker:index/network:Network")


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)


def run(arguments: argparse.Namespace) -> int:
    return heal(open_session(arguments.stack))


def heal(session: Session) -> int:
    """Make the stack what the program says; the exit code of the last `up`.

    Raises:
        PilotError: another `pulumi` is at work.
        engine.JobError: the engine does not answer.
    """
    recover(session)
    urns = [each["urn"] for each in state.resources(session) if each["type"] in REFRESHED]
    if urns:
        # Only these: to refresh the template, Coder would have to answer.
        targets = [word for urn in urns for word in ("--target", urn)]
        session.pulumi("refresh", "--yes", "--skip-preview", "--suppress-outputs", *targets)
    _agree_on_template(session)
    code = up(session)
    # Where Postgres did not run before, it does now and can be asked.
    return up(session) if _agree_on_template(session) else code


def recover(session: Session) -> None:
    """Make the state usable after a `pulumi` was killed."""
    state.clear_lock(session)
    state.clear_pending(session)
    state.remove_orphans(session, session.settings.site.name)


def up(session: Session) -> int:
    """`pulumi up`; its exit code."""
    return session.pulumi("up", "--yes", "--skip-preview", "--suppress-outputs")


def _agree_on_template(session: Session) -> bool:
    """Make state and pilot.json agree with Coder's database about the template; whether they did not.

    One that is gone would be taken for there, or adopted, which cannot succeed. One that nobody recorded, because a
    `pulumi` was killed right after it made it, would be made a second time, which Coder refuses.
    """
    site = session.settings.site
    if not postgres.ready(site.postgres_container, names.ROLE, names.DATABASE):
        return False
    if not ask(site, "SELECT 1 WHERE to_regclass('templates') IS NOT NULL;"):
        return False
    known = dict(row.split("|", 1) for row in ask(site, "SELECT id, name FROM templates WHERE NOT deleted;"))
    recorded = pilot_file.template_id(site.data_dir)
    in_state = {each["id"] for each in state.resources(session) if each["type"] == "coderd:index/template:Template"}
    lost = {each for each in (recorded, *in_state) if each is not None and each not in known}
    if lost:
        state.say(f"Coder has no template {', '.join(sorted(lost))} any more")
    if lost & in_state:
        state.forget_template(session)
    ours = next((each for each, name in known.items() if name == names.TEMPLATE), None)
    # With a template in the state, pilot.json follows at the next change of it.
    adopts = not in_state - lost and recorded != ours
    if adopts:
        pilot_file.update(site.data_dir, template_id=ours)
    return bool(lost & in_state) or adopts


def ask(site: Site, sql: str) -> list[str]:
    """Rows of Coder's database."""
    return postgres.query(site.postgres_container, names.ROLE, names.DATABASE, sql)
