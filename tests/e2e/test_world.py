"""An `up` that exits 0 leaves the world of a fresh one, whatever was done behind its back or set."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test

from stack.jobs import workspace_secrets
from tests.e2e.parts import POSTGRES_IMAGE
from tests.e2e.pilot_fixture import Pilot, docker
from tests.e2e.retirement_fixture import command, container_of, identity, sql
from tests.e2e.walk_fixture import Walk
from tests.e2e.world_fixture import Lived, edit_template, everything_gone, lived_in, variables_of

WALK_STEPS = 20


@pytest.fixture(scope="module")
def lived(pilot: Pilot) -> Lived:
    return lived_in(pilot)


def _server(lived: Lived) -> str:
    return f"{lived.pilot.name}-server"


def _cut_off(lived: Lived) -> None:
    for container in (_server(lived), container_of(lived.running["id"])):
        docker("network", "disconnect", f"{lived.pilot.name}-workspaces", container)


def _another_in_its_place(lived: Lived) -> None:
    # As tools do that "recreate" a container: with its labels.
    docker("rm", "--force", _server(lived))
    label = f"coder-pilot.stack={lived.pilot.name}"
    docker("run", "--detach", "--init", "--name", _server(lived), "--label", label, POSTGRES_IMAGE, "sleep", "1000")


def _other_limits(lived: Lived) -> None:
    docker("update", "--memory", "1g", "--memory-swap", "2g", "--restart", "no", _server(lived))
    docker("network", "connect", "bridge", f"{lived.pilot.name}-postgres")


def _paused(lived: Lived) -> None:
    docker("pause", _server(lived))


def _template(lived: Lived) -> dict[str, Any]:
    (found,) = lived.pilot.call("GET", "/api/v2/templates")
    return dict(found)


def _template_changed(lived: Lived) -> None:
    template = _template(lived)
    lived.pilot.call(
        "PATCH", f"/api/v2/templates/{template['id']}",
        {"name": "mine", "display_name": "Mine", "default_ttl_ms": 0, "activity_bump_ms": 0},
    )  # fmt: skip


def _template_edited(lived: Lived) -> None:
    template = _template(lived)
    edit_template(lived.pilot, template, variables_of(lived.pilot, template), timeout_s=60)


def _control_network_gone(lived: Lived) -> None:
    for part in ("server", "postgres", "keeper"):
        docker("network", "disconnect", "--force", f"{lived.pilot.name}-control", f"{lived.pilot.name}-{part}")
    docker("network", "rm", f"{lived.pilot.name}-control")


def _another_network_in_its_place(lived: Lived) -> None:
    network, workspace = f"{lived.pilot.name}-workspaces", container_of(lived.running["id"])
    for container in (_server(lived), workspace):
        docker("network", "disconnect", "--force", network, container)
    docker("network", "rm", network)
    docker("network", "create", network)
    docker("network", "connect", "--alias", "coder", network, _server(lived))
    docker("network", "connect", network, workspace)


def _postgres_gone(lived: Lived) -> None:
    docker("rm", "--force", f"{lived.pilot.name}-postgres")


def _both_stopped(lived: Lived) -> None:
    docker("stop", _server(lived), f"{lived.pilot.name}-postgres")


def _keeper_killed(lived: Lived) -> None:
    docker("kill", f"{lived.pilot.name}-keeper")


def _keeper_gone_with_its_image(lived: Lived) -> None:
    docker("rm", "--force", f"{lived.pilot.name}-keeper")
    docker("image", "rm", f"localhost/{lived.pilot.name}-keeper")


def _keepers_token_revoked(lived: Lived) -> None:
    sql(lived.pilot, "DELETE FROM api_keys WHERE token_name LIKE 'coder-keeper-%'")


def _record_lost(lived: Lived) -> None:
    (lived.pilot.data / "pilot.json").unlink()
    docker("rm", "--force", _server(lived))


def _secrets_gone(lived: Lived) -> None:
    workspace_secrets.shared(str(lived.pilot.data)).joinpath(workspace_secrets.FILE).unlink()


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        pytest.param(everything_gone, "the network {name}-workspaces is gone", marks=pytest.mark.drill),
        (
            _template_changed,
            "the template code-server was changed in Coder (its name, its display name, autostop, activity bump",
        ),
        pytest.param(_cut_off, "{name}-server is cut off from the network {name}-workspaces", marks=pytest.mark.drill),
        pytest.param(_other_limits, "{name}-server has another memory limit", marks=pytest.mark.drill),
        pytest.param(_another_in_its_place, "{name}-server was made by somebody else", marks=pytest.mark.drill),
        pytest.param(_template_edited, "changed in Coder (the active version)", marks=pytest.mark.drill),
        pytest.param(_paused, "is paused: it goes on", marks=pytest.mark.drill),
        pytest.param(_both_stopped, "{name}-server is stopped: it is started", marks=pytest.mark.drill),
        pytest.param(_control_network_gone, "the network {name}-control is gone", marks=pytest.mark.drill),
        pytest.param(_another_network_in_its_place, "was made by somebody else", marks=pytest.mark.drill),
        pytest.param(_postgres_gone, "{name}-postgres is gone", marks=pytest.mark.drill),
        pytest.param(_keeper_killed, "{name}-keeper is stopped", marks=pytest.mark.drill),
        pytest.param(_keeper_gone_with_its_image, "its image localhost/{name}-keeper", marks=pytest.mark.drill),
        pytest.param(_keepers_token_revoked, "", marks=pytest.mark.drill),
        pytest.param(_secrets_gone, "the file with the secrets of workspaces is gone", marks=pytest.mark.drill),
    ],
)
def test_what_was_done_behind_its_back_is_said_and_put_right_by_a_plain_up(
    lived: Lived, happens: Callable[[Lived], None], said: str
) -> None:
    happens(lived)
    shown = lived.pilot.pulumi("preview") if said else ""
    assert said.format(name=lived.pilot.name) in shown
    assert said.format(name=lived.pilot.name) in lived.pilot.up()
    lived.assert_whole()


REFUSED = {
    "name": ("another-name", "pulumi config set name"),
    "dataDir": ("{directory}/elsewhere", "`make down STACK=test`, `sudo mv -T"),
}


def _ids(lived: Lived) -> list[tuple[str, str]]:
    return [
        identity(each) for each in (_server(lived), *(f"{lived.pilot.name}-{part}" for part in ("postgres", "keeper")))
    ]


@pytest.mark.parametrize(
    "key", [pytest.param(each, marks=[] if each == "dataDir" else pytest.mark.drill) for each in REFUSED]
)
def test_a_setting_that_would_leave_the_data_behind_is_refused_and_nothing_is_touched(lived: Lived, key: str) -> None:
    value, told = REFUSED[key]
    before, kept = _ids(lived), lived.pilot.config[key]
    lived.pilot.write_config(**{key: value.format(directory=lived.pilot.directory)})
    try:
        assert told in lived.pilot.pulumi("preview", check=False)
        assert told in lived.pilot.up(check=False)
        assert told in command(lived.pilot, "up", check=False)
    finally:
        lived.pilot.write_config(**{key: kept})
    assert _ids(lived) == before
    assert not (lived.pilot.directory / "elsewhere").exists()


@pytest.mark.drill
def test_another_checkout_is_refused_and_named_until_it_takes_the_pilot_over(lived: Lived, tmp_path: Path) -> None:
    pilot, second = lived.pilot, _second_checkout(lived.pilot, tmp_path / "second")
    before = _ids(lived)
    for words in (("up",), ("down",), ("up", "--new-database")):
        said = command(second, *words, check=False)
        assert f"belongs to the stack test in {pilot.directory}; nothing was touched" in said, words
        assert "`make up TAKE_OVER=yes STACK=test`" in said, words
    assert f"belongs to the stack test in {pilot.directory}" in second.up(check=False)
    assert _ids(lived) == before

    command(second, "up", "--take-over")
    assert f"in {second.directory}" in pilot.up(check=False)
    command(pilot, "up", "--take-over")
    pilot.variables.pop("token", None)
    lived.assert_whole()


def _second_checkout(pilot: Pilot, directory: Path) -> Pilot:
    """Another checkout with the same settings and a state of its own."""
    shutil.copytree(pilot.directory, directory, ignore=shutil.ignore_patterns("data", ".pulumi-state", "Pulumi.test*"))
    (directory / ".pulumi-state").mkdir()
    variables = {key: value for key, value in pilot.variables.items() if key != "token"}
    second = Pilot(
        directory=directory, name=pilot.name, config=dict(pilot.config),
        variables={**variables, "PULUMI_HOME": str(directory / "home")},
    )  # fmt: skip
    second.write_config()
    second.pulumi("stack", "init")
    return second


@pytest.mark.timeout(3600)
# Of the seeds one whose walk is short and still has a bit of each: many walk a single rule.
@pytest.mark.parametrize(("walks", "seed"), [(1, 849), pytest.param(10, 0, marks=pytest.mark.drill)])
def test_whatever_happens_in_whatever_order_an_up_puts_it_right(lived: Lived, walks: int, seed: int) -> None:
    seed = seed or secrets.randbelow(10**6)
    print(f"the walk's seed is {seed}")
    run = hypothesis.seed(seed)(lambda: Walk(lived.pilot))
    run_state_machine_as_test(
        run,
        settings=hypothesis.settings(
            # The first walks, with ten the first two, are of the simplest rule alone.
            max_examples=walks + 1,
            stateful_step_count=WALK_STEPS,
            deadline=None,
            database=None,
            # Each step is said.
            verbosity=hypothesis.Verbosity.debug,
            # To shrink what failed would take an hour; the seed tells it.
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
