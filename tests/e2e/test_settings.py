"""Whatever way YAML writes a stack's settings, every command works on that stack and on no other.

One pilot, whose name, port and data directory are not the defaults, runs through all of it: its file is written anew in
each form, with the same values. `down` only lists what it would delete, for the data is to be purged and nobody agrees.
All but the doctor are drills: that every form is read as Pulumi reads it, unit and contract tests say.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.e2e.clone_fixture import STACK, Clone, cloned
from tests.e2e.pilot_fixture import docker
from tests.yaml_forms import FORMS
from toolchain.paths import CACHE_VARIABLE

SECONDS_MAX = 20
DATA = ".local/other"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    with cloned(tmp_path_factory.mktemp("settings"), "forms") as made:
        yield made


def _file(clone: Clone) -> Path:
    return clone.directory / f"Pulumi.{STACK}.yaml"


@pytest.fixture(scope="module")
def values(clone: Clone) -> dict[str, str]:
    """The settings of the stack, as text."""
    own = yaml.safe_load(_file(clone).read_text())["config"]
    return {
        **{key.removeprefix("coder-pilot:"): value for key, value in own.items()},
        "dataDir": DATA,
        "purgeOnDestroy": "true",
    }


@pytest.fixture(scope="module")
def up(clone: Clone, values: dict[str, str]) -> str:
    _file(clone).write_text(FORMS["double quotes"](values))
    return clone.make("up").stdout


@pytest.mark.built_here
def test_doctor_answers_within_seconds_on_a_machine_without_anything(clone: Clone, tmp_path: Path) -> None:
    """Its Python has no package, nothing was built, and nothing is built but the library that reads the settings."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "python"], check=True, timeout=120)
    bare = replace(
        clone,
        variables={
            **clone.variables,
            "PATH": f"{tmp_path / 'python' / 'bin'}:{clone.variables['PATH']}",
            CACHE_VARIABLE: str(tmp_path / "cache"),
        },
    )
    begin_s = time.monotonic()
    found = {each["check"]: each for each in json.loads(bare.make("doctor", "ARGS=--json", check=False).stdout)}
    took_s = time.monotonic() - begin_s
    assert found["settings"]["level"] == "ok"
    assert f"{clone.port} is free" in found["port"]["found"]
    assert "to be built" in found["toolchain"]["found"]
    assert [each.name for each in (tmp_path / "cache" / "pieces").iterdir()] == ["pyyaml"]
    assert not (clone.directory / ".venv").exists()
    assert took_s < SECONDS_MAX


@pytest.mark.usefixtures("up")
@pytest.mark.drill
@pytest.mark.parametrize("form", FORMS)
def test_every_command_works_on_this_stack(clone: Clone, values: dict[str, str], form: str) -> None:
    _file(clone).write_text(FORMS[form](values))
    data = clone.directory / DATA
    found = {each["check"]: each for each in json.loads(clone.make("doctor", "ARGS=--json").stdout)}
    assert found["settings"]["level"] == "ok"
    assert f"{clone.port} is ours, {clone.name}-server has it" in found["port"]["found"]
    assert str(data) in found["disk"]["found"]
    assert found["health"]["found"] == "Coder's health: ok"

    shown = clone.make("status").stdout
    assert {line.split()[0] for line in shown.splitlines()[1:4]} == {
        f"{clone.name}-{part}" for part in ("keeper", "postgres", "server")
    }
    assert "no workspaces" in shown  # Coder itself answered, at its port
    assert "Coder's health: ok" in shown

    dump = Path(clone.make("backup").stdout.strip())
    assert dump.parent == data / "backups"
    assert dump.exists()

    down = clone.make("down", check=False)
    assert f"{data} with the database and all backups" in down.stdout
    assert "nothing was done" in down.stdout
    assert _running(clone) == 3


@pytest.mark.drill
def test_down_ends_it_in_a_form_that_no_one_reads_line_by_line(clone: Clone, values: dict[str, str], up: str) -> None:
    assert clone.url in up
    _file(clone).write_text(FORMS["a list and an object"]({**values, "purgeOnDestroy": "false"}))
    # Purging is the state's to know: only an `up` takes it back.
    assert "Pulumi" not in clone.make("up").stderr
    clone.make("down")
    assert _running(clone) == 0
    assert (clone.directory / DATA / "postgres" / "PG_VERSION").exists()


def _running(clone: Clone) -> int:
    return len(docker("ps", "--quiet", "--filter", f"label=coder-pilot.stack={clone.name}").split())
