"""The keeper: a small container that samples, dumps every night, and parks workspaces when memory is short."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pulumi
import pulumi_docker as docker

from stack import containers, job, settings, told
from stack.alive import Alive
from stack.bundle import CHECKOUT, Bundle, sources
from stack.control_plane import SOCKET_IN_CONTAINER, TOKEN_LIFETIME_H
from stack.database import Database
from stack.jobs import names
from stack.network import Networks
from stack.world import World

# The same in the image as here: what it shares with the rest is there once.
BUNDLE = Bundle(
    name="keeper",
    sources={
        "Dockerfile": CHECKOUT / "keeper" / "Dockerfile",
        **{f"keeper/{path}": file for path, file in sources(CHECKOUT / "keeper", "*.py", "*.sh").items()},
        **{
            path: CHECKOUT / path
            for path in (
                "stack/__init__.py", "stack/jobs/__init__.py",
                *(f"stack/jobs/{each}.py" for each in ("backups", "disk", "engine", "names", "pilot_file")),
            )
        },
    },
)  # fmt: skip
STOP_GRACE_S = 10
HEALTH = 'test -n "$(find /dev/shm/keeper-alive -mmin -3)"'
HEALTH_INTERVAL_S = 60
"""Each check costs as much processor time as some seconds of the keeper."""
ZONE_FILE = Path("/etc/localtime")
UTC = "UTC0"


class Keeper(pulumi.ComponentResource):
    """Declares the keeper's image, its token and its container."""

    container: docker.Container

    def __init__(
        self,
        name: str,
        config: settings.Settings,
        world: World,
        networks: Networks,
        database: Database,
        alive: Alive,
        token: pulumi.Input[str],
        *,
        provider: docker.Provider,
        after: Sequence[pulumi.Resource],
    ) -> None:
        """`token` makes the keeper's own; `after` is what is to be destroyed only when the keeper is gone.

        The retirement above all: nothing samples, dumps or stops what is being retired.
        """
        site, keeper = world.site, config.keeper
        super().__init__("coder-pilot:keeper:Keeper", name, None, pulumi.ResourceOptions(providers=[provider]))
        BUNDLE.lay()
        inputs = database.image.image_id.apply(
            lambda base: hashlib.sha256(f"{BUNDLE.digest()}\0{base}".encode()).hexdigest()
        )
        image = docker.RemoteImage(
            "keeper-image",
            name=names.keeper_image(site.name),
            keep_locally=True,
            triggers={"inputs": inputs},
            build=docker.RemoteImageBuildArgs(
                context=BUNDLE.directory.as_posix(), build_args={"BASE": config.database.image, "STACK": site.name}
            ),
            opts=pulumi.ResourceOptions(
                parent=self,
                # Not from a Postgres that is refused: the database has looked at its data by then.
                depends_on=[database.role_password],
                replacement_trigger=world.generation("keeper-image"),
                hooks=pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook("explain-keeper", _explain)]),
            ),
        )
        own_token = job.declare(
            "keeper-token",
            "keeper_token",
            environment={
                **site.environment(),
                "CODER_TOKEN": token,
                "TOKEN_GENERATION": alive.keeper_token_generation,
                "TOKEN_LIFETIME_H": str(TOKEN_LIFETIME_H),
            },
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.container = containers.declare(
            "keeper",
            containers.Service(
                name=site.keeper_container,
                site=site,
                owner=world.owner,
                generation=world.generation("keeper"),
                image_id=image.image_id,
                user=_owner(Path(site.data_dir)),
                environment={
                    **_environment(site, keeper),
                    **({"CLUSTER": "yes"} if world.cluster else {}),
                    "BACKUPS_KEPT": str(config.retirement.backups_kept),
                    "TZ": config.workspaces.timezone or zone(ZONE_FILE),
                    "CODER_TOKEN": pulumi.Output.secret(own_token.stdout),
                    "PGHOST": names.POSTGRES_ALIAS,
                    "PGUSER": names.ROLE,
                    "PGDATABASE": names.DATABASE,
                    "PGPASSWORD": database.password,
                },
                networks=[docker.ContainerNetworksAdvancedArgs(name=networks.control)],
                mounts=[
                    docker.ContainerMountArgs(type="bind", source=site.docker_socket, target=SOCKET_IN_CONTAINER),
                    # At the same path: what the keeper says of a file is true on the host.
                    docker.ContainerMountArgs(type="bind", source=site.data_dir, target=site.data_dir),
                ],
                # Postgres's image declares volumes there, and each container would leave one behind.
                tmpfs=["/var/lib/postgresql", "/var/lib/postgresql/data"],
                supplementary_groups=[world.socket_group],
                health_command=HEALTH,
                health_interval_s=HEALTH_INTERVAL_S,
                stop_grace_s=STOP_GRACE_S,
                memory_mb=names.KEEPER_MEMORY_MB,
                cpus=names.KEEPER_CPUS,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )
        self.register_outputs({"container": self.container.name})


def _environment(site: settings.Site, keeper: settings.Keeper) -> Mapping[str, str]:
    return {
        "STACK": site.name,
        "DATA_DIRECTORY": site.data_dir,
        "ENGINE": f"unix://{SOCKET_IN_CONTAINER}",
        # By the container's name: on the control network it has no other.
        "CODER_URL": f"http://{site.coder_container}:{site.port}",
        "STANDALONE_CONTAINER": keeper.standalone or "",
        "MEMORY_RESERVE": keeper.memory_reserve,
        "PRESSURE_IDLE_S": str(keeper.pressure_idle_ms // 1000),
        "BACKUP_AT": keeper.backup_at,
        "SAMPLES_MIB": str(keeper.samples_mb),
        "SAMPLES_DAYS": str(keeper.samples_days),
    }


def _owner(data_directory: Path) -> str:
    """User and group whose the data directory is, so that what the keeper writes is theirs."""
    try:
        found = data_directory.stat()
    except OSError:
        # The first `up` makes it.
        return f"{os.getuid()}:{os.getgid()}"
    return f"{found.st_uid}:{found.st_gid}"


def zone(file: Path) -> str:
    """The machine's time zone as POSIX writes it, which needs no file in the container; UTC where it has none."""
    try:
        *_, rule, _ = file.read_bytes().split(b"\n")
    except (OSError, ValueError):
        return UTC
    # From the second version of the format on, the rule is its last line.
    return rule.decode(errors="replace") if rule.isascii() and rule else UTC


def _explain(_: pulumi.ErrorHookArgs) -> bool:
    told.error(
        "the keeper's image cannot be built: it is Postgres's with Debian's package python3; the reason is below. "
        "Everything else works without it, but nothing is sampled or dumped by night; `make up` tries again"
    )
    return False
