"""Make the data directory, and refuse one that the wanted Postgres cannot read.

`remove` is run when the stack is destroyed and its containers are gone, and notes that. With PURGE=true it removes what
the pilot made in the directory, and the directory where nothing else is in it. In a checkout Git is told to see
nothing of it: in it are secrets.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from stack.jobs import backups, disk, engine, names, pilot_file, program, workspace_secrets

POSTGRES = "postgres"
KEEPERS = (names.SAMPLES, f"{names.SAMPLES}{names.ROTATED}", names.STOPS, names.KEEPER_STATUS)
"""What the keeper writes."""
CHECKOUT = Path(__file__).resolve().parents[2]
"""Not of the program's environment for the job: in another checkout with the same state that would be a change."""
IGNORE_FILE = ".gitignore"
IGNORED = "# The pilot's data and secrets.\n*\n"


def image_major(image: str) -> int:
    """The major version of the Postgres in `image`.

    Raises:
        engine.JobError: the image has no Postgres that tells its version.
    """
    shown = engine.docker("run", "--rm", "--network", "none", "--entrypoint", "postgres", image, "--version")
    match = re.search(r"\(PostgreSQL\) (\d+)", shown)
    if match is None:
        raise engine.JobError(
            f"the image {image} is no Postgres, it says {shown!r}: run `pulumi config set postgresImage postgres:17`"
        )
    return int(match[1])


def data_major(directory: Path, image: str) -> int | None:
    """The major version of the cluster in `directory`, None where there is none.

    The cluster belongs to the server's user; where ours may not read it, a container does.
    """
    try:
        return int((directory / "PG_VERSION").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        shown = engine.docker(
            "run", "--rm", "--network", "none", "--mount", f"type=bind,source={directory},target=/data,readonly",
            "--entrypoint", "sh", image, "-c", "cat /data/PG_VERSION 2>/dev/null || true",
        )  # fmt: skip
        return int(shown) if shown.strip() else None


def remove(directory: Path, image: str) -> None:
    """Remove the pilot's own entries of `directory`.

    Raises:
        engine.JobError: `directory` has no `pilot.json`, so it is nobody's that we know.
    """
    if not directory.exists():
        return
    if not (directory / pilot_file.NAME).exists():
        raise engine.JobError(
            f"{directory} has no {pilot_file.NAME}, so it is not removed: look at it, remove it yourself"
        )
    # By a container: the cluster's files belong to the server's user. The file that makes it ours goes last.
    engine.docker(
        "run", "--rm", "--network", "none", "--user", "0", "--mount", f"type=bind,source={directory},target=/data",
        "--entrypoint", "rm", image, "-rf", f"/data/{POSTGRES}", f"/data/{backups.FOLDER}",
        f"/data/{workspace_secrets.FOLDER}", *(f"/data/{each}" for each in KEEPERS),
    )  # fmt: skip
    ignore = directory / IGNORE_FILE
    if ignore.exists() and ignore.read_text() == IGNORED:
        ignore.unlink()
    (directory / pilot_file.NAME).unlink()
    try:
        directory.rmdir()
    except OSError:
        print(f"{directory} stays: something that is not the pilot's is in it", file=sys.stderr)


def main() -> None:
    directory, image = Path(program.variable("DATA_DIRECTORY")), program.variable("POSTGRES_IMAGE")
    if sys.argv[1:] == ["remove"]:
        if program.variable("PURGE") == "true":
            remove(directory, image)
        elif directory.exists():
            pilot_file.update(str(directory), containers=None, networks=None)
        return
    try:
        (directory / POSTGRES).mkdir(parents=True, exist_ok=True)
        (directory / backups.FOLDER).mkdir(mode=0o700, exist_ok=True)
        if directory.resolve().is_relative_to(CHECKOUT) and not (directory / IGNORE_FILE).exists():
            (directory / IGNORE_FILE).write_text(IGNORED)
    except OSError as error:
        if disk.is_meant(str(error)):
            raise engine.JobError(disk.explained(str(error), directory)) from None
        raise engine.JobError(
            f"the data directory cannot be made: {error}; create it as root, "
            f"`sudo install -d -o $USER {directory}`, or choose another, `pulumi config set dataDir <directory>`"
        ) from None
    wanted, found = image_major(image), data_major(directory / POSTGRES, image)
    if found is not None and found != wanted:
        raise engine.JobError(
            f"{directory}/postgres is of Postgres {found}, and {image} is Postgres {wanted}; nothing was touched. "
            f"Go back, `pulumi config set postgresImage postgres:{found}`, or upgrade, `make upgrade-postgres`"
        )


if __name__ == "__main__":
    program.run(main)
