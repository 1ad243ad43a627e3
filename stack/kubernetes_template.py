"""The template for workspaces on a cluster: the shared files of terraform-template/ with what a cluster needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_coderd as coderd

from stack import job, told
from stack.alive import Alive
from stack.bundle import CHECKOUT, Bundle, sources
from stack.jobs import names, pilot_file
from stack.kubernetes import KUBECONFIG, Cluster
from stack.workspace_image import PARTS

OF_DOCKER = ("docker.tf", "README.md")
"""What is not shared."""
BUNDLE = Bundle(
    name="template-kubernetes",
    sources={
        **{
            path: file
            for path, file in sources(CHECKOUT / "terraform-template", "*.tf", "scripts/*.sh").items()
            if path not in OF_DOCKER
        },
        **sources(CHECKOUT / "terraform-template-kubernetes", "*.tf", "scripts/*.sh", "README.md"),
        "scripts/parts.sh": PARTS,
    },
)
NOT_SHARED = ("pids_limit",)
"""Variables that a cluster has nothing for: there, the kubelet bounds the processes of a pod."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """What it has in common with the template for Docker."""

    declared: Mapping[str, object]
    variables: Mapping[str, pulumi.Input[str]]
    secrets: Mapping[str, str]
    data_dir: str
    alive: Alive
    token: pulumi.Input[str]


def declare(
    cluster: Cluster, common: Common, stack: str, provider: coderd.Provider, *, parent: pulumi.Resource
) -> None:
    """Declare it, and what its workspaces read at their start; stack/template.py explains what is done as there."""
    secrets_name = names.kubernetes_secret(stack)
    child = pulumi.ResourceOptions(parent=parent)
    written = job.declare(
        "kubernetes-secrets",
        "kubernetes_secrets",
        environment={
            "DATA_DIRECTORY": common.data_dir,
            "ATTEMPT": str(pilot_file.kubernetes_attempts(common.data_dir)),
            **cluster.environment(),
            "NAME": secrets_name,
            "SECRETS": pulumi.Output.secret(json.dumps(common.secrets, sort_keys=True)),
        },
        delete=job.line("kubernetes_secrets", "remove"),
        opts=child,
    )
    pulumi.Output.unsecret(written.stdout).apply(_warn)
    variables = {
        **{key: value for key, value in common.variables.items() if key not in NOT_SHARED},
        # The nodes pull the images of the settings themselves: those that `up` builds are on this machine alone.
        "built_images": "{}",
        "agent_url": cluster.agent_url,
        "kubeconfig": KUBECONFIG,
        "namespace": cluster.config.namespace,
        "storage_class": cluster.config.storage_class or "",
        "secrets_name": secrets_name,
    }
    digest = pulumi.Output.unsecret(pulumi.Output.all(**variables).apply(_digest))
    declared = {
        **common.declared,
        "name": names.KUBERNETES_TEMPLATE,
        "display_name": "Project workspace on Kubernetes",
        "description": "code-server with Claude Code; the home's claim stays when the workspace is parked",
        "icon": "/icon/k8s.png",
    }
    template = coderd.Template(
        "kubernetes-template",
        **declared,
        versions=[
            coderd.TemplateVersionArgs(
                message=pulumi.Output.concat("contents ", digest),
                directory=BUNDLE.lay().as_posix(),
                active=True,
                tf_vars=[
                    coderd.TemplateVersionTfVarArgs(name=key, value=value) for key, value in sorted(variables.items())
                ],
            )
        ],
        opts=pulumi.ResourceOptions(
            parent=parent,
            provider=provider,
            import_=pilot_file.template_id(common.data_dir, pilot_file.KUBERNETES),
            retain_on_delete=True,
            additional_secret_outputs=["__meta"],
        ),
    )
    active = pulumi.Output.unsecret(template.versions).apply(lambda versions: str(versions[0].id))
    job.declare(
        "kubernetes-template-record",
        "record_template",
        environment={
            "DATA_DIRECTORY": common.data_dir,
            "RECORD_PREFIX": pilot_file.KUBERNETES,
            "TEMPLATE_ID": template.id,
            "TEMPLATE": active.apply(
                lambda version: json.dumps({**declared, "deprecation_message": "", "active_version_id": version})
            ),
            "SETTING": common.alive.kubernetes_template_setting,
            "CODER_URL": common.alive.coder_url,
            "CODER_TOKEN": common.token,
        },
        opts=child,
    )


def _digest(variables: Mapping[str, str]) -> str:
    text = json.dumps(dict(variables), sort_keys=True)
    return hashlib.sha256(f"{BUNDLE.digest()}{text}".encode()).hexdigest()[:12]


def _warn(printed: str | None) -> None:
    if printed:
        told.warn(printed.strip())
