"""Look at the compose pilot that still runs on the data directory: dump its database, say whether our images fit its
data, which settings and commands take it over, and what becomes of its workspaces. Stops and changes nothing but for
the answer, which it notes beside the data; docs/adoption.md has the whole way."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

from pilot import configuration
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import select_engine
from pilot.status import table
from stack.jobs import accounts, adoption, backups, data_directory, engine, names, pilot_file, postgres, upgrade_guard
from stack.jobs.adoption import Fate
from stack.jobs.names import DATABASE, ROLE
from stack.settings import Settings
from toolchain.paths import CHECKOUT

OWNERS = "SELECT username, email FROM users WHERE NOT deleted AND 'owner' = ANY (rbac_roles) ORDER BY created_at;"
TEMPLATES = (
    f"SELECT id, {adoption.OURS}, default_ttl / 1000000 FROM templates"  # noqa: S608
    f" WHERE NOT deleted AND lower(name) = '{names.TEMPLATE}';"
)
BESIDE = f"SELECT 1 FROM templates WHERE NOT deleted AND name = '{names.TEMPLATE_BESIDE}' AND {adoption.OURS};"  # noqa: S608
HEADS = ("workspace", "now", "an update keeps", "replaces", "destroys")


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)


def run(arguments: argparse.Namespace) -> int:
    settings = configuration.settings(arguments.stack)
    select_engine(settings)
    site = settings.site
    directory = str(Path(site.data_dir) / data_directory.POSTGRES)
    container = _postgres_on(directory)
    own = container == site.postgres_container
    if not postgres.ready(container, ROLE, DATABASE):
        raise PilotError(
            f"{container} has no database {DATABASE} that the role {ROLE} may open: rename what it has "
            f"to these with `psql`, or dump it and use `make restore`"
        )
    template, ours, idle_ms = _template(container)
    workspaces = [adoption.workspace(row) for row in _ask(container, adoption.sql(template))] if template else []
    if own and (not template or (ours and not workspaces)):
        raise PilotError(f"{container} is this stack's own: there is nothing to take over")
    dump = backups.dump(container, ROLE, DATABASE, site.data_dir, name=backups.timestamp())
    print(f"dumped to {dump}")
    problems = [] if own else _problems(container, settings)
    if template:
        judgement = adoption.judge(workspaces, _addresses())
        print(_table(judgement.fates))
        beside = bool(_ask(container, BESIDE)) and not ours
        stays = [*judgement.problems, *([f"ours is there as `{names.TEMPLATE_BESIDE}` already"] if beside else [])]
        if not (stays and ours):
            pilot_file.update(site.data_dir, adoption={"template": template, "home": "" if stays else judgement.home})
        if not (stays or ours):
            # Its workspaces that have its idle time get ours, see stack/jobs/record_template.py.
            pilot_file.update(site.data_dir, template_id=template, template=None, default_ttl_ms=idle_ms)
        elif stays and not ours and pilot_file.template_id(site.data_dir) == template:
            # An earlier look found that it could become ours.
            pilot_file.update(site.data_dir, template_id=None, default_ttl_ms=None)
        print(_answer(stays, ours=ours))
        problems += stays if ours else []
    # Also where an `up` was refused half-way, which has this stack's own Postgres already.
    for each in [*problems, *([] if own and ours else _owner(container, settings))]:
        print(f"- {each}")
    print(f"- then {'' if own else '`docker compose down`, without --volumes, and '}`make up`")
    return 1 if problems else 0


def _ask(container: str, sql: str) -> list[str]:
    return [row for row in postgres.query(container, ROLE, DATABASE, sql) if row]


def _template(container: str) -> tuple[str, bool, int]:
    """The id of the template that is called as ours, "" for none; whether it is ours already; its idle time."""
    rows = _ask(container, TEMPLATES)
    if not rows:
        return "", False, 0
    identifier, ours, idle_ms = rows[0].split("|")
    return identifier, ours == "t", int(idle_ms)


def _addresses() -> frozenset[str]:
    """The addresses of our template's resources."""
    texts = (file.read_text() for file in (CHECKOUT / "terraform-template").glob("*.tf"))
    return frozenset(
        f"{kind}.{name}"
        for text in texts
        for kind, name in re.findall(r'^resource "(\w+)" "(\w+)"', text, re.MULTILINE)
    )


