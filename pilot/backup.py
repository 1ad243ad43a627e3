"""Dump the database into <dataDir>/backups, check the dump, and keep the state (its secrets encrypted) beside it; the
newest `backupsKept` stay."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pilot import site as sites
from pilot.arguments import add_stack
from pilot.session import Session, open_session
from pilot.site import Site
from stack.jobs import backups


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)


def run(arguments: argparse.Namespace) -> int:
    session = open_session(arguments.stack)
    with sites.of(arguments.stack) as site:
        print(back_up(session, site))
    return 0


def back_up(session: Session, site: Site) -> Path:
    """Make a backup; the path of its dump.

    Raises:
        engine.JobError: Postgres does not run, or there is no space.
    """
    name = backups.timestamp()
    dump = backups.dump(site.postgres_container, sites.ROLE, sites.DATABASE, site.data_dir, name=name)
    file = dump.with_name(f"{name}{backups.STATE_SUFFIX}")
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(session.read("stack", "export"))
    backups.prune(site.data_dir, site.backups_kept)
    return dump
