"""`make adopt` notes for `up` what it found, and a later look takes back an earlier one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilot import adopt
from pilot.configuration import PilotError
from stack.jobs import pilot_file
from stack.jobs.adoption import Workspace
from tests.unit.test_adoption import container, resource, state, volume, workspace

GOOD = workspace(state(volume()), state(volume(), container()))
BAD = workspace(state(volume(), resource("docker_volume", "data", {"name": "d"})))


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Looks at a database with a template `code-server` and its workspaces; what it said."""

    def run(*workspaces: Workspace, ours: bool = False, beside: bool = False, own: bool = False) -> str:
        def ask(_: str, sql: str) -> list[str]:
            if sql == adopt.TEMPLATES:
                return [f"theirs|{'t' if ours else 'f'}|0"]
            if sql == adopt.BESIDE:
                return ["1"] if beside else []
            return [json.dumps({"title": each.title}) for each in workspaces]

        known = {each.title: each for each in workspaces}
        site = SimpleNamespace(data_dir=str(tmp_path), postgres_container="ours")
        for name, value in {
            "select_engine": lambda _: None,
            "_postgres_on": lambda _: "ours" if own else "old",
            "_ask": ask,
            "_problems": lambda *_: [],
            "_owner": lambda *_: ["its owner"],
        }.items():
            monkeypatch.setattr(adopt, name, value)
        found: Any = SimpleNamespace(site=site, admin=None)
        monkeypatch.setattr(adopt.configuration, "settings", lambda _: found)
        monkeypatch.setattr(adopt.postgres, "ready", lambda *_: True)
        monkeypatch.setattr(adopt.backups, "dump", lambda *_, **__: "dump")
        monkeypatch.setattr(adopt.adoption, "workspace", lambda row: known[json.loads(row)["title"]])
        adopt.run(argparse.Namespace(stack="x"))
        return capsys.readouterr().out

    return run


def test_what_can_become_ours_is_noted_with_its_id_and_address(look: Callable[..., str], tmp_path: Path) -> None:
    said = look(GOOD)
    assert "me/w1      stopped  docker_volume.home_volume  docker_container.workspace  nothing else" in said
    assert pilot_file.read(str(tmp_path)) == {
        "template_id": "theirs", "default_ttl_ms": 0,
        "adoption": {"template": "theirs", "home": "docker_volume.home_volume"},
    }  # fmt: skip


def test_a_later_look_takes_the_earlier_one_back(look: Callable[..., str], tmp_path: Path) -> None:
    look(GOOD)
    said = look(BAD)
    assert "not offered" in said
    assert "me/w1: docker_volume.data would be destroyed, a second volume" in said
    # Else `up` would take the template of the others for ours, and rename it.
    assert pilot_file.read(str(tmp_path)) == {"adoption": {"template": "theirs", "home": ""}}
    assert pilot_file.template_name(str(tmp_path)) == "project"
    look(GOOD)
    assert pilot_file.template_name(str(tmp_path)) == "code-server"


def test_ours_that_stands_beside_it_stays_ours(look: Callable[..., str], tmp_path: Path) -> None:
    pilot_file.update(str(tmp_path), template_id="ours")
    assert "ours is there as `project` already" in look(GOOD, beside=True, own=True)
    assert pilot_file.template_id(str(tmp_path)) == "ours"
    assert pilot_file.template_name(str(tmp_path)) == "project"


def test_what_is_ours_already_is_looked_at_again_and_never_put_beside(look: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(PilotError, match="nothing to take over"):
        look(ours=True, own=True)
    look(GOOD, ours=True, own=True)
    assert pilot_file.adopted_home(str(tmp_path)) == "docker_volume.home_volume"
    assert "is ours, and an update of these would lose files" in look(BAD, ours=True, own=True)
    assert pilot_file.adopted_home(str(tmp_path)) == "docker_volume.home_volume"


def test_the_owner_is_told_until_the_pilot_is_taken_over(look: Callable[..., str]) -> None:
    assert "- its owner" in look(BAD)
    # An `up` that was refused half-way has made this stack's own Postgres already.
    assert "- its owner" in look(BAD, own=True)
    assert "- its owner" not in look(GOOD, ours=True, own=True)


@pytest.mark.parametrize(
    ("owners", "told"),
    [
        (["admin|admin@framework.local"], []),
        (
            ["anna|anna@x.y", "bob|bob@x.y"],
            ["`pulumi config set adminUsername anna`", "`pulumi config set adminEmail anna@x.y`"],
        ),
        (
            ["me|me@x.y"],
            ["Coder opens no app of a user of that name: `up` renames him to admin", "adminEmail me@x.y`"],
        ),
    ],
)
def test_the_owner_is_told_which_settings_name_him_and_how_he_goes_on(
    monkeypatch: pytest.MonkeyPatch, owners: list[str], told: list[str]
) -> None:
    monkeypatch.setattr(adopt.postgres, "query", lambda *_: owners)
    *settings, last = adopt._owner("old", adopt.configuration.settings("framework"))
    assert [wanted in said for wanted, said in zip(told, settings, strict=True)] == [True] * len(told)
    address = owners[0].split("|")[1]
    assert last.startswith(
        f"the owner stays what he is, with his workspaces: sign in as {address} with what `make pass"
    )
    assert "an account for every day, dev, which the box at its end names" in last
    assert not any("adminUsername me" in each for each in settings)
