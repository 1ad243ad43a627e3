"""The workspace template: one active version that follows the files and the variables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_coderd as coderd

from stack import job

DIRECTORY = Path("terraform-template")
EXPECTED = ("*.tf", "README.md", "scripts/*")
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


def files(directory: Path) -> list[Path]:
    """The template's files, in order.

    Raises:
        pulumi.RunError: there is a file that is none of the template's, a credential for one: Coder would store it.
    """
    found = sorted(path for path in directory.rglob("*") if not path.is_dir())
    expected = {path for pattern in EXPECTED for path in directory.glob(pattern)}
    if unexpected := [path.as_posix() for path in found if path not in expected or path.is_symlink()]:
        raise pulumi.RunError(
            f"{directory} has files that are not the template's: {', '.join(unexpected)}; remove them, "
            "or add their pattern to EXPECTED in stack/template.py"
        )
    return found


def content_digest(directory: Path, variables: Mapping[str, str]) -> str:
    """A word that changes exactly when a file's name or content or a variable does."""
    digest = hashlib.sha256()
    for path in files(directory):
        digest.update(path.relative_to(directory).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update(json.dumps(dict(variables), sort_keys=True).encode())
    return digest.hexdigest()[:HASH_LENGTH]


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
            pulumi.Output.all(**args.variables).apply(lambda values: content_digest(DIRECTORY, values))
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
                    directory=DIRECTORY.as_posix(),
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
