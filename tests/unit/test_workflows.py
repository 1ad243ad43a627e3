"""The workflow for published parts cannot run here: its steps are, with programs in their place that tell how they were
called, and the tests that it runs are collected."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from toolchain.debian import TEST_PACKAGES
from toolchain.pins import version

CHECKOUT = Path(__file__).resolve().parents[2]
NEWEST = "v2.39.1"
RUNNER_S = 60
# What a step starts on a runner; each tells its name and its words.
PROGRAMS = {
    "curl": 'echo \'echo "installing $*" >>"$CALLS"\'',
    "gh": f"echo {NEWEST}",
    "google-chrome": "",
    "sudo": "",
    "xargs": "cat >/dev/null",
    "uv": "",
    "docker": "",
}
PYTHON = """
case "$*" in
  "-m pip "* | "-m toolchain build"* | *pilot.session* | "-m pytest"*) exit 0 ;;
esac
exec {python} "$@"
"""


@pytest.fixture
def steps() -> dict[str, dict[str, Any]]:
    """The workflow's steps that are scripts, by name, or by their number where they have none."""
    (job,) = yaml.safe_load((CHECKOUT / ".github/workflows/published.yml").read_text())["jobs"].values()
    return {each.get("name", str(row)): each for row, each in enumerate(job["steps"]) if "run" in each}


class Runner:
    """A machine on which a step's script runs, and what it called there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls = directory / "calls"
        programs = directory / "bin"
        programs.mkdir()
        python = PYTHON.format(python=sys.executable)
        for name, does in {**PROGRAMS, "python": python, "python3": python}.items():
            program = programs / name
            program.write_text(f'#!/bin/bash\nprintf "%s\\n" "{name} $*" >>"$CALLS"\n{does}\n')
            program.chmod(0o755)
        self.variables = {
            "PATH": f"{programs}:/usr/bin:/bin", "HOME": str(directory), "CALLS": str(self.calls),
            "PYTHONPATH": str(CHECKOUT),
            **{name: str(directory / name) for name in ("GITHUB_PATH", "GITHUB_ENV", "GITHUB_STEP_SUMMARY")},
        }  # fmt: skip

    def run(self, script: str, folder: Path = CHECKOUT) -> str:
        """Run it as a runner does; what was called."""
        subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script], cwd=folder, env=self.variables,
            check=True, timeout=RUNNER_S,
        )  # fmt: skip
        return self.calls.read_text()

    def file(self, name: str) -> str:
        return (self.directory / name).read_text()


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_pulumi_and_uv_are_installed_as_they_are_pinned_and_found(
    steps: dict[str, dict[str, Any]], runner: Runner
) -> None:
    called = runner.run(steps["Pulumi and uv as they are pinned"]["run"])
    assert f"installing --version {version('pulumi')}\n" in called
    assert called.endswith(f"uv=={version('uv')}\n")
    assert runner.file("GITHUB_PATH").split() == [f"{runner.directory}/.pulumi/bin", f"{runner.directory}/.local/bin"]


def test_every_package_of_the_tests_is_installed_but_the_browser_that_is_there(
    steps: dict[str, dict[str, Any]], runner: Runner
) -> None:
    called = runner.run(steps["What the tests use of this machine"]["run"])
    (installed,) = re.findall(r"sudo apt-get install --yes --no-install-recommends (.*)", called)
    assert sorted(installed.split()) == sorted({*TEST_PACKAGES} - {"chromium"})
    assert f"sudo ln -s {runner.directory}/bin/google-chrome /usr/local/bin/chromium" in called


def test_the_newest_coder_is_the_one_that_the_tests_run_on(steps: dict[str, dict[str, Any]], runner: Runner) -> None:
    runner.run(steps["The newest stable Coder"]["run"])
    (line,) = runner.file("GITHUB_ENV").splitlines()
    shown = _python("from tests.e2e.parts import *; print(CODER_IMAGE, CODER_VERSION)", line)
    assert shown == f"ghcr.io/coder/coder:{NEWEST} {NEWEST[1:]}\n"


def test_without_it_they_run_on_the_images_of_the_settings() -> None:
    config = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())["config"]
    shown = _python("from tests.e2e.parts import *; print(CODER_IMAGE, POSTGRES_IMAGE, WORKSPACE_IMAGE)")
    assert shown.split() == [config[key]["default"] for key in ("coderImage", "postgresImage", "workspaceImages")]


def test_the_tests_are_run_with_a_report_and_their_outcome_is_the_steps(
    steps: dict[str, dict[str, Any]], runner: Runner, tmp_path: Path
) -> None:
    step = steps["The tests"]
    words = re.fullmatch(r'sudo --preserve-env env "PATH=\$PATH" (ci/test\.sh .*) 2>&1 \| tee report\.txt', step["run"])
    # With this shell, a pipe fails where its first program does.
    assert step["shell"] == "bash"
    assert words
    # In a folder of its own, without the programs of this checkout's `.venv`.
    (tmp_path / "ci").mkdir()
    shutil.copy(CHECKOUT / "ci" / "test.sh", tmp_path / "ci")
    called = runner.run(words[1], tmp_path)
    assert "python3 -m toolchain build tailscale testcontrol compose\n" in called
    assert "uv pip install --quiet --python .venv --require-hashes -r requirements.lock\n" in called
    (tests,) = re.findall(r"python -m pytest (.*)", called)
    assert tests.startswith("tests/e2e ")
    assert tests.endswith(" --junitxml report.xml")


def test_a_tests_pilot_finds_what_pulumi_install_laid_into_this_checkout_and_the_home(tmp_path: Path) -> None:
    shown = _python(
        "import sys; from pathlib import Path; from tests.e2e import parts; here = Path(sys.argv[1])\n"
        "parts.lay(here, here / 'home'); print(*(parts.variables()['PATH'].split(':')), sep='\\n')",
        "PATH=/published/bin", "PULUMI_HOME=/published/home",
        arguments=(str(tmp_path),),
    )  # fmt: skip
    links = [each for each in tmp_path.rglob("*") if each.is_symlink()]
    assert {each.relative_to(tmp_path).as_posix(): str(each.readlink()) for each in links} == {
        ".venv": f"{CHECKOUT}/.venv",
        "home/plugins": "/published/home/plugins",
        "home/dynamic_tf_plugins": "/published/home/dynamic_tf_plugins",
    }
    folders = shown.split()
    assert (folders[0], folders[-1]) == (f"{CHECKOUT}/.venv/bin", "/published/bin")
    assert not [each for each in folders if "/pulumi-cli/" in each]


def _python(program: str, *variables: str, arguments: Sequence[str] = ()) -> str:
    """What it prints with published parts."""
    environment = {
        **os.environ,
        "CODER_PILOT_TEST_IMAGES": "published",
        **dict(each.split("=", 1) for each in variables),
    }
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=CHECKOUT, env=environment, capture_output=True, text=True,
        check=True, timeout=RUNNER_S,
    ).stdout  # fmt: skip
