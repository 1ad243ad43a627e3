"""Where a stack's containers and data are found; for commands that work beside Pulumi."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from pilot.session import PROJECT, PilotError, configured
from stack.jobs.engine import JobError

TEMPLATE = "project"
"""The template's name, as in __main__.py."""
ROLE = DATABASE = "coder"
"""As in stack/database.py, which cannot be imported without Pulumi's SDK."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the stack's configuration says; the fields are the settings."""

    name: str
    data_dir: str
    postgres_image: str
    coder_container: str
    postgres_container: str
    backups_kept: int
    purge: bool


@contextlib.contextmanager
def of(stack: str) -> Iterator[Site]:
    """The site of `stack`; within, `stack.jobs.engine` talks to its Docker Engine.

    Raises:
        PilotError: in place of every JobError.
    """
    values = configured(stack)
    os.environ["DOCKER_HOST"] = values["dockerHost"]
    try:
        yield Site(
            name=values["name"],
            data_dir=str(PROJECT / values["dataDir"]),
            postgres_image=values["postgresImage"],
            coder_container=f"{values['name']}-server",
            postgres_container=f"{values['name']}-postgres",
            backups_kept=int(values["backupsKept"]),
            purge=values["purgeOnDestroy"] == "true",
        )
    except JobError as error:
        raise PilotError(str(error)) from None
