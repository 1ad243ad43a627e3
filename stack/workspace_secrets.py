"""The secrets of the settings, in the file that every workspace reads at its start."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pulumi
import pulumi_command as command

from stack import job, settings
from stack.jobs import workspace_secrets
from stack.world import World


def values(config: settings.Workspaces) -> dict[str, str]:
    """Each secret variable of a workspace with its value."""
    environment = config.service_environment
    secret: dict[str, str] = {}
    if isinstance(environment, settings.Encrypted):
        found: Mapping[str, str] = environment.plain or {}
        secret |= found
    for name, value in {
        "ANTHROPIC_API_KEY": config.anthropic_api_key,
        "CLAUDE_CODE_OAUTH_TOKEN": config.claude_code_oauth_token,
    }.items():
        if value:
            secret[name] = str(value.plain)
    return secret


def declare(config: settings.Workspaces, world: World, opts: pulumi.ResourceOptions) -> command.local.Command:
    """Declare the file; one that was lost is written anew."""
    return job.declare(
        "workspace-secrets",
        "workspace_secrets",
        environment={
            "DATA_DIRECTORY": world.site.data_dir,
            # Known once nothing stands against this `up`: nothing is written before.
            "DOCKER_HOST": world.docker_host,
            "SECRETS": pulumi.Output.secret(json.dumps(values(config), sort_keys=True)),
            "GENERATION": world.generation("workspace-secrets").apply(str),
        },
        delete=job.line("workspace_secrets", "remove"),
        opts=opts,
    )


def directory(site: settings.Site) -> str:
    """The folder that is mounted into workspaces."""
    return workspace_secrets.shared(site.data_dir).as_posix()
