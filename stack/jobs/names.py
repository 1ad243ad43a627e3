"""What things are called: each name that more than one part of the project needs, once.

It is among the jobs because they import nothing else of the project. The program, the front door and its report import
it from here.
"""

from __future__ import annotations

PROJECT = "coder-pilot"
"""As in Pulumi.yaml: the namespace of the settings, and the folder of the stacks in the state."""
STATE = ".pulumi-state"
"""The backend of Pulumi.yaml: where the state is in a checkout."""

STACK_LABEL = "coder-pilot.stack"
"""Label of every container, network, volume and image of a stack; its value is the setting `name`."""
OWNER_LABEL = "coder-pilot.owner"
"""Label of the pilot's own containers: the checkout and the stack that it belongs to, as <folder>:<stack>."""
WORKSPACE_LABEL = "coder.workspace_id"
"""Label of a workspace's container and volume; its value is the id in Coder."""

ROLE = "coder"
DATABASE = "coder"
TEMPLATE = "code-server"
"""As the seed called its own, which `make adopt` makes ours."""
TEMPLATE_BESIDE = "project"
"""What ours is called beside one of that name which cannot become ours."""
KUBERNETES_TEMPLATE = "code-server-kubernetes"
TOKEN_PREFIX = "coder-pilot-"  # noqa: S105  a name, not a secret
"""What the names of our API tokens begin with; a number follows."""

KEEPER_TOKEN_PREFIX = "coder-keeper-"  # noqa: S105  a name, not a secret
"""The same for the keeper's own token; not the prefix of the others, all of which are replaced together."""

SAMPLES = "samples.jsonl"
STOPS = "stops.jsonl"
KEEPER_STATUS = "keeper.json"
"""What the keeper writes into the data directory."""
ROTATED = ".1"
"""What the older one of a file that was begun anew ends with."""

LOOPBACK = "127.0.0.1"

CODER_ALIAS = "coder"
POSTGRES_ALIAS = "postgres"
"""What the two are called on their networks."""

RESTART_POLICY = "unless-stopped"
KEEPER_MEMORY_MB = 256
"""Its limit. It needs a tenth; pg_dump needs as much as the largest row, and its file counts while it is written."""
KEEPER_CPUS = 1


def coder_container(stack: str) -> str:
    """The container of Coder's server; `stack` is the setting `name`, here and below."""
    return f"{stack}-server"


def postgres_container(stack: str) -> str:
    """The container of Postgres."""
    return f"{stack}-postgres"


def keeper_container(stack: str) -> str:
    """The container that looks after the pilot."""
    return f"{stack}-keeper"


def keeper_image(stack: str) -> str:
    """Its image; no registry is ever asked for one that is called so."""
    return f"localhost/{stack}-keeper:latest"


def tls_port(port: int) -> int:
    """Where Coder ends TLS itself; `port` is the setting."""
    return port + 1


def control_network(stack: str) -> str:
    """The internal network of Postgres and Coder."""
    return f"{stack}-control"


def workspaces_network(stack: str) -> str:
    """The network of Coder and every workspace."""
    return f"{stack}-workspaces"


def kubernetes_secret(stack: str) -> str:
    """The Secret on the cluster with what every workspace reads at its start."""
    return f"{stack}-workspaces"


def home_volume(workspace_id: str) -> str:
    """The volume of a workspace's home, as terraform-template/ and the seed name it."""
    return f"coder-{workspace_id}-home"
