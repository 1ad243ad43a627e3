"""How a program of `stack/jobs/` becomes a resource or a look at the world."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import pulumi
import pulumi_command as command

from stack.jobs import commands

INTERPRETER = ("python3", "-S", "-E")
"""Without site packages and PYTHON* variables: jobs use the standard library alone, and start faster so."""


def line(job: str, *arguments: str) -> str:
    """The shell line that runs `stack/jobs/<job>.py`; the project's folder is where plugins run."""
    return shlex.join([*INTERPRETER, "-m", f"stack.jobs.{job}", *arguments])


def declare(
    logical_name: str,
    job: str,
    *,
    environment: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
    delete: str | None = None,
) -> command.local.Command:
    """Run `stack/jobs/<job>.py` when it is created and whenever its environment changes.

    Secrets go through `environment` alone. Output is secret and not logged: a job prints what Pulumi keeps on
    its standard output, and what a person reads on its standard error when it fails.
    """
    return command.local.Command(
        logical_name,
        create=line(job),
        update=line(job),
        delete=delete,
        environment={**environment, commands.VARIABLE: pulumi.get_stack()},
        logging=command.local.Logging.NONE,
        opts=pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(additional_secret_outputs=["stdout", "stderr"], delete_before_replace=True),
        ),
    )
