"""What the program declares of containers and networks, as far as it can differ from what runs. Needs no Pulumi SDK."""

from __future__ import annotations

from pathlib import Path

from stack.jobs import names, pilot_file
from stack.jobs.world import Declared
from stack.settings import Settings


def owner(checkout: Path, stack: str) -> str:
    """The mark of a pilot's containers: the checkout that has the state, and the stack.

    In .github/workflows/box.yml the state is a link, and the pilot that of the checkout to which it leads.
    """
    return f"{(checkout / names.STATE).resolve().parent}:{stack}"


def of(config: Settings, owner: str, checkout: Path, stack: str) -> Declared:
    """What stack/jobs/world.py compares with the engine."""
    site = config.site
    control, workspaces = names.control_network(site.name), names.workspaces_network(site.name)
    containers = {
        "postgres": {
            "name": site.postgres_container,
            "image": config.database.image,
            "memory_mb": config.database.memory_mb,
            "cpus": config.database.cpus,
            "networks": {control: [names.POSTGRES_ALIAS]},
        },
        "coder": {
            "name": site.coder_container,
            "image": config.control_plane.image,
            "memory_mb": config.control_plane.memory_mb,
            "cpus": config.control_plane.cpus,
            "networks": {control: [], workspaces: [names.CODER_ALIAS]},
            "ports": [site.port, *([site.tls_port] if config.tailnet.domain else [])],
        },
        "keeper": {
            "name": site.keeper_container,
            "image": names.keeper_image(site.name),
            "memory_mb": names.KEEPER_MEMORY_MB,
            "cpus": names.KEEPER_CPUS,
            "networks": {control: []},
        },
    }
    return Declared(
        name=site.name,
        owner=owner,
        data_directory=site.data_dir,
        docker_host=site.docker_host,
        last_data_directory=pilot_file.last_data_directory(checkout, stack),
        containers={
            key: {**each, "restart": names.RESTART_POLICY, "stays_stopped": key == "keeper"}
            for key, each in containers.items()
        },
        networks={
            "control": {"name": control, "internal": True},
            "workspaces": {"name": workspaces, "internal": False},
        },
    )
