"""What no change may do, no matter whose: pure rules over a list of resources, for the program and for a plan."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CONTAINER = "docker:index/container:Container"
NETWORK = "docker:index/network:Network"
VOLUME = "docker:index/volume:Volume"
TEMPLATE = "coderd:index/template:Template"
CODER = "coder"
"""Logical name of the one container that may be on both networks."""
WITH_SOCKET = (CODER, "keeper")
"""Those that may have the engine's socket."""

SECRET = "[secret]"  # noqa: S105
"""What stands in the place of a secret value, as in `pulumi preview --json`."""

GONE = frozenset({"delete", "delete-replaced", "replace"})

_SECRET_NAME = re.compile(r"(PASSWORD|TOKEN|SECRET|API_?KEY|PRIVATE_?KEY|CONNECTION_URL)$", re.IGNORECASE)
_URL_WITH_PASSWORD = re.compile(r"\w+://[^/\s:@]*:[^/\s@]+@")
_PURGE = re.compile(r"PURGE", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource of a program or of a plan; secret values in the inputs are SECRET."""

    type: str
    name: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    old_inputs: Mapping[str, Any] = field(default_factory=dict)
    """Those in the state; empty for a resource that is new, or for a program without a plan."""
    op: str = "create"
    """Pulumi's word for the step."""
    retained: bool = False


def violations(resources: Sequence[Resource], agent_address: str = "") -> list[str]:
    """One sentence for each violation, in the order of the resources; none for a good program.

    `agent_address` is the setting: what Coder may be published on beside loopback.
    """
    return [
        f"{each.name}: {what}"
        for each in resources
        for found in (_published(each, agent_address), *(rule(each, resources) for rule in _RULES))
        for what in found
    ]


def _published(each: Resource, agent_address: str) -> Iterator[str]:
    if each.type != CONTAINER:
        return
    for port in each.inputs.get("ports") or []:
        address = port.get("ip") or "0.0.0.0"  # noqa: S104  Docker's default
        if not _loopback(address) and not (each.name == CODER and address == agent_address):
            yield (
                f"publishes port {port.get('external') or port.get('internal')} on {address}: publish on 127.0.0.1, "
                "`tailscale serve` is the way in"
            )
    if each.inputs.get("publishAllPorts"):
        yield "publishes all ports of its image"
    if each.inputs.get("networkMode") == "host":
        yield "is on the host's network, where every port it opens is published"


def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _networks(each: Resource, resources: Sequence[Resource]) -> Iterator[str]:
    if each.type != CONTAINER or each.name == CODER:
        return
    joined = {network.get("name") for network in each.inputs.get("networksAdvanced") or []}
    internal = {other.inputs.get("name") for other in resources if other.type == NETWORK and other.name == "control"}
    # A plan leaves unchanged networks out; their names follow the setting `name`.
    control = {name for name in joined if name in internal or str(name).endswith("-control")}
    if control and joined - control:
        yield f"is on {' and '.join(sorted(map(str, joined)))}: only Coder may join the control network to another"


def _privileged(each: Resource, _: Sequence[Resource]) -> Iterator[str]:
    if each.type != CONTAINER:
        return
    if each.inputs.get("privileged"):
        yield "is privileged"
    if added := [name for item in _list(each.inputs.get("capabilities")) for name in item.get("adds") or []]:
        yield f"has the capabilities {', '.join(added)} added"
    for mount in each.inputs.get("mounts") or []:
        if str(mount.get("source", "")).endswith("docker.sock") and each.name not in WITH_SOCKET:
            yield "has the engine's socket, which is root on the machine: only Coder and the keeper may"


def _plain_secret(each: Resource, _: Sequence[Resource]) -> Iterator[str]:
    for path, value in _strings(each.inputs, ""):
        if value in ("", SECRET):
            continue
        name = path.rsplit(".", 1)[-1]
        if each.type == CONTAINER and path == "envs":
            name, _sign, value = value.partition("=")
        if value and ("PRIVATE KEY-----" in value or _SECRET_NAME.search(name) or _URL_WITH_PASSWORD.search(value)):
            yield f"{path} has {name} in plain text: make it a Pulumi secret"


def _strings(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        # A list of name and value pairs, as Terraform's variables are.
        if set(value) >= {"name", "value"} and isinstance(value["value"], str):
            yield f"{path}.{value['name']}", value["value"]
            return
        for key, item in value.items():
            yield from _strings(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, path)
    elif isinstance(value, str):
        yield path, value


def _deletion(each: Resource, _: Sequence[Resource]) -> Iterator[str]:
    if each.type == VOLUME and each.op in GONE:
        yield f"{each.op} of a volume removes what is in it"
    if each.type == TEMPLATE and each.op in GONE and not each.retained:
        yield f"{each.op} of the template, which workspaces are made of"
    if each.type == CONTAINER and each.inputs.get("removeVolumes"):
        yield "removeVolumes deletes its volumes with the container"
    environment = each.inputs.get("environment")
    for name, value in environment.items() if isinstance(environment, Mapping) else ():
        if _PURGE.search(name) and str(value).lower() in ("true", "1", "yes"):
            yield "purgeOnDestroy is on: `destroy` would delete workspaces, homes and the database"
    before, after = _sources(each.old_inputs), _sources(each.inputs)
    for target in before.keys() & after.keys() if each.type == CONTAINER else ():
        if before[target] != after[target]:
            yield f"{target} moves from {before[target]} to {after[target]}: the data would be left behind"


def _sources(inputs: Mapping[str, Any]) -> dict[str, str]:
    return {mount["target"]: str(mount.get("source")) for mount in inputs.get("mounts") or []}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


_RULES: tuple[Callable[[Resource, Sequence[Resource]], Iterator[str]], ...] = (
    _networks, _privileged, _plain_secret, _deletion,
)  # fmt: skip
