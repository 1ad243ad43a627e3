"""A reviewer reads first, and in words, what a plan deletes or replaces; a plan that cannot be read is no good news."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ci import plan, plan_words

CONTAINER = "coder-pilot:control-plane:ControlPlane$docker:index/container:Container"
VOLUME = "docker:index/volume:Volume"
TEMPLATE = "coder-pilot:template:Template$coderd:index/template:Template"


def _step(op: str, type_: str, name: str, **more: Any) -> dict[str, Any]:
    return {"op": op, "urn": f"urn:pulumi:local::coder-pilot::{type_}::{name}", **more}


def _words(tmp_path: Path, *steps: dict[str, Any], diagnostics: list[dict[str, str]] | None = None) -> str:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"steps": list(steps), "diagnostics": diagnostics}))
    return plan_words.words(plan.read(file))


def test_deletions_and_replacements_come_before_everything_else(tmp_path: Path) -> None:
    told = _words(
        tmp_path,
        _step("create", VOLUME, "fresh"),
        _step("update", TEMPLATE, "template", diffReasons=["versions"]),
        _step("replace", CONTAINER, "coder", replaceReasons=["envs", "ports"], diffReasons=["envs", "memory", "ports"]),
        _step("delete", VOLUME, "home", oldState={}),
    )
    heads = [line for line in told.splitlines() if line.startswith("###")]
    assert heads == ["### Deletes", "### Replaces", "### Updates in place", "### Creates"]
    assert told.startswith("### Deletes\n- **home** (Volume)\n")


def test_a_replacement_says_why_and_what_it_means_for_people(tmp_path: Path) -> None:
    told = _words(tmp_path, _step("replace", CONTAINER, "coder", replaceReasons=["envs", "ports"]))
    assert "- **coder** (Container): because of `envs` and `ports`; Coder is away for some seconds" in told


def test_what_stays_although_the_state_forgets_it_is_said_so(tmp_path: Path) -> None:
    told = _words(tmp_path, _step("delete", TEMPLATE, "template", oldState={"retainOnDelete": True}))
    assert "only from the state; the thing itself stays" in told


def test_an_update_names_what_changes(tmp_path: Path) -> None:
    told = _words(tmp_path, _step("update", TEMPLATE, "template", diffReasons=["versions"]))
    assert told.startswith("Nothing is deleted or replaced.")
    assert "- **template** (Template): `versions`" in told


def test_a_plan_without_changes_says_so(tmp_path: Path) -> None:
    assert _words(tmp_path, _step("same", "pulumi:pulumi:Stack", "coder-pilot-local")) == "Nothing changes.\n"


def test_components_and_the_stack_are_left_out(tmp_path: Path) -> None:
    told = _words(
        tmp_path,
        _step("create", "pulumi:pulumi:Stack", "coder-pilot-local"),
        _step("create", "coder-pilot:admin:Admin", "admin"),
        _step("create", "coder-pilot:template:Template$pulumi:providers:coderd", "coderd"),
    )
    assert "- **coderd** (provider)" in told
    assert "admin" not in told
    assert "local" not in told


def test_warnings_of_pulumi_are_repeated(tmp_path: Path) -> None:
    said = [{"severity": "warning", "message": "warning: the tailnet is not ready\n"}]
    assert "- warning: the tailnet is not ready" in _words(tmp_path, diagnostics=said)


@pytest.mark.parametrize("text", ["", "error: no such stack", "[]", '{"steps": [{}]}'])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    file.write_text(text)
    assert plan_words.main([str(file)]) == 2
    assert "did the preview fail?" in capsys.readouterr().err
