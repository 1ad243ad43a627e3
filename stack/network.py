"""The two networks: `control` for Postgres and Coder alone, `workspaces` for Coder and every workspace."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from stack import told
from stack.jobs import names
from stack.world import World


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Names of the two networks, known once they exist."""

    control: pulumi.Output[str]
    workspaces: pulumi.Output[str]


def _explain(error: str) -> bool:
    """Say what to do where the engine has a network of the name that the state does not know; no second attempt."""
    if "already exists" in error:
        told.error("the state does not know the pilot that runs: run `make up`, which takes it in")
    return False


class Network(pulumi.ComponentResource):
    """Declares both networks."""

    names: Networks

    def __init__(self, name: str, world: World, *, provider: docker.Provider) -> None:
        site = world.site
        super().__init__("coder-pilot:network:Network", name, None, pulumi.ResourceOptions(providers=[provider]))
        labels = [docker.NetworkLabelArgs(label=names.STACK_LABEL, value=site.name)]

        def child(part: str) -> pulumi.ResourceOptions:
            return pulumi.ResourceOptions(
                parent=self,
                delete_before_replace=True,
                replacement_trigger=world.generation(part),
                hooks=pulumi.ResourceHookBinding(
                    on_error=[pulumi.ErrorHook(f"explain-{part}", lambda failed: _explain(failed.errors[0]))]
                ),
            )

        # Internal: a database has no business outside, and nothing outside has any with it.
        control = docker.Network(
            "control", name=names.control_network(site.name), internal=True, labels=labels, opts=child("control")
        )
        workspaces = docker.Network(
            "workspaces", name=names.workspaces_network(site.name), labels=labels, opts=child("workspaces")
        )
        self.names = Networks(control=control.name, workspaces=workspaces.name)
        self.register_outputs({"control": control.name, "workspaces": workspaces.name})
