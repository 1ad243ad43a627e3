"""Before Coder's container is made or replaced: refuse a downgrade, and dump the database.

A Coder that starts moves its database to its own version, and none can move it back. Which version that was, the
database knows itself: each server writes its version into `provisioner_daemons`. So this also holds for data that an
earlier stack, a restore or the compose pilot left.
"""

from __future__ import annotations

import re

from stack.jobs import backups, engine, postgres, program

Version = tuple[int, int, int]


def parse(text: str) -> Version | None:
    """The first version in `text`, such as "Coder v2.30.0+abc Mon"; None where there is none."""
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def image_version(image: str) -> str:
    """What the Coder in `image` says of itself.

    Raises:
        engine.JobError: there is none.
    """
    return engine.docker("run", "--rm", "--network", "none", "--entrypoint", "/opt/coder", image, "version")


def refusal(wanted: Version | None, ran: list[Version], image: str) -> str | None:
    """Why Coder may not be replaced by `image`, None where it may; a version unknown to us is not held against it."""
    if wanted is None or not ran or wanted >= max(ran):
        return None
    newest = ".".join(map(str, max(ran)))
    return (
        f"{image} is Coder {'.'.join(map(str, wanted))}, and the database was already moved to {newest}, which no "
        f"Coder can undo; nothing was touched. Stay there, `pulumi config set coderImage <image of {newest}>`, or go "
        "back to the dump that was made before the upgrade, `make restore FILE=<dump>`, with `pulumi up` after it"
    )


def main() -> None:
    container, image = program.variable("POSTGRES_CONTAINER"), program.variable("CODER_IMAGE")
    role, database = program.variable("ROLE"), program.variable("DATABASE")
    if not postgres.query(container, role, database, "SELECT 1 WHERE to_regclass('provisioner_daemons') IS NOT NULL;"):
        return  # a new database has nothing to lose
    rows = postgres.query(container, role, database, "SELECT DISTINCT version FROM provisioner_daemons;")
    ran = [version for row in rows if (version := parse(row)) is not None]
    if problem := refusal(parse(image_version(image)), ran, program.variable("CODER_IMAGE_NAME")):
        raise engine.JobError(problem)
    directory = program.variable("DATA_DIRECTORY")
    backups.dump(container, role, database, directory, name=backups.timestamp())
    backups.prune(directory, int(program.variable("BACKUPS_KEPT")))


if __name__ == "__main__":
    program.run(main)
