"""Claude Code, as it is in the workspace image, tells by its hooks when it works and when it waits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import claude_api
from tests.template.template_support import SCRIPTS
from toolchain.builder import Builder
from toolchain.pieces import PIECES


@pytest.fixture
def claude() -> Path:
    """The `claude` of the workspace image."""
    program = Builder(pieces=PIECES).directory("code-server") / "bin" / "claude"
    assert program.exists(), f"{program} is missing: run `python3 -m toolchain build code-server`"
    return program


def test_claude_code_claims_work_during_a_turn_and_rests_after_it(claude: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".claude").mkdir(parents=True)
    # In a workspace the template lays the same hooks into /etc/claude-code.
    hooks = (SCRIPTS / "claude-hooks.json").read_text().replace("/tmp/coder-pilot", str(SCRIPTS))
    (home / ".claude" / "settings.json").write_text(hooks)
    state = tmp_path / "state"
    with claude_api.serve(f"cat {state}/claims/[0-9]* >{tmp_path}/during", commands=1) as api:
        done = _ask(claude, home, api, state)
    assert (done.returncode, done.stdout.strip()) == (0, "Done."), done.stderr
    assert (tmp_path / "during").read_text().startswith("working ")
    (claim,) = state.glob("claims/[0-9]*")
    assert claim.read_text().startswith("idle ")


def _ask(claude: Path, home: Path, api: str, state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [claude, "-p", "Work", "--allowedTools", "Bash"],
        cwd=home,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ANTHROPIC_API_KEY": "sk-test",
            "ANTHROPIC_BASE_URL": api,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CODER_PILOT_STATE_DIR": str(state),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
