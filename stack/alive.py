"""Makes sure that Coder answers before anything talks to it; a preview only looks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
import pulumi_command as command
from pulumi.output import UNKNOWN

from stack import job
from stack.control_plane import SOCKET_IN_CONTAINER
from stack.settings import Site


@dataclass(frozen=True, kw_only=True)
class Alive:
    """What the look found; both are unknown in a preview that cannot tell."""

    coder_url: pulumi.Output[str]
    token_generation: pulumi.Output[str]


def look(site: Site, *, after: Sequence[pulumi.Resource]) -> Alive:
    """On `up`, repair what is not well and wait for it; in a preview, see whether it answers.

    An invoke, not a resource: it runs on every operation, so that a plain `up` heals a stopped Coder, and it shows
    no change.

    Raises:
        pulumi.RunError: an `up` could not get Coder to answer; with the container's last log lines.
    """
    found = command.local.run_output(
        command=job.line("alive", "look" if pulumi.runtime.is_dry_run() else "ensure"),
        environment={
            **site.environment(),
            "DOCKER_SOCKET": site.docker_socket,
            "SOCKET_IN_CONTAINER": SOCKET_IN_CONTAINER,
        },
        logging=command.local.Logging.NONE,
        # A preview knows nothing of what comes after a container that is to be replaced, and would show all of it as
        # changing; looking needs no order.
        opts=pulumi.InvokeOutputOptions(depends_on=[] if pulumi.runtime.is_dry_run() else list(after)),
    ).stdout.apply(json.loads)

    def coder_url(answer: dict[str, object]) -> pulumi.Output[str]:
        if answer["problem"] and not pulumi.runtime.is_dry_run():
            raise pulumi.RunError(str(answer["problem"]))
        return pulumi.Output.from_input(site.coder_url if answer["answers"] else cast(Any, UNKNOWN))

    def token_generation(answer: dict[str, object]) -> pulumi.Output[str]:
        generation = answer["token_generation"]
        return pulumi.Output.from_input(cast(Any, UNKNOWN) if generation is None else str(generation))

    return Alive(
        coder_url=_without_dependencies(found.apply(coder_url)),
        token_generation=_without_dependencies(found.apply(token_generation)),
    )


def _without_dependencies(output: pulumi.Output[str]) -> pulumi.Output[str]:
    """The same value, of which the engine does not know that it came after the containers.

    It still does: everything that needs the value waits for it. But for each container that is replaced, the engine
    asks the providers of everything that depends on it for a diff, beforehand; the coderd provider cannot answer while
    Coder is away, so that a Coder that a bad image had brought down could never be replaced by a good one.
    """
    return pulumi.Output(
        set(),
        asyncio.ensure_future(cast(Any, output.future(with_unknowns=True))),
        asyncio.ensure_future(output.is_known()),
        asyncio.ensure_future(output.is_secret()),
    )
