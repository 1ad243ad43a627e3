"""Look at the compose pilot that still runs on the data directory: dump its database, say whether our images fit its
data, and which settings and commands take it over. Stops and changes nothing; docs/adoption.md has the whole way."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pilot import site as sites
from pilot.arguments import add_stack
from pilot.session import PilotError, configured
from pilot.site import Site
from stack.jobs import backups, data_directory, engine, postgres, upgrade_guard

OWNERS = "SELECT username, email FROM users WHERE NOT deleted AND 'owner' = ANY (rbac_roles) ORDER BY created_at;"


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)


def run(arguments: argparse.Namespace) -> int:
    with sites.of(arguments.stack) as site:
        directory = str(Path(site.data_dir) / data_directory.POSTGRES)
        container = _postgres_on(directory)
        if container == site.postgres_container:
            raise PilotError(f"{container} is this stack's own: there is nothing to take over")
        if not postgres.ready(container, sites.ROLE, sites.DATABASE):
            raise PilotError(
                f"{container} has no database {sites.DATABASE} that the role {sites.ROLE} may open: rename what it has "
                f"to these with `psql`, or dump it and use `make restore`"
            )
        dump = backups.dump(container, sites.ROLE, sites.DATABASE, site.data_dir, name=backups.timestamp())
        print(f"dumped to {dump}")
        problems = _problems(site, container, configured(arguments.stack)["coderImage"])
        for each in [*problems, *_settings(container, arguments.stack)]:
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


def _problems(site: Site, container: str, coder_image: str) -> list[str]:
    found: list[str] = []
    shown = postgres.query(container, sites.ROLE, sites.DATABASE, "SHOW server_version;")[0]
    wanted = data_directory.image_major(site.postgres_image)
    major = shown.split(".")[0]
    if int(major) != wanted:
        found.append(f"the data is of Postgres {shown}: `pulumi config set postgresImage postgres:{major}`")
    rows = postgres.query(container, sites.ROLE, sites.DATABASE, "SELECT DISTINCT version FROM provisioner_daemons;")
    ran = [version for row in rows if (version := upgrade_guard.parse(row)) is not None]
    ours = upgrade_guard.parse(upgrade_guard.image_version(coder_image))
    if problem := upgrade_guard.refusal(ours, ran, coder_image):
        found.append(problem)
    return found


def _settings(container: str, stack: str) -> list[str]:
    owners = [row.split("|", 1) for row in postgres.query(container, sites.ROLE, sites.DATABASE, OWNERS)]
    configuration = configured(stack)
    if [configuration["adminUsername"], configuration["adminEmail"]] in owners or not owners:
        return []
    username, email = owners[0]
    return [f"its owner: `pulumi config set adminUsername {username}` and `pulumi config set adminEmail {email}`"]
