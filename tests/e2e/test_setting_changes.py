"""Every setting, changed on a pilot that lives: the world of a fresh pilot with it, or a refusal that touches nothing.

Rows are cumulative: each fresh pilot has all that was changed before.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from stack.settings import KEYS
from tests.e2e.parts import CODER_IMAGE, POSTGRES_IMAGE, WORKSPACE_IMAGE
from tests.e2e.pilot_fixture import NAME_PREFIX, Pilot, docker, free_port
from tests.e2e.retirement_fixture import belongings, checksum, command, furnished, identity
from tests.e2e.world_fixture import world_of


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a setting is changed to."""

    value: str | Callable[[Pilot], str]
    refused: str = ""
    """Of the message, where the change is refused."""
    secret: bool = False
    instead_of: str = ""
    """A secret setting that is taken out with the same change."""


# Of this run alone: another one at the same time takes its own away.
COPIES = f"{NAME_PREFIX}-copies-{os.getpid()}"


def _copy_of(image: str) -> Callable[[Pilot], str]:
    """An image with the same contents and another id."""

    def make(_: Pilot) -> str:
        # Not after the pilot: the fresh one has the same setting.
        name = f"{COPIES}/{image.rpartition('/')[2]}"
        docker("build", "--tag", name, "-", stdin=f"FROM {image}\nLABEL copy=yes\n")
        return name

    return make


ELSEWHERE = {
    "tailnet": "tests/e2e/test_tailnet.py switches it on and off on a pilot that lives",
}
ROWS = {
    "name": Row(value="another-name", refused="pulumi config set name"),
    "port": Row(value=lambda _: str(free_port())),
    "dataDir": Row(value=lambda pilot: f"{pilot.directory}/elsewhere", refused="`make down STACK=test`, `sudo mv -T"),
    "dockerHost": Row(value="unix:///run/docker.sock", refused="pulumi config set dockerHost unix:///var/run"),
    "dockerSocket": Row(value="/run/docker.sock"),
    "postgresImage": Row(value=_copy_of(POSTGRES_IMAGE)),
    "postgresMemory": Row(value="2GiB"),
    "postgresCpus": Row(value="2"),
    "accessUrl": Row(value="http://coder.example"),
    "coderImage": Row(value=_copy_of(CODER_IMAGE)),
    "coderMemory": Row(value="3GiB"),
    "coderCpus": Row(value="1"),
    "workspaceImages": Row(value=lambda pilot: f"{WORKSPACE_IMAGE},{_copy_of(WORKSPACE_IMAGE)(pilot)}"),
    "workspaceMemory": Row(value="3GiB"),
    "workspaceMemoryCap": Row(value="8GiB"),
    "workspaceCpus": Row(value="1"),
    "workspaceCpusCap": Row(value="4"),
    "workspaceShm": Row(value="512MiB"),
    "workspaceTrust": Row(value="false"),
    "workspacePids": Row(value="4096"),
    "stopGraceSeconds": Row(value="5"),
    "idleTtl": Row(value="3h"),
    "idleBump": Row(value="30m"),
    "keepAliveMax": Row(value="6h"),
    "timezone": Row(value="Europe/Berlin"),
    "serviceEnvironment": Row(value='{"PHOENIX": "http://host.docker.internal:6006"}'),
    "anthropicBaseUrl": Row(value="http://host.docker.internal:4000"),
    "anthropicApiKey": Row(value="sk-ant-of-the-tests", secret=True),
    "claudeCodeOauthToken": Row(value="sk-ant-oat-of-the-tests", secret=True, instead_of="anthropicApiKey"),
    "tailnetName": Row(value="framework"),
    # What they do together is in tests/e2e/test_domain.py.
    "domain": Row(value="coder.example.com", refused="pulumi config set tailnet true"),
    "tlsCertificate": Row(value="/etc/own.crt", refused="pulumi config set domain"),
    "tlsKey": Row(value="/etc/own.key", refused="pulumi config set domain"),
    # What they do together is in tests/e2e/test_kubernetes.py.
    "kubernetesKubeconfig": Row(value="/etc/kubeconfig", refused="pulumi config set agentAddress"),
    "kubernetesNamespace": Row(value="workspaces"),
    "kubernetesStorageClass": Row(value="fast"),
    "kubernetesAgentUrl": Row(value="https://coder.example", refused="pulumi config set kubernetesKubeconfig"),
    "agentAddress": Row(value="10.0.0.1", refused="pulumi config set kubernetesKubeconfig"),
    "tailscaleSocket": Row(value="/run/tailscale/tailscaled.sock"),
    "username": Row(value="ada"),
    "fullName": Row(value="Ada Lovelace"),
    "email": Row(value="ada@example.org", refused="pulumi config set email"),
    "password": Row(value="a-Passw0rd-for-every-day", secret=True),
    "adminUsername": Row(value="owner"),
    "adminName": Row(value="Grace Hopper"),
    "adminEmail": Row(value="someone@else.example", refused="pulumi config set adminEmail"),
    "adminPassword": Row(value="a-Passw0rd-of-the-owners", secret=True),
    "backupAt": Row(value="04:15"),
    "backupsKept": Row(value="3"),
    "purgeOnDestroy": Row(value="true"),
    "memoryReserve": Row(value="1%"),
    "pressureIdle": Row(value="20m"),
    "samplesSize": Row(value="128MiB"),
    "samplesDays": Row(value="30"),
    "standaloneContainer": Row(value="code-server"),
    "verdictMinDays": Row(value="3"),
    "verdictMinNetGibHPerDay": Row(value="1"),
    "verdictMaxFailedPercent": Row(value="5"),
    "verdictMaxStoppedRuns": Row(value="2"),
}


