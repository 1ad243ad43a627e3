"""What Coder says of the workspaces, held against what the engine has: containers, homes, networks, images; and against
what the cluster has: Deployments and claims.

Coder remembers how a build ended and does not look again: a container that somebody stopped or removed "runs" for ever,
and a start with a template version whose network or image is gone can only fail. `look` asks for both sides, with one
query and two calls to the engine, and of the cluster for each workspace there; `troubles` and `strangers` compare and
touch nothing.
"""

from __future__ import annotations

import http
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from stack.jobs import engine, kubernetes, names, postgres
from stack.jobs.kubernetes import Cluster, ClusterError

# The engine tells when a container was made in whole seconds.
CLOCK_TOLERANCE_S = 2
ASKED_AT_ONCE = 8

State = Literal["gone", "stopped", "paused", "cut off", "unknown"]

WORKSPACES = """
WITH variables AS (
    SELECT template_version_id AS id, json_object_agg(name, value) AS of FROM template_version_variables
    WHERE name IN ('workspace_network', 'namespace', 'agent_url', 'workspace_images', 'built_images', 'apps_domain')
    GROUP BY 1
), latest AS (
    SELECT DISTINCT ON (workspace_id) id, workspace_id, transition, job_id, template_version_id
    FROM workspace_builds ORDER BY workspace_id, build_number DESC
)
SELECT json_build_object(
    'id', workspaces.id, 'owner', users.username, 'of_administrator', 'owner' = ANY (users.rbac_roles),
    'of_suspended', users.status = 'suspended', 'name', workspaces.name,
    'build', latest.id, 'transition', latest.transition, 'status', job.job_status,
    'completed_s', extract(epoch FROM job.completed_at),
    'version', latest.template_version_id, 'variables', own.of,
    'active', templates.active_version_id, 'active_variables', active.of,
    'image', (SELECT value FROM workspace_build_parameters WHERE workspace_build_id = latest.id AND name = 'image'),
    'has_started', EXISTS (
        SELECT 1 FROM workspace_builds AS earlier JOIN provisioner_jobs AS ended ON ended.id = earlier.job_id
        WHERE earlier.workspace_id = workspaces.id AND transition = 'start' AND ended.job_status = 'succeeded'
    ),
    'connected', EXISTS (
        SELECT 1 FROM workspace_agents AS agent JOIN workspace_resources AS of ON of.id = agent.resource_id
        WHERE of.job_id = latest.job_id AND agent.last_connected_at > now() - interval '30 seconds'
        AND agent.last_connected_at >= COALESCE(agent.disconnected_at, agent.last_connected_at)
    )
)
FROM workspaces
JOIN users ON users.id = workspaces.owner_id
JOIN templates ON templates.id = workspaces.template_id
JOIN latest ON latest.workspace_id = workspaces.id
JOIN provisioner_jobs AS job ON job.id = latest.job_id
LEFT JOIN variables AS own ON own.id = latest.template_version_id
LEFT JOIN variables AS active ON active.id = templates.active_version_id
WHERE NOT workspaces.deleted
ORDER BY users.username, workspaces.name;
"""


@dataclass(frozen=True, kw_only=True)
class Version:
    """What a version of our template needs to work."""

    id: str
    network: str
    """Of the engine; "" on a cluster."""
    agent_url: str
    bases: tuple[str, ...]
    built: Mapping[str, str]
    apps_domain: str = ""
    """Where apps have names of their own; "" where they are paths of Coder's address."""
    namespace: str = ""
    """On a cluster; "" on the engine."""

    def image(self, base: str | None) -> str:
        """The image that a workspace on `base` starts from; "" for one that a start may pull."""
        return self.built.get(base if base is not None else next(iter(self.bases), ""), "")


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What Coder's database says of one workspace."""

    id: str
    owner: str
    name: str
    build: str
    transition: str
    status: str
    completed_s: float | None
    own: Version | None
    """None for a version that is none of ours: nothing is known of what it needs."""
    active: Version | None
    image: str | None
    has_started: bool
    connected: bool
    of_administrator: bool = False
    """Whether it belongs to an owner of Coder, which is what Coder calls an administrator."""
    of_suspended: bool = False
    """Whether its owner's account is suspended: Coder stops what runs of it within a minute (seen in 2.30.0)."""

    @property
    def title(self) -> str:
        """owner/name."""
        return f"{self.owner}/{self.name}"

    @property
    def home(self) -> str:
        """The name of its home volume."""
        return names.home_volume(self.id)


@dataclass(frozen=True, kw_only=True)
class Container:
    """What the engine says of one workspace's container."""

    name: str
    workspace: str
    stack: str
    state: str
    networks: frozenset[str]
    created_s: float


