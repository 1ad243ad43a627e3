"""What every long-running container of the pilot has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_docker as docker

from stack import settings
from stack.jobs import engine, pilot_file
from stack.jobs.names import OWNER_LABEL, RESTART_POLICY, STACK_LABEL

LOG_FILE_SIZE = "10m"
LOG_FILES_KEPT = "3"


@dataclass(frozen=True, kw_only=True)
class Service:
    """One long-running container; the fields are Docker's terms."""

    name: str
    site: settings.Site
    owner: str
    """The checkout and the stack that the pilot belongs to."""
    generation: pulumi.Input[int]
    """Another one replaces the container."""
    image_id: pulumi.Input[str]
    environment: Mapping[str, pulumi.Input[str]]
    networks: Sequence[docker.ContainerNetworksAdvancedArgs]
    mounts: Sequence[docker.ContainerMountArgs]
    health_command: str
    stop_grace_s: int
    memory_mb: int
    cpus: int
    ports: Sequence[docker.ContainerPortArgs] = ()
    files: Sequence[docker.ContainerUploadArgs] = ()
    """Written into the container before it starts."""
    supplementary_groups: Sequence[pulumi.Input[str]] = ()
    user: str | None = None
    """None for the image's own."""
    tmpfs: Sequence[str] = ()
    """Folders of the container that are in memory."""
    health_interval_s: int = 5


def image(
    logical_name: str, reference: str, generation: pulumi.Input[int], opts: pulumi.ResourceOptions
) -> docker.RemoteImage:
    """Declare that the image is there; another `generation` fetches it anew. It stays when the stack goes."""
    fetched = pulumi.ResourceOptions(replacement_trigger=generation)
    return docker.RemoteImage(
        logical_name, name=reference, keep_locally=True, opts=pulumi.ResourceOptions.merge(opts, fetched)
    )


def _duration(seconds: int) -> str:
    """As the engine reports it: "60s" would differ from its "1m0s" on every run."""
    return f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"


def declare(logical_name: str, service: Service, opts: pulumi.ResourceOptions) -> docker.Container:
    """Declare the container of `service` under `opts`, and note its id where it is made.

    The provider does not wait for its health: `stack/alive.py` does, on every `up`, and shows the container's
    log when it does not come.
    """
    stack, checkout, site = pulumi.get_stack(), Path.cwd(), service.site

    def record(made: pulumi.ResourceHookArgs) -> None:
        for each in engine.inspect(made.id, host=site.docker_host):
            pilot_file.record_container(site.data_dir, each, service.owner, site.docker_host)
        pilot_file.record_data_directory(checkout, stack, site.data_dir)

    hook = pulumi.ResourceHook(f"record-{logical_name}", record)
    return docker.Container(
        logical_name,
        name=service.name,
        image=service.image_id,
        envs=[pulumi.Output.concat(name, "=", value) for name, value in sorted(service.environment.items())],
        labels=[
            docker.ContainerLabelArgs(label=STACK_LABEL, value=service.site.name),
            docker.ContainerLabelArgs(label=OWNER_LABEL, value=service.owner),
        ],
        mounts=list(service.mounts),
        ports=list(service.ports),
        uploads=list(service.files),
        networks_advanced=list(service.networks),
        tmpfs=dict.fromkeys(service.tmpfs, "") or None,
        user=service.user,
        network_mode="bridge",
        group_adds=list(service.supplementary_groups),
        healthcheck=docker.ContainerHealthcheckArgs(
            tests=["CMD-SHELL", service.health_command],
            interval=_duration(service.health_interval_s),
            timeout="5s",
            retries=12,
            start_period="1m0s",
        ),
        restart=RESTART_POLICY,
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
                # Docker cannot change these in place, and the provider says that it did (field notes 3 and 73).
                replace_on_changes=["healthcheck", "mounts"],
                # The provider reads back what the engine's own daemon.json adds (field note 82).
                ignore_changes=["logOpts"],
                replacement_trigger=service.generation,
                hooks=pulumi.ResourceHookBinding(after_create=[hook]),
            ),
        ),
    )
