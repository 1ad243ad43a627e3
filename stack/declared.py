"""What the program declares of containers and networks, as far as it can differ from what runs. Needs no Pulumi SDK."""

from __future__ import annotations

from pathlib import Path

from stack.jobs import names, pilot_file
from stack.jobs.world import Declared
from stack.settings import ControlPlane, Database, Settings


def of(config: Settings, owner: str, checkout: Path, stack: str) -> Declared:
    """What stack/jobs/world.py compares with the engine."""
    site = config.site
    control, workspaces = names.control_network(site.name), names.workspaces_network(site.name)
    services: dict[str, tuple[str, Database | ControlPlane, dict[str, list[str]]]] = {
        "postgres": (site.postgres_container, config.database, {control: [names.POSTGRES_ALIAS]}),
        "coder": (site.coder_container, config.control_plane, {control: [], workspaces: [names.CODER_ALIAS]}),
    }
    return Declared(
        name=site.name,
        owner=owner,
        data_directory=site.data_dir,
        docker_host=site.docker_host,
        last_data_directory=pilot_file.last_data_directory(checkout, stack),
        containers={
            key: {
                "name": name,
                "image": group.image,
                "memory_mb": group.memory_mb,
                "cpus": group.cpus,
                "restart": names.RESTART_POLICY,
                "networks": networks,
            }
            for key, (name, group, networks) in services.items()
        },
        networks={
            "control": {"name": control, "internal": True},
            "workspaces": {"name": workspaces, "internal": False},
        },
    )