@dataclass(frozen=True, kw_only=True)
class World:
    """Both sides, as of now."""

    workspaces: Sequence[Workspace]
    containers: Mapping[str, Container]
    """By the workspace's id."""
    present: frozenset[str]
    """Those of the volumes, networks and images that the workspaces need which are there."""
    absent: frozenset[str] = frozenset()
    """Of the objects of workspaces on a cluster, by their paths, those which it does not have."""
    strays: Mapping[str, str] = field(default_factory=dict)
    """The stack's home volumes of which Coder has no workspace, with owner/name at their creation: a dump was older."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What is wrong with one workspace."""

    workspace: Workspace
    container: State | None = None
    container_name: str = ""
    no_home: bool = False
    version: str = ""
    """Why its own template version cannot work; the template's active one can."""
    no_image: str = ""
    """The image that it would start from, where only an `up` brings that back."""
    apps: Literal["", "parked", "running"] = ""
    """Whether its template version knows another address of the apps than the active one; it works all the same."""

    @property
    def on_cluster(self) -> bool:
        """Whether the workspace is on a cluster."""
        return bool(self.workspace.own and self.workspace.own.namespace)

    @property
    def kind_of_home(self) -> str:
        """What the engine or the cluster calls a home."""
        return "claim" if self.on_cluster else "volume"

    @property
    def works(self) -> bool:
        """Whether nothing is wrong that only a start would put right at once."""
        return self.apps == "running" and not (self.container or self.no_home or self.version or self.no_image)

    @property
    def updates(self) -> bool:
        """Whether it is to be started with the active version."""
        return bool(self.version or self.apps)

    def __str__(self) -> str:
        told = {
            "gone": f"its {'Deployment' if self.on_cluster else 'container'} is gone",
            "stopped": "its container is stopped",
            "paused": "its container is paused",
            "cut off": "its container is cut off from the workspaces' network",
            "unknown": f"Coder does not know its container {self.container_name}",
        }
        return "; ".join(
            [
                *([told[self.container]] if self.container else []),
                *([f"its home is gone, the {self.kind_of_home} {self.workspace.home}"] if self.no_home else []),
                *([f"its template version cannot work any more: {self.version}"] if self.version else []),
                *([f"the image {self.no_image} is gone"] if self.no_image else []),
                *(["its apps and ports are at another address from its next start on"] if self.apps else []),
            ]
        )


def troubles(world: World) -> list[Trouble]:
    """What is wrong, one for each workspace with which something is."""
    judged = (_judge(each, world) for each in world.workspaces)
    return [each for each in judged if each is not None]


def strangers(world: World, stack: str) -> list[str]:
    """The stack's workspace containers of which Coder has no workspace, by their names: a dump was older than they."""
    known = {each.id for each in world.workspaces}
    found = (each for each in world.containers.values() if each.stack == stack and each.workspace not in known)
    return sorted(each.name for each in found)


def _judge(workspace: Workspace, world: World) -> Trouble | None:
    own, active = workspace.own, workspace.active
    # What is being built is about to be another; what cannot be deleted is for a person to see.
    if own is None or workspace.status not in ("succeeded", "failed", "canceled") or workspace.transition == "delete":
        return None
    container = world.containers.get(workspace.id)
    state: State | None
    if own.namespace:
        runs = workspace.status == "succeeded" and workspace.transition == "start"
        state = "gone" if runs and kubernetes.deployment(own.namespace, workspace.id) in world.absent else None
        lives = runs and state is None
        has_home = kubernetes.claim(own.namespace, workspace.id) not in world.absent
    else:
        state = _state(workspace, own, container)
        lives = container is not None and container.state in ("running", "restarting", "paused") and state != "unknown"
        has_home = container is not None or workspace.home in world.present
    version = ""
    if active is not None and own.id != active.id and not (lives and workspace.connected):
        version = _outdated(workspace, own, active, world, starts=not lives)
    first = (active if version and active is not None else own).image(workspace.image)
    no_image = first if first and first not in world.present and not lives else ""
    no_home = workspace.has_started and not has_home
    apps: Literal["", "parked", "running"] = ""
    if active is not None and own.apps_domain != active.apps_domain and not version:
        apps = "running" if lives else "parked"
    if not (state or version or no_image or no_home or apps):
        return None
    name = container.name if container is not None else ""
    return Trouble(
        workspace=workspace, container=state, container_name=name, no_home=no_home, version=version, no_image=no_image,
        apps=apps,
    )  # fmt: skip


def _state(workspace: Workspace, own: Version, container: Container | None) -> State | None:
    """What is wrong with the container."""
    if workspace.status != "succeeded":
        return None
    if workspace.transition == "stop":
        return None if container is None else "unknown"
    if container is None:
        return "gone"
    if container.state == "paused":
        return "paused"
    if container.state not in ("running", "restarting"):
        return "stopped"
    made_later = container.created_s > (workspace.completed_s or container.created_s) + CLOCK_TOLERANCE_S
    if made_later and not workspace.connected:
        # Of a build that is not in the database, which is an older dump: it has a token that is not either.
        return "unknown"
    return None if own.network in container.networks else "cut off"


def _outdated(workspace: Workspace, own: Version, active: Version, world: World, *, starts: bool) -> str:
    if own.network != active.network:
        return f"it names the network {own.network}"
    if own.agent_url != active.agent_url:
        return f"it names Coder as {own.agent_url}"
    image = own.image(workspace.image)
    # With the same image in the active version, that one could not start either.
    if starts and image and image not in world.present and image != active.image(workspace.image):
        return f"its image {image} is gone"
    return ""


