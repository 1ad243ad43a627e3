"""Postgres, its data on the host, and the role's password made equal to the state's."""

from __future__ import annotations

from urllib.parse import quote

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from stack import containers, job, passwords, settings
from stack.jobs.names import DATABASE, POSTGRES_ALIAS, ROLE
from stack.network import Networks
from stack.world import World

STOP_GRACE_S = 60


class Database(pulumi.ComponentResource):
    """Declares Postgres; `connection_url` is known when the role's password is the state's."""

    connection_url: pulumi.Output[str]
    password: pulumi.Output[str]
    image: docker.RemoteImage
    container: docker.Container
    role_password: command.local.Command

    def __init__(
        self,
        name: str,
        config: settings.Database,
        world: World,
        networks: Networks,
        retirement: settings.Retirement,
        *,
        provider: docker.Provider,
    ) -> None:
        site = world.site
        super().__init__("coder-pilot:database:Database", name, None, pulumi.ResourceOptions(providers=[provider]))
        child = pulumi.ResourceOptions(parent=self)
        password = passwords.declare("postgres-password", 32, child)
        self.password = password.result
        self.image = containers.image("postgres-image", config.image, world.generation("postgres-image"), child)
        directory = job.declare(
            "data-directory",
            "data_directory",
            environment={
                "DATA_DIRECTORY": site.data_dir,
                "POSTGRES_IMAGE": config.image,
                "DOCKER_HOST": site.docker_host,
                "PURGE": str(retirement.purge).lower(),
            },
            delete=job.line("data_directory", "remove"),
            # The job runs the image: to download it is the provider's part, which takes its time.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self.image]),
        )
        self.container = containers.declare(
            "postgres",
            containers.Service(
                name=site.postgres_container,
                site=site,
                owner=world.owner,
                generation=world.generation("postgres"),
                image_id=self.image.image_id,
                environment={
                    "POSTGRES_USER": ROLE,
                    "POSTGRES_PASSWORD": password.result,
                    "POSTGRES_DB": DATABASE,
                    "PGDATA": "/var/lib/postgresql/data",
                },
                networks=[docker.ContainerNetworksAdvancedArgs(name=networks.control, aliases=[POSTGRES_ALIAS])],
                mounts=[
                    docker.ContainerMountArgs(
                        type="bind", source=f"{site.data_dir}/postgres", target="/var/lib/postgresql/data"
                    )
                ],
                # By TCP: the server that initialises an empty directory listens on the local socket only.
                health_command=f"pg_isready --host 127.0.0.1 --username {ROLE} --dbname {DATABASE}",
                stop_grace_s=STOP_GRACE_S,
                memory_mb=config.memory_mb,
                cpus=config.cpus,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=[directory]),
        )
        # POSTGRES_PASSWORD counts for an empty data directory only. Without this job a kept one locks Coder out.
        self.role_password = job.declare(
            "role-password",
            "role_password",
            environment={
                "DOCKER_HOST": site.docker_host,
                "CONTAINER": site.postgres_container,
                "DATA_DIRECTORY": site.data_dir,
                "ROLE": ROLE,
                "DATABASE": DATABASE,
                "ROLE_PASSWORD": password.result,
                # A container that was made anew may have the data of another state, with another password.
                "GENERATION": world.generation("postgres").apply(str),
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self.container]),
        )
        self.connection_url = pulumi.Output.secret(
            password.result.apply(
                lambda value: (
                    f"postgres://{ROLE}:{quote(value, safe='')}@{POSTGRES_ALIAS}:5432/{DATABASE}?sslmode=disable"
                )
            )
        )
        self.register_outputs({"container": self.container.name})
