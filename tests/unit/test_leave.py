"""The script that `make leave` writes runs the kept homes by itself, beside no Coder, and shows no password."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pilot import leave

DEFAULTS = {
    "owner": "workspace", "folder": "/home/coder", "memory": "4096m", "cpus": "2", "image": "localhost/i:1",
    "user.name": "Ann", "user.email": "ann@example.com",
}  # fmt: skip
ADOPTED = {**DEFAULTS, "name": "old", "owner": "me"}
KNOWN = {
    "stack": "coder", "docker_host": "unix:///nowhere", "tailscale": ["tailscale", "--socket=/s"],
    "options": ["--pids-limit=10"], "editor": ["--disable-telemetry"],
    "defaults": DEFAULTS,
    "workspaces": {"coder-1-home": ADOPTED, "coder-2-home": {**ADOPTED, "name": "demo"}},
}  # fmt: skip
DOCKER = """#!/bin/sh
echo "$@" >>{folder}/calls
case "$1 $2" in
  "volume ls") cat {folder}/volumes ;;
  "ps --all") cat {folder}/server ;;
  "image ls") echo image ;;
  "ps --filter="*) cat {folder}/port ;;
  "ps -a" | "ps -aq") cat {folder}/port {folder}/ended ;;
  "run --detach") echo "no space" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """Runs it with a Docker that writes down what it is asked; what it said."""
    file = leave.write(cast(Any, SimpleNamespace(site=SimpleNamespace(data_dir=str(tmp_path)))), KNOWN, "framework")
    assert len(file.read_text().splitlines()) <= 150
    docker = tmp_path / "docker"
    docker.write_text(DOCKER.format(folder=tmp_path))
    docker.chmod(0o755)
    (tmp_path / "tailscale").write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\necho \'{{"Self": {{"DNSName": "box.example.ts.net."}}}}\'\n'
    )
    (tmp_path / "tailscale").chmod(0o755)
    for name in ("server", "port", "ended"):
        (tmp_path / name).write_text("")
    # Ours, an adopted one without labels, one of `new`, and one of another pilot.
    (tmp_path / "volumes").write_text(
        "coder-1-home|||||\ncoder-2-home|coder|2|me|demo|\ncoder-3-home|coder|3|ann|new|/home/coder/repo\nx|other||x|x|\n"
    )

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, file, *words], env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=60,
        )  # fmt: skip
        return done.stdout

    return run


def test_every_kept_home_is_shown_by_its_workspace_s_name(script: Callable[..., str]) -> None:
    assert [line.split() for line in script("ls").splitlines()] == [
        ["demo", "parked"], ["new", "parked"], ["old", "parked"],
    ]  # fmt: skip


def test_two_of_one_name_are_shown_with_their_owners(script: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "volumes").write_text(
        "coder-2-home|||||\ncoder-3-home|coder|3||demo|\ncoder-4-home|coder|4|ann|demo|\n"
    )
    assert {line.split()[0] for line in script("ls").splitlines()} == {"me/demo", "workspace/demo", "ann/demo"}
    script("up", "ann/demo")
    assert "--name=coder.ann.demo" in (tmp_path / "calls").read_text()


def test_a_start_has_limits_and_loopback_and_no_password_in_an_argument(
    script: Callable[..., str], tmp_path: Path
) -> None:
    assert script("up", "old") == "error: `docker run` failed: no space\n"
    (started,) = [line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith("run ")]
    for word in ("--name=coder.me.old", "--volume=coder-1-home:/home/coder", "--memory=4096m", "--memory-swap=4096m",
                 "--cpus=2", "--pids-limit=10", "--label=coder.workspace_id=1"):  # fmt: skip
        assert word in started.split()
    assert "--publish=127.0.0.1:7" in started
    (file,) = (tmp_path / ".config" / "workspace").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    name, _, password = file.read_text().strip().partition("=")
    assert name == "PASSWORD"
    assert len(password) >= 20
    assert password not in (tmp_path / "calls").read_text()