def test_every_setting_has_a_row() -> None:
    assert ROWS.keys() | ELSEWHERE.keys() == KEYS.keys()


@dataclass(frozen=True, kw_only=True)
class Lived:
    """A pilot with a running and a parked workspace, each with files in its home."""

    pilot: Pilot
    running: dict[str, Any]
    parked: dict[str, Any]


@pytest.fixture(scope="module")
def copies() -> Iterator[None]:
    """Takes the copies of images away in the end."""
    yield
    found = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={COPIES}/*").split()
    if found:
        docker("image", "rm", "--force", *found)


@pytest.fixture(scope="module")
def lived(copies: None, pilot: Pilot) -> Lived:
    parked = furnished(pilot, "parked")
    running = furnished(pilot, "running")
    pilot.transition(parked["id"], "stop")
    return Lived(pilot=pilot, running=running, parked=parked)


# The ways in which settings that are each allowed meet: what a workspace has and a lower cap, names and passwords.
TOGETHER = {
    "every setting": {key: row for key, row in ROWS.items() if not row.refused and not row.instead_of},
    "another address, and caps below what the workspaces have": {
        "port": ROWS["port"],
        "accessUrl": Row(value=""),
        "keepAliveMax": Row(value="3h"),
        "workspaceMemory": Row(value="1GiB"),
        "workspaceMemoryCap": Row(value="2GiB"),
        "idleTtl": Row(value="90m"),
    },
    "other accounts, and both servers made anew": {
        "username": Row(value="grace"),
        "password": Row(value="another-Passw0rd-for-every-day", secret=True),
        "adminUsername": Row(value="root"),
        "adminPassword": Row(value="another-Passw0rd-of-the-owners", secret=True),
        "coderImage": Row(value=CODER_IMAGE),
        "postgresImage": Row(value=POSTGRES_IMAGE),
        "memoryReserve": Row(value="2%"),
    },
    "what is encrypted now, and an image less": {
        "serviceEnvironment": Row(value='{"PHOENIX": "http://host.docker.internal:6007"}', secret=True),
        "workspaceImages": Row(value=WORKSPACE_IMAGE),
        "timezone": Row(value=""),
    },
}
REFUSED_TOGETHER = {
    "every setting": {key: row for key, row in ROWS.items() if not row.refused and not row.instead_of},
    "a port that is taken": ({"port": Row(value=lambda _: str(HELD[0]))}, "; nothing was touched. End"),
    "a weak password": ({"password": Row(value="12345678", secret=True)}, "Coder does not take the password"),
    "no tailnet": (
        {"tailnet": Row(value="true"), "tailscaleSocket": Row(value="/nowhere.sock")}, "tailscaled does not answer",
    ),
    "no socket": ({"dockerSocket": Row(value="/nowhere.sock")}, "pulumi config set dockerSocket"),
}  # fmt: skip
HELD: list[int] = []
"""The port that this program listens on."""
WITH_MORE = {
    "postgresMemory": Row(value="3GiB"),
    "coderCpus": Row(value="3"),
    "anthropicBaseUrl": Row(value="http://more.example"),
    "backupAt": Row(value="05:05"),
}


def _set(pilot: Pilot, changes: Mapping[str, Row]) -> None:
    for key, row in changes.items():
        value = row.value if isinstance(row.value, str) else row.value(pilot)
        if row.instead_of:
            pilot.pulumi("config", "rm", row.instead_of)
        if row.secret:
            pilot.config.pop(key, None)
            pilot.pulumi("config", "set", "--secret", key, value)
        else:
            pilot.write_config(**{key: value})


def _ids(pilot: Pilot) -> list[tuple[str, str]]:
    return [identity(f"{pilot.name}-{part}") for part in ("server", "postgres", "keeper")]


@pytest.mark.drill
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("key", ROWS)
def test_a_change_leaves_the_world_of_a_fresh_pilot_or_is_refused(
    lived: Lived, make_pilot: Callable[..., Pilot], key: str
) -> None:
    if ROWS[key].refused:
        _is_refused(lived, {key: ROWS[key]}, ROWS[key].refused, in_a_preview=True)
    else:
        _leaves_a_fresh_world(lived, {key: ROWS[key]}, make_pilot)


@pytest.mark.drill
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("changes", TOGETHER)
def test_several_changes_at_once_do_too(lived: Lived, make_pilot: Callable[..., Pilot], changes: str) -> None:
    _leaves_a_fresh_world(lived, TOGETHER[changes], make_pilot)


@pytest.fixture(scope="module")
def somebody_listens() -> Iterator[None]:
    with socket.create_server(("127.0.0.1", free_port())) as holder:
        HELD.append(holder.getsockname()[1])
        yield


@pytest.mark.drill
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("somebody_listens")
@pytest.mark.parametrize("changes", REFUSED_TOGETHER)
def test_one_that_is_refused_keeps_all_others_from_happening(lived: Lived, changes: str) -> None:
    refused, told = REFUSED_TOGETHER[changes]
    _is_refused(lived, {**WITH_MORE, **refused}, told, in_a_preview="dockerSocket" not in refused)


def _is_refused(lived: Lived, changes: Mapping[str, Row], told: str, *, in_a_preview: bool) -> None:
    pilot = lived.pilot
    file = pilot.directory / f"Pulumi.{pilot.stack}.yaml"
    ids, world, kept, text = _ids(pilot), world_of(pilot), dict(pilot.config), file.read_text()
    _set(pilot, changes)
    try:
        for said in (pilot.up(check=False), command(pilot, "up", check=False)):
            assert told in said
        assert told in pilot.pulumi("preview", check=False) or not in_a_preview
    finally:
        pilot.config = kept
        file.write_text(text)
    assert (_ids(pilot), world_of(pilot)) == (ids, world)
    # Pulumi has noted components that have nothing in them yet.
    pilot.up()
    assert _ids(pilot) == ids
    pilot.up("--expect-no-changes")
    _every_workspace_starts(lived)


def _leaves_a_fresh_world(lived: Lived, changes: Mapping[str, Row], make_pilot: Callable[..., Pilot]) -> None:
    pilot = lived.pilot
    owned = belongings(pilot)
    _set(pilot, changes)
    command(pilot, "up")
    pilot.variables.pop("token", None)
    assert world_of(pilot) == _fresh(pilot, make_pilot)
    assert _idle_times(lived) == {pilot.call("GET", "/api/v2/templates")[0]["default_ttl_ms"]}
    pilot.up("--expect-no-changes")
    _every_workspace_starts(lived)
    after = belongings(pilot)
    assert (after.workspaces, after.templates, after.homes) == (owned.workspaces, owned.templates, owned.homes)


def _fresh(pilot: Pilot, make_pilot: Callable[..., Pilot]) -> dict[str, Any]:
    own = ("name", "port", "dataDir")
    other = make_pilot(**{key: value for key, value in pilot.config.items() if key not in own})
    shown = pilot.pulumi("config", "--json", "--show-secrets")
    for key, entry in json.loads(shown[shown.index("{") :]).items():
        if entry.get("secret"):
            other.pulumi("config", "set", "--secret", key, entry["value"])
    other.up()
    try:
        return world_of(other)
    finally:
        other.write_config(purgeOnDestroy="false")
        other.remove()


def _idle_times(lived: Lived) -> set[int]:
    """Neither workspace has one of its own."""
    return {lived.pilot.workspace(each["id"])["ttl_ms"] for each in (lived.running, lived.parked)}


def _every_workspace_starts(lived: Lived) -> None:
    pilot = lived.pilot
    for workspace in (lived.running, lived.parked):
        before = checksum(workspace["id"])
        command(pilot, "workspace", workspace["name"])
        assert checksum(workspace["id"]) == before
    pilot.transition(lived.parked["id"], "stop")
