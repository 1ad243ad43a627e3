"""What every job does at its edges: read its environment, fail with one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

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
    """Run a job; a JobError becomes one message and exit code 1."""
    try:
        main()
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
