"""Look at the compose pilot that still runs on the data directory: dump its database, say whether our images fit its
data, and which settings and commands take it over. Stops and changes nothing; docs/adoption.md has the whole way."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pilot import configuration
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import select_engine
from stack.jobs import backups, data_directory, engine, postgres, upgrade_guard
from stack.jobs.names import DATABASE, ROLE
from stack.settings import Admin, Settings

OWNERS = "SELECT username, email FROM users WHERE NOT deleted AND 'owner' = ANY (rbac_roles) ORDER BY created_at;"


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)


def run(arguments: argparse.Namespace) -> int:
    settings = configuration.settings(arguments.stack)
    select_engine(settings)
    site = settings.site
    directory = str(Path(site.data_dir) / data_directory.POSTGRES)
    container = _postgres_on(directory)
    if container == site.postgres_container:
        raise PilotError(f"{container} is this stack's own: there is nothing to take over")
    if not postgres.ready(container, ROLE, DATABASE):
        raise PilotError(
            f"{container} has no database {DATABASE} that the role {ROLE} may open: rename what it has "
            f"to these with `psql`, or dump it and use `make restore`"
        )
    dump = backups.dump(container, ROLE, DATABASE, site.data_dir, name=backups.timestamp())
    print(f"dumped to {dump}")
    problems = _problems(container, settings)
    for each in [*problems, *_owner(container, settings.admin)]:
        print(f"- {each}")
    print(f"- then `docker compose down`, without --volumes, and `make up STACK={arguments.stack}`")
    return 1 if problems else 0


def _postgres_on(directory: str) -> str:
    """The running container that has `directory` mounted."""
    names = engine.docker("ps", "--format", "{{.Names}}").split()
    for record in json.loads(engine.docker("container", "inspect", *names)) if names else []:
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


def _owner(container: str, admin: Admin) -> list[str]:
    owners = [row.split("|", 1) for row in postgres.query(container, ROLE, DATABASE, OWNERS)]
    if [admin.username, admin.email] in owners or not owners:
        return []
    username, email = owners[0]
    return [f"its owner: `pulumi config set adminUsername {username}` and `pulumi config set adminEmail {email}`"]
