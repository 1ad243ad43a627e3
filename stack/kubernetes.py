"""The cluster of the settings: what this machine must have for it, and what Coder's container gets of it."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from stack import settings, told
from stack.jobs import kubernetes, port, world
from stack.jobs.engine import JobError

KUBECONFIG = "/home/coder/kubernetes/config"
"""In Coder's container."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the rest of the program needs of it."""

    config: settings.Kubernetes
    agent_url: str
    kubeconfig: str
    """What Coder's container gets, a secret: of the file no other cluster and no other account."""
    api: kubernetes.Cluster

    def environment(self) -> dict[str, pulumi.Input[str]]:
        """What a job needs to ask it, see stack/jobs/kubernetes.py."""
        return {
            "SERVER": self.api.server,
            "AUTHORITY": self.api.authority,
            "TOKEN": pulumi.Output.secret(self.api.token),
            "NAMESPACE": self.config.namespace,
        }


def cluster_of(config: settings.Settings) -> Cluster | None:
    """The cluster; None without one, and with a warning before the pilot has an account, and in a preview on a machine
    without what the cluster needs.

    Raises:
        pulumi.RunError: an `up` with a kubeconfig that Coder could not use, or an address that is not this machine's.
    """
    wanted = config.kubernetes
    if not wanted.kubeconfig:
        return None
    # Only here: every command imports this, and most pilots have no cluster.
    import yaml

    try:
        if wanted.agent_address:
            port.check_address(wanted.agent_address)
        api = kubernetes.of(yaml.safe_load(kubernetes.read(wanted.kubeconfig)))
        if wanted.agent_address and not world.has_account(config.site.data_dir):
            # Whoever came first would become Coder's administrator.
            told.warn(
                f"Coder is published on {wanted.agent_address} once it has an account: `make up` goes on with that, "
                "after a `pulumi up` run it again"
            )
            return None
        return Cluster(
            config=wanted,
            agent_url=config.kubernetes_agent_url,
            kubeconfig=kubernetes.kubeconfig(api),
            api=api,
        )
    except (JobError, yaml.YAMLError) as error:
        reason = str(error) if isinstance(error, JobError) else kubernetes.no_yaml(wanted.kubeconfig)
        if not pulumi.runtime.is_dry_run():
            raise told.refusal(reason) from None
        told.warn(f"The cluster cannot be planned, and `pulumi up` will stop here: {reason}")
        return None