def test_the_folder_and_the_owner_of_a_new_home_are_in_its_labels_and_used_again(
    script: Callable[..., str], tmp_path: Path
) -> None:
    script("new", "another", "https://example.com/group/repo.git")
    calls = (tmp_path / "calls").read_text().splitlines()
    (made,) = [line for line in calls if line.startswith("volume create")]
    assert "--label=coder-pilot.folder=/home/coder/repo" in made
    assert "--label=coder.owner=workspace" in made
    (tmp_path / "port").write_text("7123\n")
    assert "http://new.localhost:7123/?folder=/home/coder/repo\n" in script("up", "new")


def test_its_commands_are_for_the_stack_that_was_left(script: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "server").write_text("1234\n")
    assert "or `make leave STACK=framework` first" in script("up", "demo")


def test_the_tailnet_reaches_one_that_is_up_and_no_longer_one_that_is_parked(
    script: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "port").write_text("7123\n")
    said = script("up", "old")
    assert "editor    http://old.localhost:7123/?folder=/home/coder\n" in said
    assert "tailnet   https://box.example.ts.net:7123/?folder=/home/coder\n" in said
    assert script("ls").splitlines()[-1].split() == ["old", "127.0.0.1:7123"]
    assert script("down", "old") == ""
    calls = (tmp_path / "calls").read_text().splitlines()
    assert "--socket=/s serve --bg --https=7123 http://127.0.0.1:7123" in calls
    assert calls[calls.index("--socket=/s serve --https=7123 off") :][2:] == ["stop coder.me.old", "rm coder.me.old"]
    assert not [line for line in calls if line.startswith("run ")]


@pytest.mark.parametrize("command", ["down", "up"])
def test_the_tailnet_no_longer_reaches_the_port_of_one_that_ended_by_itself(
    script: Callable[..., str], tmp_path: Path, command: str
) -> None:
    (tmp_path / "ended").write_text("7123\n")
    script(command, "old")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert "--socket=/s serve --https=7123 off" in calls
    assert "rm coder.me.old" in calls[calls.index("--socket=/s serve --https=7123 off") :]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "usage: workspace ls"),
        (("up",), "usage: workspace ls"),
        (("remove", "demo"), "usage: workspace ls"),
        (("up", "no"), "there is no home of no; there are: demo, new, old"),
        (("down", "no"), "there is no home of no"),
        (("new", "Demo"), "Demo is there already"),
        (("new", "a b"), "'a b' is no name"),
        (("new", "x" * 33), "is no name"),
    ],
)
def test_bad_input_is_refused_and_touches_nothing(
    script: Callable[..., str], tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    assert why in script(*words)
    calls = (tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else ""
    assert not [line for line in calls.splitlines() if line.startswith(("run", "volume create", "rm", "stop"))]


def test_while_coder_runs_nothing_is_started(script: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "server").write_text("1234\n")
    for words in (("up", "demo"), ("new", "another")):
        assert "Coder is there, and the homes are its own" in script(*words)
    assert "run --detach" not in (tmp_path / "calls").read_text()


@pytest.mark.parametrize(
    ("repository", "folder"),
    [
        ("https://example.com/group/repo.git#main", "/home/coder/repo"), ("git@example.com:repo", "/home/coder/repo"),
        ("https://example.com/.ssh", "/home/coder/project"), ("", "/home/coder/project"),
    ],
)  # fmt: skip
def test_a_workspace_keeps_its_image_limits_and_project(repository: str, folder: str) -> None:
    parameters = {"git_repository": repository, "memory_mb": "2048", "cpus": "3", "image": "base:1"}
    row = {"name": "demo", "owner": "me", "full_name": "", "email": "me@example.com", "parameters": parameters}
    assert leave._of(row, {"base:1": "localhost/i:2"}) == {
        "name": "demo", "owner": "me", "user.name": "me", "user.email": "me@example.com", "memory": "2048m",
        "cpus": "3", "image": "localhost/i:2", "folder": folder,
    }  # fmt: skip
    assert "memory" not in leave._of({**row, "parameters": None}, {})


def test_the_source_is_what_the_script_is_made_of() -> None:
    text = leave.SOURCE.read_text()
    assert text.count(leave.EMPTY) == 1
    assert os.access(leave.SOURCE, os.R_OK)
