"""The workspace template: one active version that follows the files and the variables."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pulumi
import pulumi_coderd as coderd

from stack import coder_template, kubernetes_template, settings, workspace_secrets
from stack.address import Address
from stack.alive import Alive
from stack.bundle import CHECKOUT, ROOT, Bundle, sources
from stack.control_plane import agent_url
from stack.jobs import adoption, names, pilot_file
from stack.workspace_image import PARTS
from stack.world import World

SOURCES = CHECKOUT / "terraform-template"
BUNDLE = Bundle(
    name="template",
    sources={**sources(SOURCES, "*.tf", "README.md", "scripts/*.sh"), "scripts/parts.sh": PARTS},
)


def bundle(data_dir: str) -> Bundle:
    """What is sent: the template's own files, and for one that was another's, the way of its home volume to ours.

    Without it an update of a workspace that was made with the other one would destroy its home.
    """
    home = pilot_file.adopted_home(data_dir)
    if home in ("", adoption.OUR_HOME) or not adoption.ADDRESS.fullmatch(home):
        return BUNDLE
    file = ROOT / "adopted.tf"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"moved {{\n  from = {home}\n  to   = {adoption.OUR_HOME}\n}}\n")
    return Bundle(name=BUNDLE.name, sources={**BUNDLE.sources, "adopted.tf": file})


def _variables(config: settings.Workspaces) -> dict[str, pulumi.Input[str]]:
    """The variables that are the owner's choice, as Terraform takes them: strings, JSON for lists and objects."""
    return {
        "workspace_images": json.dumps(config.images),
        "memory_default_mb": str(config.memory_mb),
        "memory_cap_mb": str(config.memory_cap_mb),
        "cpus_default": str(config.cpus),
        "cpus_cap": str(config.cpus_cap),
        "shm_mb": str(config.shm_mb),
        "pids_limit": str(config.pids),
        "workspace_trust": str(config.trust).lower(),
        "stop_grace_s": str(config.stop_grace_s),
        "keep_alive_max_hours": str(config.keep_alive_max_h),
        "timezone": config.timezone,
        # What is encrypted goes another way, see stack/workspace_secrets.py.
        "service_environment": json.dumps(_plain(config.service_environment), sort_keys=True),
        "anthropic_base_url": config.anthropic_base_url or "",
    }


def _plain(environment: Mapping[str, str] | settings.Encrypted[Mapping[str, str]]) -> Mapping[str, str]:
    return {} if isinstance(environment, settings.Encrypted) else environment


class Template(pulumi.ComponentResource):
    """Declares the coderd provider and the template; adopts the one that the kept data already has."""

    version: pulumi.Output[str]
    template_id: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        config: settings.Workspaces,
        world: World,
        address: Address,
        built_images: pulumi.Input[str],
        alive: Alive,
        *,
        token: pulumi.Input[str],
    ) -> None:
        """`built_images` is a JSON object, from each base image to ours."""
        site = world.site
        super().__init__("coder-pilot:template:Template", name, None, None)
        # The template does not depend on it: nobody starts a workspace in the middle of an `up` that needs what is new.
        workspace_secrets.declare(config, world, pulumi.ResourceOptions(parent=self))
        provider = coderd.Provider("coderd", url=alive.coder_url, token=token, opts=pulumi.ResourceOptions(parent=self))
        variables = {
            **_variables(config),
            "name_prefix": site.name,
            # Not the resource's output: for a network that is replaced, the engine would ask Coder, which is away then,
            # what becomes of the template.
            "workspace_network": names.workspaces_network(site.name),
            "agent_url": agent_url(site),
            "secrets_directory": workspace_secrets.directory(site),
            "apps_domain": address.apps_domain,
            "built_images": built_images,
        }
        declared = {
            "name": pilot_file.template_name(site.data_dir),
            "display_name": "Project workspace",
            "description": "code-server with Claude Code; the home volume stays when the workspace is parked",
            "icon": "/icon/code.svg",
            "default_ttl_ms": config.idle_ttl_ms,
            "activity_bump_ms": config.idle_bump_ms,
            "allow_user_cancel_workspace_jobs": True,
            # An app says itself who may read it. Coder would let every app of a person read all others of that person.
            "cors_behavior": "passthru",
        }
        owner = coder_template.Owner(data_dir=site.data_dir, alive=alive, token=token, provider=provider, parent=self)
        template = coder_template.declare(
            owner, bundle(site.data_dir), declared, variables, setting=alive.template_setting
        )
        if world.cluster is not None:
            kubernetes_template.declare(
                owner,
                world.cluster,
                declared,
                {**_variables(config), "name_prefix": site.name, "apps_domain": address.apps_domain},
                workspace_secrets.values(config),
                site.name,
            )
        self.template_id = template.id
        self.version = pulumi.Output.unsecret(template.versions).apply(lambda versions: str(versions[0].name))
        self.register_outputs({"version": self.version})
