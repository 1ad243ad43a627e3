"""Whether the workspaces of a template that is not ours could be updated to ours with their homes, by the Terraform
states that Coder's database has of them: the bytes of `GET /api/v2/workspacebuilds/{id}/state`, for which a token would
be needed. A state has secrets in it, and nothing of one is shown but addresses and names.

An update carries out the difference between a state and our template: what our template does not have is destroyed, a
volume with its files. A `moved` block beside our template leads one volume of the old one to ours, for all workspaces;
so all of them must have it at the same address.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stack.jobs import names, postgres

OUR_HOME = "docker_volume.home"
"""The home's address in terraform-template/main.tf."""
MOUNT = "/home/coder"
PROVIDER = "kreuzwerker/docker"

ADDRESS = re.compile(r"docker_volume\.[A-Za-z_][A-Za-z0-9_-]*")
HARMLESS = re.compile(
    r"(coder|random|time)_\w+|null_resource|terraform_data|docker_(container|image|network|registry_image|tag)"
)
"""Resources that hold no files of anybody's, by their types."""

_HAS_VARIABLE = (
    "EXISTS (SELECT 1 FROM template_versions JOIN template_version_variables"
    " ON template_version_id = template_versions.id"
    " WHERE template_id = templates.id AND template_version_variables.name = '{}')"
)
OURS = _HAS_VARIABLE.format("workspace_network")
"""SQL: whether a version of the template is ours, by a variable that it must have."""
OURS_ON_CLUSTER = _HAS_VARIABLE.format("secrets_name")
"""The same of the template for a cluster."""

_STATES = """
SELECT json_build_object(
    'title', users.username || '/' || workspaces.name, 'id', workspaces.id,
    'transition', latest.transition, 'status', job.job_status,
    'state', encode(latest.provisioner_state, 'base64'), 'started', encode((
        SELECT provisioner_state FROM workspace_builds AS earlier JOIN provisioner_jobs AS ended ON ended.id = job_id
        WHERE workspace_id = workspaces.id AND transition = 'start' AND ended.job_status = 'succeeded'
        ORDER BY build_number DESC LIMIT 1
    ), 'base64')
)
FROM workspaces
JOIN users ON users.id = workspaces.owner_id
JOIN LATERAL (
    SELECT * FROM workspace_builds WHERE workspace_id = workspaces.id ORDER BY build_number DESC LIMIT 1
) AS latest ON true
JOIN provisioner_jobs AS job ON job.id = latest.job_id
WHERE NOT workspaces.deleted AND workspaces.template_id::text = {template} AND NOT EXISTS (
    SELECT 1 FROM template_version_variables AS variable
    WHERE variable.template_version_id = latest.template_version_id AND name = 'workspace_network'
)
ORDER BY users.username, workspaces.name;
"""


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """One that was never updated to ours."""

    title: str
    id: str
    transition: str
    status: str
    state: str
    """JSON; "" where Coder has none."""
    started: str
    """What the newest start left: a stop takes the container with its mounts out of the state."""


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What an update to our template would do to a workspace."""

    workspace: Workspace
    home: str | None = None
    """The address of the volume with the home; None where there is none to move."""
    replaced: Sequence[str] = ()
    destroyed: Sequence[str] = ()
    problems: Sequence[str] = field(default_factory=list)
    """Why it must not be."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What all of them together allow."""

    fates: Sequence[Fate]
    home: str
    """Where the home is in every state, which may be where ours has it."""
    problems: Sequence[str]
    """Why the template cannot become ours; none where it can."""


class _UnreadableError(Exception):
    pass


def sql(template_id: str) -> str:
    """The query for the template's workspaces that were never updated to ours; `workspace` reads a row."""
    return _STATES.format(template=postgres.literal(template_id))


def workspace(row: str) -> Workspace:
    """A row of that query."""
    found = json.loads(row)
    return Workspace(**{**found, "state": _text(found["state"]), "started": _text(found["started"])})


def _text(encoded: str | None) -> str:
    return base64.b64decode(encoded or "").decode(errors="replace").strip()


def judge(workspaces: Sequence[Workspace], ours: frozenset[str]) -> Judgement:
    """What an update to ours would do to each, and whether one `moved` block does for all of them.

    Args:
        ours: the addresses of our template's resources.
    """
    fates = [_fate(each, ours) for each in workspaces]
    homes = {each.home: each.workspace.title for each in fates if each.home}
    problems = [f"{fate.workspace.title}: {each}" for fate in fates for each in fate.problems]
    if len(homes) > 1:
        told = ", ".join(f"{address} in {title}" for address, title in sorted(homes.items()))
        problems.append(f"the home has another address in each of these, and only one can be moved: {told}")
    return Judgement(fates=fates, home=next(iter(homes), OUR_HOME), problems=problems)


