"""The template for workspaces on a cluster: the shared files of terraform-template/ with what a cluster needs."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pulumi

from stack import coder_template, job, told
from stack.bundle import CHECKOUT, Bundle, sources
from stack.coder_template import Owner
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


def declare(
    owner: Owner,
    cluster: Cluster,
    declared: Mapping[str, object],
    variables: Mapping[str, pulumi.Input[str]],
    secrets: Mapping[str, str],
    stack: str,
) -> None:
    """Declare it, and what its workspaces read at their start; with what the template for Docker declares, and both
    have of the variables."""
    secrets_name = names.kubernetes_secret(stack)
    written = job.declare(
        "kubernetes-secrets",
        "kubernetes_secrets",
        environment={
            "DATA_DIRECTORY": owner.data_dir,
            "ATTEMPT": str(pilot_file.kubernetes_attempts(owner.data_dir)),
            **cluster.environment(),
            "NAME": secrets_name,
            "SECRETS": pulumi.Output.secret(json.dumps(secrets, sort_keys=True)),
        },
        delete=job.line("kubernetes_secrets", "remove"),
        opts=pulumi.ResourceOptions(parent=owner.parent),
    )
    pulumi.Output.unsecret(written.stdout).apply(_warn)
    coder_template.declare(
        owner,
        BUNDLE,
        {
            **declared,
            "name": names.KUBERNETES_TEMPLATE,
            "display_name": "Project workspace on Kubernetes",
            "description": "code-server with Claude Code; the home's claim stays when the workspace is parked",
            "icon": "/icon/k8s.png",
        },
        {
            **{key: value for key, value in variables.items() if key not in NOT_SHARED},
            # The nodes pull the images of the settings themselves: those that `up` builds are on this machine alone.
            "built_images": "{}",
            "agent_url": cluster.agent_url,
            "kubeconfig": KUBECONFIG,
            "namespace": cluster.config.namespace,
            "storage_class": cluster.config.storage_class or "",
            "secrets_name": secrets_name,
        },
        setting=owner.alive.kubernetes_template_setting,
        prefix=pilot_file.KUBERNETES,
    )


def _warn(printed: str | None) -> None:
    if printed:
        told.warn(printed.strip())
