"""Looks at what runs before anything is declared, and refuses what would leave data behind or is another's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_command as command

from stack import declared, job, settings, told
from stack.address import Address
from stack.jobs.world import WORDS
from stack.kubernetes import Cluster, cluster_of


@dataclass(frozen=True, kw_only=True)
class World:
    """What the look found."""

    site: settings.Site
    owner: str
    """The checkout and the stack that the pilot belongs to."""
    docker_host: pulumi.Output[str]
    """The engine's address, known once nothing stands against an `up`: what needs the engine waits for it."""
    socket_group: pulumi.Output[str]
    """The group id of the engine's socket, which differs from box to box."""
    running: pulumi.Output[Mapping[str, str]]
    """What stack/jobs/alive.py need not ask the engine again, as its variables."""
    cluster: Cluster | None
    """Where workspaces can be beside the engine."""
    _generations: pulumi.Output[Mapping[str, int]]

    def generation(self, part: str) -> pulumi.Output[int]:
        """One more than the last where the part of that logical name is to be made anew."""
        return self._generations.apply(lambda found: found.get(part, 0))


def _socket_group(socket: str) -> pulumi.Output[str]:
    """The group id of the engine's socket, which differs from box to box; unknown in a preview elsewhere.

    Raises:
        pulumi.RunError: an `up` on a machine without the socket.
    """
    try:
        return pulumi.Output.from_input(str(Path(socket).stat().st_gid))
    except OSError as error:
        if pulumi.runtime.is_dry_run():
            return pulumi.Output.from_input(pulumi.output.UNKNOWN).apply(str)
        raise told.refusal(
            f"the engine's socket cannot be seen: {error}; start Docker (`python3 -m toolchain engine --start`), "
            "or run `pulumi config set dockerSocket <path>`"
        ) from None


def _ask(action: str, environment: Mapping[str, str]) -> pulumi.Output[Any]:
    return command.local.run_output(
        command=job.line("world", action), environment=dict(environment), logging=command.local.Logging.NONE
    ).stdout.apply(json.loads)


def look(config: settings.Settings, address: Address) -> World:
    """Compare what runs with what is declared; on `up`, make way for what is to be made anew.

    An invoke, not a resource: it runs on every operation, and shows no change.

    Raises:
        pulumi.RunError: the settings would leave the living pilot's data behind, or it is another checkout's, or name a
            cluster that could not be used.
    """
    site, checkout, stack = config.site, Path.cwd(), pulumi.get_stack()  # `pulumi` runs us in the project's folder
    mark = declared.owner(checkout, stack)
    group = _socket_group(site.docker_socket)
    cluster = cluster_of(config)
    environment = {
        "DECLARED": json.dumps(asdict(declared.of(config, mark, checkout, stack))),
        "DOCKER_HOST": site.docker_host,
        **{variable: os.environ.get(variable, "") for variable in WORDS.values()},
    }
    found = _ask("look", environment)
    if not pulumi.runtime.is_dry_run():
        # Nothing is noted, and nothing that needs the engine begins, where nobody could reach Coder.
        found = pulumi.Output.all(found, address.checked).apply(
            lambda known: _ask("ensure", environment) if known[0]["to_do"] else known[0]
        )

    def docker_host(answer: Mapping[str, Any]) -> str:
        if answer["problem"]:
            raise told.refusal(str(answer["problem"]))
        for each in answer["differences"]:
            told.warn(f"{each}: it is made anew")
        for each in answer["paused"]:
            told.warn(f"{each} is paused: it goes on")
        for each in answer["stopped"]:
            told.warn(f"{each} is stopped: it is started")
        return site.docker_host

    return World(
        site=site,
        owner=mark,
        docker_host=found.apply(docker_host),
        socket_group=group,
        running=found.apply(
            lambda answer: {"CODER_STARTED_AT": answer["coder_started_at"], "JOINED": json.dumps(answer["joined"])}
        ),
        cluster=cluster,
        _generations=found.apply(lambda answer: dict(answer["generations"])),
    )
