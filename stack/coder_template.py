"""A template in Coder: one active version that follows the files and the variables, and the record of what it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_coderd as coderd

from stack import job
from stack.alive import Alive
from stack.bundle import Bundle
from stack.jobs import pilot_file

HASH_LENGTH = 12


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whose templates they are, and as whom Coder is asked."""

    data_dir: str
    alive: Alive
    token: pulumi.Input[str]
    provider: coderd.Provider
    parent: pulumi.Resource


def declare(
    owner: Owner,
    files: Bundle,
    declared: Mapping[str, object],
    variables: Mapping[str, pulumi.Input[str]],
    *,
    setting: pulumi.Input[str],
    prefix: str = "",
) -> coderd.Template:
    """Declare the template, which adopts the one that the kept data already has.

    `setting` is another one where somebody changed the template in Coder, and `prefix` begins its keys in pilot.json.
    """
    part = f"{prefix.replace('_', '-')}template"
    # The digest of a variable is not the variable: the message may be read by everybody.
    digest = pulumi.Output.unsecret(pulumi.Output.all(**variables).apply(lambda values: _content_digest(files, values)))
    template = coderd.Template(
        part,
        **declared,
        versions=[
            coderd.TemplateVersionArgs(
                # No name: Coder makes one up. A name that derives from the contents is taken when a template is
                # adopted, when an edit is taken back and when an `up` was cut short, and the server refuses it.
                message=pulumi.Output.concat("contents ", digest),
                directory=files.lay().as_posix(),
                active=True,
                tf_vars=[
                    coderd.TemplateVersionTfVarArgs(name=key, value=value) for key, value in sorted(variables.items())
                ],
            )
        ],
        opts=pulumi.ResourceOptions(
            parent=owner.parent,
            provider=owner.provider,
            # A new state on kept data takes the template over; creating a second one of the name is refused.
            import_=pilot_file.template_id(owner.data_dir, prefix),
            # Coder refuses to delete a template that has workspaces, and workspaces outlive the stack.
            retain_on_delete=True,
            # The published provider remembers variables in its private state, which the bridge keeps here.
            additional_secret_outputs=["__meta"],
        ),
    )
    active = pulumi.Output.unsecret(template.versions).apply(lambda versions: str(versions[0].id))
    job.declare(
        f"{part}-record",
        "record_template",
        environment={
            "DATA_DIRECTORY": owner.data_dir,
            **({"RECORD_PREFIX": prefix} if prefix else {}),
            "TEMPLATE_ID": template.id,
            "TEMPLATE": active.apply(
                lambda version: json.dumps(
                    # An unlicensed server refuses to deprecate, and not to take that back.
                    {**declared, "deprecation_message": "", "active_version_id": version}
                )
            ),
            "SETTING": setting,
            "CODER_URL": owner.alive.coder_url,
            "CODER_TOKEN": owner.token,
        },
        opts=pulumi.ResourceOptions(parent=owner.parent),
    )
    return template


def _content_digest(files: Bundle, variables: Mapping[str, str]) -> str:
    """A word that changes exactly when a file's name or content or a variable does."""
    variables_text = json.dumps(dict(variables), sort_keys=True)
    return hashlib.sha256(f"{files.digest()}{variables_text}".encode()).hexdigest()[:HASH_LENGTH]
