"""The world of a pilot, as far as it is declared: two pilots with the same settings have the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stack.jobs import workspace_secrets
from tests.e2e.pilot_fixture import Pilot, docker, eventually, request
from tests.e2e.retirement_fixture import Belongings, belongings, container_of, furnished, sql
from tests.e2e.workspace_fixture import editor_answers

MADE_AT_RANDOM = ("PASSWORD", "CONNECTION_URL", "CODER_TOKEN=")
TEMPLATE = (
    "name", "display_name", "description", "icon", "default_ttl_ms", "activity_bump_ms", "deprecated",
    "allow_user_cancel_workspace_jobs",
)  # fmt: skip
USER = ("username", "name", "email", "status", "roles")


@dataclass(frozen=True, kw_only=True)
class Lived:
    """A pilot with a running and a parked workspace, each with files in its home, and its world when it was whole."""

    pilot: Pilot
    running: dict[str, Any]
    parked: dict[str, Any]
    world: dict[str, Any]
    owned: Belongings

    def assert_whole(self) -> None:
        """The world is what it was, a second `up` changes nothing, and who was at work still is."""
        assert world_of(self.pilot) == self.world
        assert not workspace_secrets.is_lost(str(self.pilot.data))
        self.pilot.up("--expect-no-changes")
        assert belongings(self.pilot) == self.owned
        eventually(lambda: editor_answers(self.pilot, self.running), timeout_s=60, what="the editor that was open")


def lived_in(pilot: Pilot) -> Lived:
    """Make the two workspaces of a pilot that is up."""
    parked = furnished(pilot, "parked")
    running = furnished(pilot, "running")
    pilot.transition(parked["id"], "stop")
    return Lived(pilot=pilot, running=running, parked=parked, world=world_of(pilot), owned=belongings(pilot))


def everything_gone(lived: Lived) -> None:
    """Take away the servers and their networks, behind the pilot's back."""
    name = lived.pilot.name
    docker("rm", "--force", f"{name}-server", f"{name}-postgres", f"{name}-keeper")
    docker("network", "disconnect", "--force", f"{name}-workspaces", container_of(lived.running["id"]))
    docker("network", "rm", f"{name}-control", f"{name}-workspaces")


def world_of(pilot: Pilot) -> dict[str, Any]:
    """What runs and what Coder says, with the pilot's own name, port and folder taken out."""
    (template,) = [each for each in pilot.call("GET", "/api/v2/templates") if each["name"] == "code-server"]
    variables = sql(
        pilot,
        "SELECT name || '=' || value FROM template_version_variables"  # noqa: S608  an id of Coder's
        f" WHERE template_version_id = '{template['active_version_id']}' AND NOT sensitive ORDER BY name",
    )
    world = {
        "server": _container(f"{pilot.name}-server"),
        "postgres": _container(f"{pilot.name}-postgres"),
        "keeper": _keeper(f"{pilot.name}-keeper"),
        "networks": {
            part: _pick(_inspect(f"{pilot.name}-{part}"), "Internal", "Labels") for part in ("control", "workspaces")
        },
        "template": _pick(template, *TEMPLATE),
        "variables": variables,
        "admin": _pick(pilot.call("GET", "/api/v2/users/me"), *USER),
        "member": _pick(_member(pilot), *USER),
        "secrets": (workspace_secrets.shared(str(pilot.data)) / workspace_secrets.FILE).read_text(),
    }
    text = json.dumps(world, sort_keys=True)
    own = {str(pilot.data): "DATA", str(pilot.directory): "FOLDER", pilot.name: "NAME", pilot.config["port"]: "PORT"}
    for value, word in own.items():
        text = text.replace(value, word)
    # The digest of a workspace image covers the pilot's name.
    text = re.sub(r"(localhost/NAME-workspace:[a-z0-9-]*-)[0-9a-f]{12}", r"\1DIGEST", text)
    found: dict[str, Any] = json.loads(text)
    return found


def _member(pilot: Pilot) -> dict[str, Any]:
    """The account for every day, by whoever signs in with what `make password` prints."""
    outputs = pilot.outputs()
    credentials = {"email": outputs["email"], "password": outputs["password"]}
    token = request(pilot.url, "POST", "/api/v2/users/login", credentials)["session_token"]
    found: dict[str, Any] = pilot.call("GET", "/api/v2/users/me", token=token)
    return found


def _inspect(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", name))[0]
    return found


def _pick(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: record.get(key) for key in keys}


def _keeper(name: str) -> dict[str, Any]:
    """Its image is built for each pilot, and carries the pilot's name."""
    found = _container(name)
    return found | {"image": _inspect(found["image"])["RootFS"]}


def _container(name: str) -> dict[str, Any]:
    found = _inspect(name)
    config, host = found["Config"], found["HostConfig"]
    assert found["State"]["Status"] == "running"
    return {
        "image": found["Image"],
        "environment": sorted(each for each in config["Env"] if not any(word in each for word in MADE_AT_RANDOM)),
        "mounts": sorted((each["Type"], each["Source"], each["Destination"], each["RW"]) for each in found["Mounts"]),
        "networks": {
            network: sorted(set(joined["Aliases"] or []) - {found["Id"][:12]})
            for network, joined in found["NetworkSettings"]["Networks"].items()
        },
        "health": config["Healthcheck"],
        **_pick(config, "Labels", "StopTimeout", "User"),
        **_pick(
            host, "PortBindings", "Memory", "MemorySwap", "NanoCpus", "RestartPolicy", "GroupAdd", "SecurityOpt",
            "LogConfig", "Privileged", "CapAdd", "Tmpfs",
        ),
    }  # fmt: skip


def edit_template(pilot: Pilot, template: Mapping[str, Any], variables: Mapping[str, str], timeout_s: float) -> None:
    """Give a template another active version with the same contents, as the dashboard's editor does."""
    active = pilot.call("GET", f"/api/v2/templateversions/{template['active_version_id']}")
    made = pilot.call(
        "POST", f"/api/v2/organizations/{template['organization_id']}/templateversions",
        {
            "template_id": template["id"], "storage_method": "file", "file_id": active["job"]["file_id"],
            "provisioner": "terraform", "tags": {"scope": "organization"},
            "user_variable_values": [{"name": name, "value": value} for name, value in variables.items()],
        },
    )  # fmt: skip

    def built() -> bool:
        job = pilot.call("GET", f"/api/v2/templateversions/{made['id']}")["job"]
        assert job["status"] != "failed", job["error"]
        return bool(job["status"] == "succeeded")

    eventually(built, timeout_s=timeout_s, what="the edited version")
    pilot.call("PATCH", f"/api/v2/templates/{template['id']}/versions", {"id": made["id"]})


def variables_of(pilot: Pilot, template: Mapping[str, Any]) -> dict[str, str]:
    """Those of a template's active version that are not sensitive."""
    found = pilot.call("GET", f"/api/v2/templateversions/{template['active_version_id']}/variables")
    return {each["name"]: each["value"] for each in found if not each["sensitive"]}