def look(stack: str, cluster: Cluster | None = None) -> World:
    """The world of the stack's workspaces, now; of a cluster that does not answer nothing is known.

    Raises:
        engine.JobError: the database or the engine does not answer.
    """
    # Homes come first: a workspace is in the database before it has one, and until after it is gone.
    homes = _homes(stack)
    rows = postgres.query(names.postgres_container(stack), names.ROLE, names.DATABASE, WORKSPACES)
    # In this order: what a build makes is there before the database says that it ended.
    workspaces = [_workspace(json.loads(row)) for row in rows if row]
    absent = _absent(cluster, workspaces) if cluster else frozenset[str]()
    containers = _containers()
    strays = homes.keys() - {each.home for each in workspaces}
    present = _present(_needed(workspaces) | strays)
    return World(
        workspaces=workspaces, containers=containers, present=present, absent=absent,
        strays={each: homes[each] for each in sorted(strays & present)},
    )  # fmt: skip


def _homes(stack: str) -> dict[str, str]:
    """The stack's home volumes, with owner/name at their creation."""
    form = '{{.Name}}\t{{.Label "coder.owner"}}/{{.Label "coder.workspace_name"}}'
    labels = (f"label={names.STACK_LABEL}={stack}", f"label={names.WORKSPACE_LABEL}")
    shown = engine.docker("volume", "ls", *(f"--filter={each}" for each in labels), "--format", form)
    return {volume: title for volume, _, title in (line.partition("\t") for line in shown.splitlines())}


def _workspace(row: Mapping[str, Any]) -> Workspace:
    return Workspace(
        id=row["id"], owner=row["owner"], name=row["name"], build=row["build"], transition=row["transition"],
        status=row["status"], completed_s=row["completed_s"], own=_version(row["version"], row["variables"]),
        active=_version(row["active"], row["active_variables"]), image=row["image"], has_started=row["has_started"],
        connected=row["connected"], of_administrator=row["of_administrator"],
        of_suspended=row["of_suspended"],
    )  # fmt: skip


def _version(identifier: str, variables: Mapping[str, str] | None) -> Version | None:
    known = variables or {}
    network, namespace = known.get("workspace_network", ""), known.get("namespace", "")
    if "agent_url" not in known or not (network or namespace):
        return None
    return Version(
        id=identifier,
        network=network,
        agent_url=known["agent_url"],
        bases=tuple(json.loads(known.get("workspace_images") or "[]")),
        built=json.loads(known.get("built_images") or "{}"),
        apps_domain=known.get("apps_domain", ""),
        namespace=namespace,
    )


def _needed(workspaces: Iterable[Workspace]) -> set[str]:
    """Volumes and images whose absence would be a trouble."""
    ours = [each for each in workspaces if each.own is not None and not each.own.namespace]
    versions = [(version, each.image) for each in ours for version in (each.own, each.active) if version is not None]
    return {each.home for each in ours} | {image for version, base in versions if (image := version.image(base))}


def _containers() -> dict[str, Container]:
    shown = engine.docker(
        "ps", "--all", "--no-trunc", "--filter", f"label={names.WORKSPACE_LABEL}", "--format", "{{json .}}"
    )
    found: dict[str, Container] = {}
    for each in map(_container, shown.splitlines()):
        if each.workspace not in found or each.state == "running":
            found[each.workspace] = each
    return found


def _container(line: str) -> Container:
    each = json.loads(line)
    labels = dict(pair.partition("=")[::2] for pair in each["Labels"].split(","))
    # "2026-01-01 12:00:00 +0000 UTC"; the zone's name says nothing that its offset does not.
    created = datetime.strptime(" ".join(each["CreatedAt"].split()[:3]), "%Y-%m-%d %H:%M:%S %z")
    return Container(
        name=each["Names"],
        workspace=labels[names.WORKSPACE_LABEL],
        stack=labels.get(names.STACK_LABEL, ""),
        state=each["State"],
        networks=frozenset(each["Networks"].split(",")),
        created_s=created.timestamp(),
    )


def _present(needed: Iterable[str]) -> frozenset[str]:
    """Those volumes and images that the engine has; one call, whatever their number."""
    wanted = sorted(needed)
    found: set[str] = set()
    for each in engine.inspect(*wanted):
        found.update(each.get("RepoTags") or [each.get("Name", "")])
    return frozenset(found & set(wanted))


def _absent(cluster: Cluster, workspaces: Iterable[Workspace]) -> frozenset[str]:
    """Those of the workspaces' objects that the cluster does not have."""
    paths = [
        path(each.own.namespace, each.id)
        for each in workspaces
        if each.own is not None and each.own.namespace
        for path in (kubernetes.deployment, kubernetes.claim)
    ]
    silent = threading.Event()

    def is_absent(path: str) -> bool:
        try:
            # Once it is away or refuses, it does so for all, and each would take its time.
            if not silent.is_set():
                cluster.call("GET", path)
        except ClusterError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return True
            silent.set()
        return False

    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        return frozenset(path for path, absent in zip(paths, pool.map(is_absent, paths), strict=True) if absent)
