"""Dumps of the database in `<data directory>/backups`: made, checked and read back by the server's own programs."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from stack.jobs import disk, engine, pilot_file

FOLDER = "backups"
DUMP_SUFFIX = ".dump"
STATE_SUFFIX = ".state.json"
DUMP_TIMEOUT_S = 30 * 60
_OWN_NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z" + re.escape(DUMP_SUFFIX))


def timestamp() -> str:
    """Now, in UTC, as the names of backups have it; their order is the order of time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"[:-3] + "Z"


def dump(container: str, role: str, database: str, data_directory: str, *, name: str) -> Path:
    """Dump the database into the backups and check that the dump can be read; its path.

    Raises:
        engine.JobError: it could not be made, or not read; nothing of it is left then.
    """
    folder = Path(data_directory) / FOLDER
    file = folder / f"{name}{DUMP_SUFFIX}"
    partial = folder / f"{name}.partial"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            # Light compression: somebody waits for the dump, and the next one replaces it soon.
            command = ["pg_dump", "--format", "custom", "--compress", "1", "--username", role, "--dbname", database]
            _in_container(container, command, stdout=stream)
        check(container, partial)
        partial.replace(file)
    except (OSError, engine.JobError) as error:
        raise engine.JobError(disk.explained(str(error), data_directory)) from None
    finally:
        # What was wrong before is to be told.
        with contextlib.suppress(OSError):
            partial.unlink()
    return file


def looks_like_dump(file: Path) -> bool:
    """Whether the file begins as a dump in pg_dump's custom format does; `check` reads more of it, with Postgres."""
    with file.open("rb") as stream:
        return stream.read(5) == b"PGDMP"


def check(container: str, file: Path) -> None:
    """Read the dump's table of contents.

    Raises:
        engine.JobError: there is none, or none of Coder's tables is in it.
    """
    with file.open("rb") as stream:
        contents = _in_container(container, ["pg_restore", "--list"], stdin=stream)
    if " TABLE DATA public users " not in contents:
        raise engine.JobError(f"{file} is a dump without Coder's table `users`: it is no backup of a Coder")


def restore(container: str, role: str, database: str, file: Path) -> None:
    """Replace the database by the dump, whole or not at all: it is read into a new one that then takes the name.

    Nothing may be connected to the database but what may be cut off.

    Raises:
        engine.JobError: the dump could not be read; the database is what it was.
    """
    fresh, old = f"{database}_restored", f"{database}_before"
    maintenance = ["--username", role, "--maintenance-db", "template1"]
    for left in (fresh, old):
        _in_container(container, ["dropdb", "--if-exists", "--force", *maintenance, left])
    _in_container(container, ["createdb", "--template", "template0", *maintenance, fresh])
    with file.open("rb") as stream:
        _in_container(
            container,
            ["pg_restore", "--exit-on-error", "--no-owner", "--username", role, "--dbname", fresh],
            stdin=stream,
        )
    # One command is one transaction: whatever ends it, there is a database of the name, and a whole one.
    swap = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'; "  # noqa: S608  constant
        f"ALTER DATABASE {database} RENAME TO {old}; ALTER DATABASE {fresh} RENAME TO {database}"
    )
    _in_container(container, ["psql", "--quiet", "--username", role, "--dbname", "template1", "--command", swap])
    # What is left of it the next restore drops.
    with contextlib.suppress(engine.JobError):
        _in_container(container, ["dropdb", "--if-exists", "--force", *maintenance, old])


def prune(data_directory: str, kept: int) -> list[str]:
    """Remove all but the newest `kept` backups, each with the state beside it; the names of those removed.

    Those from the future, made under a clock that was wrong, count as the oldest: they must not push out newer ones.
    One that is still to be read stays, however old.
    """
    folder = Path(data_directory) / FOLDER
    # What somebody else put there is not ours to count or to remove.
    ours = (file for file in folder.glob(f"*{DUMP_SUFFIX}") if _OWN_NAME.fullmatch(file.name))
    now = timestamp()
    dumps = sorted(ours, key=lambda file: (file.name.removesuffix(DUMP_SUFFIX) <= now, file.name))
    held = pilot_file.held_dumps(data_directory)
    gone = [file for file in dumps[: max(0, len(dumps) - kept)] if file.name not in held]
    for file in gone:
        file.unlink()
        file.with_name(file.name.removesuffix(DUMP_SUFFIX) + STATE_SUFFIX).unlink(missing_ok=True)
    return [file.name for file in gone]


def _in_container(
    container: str, command: Sequence[str], *, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None
) -> str:
    interactive = ["--interactive"] if stdin is not None else []
    try:
        done = subprocess.run(
            ["docker", "exec", *interactive, container, *command], stdin=stdin or subprocess.DEVNULL,
            stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=DUMP_TIMEOUT_S,
        )  # fmt: skip
    except FileNotFoundError:
        raise engine.JobError("the command `docker` is not on PATH: install Docker's command line") from None
    except subprocess.TimeoutExpired:
        raise engine.JobError(f"`{command[0]}` did not end within {DUMP_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise engine.JobError(f"`{command[0]}` failed: {done.stderr.decode(errors='replace').strip()}")
    return (done.stdout or b"").decode(errors="replace")
