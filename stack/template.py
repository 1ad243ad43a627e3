"""The workspace template: one active version that follows the files and the variables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import pulumi
import pulumi_coderd as coderd

from stack import job, settings
from stack.address import Address
from stack.alive import Alive
from stack.bundle import CHECKOUT, Bundle, sources
from stack.control_plane import agent_url
from stack.jobs import names, pilot_file
from stack.workspace_image import PARTS

SOURCES = CHECKOUT / "terraform-template"
BUNDLE = Bundle(
    name="template",
    sources={**sources(SOURCES, "*.tf", "README.md", "scripts/*.sh", "scripts/*.json"), "scripts/parts.sh": PARTS},
)
HASH_LENGTH = 12

T = TypeVar("T")


def content_digest(variables: Mapping[str, str]) -> str:
    """A word that changes exactly when a file's name or content or a variable does."""
    variables_text = json.dumps(dict(variables), sort_keys=True)
    return hashlib.sha256(f"{BUNDLE.digest()}{variables_text}".encode()).hexdigest()[:HASH_LENGTH]


def _variables(config: settings.Workspaces) -> dict[str, pulumi.Input[str]]:
    """The variables that are the owner's choice, as Terraform takes them: strings, JSON for lists and objects."""
    return {
        "workspace_images": json.dumps(config.images),
        "memory_default_mb": str(config.memory_mb),
        "memory_cap_mb": str(config.memory_cap_mb),
        "cpus_default": str(config.cpus),
        "cpus_cap": str(config.cpus_cap),
        "keep_alive_max_hours": str(config.keep_alive_max_h),
        "service_environment": _revealed(config.service_environment, lambda value: json.dumps(value, sort_keys=True)),
        "anthropic_base_url": config.anthropic_base_url or "",
        **({"anthropic_api_key": _revealed(config.anthropic_api_key, str)} if config.anthropic_api_key else {}),
    }


def _revealed(value: T | settings.Encrypted[T], text: Callable[[T], str]) -> pulumi.Input[str]:
    """The text of a value; a secret where the value is encrypted in the settings."""
    if isinstance(value, settings.Encrypted):
        return pulumi.Output.secret(text(cast(T, value.plain)))
    return text(value)


class Template(pulumi.ComponentResource):
    """Declares the coderd provider and the template; adopts the one that the kept data already has."""

    version: pulumi.Output[str]
    template_id: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        config: settings.Workspaces,
        site: settings.Site,
        address: Address,
        built_images: pulumi.Input[str],
        alive: Alive,
        *,
        token: pulumi.Input[str],
    ) -> None:
        """`built_images` is a JSON object, from each base image to ours."""
        super().__init__("coder-pilot:template:Template", name, None, None)
        provider = coderd.Provider("coderd", url=alive.coder_url, token=token, opts=pulumi.ResourceOptions(parent=self))
        variables = {
            **_variables(config),
            "name_prefix": site.name,
            # Not the resource's output: for a network that is replaced, the engine would ask Coder, which is away then,
            # what becomes of the template.
            "workspace_network": names.workspaces_network(site.name),
            "agent_url": agent_url(site),
            "apps_domain": address.apps_domain,
            "built_images": built_images,
        }
        # The digest of a variable is not the variable: the message may be read by everybody.
        digest = pulumi.Output.unsecret(pulumi.Output.all(**variables).apply(lambda values: content_digest(values)))
        declared = {
            "name": names.TEMPLATE,
            "display_name": "Project workspace",
            "description": "code-server with Claude Code; the home volume stays when the workspace is parked",
            "icon": "/icon/code.svg",
            "default_ttl_ms": config.idle_ttl_ms,
            "activity_bump_ms": config.idle_bump_ms,
            "allow_user_cancel_workspace_jobs": True,
            # An app says itself who may read it. Coder would let every app of a person read all others of that person.
            "cors_behavior": "passthru",
        }
        template = coderd.Template(
            "template",
            **declared,
            versions=[
                coderd.TemplateVersionArgs(
                    # No name: Coder makes one up. A name that derives from the contents is taken when a template is
                    # adopted, when an edit is taken back and when an `up` was cut short, and the server refuses it.
                    message=pulumi.Output.concat("contents ", digest),
                    directory=BUNDLE.lay().as_posix(),
                    active=True,
                    tf_vars=[
                        coderd.TemplateVersionTfVarArgs(name=key, value=value)
                        for key, value in sorted(variables.items())
                    ],
                )
            ],
            opts=pulumi.ResourceOptions(
                parent=self,
                provider=provider,
                # A new state on kept data takes the template over; creating a second one of the name is refused.
                import_=pilot_file.template_id(site.data_dir),
                # Coder refuses to delete a template that has workspaces, and workspaces outlive the stack.
                retain_on_delete=True,
                # The published provider remembers variables in its private state, which the bridge keeps here.
                additional_secret_outputs=["__meta"],
            ),
        )
        active = pulumi.Output.unsecret(template.versions).apply(lambda versions: str(versions[0].id))
        job.declare(
            "template-record",
            "record_template",
            environment={
                "DATA_DIRECTORY": site.data_dir,
                "TEMPLATE_ID": template.id,
                "TEMPLATE": active.apply(
                    lambda version: json.dumps(
                        # An unlicensed server refuses to deprecate, and not to take that back.
                        {**declared, "deprecation_message": "", "active_version_id": version}
                    )
                ),
                # Another one where somebody changed the template in Coder.
                "SETTING": alive.template_setting,
                "CODER_URL": alive.coder_url,
                "CODER_TOKEN": token,
            },
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.template_id = template.id
        self.version = pulumi.Output.unsecret(template.versions).apply(lambda versions: str(versions[0].name))
        self.register_outputs({"version": self.version})