def _table(fates: Sequence[Fate]) -> str:
    if not fates:
        return f"the template {names.TEMPLATE} has no workspaces"
    return table(HEADS, [_row(fate) for fate in fates])


def _row(fate: Fate) -> tuple[str, ...]:
    workspace = fate.workspace
    now = {"start": "running", "stop": "stopped"}.get(workspace.transition, workspace.transition)
    if workspace.status != "succeeded":
        now = f"{workspace.transition} {workspace.status}"
    if fate.problems:
        return workspace.title, now, "not offered", "", ", ".join(fate.destroyed) or "-"
    keeps = fate.home or f"{names.home_volume(workspace.id)}, if it is there"
    return workspace.title, now, keeps, ", ".join(fate.replaced) or "-", ", ".join(fate.destroyed) or "nothing else"


def _answer(stays: Sequence[str], *, ours: bool) -> str:
    if not stays:
        return (
            f"the template {names.TEMPLATE} becomes ours: after `up`, Update in the dashboard makes each of these a "
            "workspace of ours with its home; until then they start as before. Stop those that run, in the dashboard"
        )
    told = "\n".join(f"  - {each}" for each in stays)
    if ours:
        return f"the template {names.TEMPLATE} is ours, and an update of these would lose files:\n{told}"
    return (
        f"the template {names.TEMPLATE} stays beside ours, which is called {names.TEMPLATE_BESIDE}; an update of its "
        f"workspaces to ours is not offered:\n{told}\n"
        "They start and stop as before. `make import` copies a project out of one"
    )


def _postgres_on(directory: str) -> str:
    """The running container that has `directory` mounted."""
    running = engine.docker("ps", "--format", "{{.Names}}").split()
    for record in json.loads(engine.docker("container", "inspect", *running)) if running else []:
        if any(mount.get("Source") == directory for mount in record["Mounts"]):
            return str(record["Name"]).removeprefix("/")
    raise PilotError(
        f"no running container has {directory}: start the old Postgres (`docker compose up -d`), "
        "or set `dataDir` to the folder whose `postgres` it uses"
    )


def _problems(container: str, settings: Settings) -> list[str]:
    found: list[str] = []
    shown = postgres.query(container, ROLE, DATABASE, "SHOW server_version;")[0]
    wanted = data_directory.image_major(settings.database.image)
    major = shown.split(".")[0]
    if int(major) != wanted:
        found.append(f"the data is of Postgres {shown}: `pulumi config set postgresImage postgres:{major}`")
    rows = postgres.query(container, ROLE, DATABASE, "SELECT DISTINCT version FROM provisioner_daemons;")
    ran = [version for row in rows if (version := upgrade_guard.parse(row)) is not None]
    ours = upgrade_guard.parse(upgrade_guard.image_version(settings.control_plane.image))
    if problem := upgrade_guard.refusal(ours, ran, settings.control_plane.image):
        found.append(problem)
    return found


def _owner(container: str, settings: Settings) -> list[str]:
    """Which settings name the owner, and how he goes on."""
    admin, dev = settings.admin, settings.member
    owners = [row.split("|", 1) for row in postgres.query(container, ROLE, DATABASE, OWNERS)]
    if not owners:
        return []
    username, email = next((each for each in owners if each == [admin.username, admin.email]), owners[0])
    told = []
    if accounts.is_me(username):
        told.append(
            f"its owner is called {username}, and Coder opens no app of a user of that name: `up` renames him to "
            f"{admin.username}; for another name, `pulumi config set adminUsername <name>`"
        )
    elif username != admin.username:
        told.append(f"its owner: `pulumi config set adminUsername {username}`")
    if email != admin.email:
        told.append(f"its owner's address: `pulumi config set adminEmail {email}`")
    return [
        *told,
        f"the owner stays what he is, with his workspaces: sign in as {email} with what `make password WHO=admin` "
        f"prints. Beside him `up` makes an account for every day, {dev.username}, which the box at its end names: "
        "docs/adoption.md, step 4, says how that becomes you",
    ]
