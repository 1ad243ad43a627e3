"""The tile goes on with the last conversation where there is one that nobody has open; it says what an image lacks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.template.template_support import Script

CALLS = 'printf "%s\\n" "claude $*" >>"$HOME/calls"'


@pytest.fixture
def home(workspace_env: dict[str, str]) -> Path:
    """A home with a project, and a `claude` on PATH that knows of no session."""
    home = Path(workspace_env["HOME"])
    (home / "project").mkdir()
    programs = home / "bin"
    programs.mkdir()
    workspace_env["PATH"] = f"{programs}:{workspace_env['PATH']}"
    claude(home, "[]")
    return home


def claude(home: Path, sessions: str, otherwise: str = "true") -> None:
    program = home / "bin" / "claude"
    program.write_text(f"#!/bin/bash\n{CALLS}\nif [[ $1 == agents ]]; then echo '{sessions}'; else {otherwise}; fi\n")
    program.chmod(0o755)


def a_conversation(home: Path) -> None:
    folder = home / ".claude" / "projects" / "of-any-folder"
    folder.mkdir(parents=True)
    (folder / "conversation.jsonl").touch()


def called(home: Path) -> list[str]:
    return [line for line in (home / "calls").read_text().splitlines() if "agents" not in line]


def test_a_first_visit_begins_a_conversation(script: Script, home: Path) -> None:
    done = script("claude.sh", "run")
    assert called(home) == ["claude "]
    assert "Claude Code has ended" in done.stdout


def test_the_last_conversation_goes_on(script: Script, home: Path) -> None:
    a_conversation(home)
    script("claude.sh", "run")
    assert called(home) == ["claude --continue"]


def test_where_the_folder_has_no_conversation_one_begins(script: Script, home: Path) -> None:
    a_conversation(home)
    claude(home, "[]", otherwise="[[ $1 != --continue ]]")
    script("claude.sh", "run")
    assert called(home) == ["claude --continue", "claude "]


@pytest.mark.parametrize(("folder", "call"), [("here", "claude "), ("/elsewhere", "claude --continue")])
def test_beside_another_claude_of_the_folder_a_conversation_of_its_own_begins(
    script: Script, home: Path, folder: str, call: str
) -> None:
    a_conversation(home)
    sessions = [{"pid": 1, "cwd": folder.replace("here", str(Path.cwd())), "status": "idle"}]
    claude(home, json.dumps(sessions, indent=2))
    script("claude.sh", "run")
    assert called(home) == [call]


def test_an_image_without_tmux_is_told_in_the_agents_log_and_in_the_tile(
    script: Script, workspace_env: dict[str, str], tmp_path: Path
) -> None:
    assert script("claude.sh", "check").stderr == ""
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "bash").symlink_to(shutil.which("bash") or "/bin/bash")
    checked = script("claude.sh", "check", PATH=str(bare))
    assert checked.returncode == 0
    assert 'no tile "Claude": This image has no tmux' in checked.stderr
    assert "This image has no tmux" in script("claude.sh", PATH=str(bare)).stdout


def test_the_tile_is_one_terminal_of_a_server_of_its_own(
    script: Script, home: Path, workspace_env: dict[str, str]
) -> None:
    program = home / "bin" / "tmux"
    program.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    Path(workspace_env["CODER_PILOT_STATE_DIR"]).mkdir()
    arguments = script("claude.sh").stdout.splitlines()
    assert " ".join(arguments).startswith("-u -L coder-pilot -f ")
    assert arguments[5:11] == ["new-session", "-A", "-s", "claude", "-c", workspace_env["CODER_PILOT_PROJECT_DIR"]]
    settings = Path(arguments[4]).read_text().splitlines()
    assert settings[-1] == "source-file -q ~/.tmux.conf", "the person's own settings have to win"
