"""What `make up` does beside `pulumi up`: it repairs a state that a killed `pulumi` left, or that no longer knows the
pilot that runs. Touches files alone while there is nothing to repair; deletes no data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from pilot import drift, state
from pilot.configuration import PilotError
from pilot.session import Session
from stack.jobs import coder_records, names, pilot_file, postgres, world
from stack.jobs.coder_records import Template
from stack.settings import Site

CONTAINER = "docker:index/container:Container"
NETWORK = "docker:index/network:Network"
NETWORKS = 2


def say_words(words: Iterable[str]) -> None:
    """Hand the owner's words, as in stack/jobs/world.py, to every `pulumi` that is opened from now on."""
    os.environ.update({world.WORDS[word]: "yes" for word in words})


def refuse_other_owner(session: Session) -> None:
    """Refuse to touch a pilot that belongs to another checkout or stack, unless it is taken over.

    Raises:
        PilotError: it does; with both ways to go on.
        engine.JobError: the engine does not answer.
    """
    wanted = drift.wanted(session.settings, session.stack)
    other = world.other_owner(wanted, world.live(wanted))
    if other and os.environ.get(world.WORDS["TAKE_OVER"]) != "yes":
        raise PilotError(world.refusal_of_owner(other))


def refuse_whatever_up_refuses(session: Session) -> None:
    """Refuse, before anything is removed for it, what the `up` after it would refuse.

    Raises:
        PilotError: the settings would leave data behind, or the pilot is another checkout's.
        engine.JobError: the engine does not answer.
    """
    if problem := world.refusal(drift.wanted(session.settings, session.stack)):
        raise PilotError(problem)


def converge(session: Session, *flags: str) -> int:
    """Make the stack what the program says, by `pulumi up` with `flags`; the exit code of the last one.

    Raises:
        PilotError: another `pulumi` is at work, or the pilot is another checkout's.
        engine.JobError: the engine does not answer.
    """
    recover(session, refuse_whatever_up_refuses)
    code = up(session, *flags)
    # Where Postgres did not run before, it does now and can be asked.
    return up(session, *flags) if code != 0 and _agree_on_template(session) else code


def recover(session: Session, refuse: Callable[[Session], None] = refuse_other_owner) -> None:
    """Make the state usable after a `pulumi` was killed, and remove what it does not know and the next `up` makes.

    Args:
        refuse: raises a PilotError where nothing may be removed.

    Raises:
        PilotError: another `pulumi` is at work, or the pilot is another checkout's.
        engine.JobError: the engine refused.
    """
    state.clear_lock(session)
    cut_short = state.clear_pending(session)
    if not cut_short and _knows_what_runs(session):
        return
    refuse(session)
    state.remove_orphans(session, session.settings.site.name)
    _agree_on_template(session)


def _knows_what_runs(session: Session) -> bool:
    """Whether the state has the containers that the last `up` made; compares two files."""
    known = state.resources(session)
    containers = {each.get("id") for each in known if each["type"] == CONTAINER}
    made = pilot_file.containers(session.settings.site.data_dir)
    return containers == set(made.values()) and sum(each["type"] == NETWORK for each in known) == NETWORKS


def up(session: Session, *flags: str) -> int:
    """`pulumi up`; its exit code. Where that makes the account before which Coder is not published for a cluster, a
    second one publishes it."""
    words = ("up", "--yes", "--skip-preview", "--suppress-outputs", *flags)
    cluster, data_dir = session.settings.kubernetes, session.settings.site.data_dir
    waits = bool(cluster.kubeconfig and cluster.agent_address) and not world.has_account(data_dir)
    code = session.pulumi(*words)
    if code != 0 or not waits:
        return code
    state.say(f"Coder has its account: publishing it on {cluster.agent_address} for the cluster")
    return session.pulumi(*words)


def _agree_on_template(session: Session) -> bool:
    """Make state and pilot.json agree with Coder's database about the templates; whether they did not.

    One that is gone would be taken for there, or adopted, which cannot succeed. One that nobody recorded, because a
    `pulumi` was killed right after it made it, would be made a second time, which Coder refuses.
    """
    site = session.settings.site
    if not postgres.ready(site.postgres_container, names.ROLE, names.DATABASE):
        return False
    if not ask(site, "SELECT 1 WHERE to_regclass('templates') IS NOT NULL;"):
        return False
    known = set(ask(site, "SELECT id FROM templates WHERE NOT deleted;"))
    in_state = _templates_in_state(session)
    ours = templates(session)
    for each in ours:
        if {in_state.get(each.part), pilot_file.template_id(site.data_dir, each.prefix)} - {None} - known:
            state.say(f"Coder has no template {each.name} any more; it is made anew")
    lost = {identifier for identifier in in_state.values() if identifier not in known}
    if lost:
        # With its provider, and so with the other one, which is adopted again.
        state.forget_template(session)
        in_state = {}
    # With a template in the state, pilot.json follows at the next change of it.
    found = {each: find_template(site, each) for each in ours if each.part not in in_state}
    changed = {each: now for each, now in found.items() if now != pilot_file.template_id(site.data_dir, each.prefix)}
    for each, now in changed.items():
        pilot_file.record_template(site.data_dir, each.prefix, now)
    return bool(lost or changed)


def _templates_in_state(session: Session) -> dict[str, str]:
    """The ids of templates by their logical names."""
    found = (each for each in state.resources(session) if each["type"] == "coderd:index/template:Template")
    return {each["urn"].rsplit("::", 1)[1]: each["id"] for each in found}


def templates(session: Session) -> Sequence[Template]:
    """Those that the settings declare."""
    settings = session.settings
    return coder_records.templates(settings.site.data_dir, cluster=bool(settings.kubernetes.kubeconfig))


def find_template(site: Site, template: Template) -> str | None:
    """The id of the one that is ours, or will be: the recorded one where Coder has it, else one with our variables by
    the name that ours has or had."""
    called = {template.name} if template.prefix else {names.TEMPLATE, names.TEMPLATE_BESIDE}
    listed = ", ".join(map(postgres.literal, sorted(called)))
    recorded = postgres.literal(str(pilot_file.template_id(site.data_dir, template.prefix)))
    found = ask(
        site,
        f"SELECT id FROM templates WHERE NOT deleted AND (id::text = {recorded} OR name IN ({listed})"  # noqa: S608
        f" AND {template.ours}) ORDER BY id::text = {recorded} DESC, name;",
    )
    return found[0] if found else None


def ask(site: Site, sql: str) -> list[str]:
    """Rows of Coder's database."""
    return postgres.query(site.postgres_container, names.ROLE, names.DATABASE, sql)
