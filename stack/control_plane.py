"""Coder's server: published on 127.0.0.1 alone, on both networks, with the engine's socket."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_docker as docker

from stack import containers, job, settings, told
from stack.address import Address
from stack.database import Database
from stack.jobs import engine, names
from stack.jobs.names import CODER_ALIAS, DATABASE, LOOPBACK, ROLE
from stack.jobs.port import FIX, taken
from stack.kubernetes import KUBECONFIG, Cluster
from stack.network import Networks
from stack.world import World

SOCKET_IN_CONTAINER = "/var/run/docker.sock"
STOP_GRACE_S = 30
BUILDS_AT_ONCE = 10
CERTIFICATE = "/home/coder/tls/certificate.pem"
KEY = "/home/coder/tls/key.pem"
TOKEN_LIFETIME_H = 365 * 24
OTHER_TOKEN_LIFETIME_H = 7 * 24


def agent_url(site: settings.Site) -> str:
    """Where workspaces find Coder: needs neither the tailnet's names nor its certificates."""
    return f"http://{CODER_ALIAS}:{site.port}"


def _environment(port: int, address: Address, connection_url: pulumi.Input[str]) -> Mapping[str, pulumi.Input[str]]:
    return {
        "CODER_ACCESS_URL": address.url,
        **_apps(address.apps_domain),
        **(_tls(names.tls_port(port)) if address.tls else {}),
        # The port of the access URL: Coder's health check asks that URL from inside.
        "CODER_HTTP_ADDRESS": f"0.0.0.0:{port}",
        "CODER_PG_CONNECTION_URL": connection_url,
        "CODER_SECURE_AUTH_COOKIE": address.url.apply(lambda url: str(url.startswith("https://")).lower()),
        # Nothing leaves the box unasked.
        "CODER_TELEMETRY_ENABLE": "false",
        "CODER_UPDATE_CHECK": "false",
        "CODER_AI_GATEWAY_ENABLED": "false",
        "CODER_DERP_SERVER_STUN_ADDRESSES": "disable",
        # On by default: the first stranger with a GitHub account could sign in.
        "CODER_OAUTH2_GITHUB_DEFAULT_PROVIDER_ENABLE": "false",
        # Owners' tokens end after 7 days unless the server allows more.
        "CODER_MAX_ADMIN_TOKEN_LIFETIME": f"{TOKEN_LIFETIME_H}h",
        # Each build of a workspace gets a token of its owner that lives so long, and the database, and so every dump,
        # keeps it.
        "CODER_MAX_TOKEN_LIFETIME": f"{OTHER_TOKEN_LIFETIME_H}h",
        # No page of others may have the log-in in a frame of its own.
        "CODER_ADDITIONAL_CSP_POLICY": "frame-ancestors 'self'",
        # The home is named after the workspace's id: a rename does not move it.
        "CODER_ALLOW_WORKSPACE_RENAMES": "true",
        # Each daemon runs one build: this many workspaces start or stop together.
        "CODER_PROVISIONER_DAEMONS": str(BUILDS_AT_ONCE),
    }


def _apps(domain: str) -> Mapping[str, str]:
    """What gives each app an origin of its own, on which its pages have no part in a person's session with Coder."""
    if not domain:
        return {}
    return {"CODER_WILDCARD_ACCESS_URL": f"*.{domain}", "CODER_DISABLE_PATH_APPS": "true"}


def _tls(port: int) -> Mapping[str, str]:
    return {
        "CODER_TLS_ENABLE": "true",
        "CODER_TLS_ADDRESS": f"0.0.0.0:{port}",
        "CODER_TLS_CERT_FILE": CERTIFICATE,
        "CODER_TLS_KEY_FILE": KEY,
    }


def _files(address: Address, cluster: Cluster | None) -> list[docker.ContainerUploadArgs]:
    """The certificate's files and the kubeconfig.

    Coder reads the first at its start alone, so another certificate is another container.
    """
    contents: dict[str, pulumi.Input[str]] = {}
    if address.tls is not None:
        contents |= {CERTIFICATE: address.tls.certificate, KEY: address.tls.key}
    if cluster is not None:
        contents[KUBECONFIG] = pulumi.Output.secret(cluster.kubeconfig)
    return [docker.ContainerUploadArgs(file=file, content=content) for file, content in contents.items()]