def endangered(workspaces: Sequence[Workspace], home: str) -> list[str]:
    """What an update to ours, with the volume at `home` moved, would destroy and may hold data; one sentence each."""
    found = []
    for each in workspaces:
        # Terraform cannot read it either, and an update ends with that.
        with contextlib.suppress(_UnreadableError):
            holding = [one for one in _resources(each.state) if not HARMLESS.fullmatch(one["type"])]
            # Two cannot be led to one.
            kept = [one for one in holding if _is_kept(one, home)][:1]
            found += [
                f"{each.title}: {_address(one)} would be destroyed, and nothing leads it to ours"
                for one in holding
                if one not in kept
            ]
    return found


def _is_kept(resource: Mapping[str, Any], home: str) -> bool:
    # Terraform itself takes the first of a `count` for the one without.
    (first, *more) = resource["instances"]
    return _address(resource) in (home, OUR_HOME) and not more and first.get("index_key", 0) == 0


def _fate(workspace: Workspace, ours: frozenset[str]) -> Fate:
    try:
        now, started = _resources(workspace.state), _resources(workspace.started)
    except _UnreadableError as error:
        return Fate(workspace=workspace, problems=[f"its Terraform state cannot be read ({error})"])
    home, problems = _home(workspace, now)
    problems += [each for of in (now, started) for each in _mounts(workspace, of)]
    # The container of a stopped one is gone, and is named all the same: it is what is replaced.
    addresses = {_address(each): each for each in [*started, *now] if not each["type"].startswith("coder_")}
    gone = [address for address in addresses if address not in (home, OUR_HOME) and address not in ours]
    for address, each in addresses.items():
        if address in gone and each["type"] != "docker_volume" and not HARMLESS.fullmatch(each["type"]):
            problems.append(f"{address} would be destroyed, and it may hold data")
    return Fate(
        workspace=workspace,
        home=home,
        replaced=[address for address in addresses if address in ours and address != OUR_HOME],
        destroyed=gone,
        problems=list(dict.fromkeys(problems)),
    )


def _resources(state: str) -> list[Mapping[str, Any]]:
    """The managed resources that the state has instances of.

    Raises:
        _UnreadableError: it is no state of Terraform's.
    """
    if not state:
        return []
    try:
        found = json.loads(state)
        if found["version"] != 4:
            raise _UnreadableError(f"its format is {found['version']}, known is 4")
        return [each for each in found["resources"] if each["mode"] == "managed" and each["instances"]]
    except (ValueError, KeyError, TypeError):
        raise _UnreadableError("it is no state of Terraform's") from None


def _address(resource: Mapping[str, Any]) -> str:
    module = f"{resource['module']}." if resource.get("module") else ""
    return f"{module}{resource['type']}.{resource['name']}"


def _home(workspace: Workspace, resources: Sequence[Mapping[str, Any]]) -> tuple[str | None, list[str]]:
    """The address of the home, and what stands against moving it."""
    name = names.home_volume(workspace.id)
    volumes = [each for each in resources if each["type"] == "docker_volume"]
    if not resources:
        # Ours takes a volume of that name as it is.
        return None, []
    found = [
        each for each in volumes if any((one.get("attributes") or {}).get("name") == name for one in each["instances"])
    ]
    if not found:
        return None, [f"no Docker volume {name} holds its home"]
    (home, *_), address = found, _address(found[0])
    problems = [f"{_address(each)} would be destroyed, a second volume" for each in volumes if each is not home]
    if len(home["instances"]) > 1 or "index_key" in home["instances"][0]:
        problems.append(f"its home {address} has an index (`count` or `for_each`)")
    elif not ADDRESS.fullmatch(address):
        problems.append(f"its home {address} is in a module")
    if PROVIDER not in str(home.get("provider")):
        problems.append(f"its home {address} is not of the provider {PROVIDER}")
    return address, problems


def _mounts(workspace: Workspace, resources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a container mounts that ours would not."""
    home = names.home_volume(workspace.id)
    for resource in resources:
        for instance in resource["instances"] if resource["type"] == "docker_container" else ():
            attributes = instance.get("attributes") or {}
            for each in attributes.get("volumes") or []:
                if each.get("host_path"):
                    yield f"it mounts the host's {each['host_path']}, which ours would not"
                elif each.get("volume_name") != home:
                    what = f"volume {each['volume_name']}" if each.get("volume_name") else "volume without a name"
                    yield f"it mounts the {what} at {each.get('container_path')}, which ours would not"
                elif str(each.get("container_path")).rstrip("/") != MOUNT:
                    yield f"its home is mounted at {each.get('container_path')}, and ours at {MOUNT}"
            for each in attributes.get("mounts") or []:
                if each.get("type") != "tmpfs" and (each.get("source"), each.get("target")) != (home, MOUNT):
                    yield f"it mounts {each.get('source') or 'something'} at {each.get('target')}, which ours would not"
