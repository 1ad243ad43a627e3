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

from stack import job, told
from stack.control_plane import SOCKET_IN_CONTAINER
from stack.jobs import names
from stack.world import World


@dataclass(frozen=True, kw_only=True)
class Alive:
    """What the look found; all are unknown in a preview that cannot tell."""

    coder_url: pulumi.Output[str]
    token_generation: pulumi.Output[str]
    member_generation: pulumi.Output[str]
    """One more than the last where somebody changed the account for every day in Coder."""
    keeper_token_generation: pulumi.Output[str]
    template_setting: pulumi.Output[str]
    """One more than the last where somebody changed our template in Coder."""
    kubernetes_template_setting: pulumi.Output[str]
    """The same of the template for a cluster; unknown without one."""


def look(world: World, *, after: Sequence[pulumi.Resource]) -> Alive:
    """On `up`, repair what is not well and wait for it; in a preview, see whether it answers.

    An invoke, not a resource: it runs on every operation, so that a plain `up` starts a stopped Coder, and it shows
    no change.

    Raises:
        pulumi.RunError: an `up` could not get Coder to answer; with the container's last log lines.
    """
    site = world.site
    environment = world.running.apply(
        lambda running: {
            **site.environment(),
            **running,
            "STACK": site.name,
            "DOCKER_SOCKET": site.docker_socket,
            "SOCKET_IN_CONTAINER": SOCKET_IN_CONTAINER,
            "WORKSPACES_NETWORK": names.workspaces_network(site.name),
            **(world.cluster.config.environment() if world.cluster else {}),
        }
    )
    found = command.local.run_output(
        command=job.line("alive", "look" if pulumi.runtime.is_dry_run() else "ensure"),
        environment=environment,
        logging=command.local.Logging.NONE,
        # A preview knows nothing of what comes after a container that is to be replaced, and would show all of it as
        # changing; looking needs no order.
        opts=pulumi.InvokeOutputOptions(depends_on=[] if pulumi.runtime.is_dry_run() else list(after)),
    ).stdout.apply(json.loads)

    def checked(answer: dict[str, Any]) -> dict[str, Any]:
        if answer["problem"]:
            if not pulumi.runtime.is_dry_run():
                raise told.refusal(str(answer["problem"]))
            told.warn(answer["problem"])
        for each in answer["differences"]:
            told.warn(each)
        return answer

    sound = found.apply(checked)

    def coder_url(answer: dict[str, Any]) -> pulumi.Output[str]:
        return pulumi.Output.from_input(site.coder_url if answer["answers"] else cast(Any, UNKNOWN))

    def generation(of: str) -> pulumi.Output[str]:
        def known(answer: dict[str, Any]) -> pulumi.Output[str]:
            number = answer["generations"].get(of)
            return pulumi.Output.from_input(cast(Any, UNKNOWN) if number is None else str(number))

        return _without_dependencies(sound.apply(known))

    return Alive(
        coder_url=_without_dependencies(sound.apply(coder_url)),
        token_generation=generation("token"),
        member_generation=generation("member"),
        keeper_token_generation=generation("keeper-token"),
        template_setting=generation("template-record"),
        kubernetes_template_setting=generation("kubernetes-template-record"),
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
