"""What every long-running container of the pilot has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from stack.jobs.names import STACK_LABEL

LOG_FILE_SIZE = "10m"
LOG_FILES_KEPT = "3"


@dataclass(frozen=True, kw_only=True)
class Service:
    """One long-running container; the fields are Docker's terms."""

    name: str
    stack: str
    image_id: pulumi.Input[str]
    environment: Mapping[str, pulumi.Input[str]]
    networks: Sequence[docker.ContainerNetworksAdvancedArgs]
    mounts: Sequence[docker.ContainerMountArgs]
    health_command: str
    stop_grace_s: int
    memory_mb: int
    cpus: int
    ports: Sequence[docker.ContainerPortArgs] = ()
    supplementary_groups: Sequence[pulumi.Input[str]] = ()


def declare(logical_name: str, service: Service, opts: pulumi.ResourceOptions) -> docker.Container:
    """Declare the container of `service` under `opts`.

    The provider does not wait for its health: `stack/alive.py` does, on every `up`, and shows the container's
    log when it does not come.
    """
    return docker.Container(
        logical_name,
        name=service.name,
        image=service.image_id,
        envs=[pulumi.Output.concat(name, "=", value) for name, value in sorted(service.environment.items())],
        labels=[docker.ContainerLabelArgs(label=STACK_LABEL, value=service.stack)],
        mounts=list(service.mounts),
        ports=list(service.ports),
        networks_advanced=list(service.networks),
        network_mode="bridge",
        group_adds=list(service.supplementary_groups),
        healthcheck=docker.ContainerHealthcheckArgs(
            tests=["CMD-SHELL", service.health_command],
            interval="5s",
            timeout="5s",
            retries=12,
            start_period="1m0s",
        ),
        restart="unless-stopped",
        must_run=True,
        # Without these the provider kills at once and deletes anonymous volumes (field notes 8 and 9).
        destroy_grace_seconds=service.stop_grace_s,
        stop_timeout=service.stop_grace_s,
        remove_volumes=False,
        memory=service.memory_mb,
        # Equal to the limit: none of it may swap.
        memory_swap=service.memory_mb,
        # As the engine reports it: "2" would differ from its "2.0" on every run.
        cpus=f"{service.cpus}.0",
        security_opts=["no-new-privileges:true"],
        log_driver="json-file",
        log_opts={"max-size": LOG_FILE_SIZE, "max-file": LOG_FILES_KEPT},
        opts=pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(
                delete_before_replace=True,
                # Docker cannot change a health check in place, and the provider says that it did (field note 3).
                replace_on_changes=["healthcheck"],
            ),
        ),
    )
