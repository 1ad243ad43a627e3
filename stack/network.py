"""The two networks: `control` for Postgres and Coder alone, `workspaces` for Coder and every workspace."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from stack.containers import STACK_LABEL


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Names of the two networks, known once they exist."""

    control: pulumi.Output[str]
    workspaces: pulumi.Output[str]


class Network(pulumi.ComponentResource):
    """Declares both networks."""

    networks: Networks

    def __init__(self, name: str, *, stack: str, provider: docker.Provider) -> None:
        """`stack` is the setting `name`: the prefix of both networks' names."""
        super().__init__("coder-pilot:network:Network", name, None, pulumi.ResourceOptions(providers=[provider]))
        labels = [docker.NetworkLabelArgs(label=STACK_LABEL, value=stack)]
        children = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        # Internal: a database has no business outside, and nothing outside has any with it.
        control = docker.Network("control", name=f"{stack}-control", internal=True, labels=labels, opts=children)
        workspaces = docker.Network("workspaces", name=f"{stack}-workspaces", labels=labels, opts=children)
        self.networks = Networks(control=control.name, workspaces=workspaces.name)
        self.register_outputs({"control": control.name, "workspaces": workspaces.name})
