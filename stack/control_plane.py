"""Coder's server: published on 127.0.0.1 alone, on both networks, with the engine's socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_docker as docker

from stack import containers, job
from stack.database import DATABASE, ROLE
from stack.network import Networks

LOOPBACK = "127.0.0.1"
INTERNAL_PORT = 7080
ALIAS = "coder"
AGENT_URL = f"http://{ALIAS}:{INTERNAL_PORT}"
"""Where workspaces find Coder: needs neither the tailnet's names nor its certificates."""

SOCKET_IN_CONTAINER = "/var/run/docker.sock"
STOP_GRACE_S = 30
BUILDS_AT_ONCE = 10
TOKEN_LIFETIME_H = 365 * 24


@dataclass(frozen=True, kw_only=True)
class ControlPlaneArgs:
    """What Coder's server needs."""

    stack: str
    image: str
    port: int
    access_url: pulumi.Input[str]
    connection_url: pulumi.Input[str]
    networks: Networks
    docker_host: str
    docker_socket: str
    limits: containers.Limits
    postgres_container: str
    data_dir: str
    backups_kept: int


def socket_group(socket: str) -> pulumi.Output[str]:
    """The group id of the engine's socket, which differs from box to box; unknown in a preview elsewhere.

    Raises:
        pulumi.RunError: an `up` on a machine without the socket.
    """
    try:
        return pulumi.Output.from_input(str(Path(socket).stat().st_gid))
    except OSError as error:
        if pulumi.runtime.is_dry_run():
            return pulumi.Output.from_input(pulumi.output.UNKNOWN).apply(str)
        raise pulumi.RunError(
            f"the engine's socket cannot be seen: {error}; start Docker (`python3 -m toolchain engine --start`), "
            "or run `pulumi config set dockerSocket <path>`"
        ) from None


def _environment(args: ControlPlaneArgs) -> Mapping[str, pulumi.Input[str]]:
    access_url = pulumi.Output.from_input(args.access_url)
    return {
        "CODER_ACCESS_URL": access_url,
        "CODER_HTTP_ADDRESS": f"0.0.0.0:{INTERNAL_PORT}",
        "CODER_PG_CONNECTION_URL": args.connection_url,
        "CODER_SECURE_AUTH_COOKIE": access_url.apply(lambda url: str(url.startswith("https://")).lower()),
        # Nothing leaves the box unasked.
        "CODER_TELEMETRY_ENABLE": "false",
        "CODER_UPDATE_CHECK": "false",
        "CODER_DERP_SERVER_STUN_ADDRESSES": "disable",
        # On by default: the first stranger with a GitHub account could sign in.
        "CODER_OAUTH2_GITHUB_DEFAULT_PROVIDER_ENABLE": "false",
        # Owners' tokens end after 7 days unless the server allows more.
        "CODER_MAX_ADMIN_TOKEN_LIFETIME": f"{TOKEN_LIFETIME_H}h",
        "CODER_MAX_TOKEN_LIFETIME": f"{TOKEN_LIFETIME_H}h",
        # Each daemon runs one build: this many workspaces start or stop together.
        "CODER_PROVISIONER_DAEMONS": str(BUILDS_AT_ONCE),
    }


class ControlPlane(pulumi.ComponentResource):
    """Declares Coder's server."""

    container: docker.Container
    container_name: str
    url: str
    """Where this machine reaches Coder, whatever its access URL is."""

    def __init__(
        self,
        name: str,
        args: ControlPlaneArgs,
        *,
        provider: docker.Provider,
        depends_on: list[pulumi.Resource],
    ) -> None:
        super().__init__(
            "coder-pilot:control-plane:ControlPlane", name, None, pulumi.ResourceOptions(providers=[provider])
        )
        image = docker.RemoteImage(
            "coder-image", name=args.image, keep_locally=True, opts=pulumi.ResourceOptions(parent=self)
        )
        self.url = f"http://{LOOPBACK}:{args.port}"
        self.container_name = f"{args.stack}-server"
        guard = job.declare(
            "upgrade-guard",
            "upgrade_guard",
            environment={
                "DOCKER_HOST": args.docker_host,
                "CODER_IMAGE": image.image_id,
                "CODER_IMAGE_NAME": args.image,
                "POSTGRES_CONTAINER": args.postgres_container,
                "ROLE": ROLE,
                "DATABASE": DATABASE,
                "DATA_DIRECTORY": args.data_dir,
                "BACKUPS_KEPT": str(args.backups_kept),
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=depends_on),
        )
        self.container = containers.declare(
            "coder",
            containers.Service(
                name=self.container_name,
                stack=args.stack,
                image_id=image.image_id,
                environment=_environment(args),
                networks=[
                    docker.ContainerNetworksAdvancedArgs(name=args.networks.control),
                    docker.ContainerNetworksAdvancedArgs(name=args.networks.workspaces, aliases=[ALIAS]),
                ],
                mounts=[docker.ContainerMountArgs(type="bind", source=args.docker_socket, target=SOCKET_IN_CONTAINER)],
                ports=[docker.ContainerPortArgs(internal=INTERNAL_PORT, external=args.port, ip=LOOPBACK)],
                supplementary_groups=[socket_group(args.docker_socket)],
                health_command=f"curl --fail --silent --output /dev/null http://127.0.0.1:{INTERNAL_PORT}/healthz",
                stop_grace_s=STOP_GRACE_S,
                limits=args.limits,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=[guard]),
        )
        self.register_outputs({"container": self.container.name})
