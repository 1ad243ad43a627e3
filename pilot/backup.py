"""Dump the database into <dataDir>/backups, check the dump, and keep the state (its secrets encrypted) beside it; the
newest `backupsKept` stay."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import Session, open_session
from stack.jobs import backups, disk, engine, postgres
from stack.jobs.names import DATABASE, ROLE


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)


def run(arguments: argparse.Namespace) -> int:
    print(back_up(open_session(arguments.stack)))
    return 0


def back_up(session: Session) -> Path:
    """Make a backup; the path of its dump.

    Raises:
        PilotError: Postgres does not run.
        engine.JobError: there is no space, or the engine does not answer.
    """
    site, name = session.settings.site, backups.timestamp()
    if not postgres.ready(site.postgres_container, ROLE, DATABASE):
        raise PilotError(
            f"the database of the stack {session.stack} does not run, and only it can be dumped: run `make up`"
        )
    dump = backups.dump(site.postgres_container, ROLE, DATABASE, site.data_dir, name=name)
    file = dump.with_name(f"{name}{backups.STATE_SUFFIX}")
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(session.read("stack", "export"))
    except OSError as error:
        raise engine.JobError(disk.explained(f"{dump} was made, but no state: {error}", site.data_dir)) from None
    backups.prune(site.data_dir, session.settings.retirement.backups_kept)
    return dump
