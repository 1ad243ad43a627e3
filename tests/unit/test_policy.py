"""No change publishes beyond loopback, joins the networks, gains the host, shows a secret or deletes data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime import rpc

from ci import plan_policy
from stack.policy import CONTAINER, NETWORK, SECRET, TEMPLATE, VOLUME, Resource, violations
from tests.unit.program import LOCAL, declare, is_secret

COMMAND = "command:local:Command"
TAILNET = {**LOCAL, "tailnet": "true", "tailnetName": "framework"}


def _masked(value: Any) -> Any:
    if is_secret(value):
        return SECRET
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list) else value


def _program(config: dict[str, str], secrets: tuple[str, ...] = ()) -> list[Resource]:
    return [
        Resource(
            type=each.type,
            name=each.name,
            inputs=_masked(rpc.deserialize_properties(each.request.object)),
            retained=each.request.retainOnDelete,
        )
        for each in declare(config, secrets=secrets).resources
    ]


@pytest.mark.parametrize("config", [LOCAL, TAILNET, {**LOCAL, "name": "second"}])
def test_the_true_program_keeps_the_policy(config: dict[str, str]) -> None:
    resources = _program(dict(config))
    assert {each.name for each in resources} >= {"coder", "postgres", "control", "template"}
    assert violations(resources) == []


def test_the_true_program_with_an_api_key_keeps_the_policy() -> None:
    assert violations(_program({**LOCAL, "anthropicApiKey": "sk-1"}, ("anthropicApiKey",))) == []


def test_the_true_program_with_a_purge_is_refused() -> None:
    found = violations(_program({**LOCAL, "purgeOnDestroy": "true"}))
    assert [each for each in found if "purgeOnDestroy is on" in each]


def _container(name: str = "other", **inputs: Any) -> Resource:
    return Resource(type=CONTAINER, name=name, inputs=inputs)


CONTROL = Resource(type=NETWORK, name="control", inputs={"name": "inside"})
MOVED = Resource(
    type=CONTAINER,
    name="postgres",
    op="replace",
    inputs={"mounts": [{"target": "/data", "source": "/new"}]},
    old_inputs={"mounts": [{"target": "/data", "source": "/old"}]},
)

BAD = [
    ("publishes port 80 on 0.0.0.0", _container("coder", ports=[{"internal": 80, "ip": "0.0.0.0"}])),  # noqa: S104
    ("publishes port 80 on 0.0.0.0", _container("coder", ports=[{"internal": 80}])),
    ("publishes port 80 on 100.64.0.1", _container("coder", ports=[{"internal": 80, "ip": "100.64.0.1"}])),
    ("publishes port 80 on ::", _container("coder", ports=[{"internal": 80, "ip": "::"}])),
    ("publishes all ports", _container("coder", publishAllPorts=True)),
    ("on the host's network", _container("coder", networkMode="host")),
    ("is on inside and workspaces", _container(networksAdvanced=[{"name": "inside"}, {"name": "workspaces"}])),
    ("is on x-control and x-work", _container(networksAdvanced=[{"name": "x-control"}, {"name": "x-work"}])),
    ("is privileged", _container("coder", privileged=True)),
    ("capabilities SYS_ADMIN added", _container("coder", capabilities={"adds": ["SYS_ADMIN"]})),
    ("the engine's socket", _container(mounts=[{"target": "/s", "source": "/var/run/docker.sock"}])),
    ("POSTGRES_PASSWORD in plain text", _container(envs=["A=b", "POSTGRES_PASSWORD=hunter2"])),
    ("URL in plain text", _container(envs=["URL=postgres://coder:hunter2@postgres:5432/coder"])),
    ("ADMIN_PASSWORD in plain text", Resource(type=COMMAND, name="a", inputs={"environment": {"ADMIN_PASSWORD": "x"}})),
    ("token in plain text", Resource(type="pulumi:providers:coderd", name="coderd", inputs={"token": "x"})),
    ("key in plain text", Resource(type=TEMPLATE, name="t", inputs={"tfVars": [{"name": "api_key", "value": "x"}]})),
    ("create has create in plain text", Resource(type=COMMAND, name="a", inputs={"create": "psql postgres://u:p@h/d"})),
    ("delete of a volume", Resource(type=VOLUME, name="home", op="delete")),
    ("replace of a volume", Resource(type=VOLUME, name="home", op="replace")),
    ("delete of the template", Resource(type=TEMPLATE, name="template", op="delete")),
    ("removeVolumes deletes", _container(removeVolumes=True)),
    ("purgeOnDestroy is on", Resource(type=COMMAND, name="retirement", inputs={"environment": {"PURGE": "true"}})),
    ("/data moves from /old to /new", MOVED),
]


@pytest.mark.parametrize(("what", "resource"), BAD, ids=[what for what, _ in BAD])
def test_a_violation_is_refused_alone_and_by_name(what: str, resource: Resource) -> None:
    (found,) = violations([CONTROL, resource])
    assert found.startswith(f"{resource.name}: ")
    assert what in found


GOOD = [
    _container("coder", ports=[{"internal": 80, "ip": "127.0.0.1"}, {"internal": 81, "ip": "::1"}]),
    _container("coder", networksAdvanced=[{"name": "inside"}, {"name": "workspaces"}]),
    _container(networksAdvanced=[{"name": "inside"}]),
    _container(envs=[SECRET, "TOKEN_LIFETIME_H=1", "CODER_MAX_TOKEN_LIFETIME=1h", "POSTGRES_PASSWORD="]),
    Resource(type=COMMAND, name="a", inputs={"environment": {"ADMIN_PASSWORD": SECRET, "PURGE": "false"}}),
    Resource(type=TEMPLATE, name="template", op="delete", retained=True),
    Resource(type=VOLUME, name="home", op="update"),
]


@pytest.mark.parametrize("resource", GOOD, ids=lambda resource: f"{resource.name}-{resource.op}")
def test_what_is_allowed_passes(resource: Resource) -> None:
    assert violations([CONTROL, resource]) == []


def _plan(file: Path, *steps: dict[str, Any]) -> str:
    file.write_text(json.dumps({"steps": list(steps)}))
    return str(file)


def _step(op: str, type_: str, name: str, **inputs: Any) -> dict[str, Any]:
    state = {"type": type_, "inputs": inputs}
    side = {"delete": "oldState"}.get(op, "newState")
    return {"op": op, "urn": f"urn:pulumi:s::coder-pilot::coder-pilot:x:X${type_}::{name}", side: state}


def test_a_plan_is_held_to_the_same_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = _plan(tmp_path / "good", _step("create", CONTAINER, "coder", ports=[{"internal": 1, "ip": "127.0.0.1"}]))
    bad = _plan(tmp_path / "bad", _step("replace", CONTAINER, "coder", ports=[{"internal": 1}]))
    assert plan_policy.main([good]) == 0
    assert capsys.readouterr().out == ""
    assert plan_policy.main([bad]) == 1
    assert "policy: coder: publishes port 1 on 0.0.0.0" in capsys.readouterr().out
    assert plan_policy.main([_plan(tmp_path / "gone", _step("delete", VOLUME, "home"))]) == 1


def test_a_plan_that_moves_the_data_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = _step("replace", CONTAINER, "postgres", **MOVED.inputs)
    step["oldState"] = {"inputs": dict(MOVED.old_inputs)}
    assert plan_policy.main([_plan(tmp_path / "moved", step)]) == 1
    assert "/data moves from /old to /new" in capsys.readouterr().out


def test_a_plan_that_is_none_does_not_pass(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("error: no stack")
    assert plan_policy.main([str(tmp_path / "broken")]) == 2
    assert plan_policy.main([str(tmp_path / "missing")]) == 2
