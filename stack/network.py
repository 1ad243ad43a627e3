"""The two networks: `control` for Postgres and Coder alone, `workspaces` for Coder and every workspace."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from stack.jobs import names
from stack.settings import Site


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Names of the two networks, known once they exist."""

    control: pulumi.Output[str]
    workspaces: pulumi.Output[str]


class Network(pulumi.ComponentResource):
    """Declares both networks."""

    names: Networks

    def __init__(self, name: str, site: Site, *, provider: docker.Provider) -> None:
        super().__init__("coder-pilot:network:Network", name, None, pulumi.ResourceOptions(providers=[provider]))
        labels = [docker.NetworkLabelArgs(label=names.STACK_LABEL, value=site.name)]
        children = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        # Internal: a database has no business outside, and nothing outside has any with it.
        control = docker.Network(
            "control", name=names.control_network(site.name), internal=True, labels=labels, opts=children
        )
        workspaces = docker.Network(
            "workspaces", name=names.workspaces_network(site.name), labels=labels, opts=children
        )
        self.names = Networks(control=control.name, workspaces=workspaces.name)
        self.register_outputs({"control": control.name, "workspaces": workspaces.name})
