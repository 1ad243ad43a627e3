"""What the documentation and the workflows say is what there is."""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from ci import settings_doc, toolchain_doc
from pilot.__main__ import COMMANDS
from stack import settings

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md")), CHECKOUT / "toolchain" / "README.md"]
WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))


def test_the_page_of_settings_is_what_the_program_says() -> None:
    assert (CHECKOUT / "docs" / "settings.md").read_text() == settings_doc.page(), "run `make docs`"


def test_every_setting_is_documented() -> None:
    documented, groups = settings_doc.documented(), get_type_hints(settings.Settings)
    assert all(documented.get((groups[group].__name__, field)) for group, field, _ in settings.KEYS.values())


def test_the_table_of_the_toolchain_is_what_the_pins_say() -> None:
    assert toolchain_doc.FILE.read_text() == toolchain_doc.page(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    # The picture is made by the end-to-end suite.
    links = re.findall(r"(?<!!)\[[^\]]+\]\((?!https?://)([^)#]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_command_that_is_named_is_a_target(page: Path) -> None:
    code = re.findall(r"```.*?```|`[^`]+`", page.read_text(), re.DOTALL)
    named = {name for each in code for name in re.findall(r"(?:`|^|\n) *make ([a-z][a-z-]*)", each)}
    assert not named - _targets()


def test_every_command_of_the_pilot_is_a_target_with_help() -> None:
    assert not set(COMMANDS) - _targets()
    for name in COMMANDS:
        module = importlib.import_module(f"pilot.{name.replace('-', '_')}")
        assert module.__doc__, name
        parser = argparse.ArgumentParser()
        module.configure(parser)
        assert "--help" in parser.format_help(), name


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_workflows_pin_actions_by_digest_and_ask_for_little(workflow: Path) -> None:
    text = workflow.read_text()
    record = yaml.safe_load(text)
    for line in re.findall(r"uses: (.*)", text):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", line), line
    assert record["permissions"] == {}
    for job in record["jobs"].values():
        assert job["timeout-minutes"]
        steps = [step for step in job["steps"] if "checkout@" in step.get("uses", "")]
        assert all(step["with"]["persist-credentials"] is False for step in steps)
        # What may write runs nobody's code but ours.
        if "write" in job["permissions"].values():
            assert not steps


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_no_text_of_others_is_pasted_into_a_shell(workflow: Path) -> None:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        assert not [step["run"] for step in job["steps"] if "${{" in step.get("run", "")]


def test_no_pull_request_runs_on_the_box() -> None:
    for workflow in WORKFLOWS:
        record = yaml.safe_load(workflow.read_text())
        triggers = record[True]  # YAML's name for `on`
        if any("self-hosted" in job["runs-on"] for job in record["jobs"].values()):
            assert not [each for each in triggers if each.startswith("pull_request")]


def test_the_stack_of_the_shell_is_that_of_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK", "framework")
    for name in COMMANDS:
        parser = argparse.ArgumentParser()
        importlib.import_module(f"pilot.{name.replace('-', '_')}").configure(parser)
        assert parser.get_default("stack") == "framework", name
    shown = subprocess.run(
        ["make", "--dry-run", "--print-data-base", "help"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    assert "\nSTACK = framework\n" in shown
