"""The workspace template: one active version that follows the files and the variables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_coderd as coderd

from stack import job
from stack.bundle import CHECKOUT, Bundle, sources
from stack.workspace_image import PARTS

SOURCES = CHECKOUT / "terraform-template"
BUNDLE = Bundle(
    name="template",
    sources={**sources(SOURCES, "*.tf", "README.md", "scripts/*.sh", "scripts/*.json"), "scripts/parts.sh": PARTS},
)
HASH_LENGTH = 12


@dataclass(frozen=True, kw_only=True)
class TemplateArgs:
    """What the template needs; times in milliseconds."""

    name: str
    coder_url: pulumi.Input[str]
    token: pulumi.Input[str]
    variables: Mapping[str, pulumi.Input[str]]
    default_ttl_ms: int
    activity_bump_ms: int
    data_dir: str
    adopted_id: str | None


def content_digest(variables: Mapping[str, str]) -> str:
    """A word that changes exactly when a file's name or content or a variable does."""
    variables_text = json.dumps(dict(variables), sort_keys=True)
    return hashlib.sha256(f"{BUNDLE.digest()}{variables_text}".encode()).hexdigest()[:HASH_LENGTH]


class Template(pulumi.ComponentResource):
    """Declares the coderd provider and the template; adopts the one that the kept data already has."""

    version: pulumi.Output[str]
    template_id: pulumi.Output[str]

    def __init__(self, name: str, args: TemplateArgs) -> None:
        super().__init__("coder-pilot:template:Template", name, None, None)
        provider = coderd.Provider(
            "coderd", url=args.coder_url, token=args.token, opts=pulumi.ResourceOptions(parent=self)
        )
        # The digest of a variable is not the variable: the message may be read by everybody.
        digest = pulumi.Output.unsecret(
            pulumi.Output.all(**args.variables).apply(lambda values: content_digest(values))
        )
        template = coderd.Template(
            "template",
            name=args.name,
            display_name="Project workspace",
            description="code-server with Claude Code; the home volume stays when the workspace is parked",
            icon="/icon/code.svg",
            default_ttl_ms=args.default_ttl_ms,
            activity_bump_ms=args.activity_bump_ms,
            versions=[
                coderd.TemplateVersionArgs(
                    # No name: Coder makes one up. A name that derives from the contents is taken when a template is
                    # adopted, when an edit is taken back and when an `up` was cut short, and the server refuses it.
                    message=pulumi.Output.concat("contents ", digest),
                    directory=BUNDLE.lay().as_posix(),
                    active=True,
                    tf_vars=[
                        coderd.TemplateVersionTfVarArgs(name=key, value=value)
                        for key, value in sorted(args.variables.items())
                    ],
                )
            ],
            opts=pulumi.ResourceOptions(
                parent=self,
                provider=provider,
                # A new state on kept data takes the template over; creating a second one of the name is refused.
                import_=args.adopted_id,
                # Coder refuses to delete a template that has workspaces, and workspaces outlive the stack.
                retain_on_delete=True,
                # The published provider remembers variables in its private state, which the bridge keeps here.
                additional_secret_outputs=["__meta"],
            ),
        )
        job.declare(
            "template-record",
            "record_template",
            environment={
                "DATA_DIRECTORY": args.data_dir,
                "TEMPLATE_ID": template.id,
                "DEFAULT_TTL_MS": str(args.default_ttl_ms),
                "CODER_URL": args.coder_url,
                "CODER_TOKEN": args.token,
            },
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.template_id = template.id
        self.version = pulumi.Output.unsecret(template.versions).apply(lambda versions: str(versions[0].name))
        self.register_outputs({"version": self.version})
