"""What every job does at its edges: read its environment, fail with one sentence."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable

from stack.jobs import commands, disk
from stack.jobs.engine import JobError


def variable(name: str) -> str:
    """The environment variable `name`.

    Raises:
        JobError: it is not set.
    """
    value = os.environ.get(name)
    if value is None:
        raise JobError(f"the environment variable {name} is not set; Pulumi runs this job, see stack/")
    return value


def run(main: Callable[[], None]) -> None:
    """Run a job; a JobError, and a full disk, become one message and exit code 1."""
    stack = os.environ.get(commands.VARIABLE, commands.DEFAULT_STACK)
    with contextlib.redirect_stderr(commands.speaker(sys.stderr, stack)):
        try:
            main()
        except (JobError, OSError) as error:
            if isinstance(error, OSError) and not disk.is_meant(str(error)):
                raise
            folder = os.environ.get("DATA_DIRECTORY")
            print(f"error: {disk.explained(str(error), folder) if folder else error}", file=sys.stderr)
            sys.exit(1)