def _ports(site: settings.Site, address: Address, cluster: Cluster | None) -> list[docker.ContainerPortArgs]:
    """What is published; in the order in which the engine tells it, or each `up` would replace the container."""
    bindings = [(host, site.port) for host in _addresses(site, cluster)]
    bindings += [(LOOPBACK, site.tls_port)] if address.tls else []
    return [docker.ContainerPortArgs(internal=port, external=port, ip=host) for host, port in bindings]


def _addresses(site: settings.Site, cluster: Cluster | None) -> list[str]:
    """Where Coder answers with http: on loopback, and where the nodes of a cluster reach it."""
    if cluster is None or not cluster.config.agent_address:
        return [LOOPBACK]
    wanted = [LOOPBACK, cluster.config.agent_address]
    try:
        found = engine.inspect(site.coder_container, host=site.docker_host)
    except engine.JobError:
        return wanted
    # Docker 20.10 turns the order of one port's bindings round, others sort them.
    told = [each["HostIp"] for one in found for each in one["NetworkSettings"]["Ports"].get(f"{site.port}/tcp") or ()]
    return told if sorted(told) == sorted(wanted) else wanted


def _explain(site: settings.Site, error: str) -> bool:
    """Say what the engine's words about a taken port, which differ from version to version, mean; no second attempt.

    One that is taken now is refused beforehand, as far as anybody but the engine can tell.
    """
    if any(words in error for words in ("address already in use", "port is already allocated")):
        port = site.tls_port if f":{site.tls_port}" in error else site.port
        told.error(f"{taken(port, site.docker_host)}: {FIX}")
    return False


class ControlPlane(pulumi.ComponentResource):
    """Declares Coder's server."""

    container: docker.Container

    def __init__(
        self,
        name: str,
        config: settings.ControlPlane,
        address: Address,
        world: World,
        networks: Networks,
        database: Database,
        retirement: settings.Retirement,
        *,
        provider: docker.Provider,
    ) -> None:
        """Declare it; `address` is where people reach it."""
        site = world.site
        super().__init__(
            "coder-pilot:control-plane:ControlPlane", name, None, pulumi.ResourceOptions(providers=[provider])
        )
        image = containers.image(
            "coder-image", config.image, world.generation("coder-image"), pulumi.ResourceOptions(parent=self)
        )
        guard = job.declare(
            "upgrade-guard",
            "upgrade_guard",
            environment={
                "DOCKER_HOST": site.docker_host,
                "CODER_IMAGE": image.image_id,
                "CODER_IMAGE_NAME": config.image,
                "POSTGRES_CONTAINER": site.postgres_container,
                "ROLE": ROLE,
                "DATABASE": DATABASE,
                "DATA_DIRECTORY": site.data_dir,
                "BACKUPS_KEPT": str(retirement.backups_kept),
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[database.role_password]),
        )
        explain = pulumi.ErrorHook("explain-port", lambda failed: _explain(site, failed.errors[0]))
        self.container = containers.declare(
            "coder",
            containers.Service(
                name=site.coder_container,
                site=site,
                owner=world.owner,
                generation=world.generation("coder"),
                image_id=image.image_id,
                environment=_environment(site.port, address, database.connection_url),
                networks=[
                    docker.ContainerNetworksAdvancedArgs(name=networks.control),
                    docker.ContainerNetworksAdvancedArgs(name=networks.workspaces, aliases=[CODER_ALIAS]),
                ],
                mounts=[docker.ContainerMountArgs(type="bind", source=site.docker_socket, target=SOCKET_IN_CONTAINER)],
                ports=_ports(site, address, world.cluster),
                files=_files(address, world.cluster),
                supplementary_groups=[world.socket_group],
                health_command=f"curl --fail --silent --output /dev/null http://127.0.0.1:{site.port}/healthz",
                stop_grace_s=STOP_GRACE_S,
                memory_mb=config.memory_mb,
                cpus=config.cpus,
            ),
            pulumi.ResourceOptions(
                parent=self, depends_on=[guard], hooks=pulumi.ResourceHookBinding(on_error=[explain])
            ),
        )
        self.register_outputs({"container": self.container.name})
