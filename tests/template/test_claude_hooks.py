"""Claude Code, as it is in the workspace image, tells by its hooks when it works and when it waits."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import claude_api
from tests.template.template_support import SCRIPTS
from toolchain.builder import Builder
from toolchain.pieces import PIECES

API_KEY = "sk-test-of-no-account-at-all"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Its first seconds take the most; the watcher looks at whole minutes.
MEASURED_S = 10
# A minute after the turn Claude Code tells once more that it waits: too late for a hook of the turn's end.
TIMEOUT_S = 40


@pytest.fixture
def claude() -> Path:
    """The `claude` of the workspace image."""
    program = Builder(pieces=PIECES).directory("code-server") / "bin" / "claude"
    assert program.exists(), f"{program} is missing: run `python3 -m toolchain build code-server`"
    return program


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose owner has answered the questions of a first start, with the template's hooks."""
    home = tmp_path / "home"
    (home / ".claude").mkdir(parents=True)
    # In a workspace the template lays the same hooks into /etc/claude-code.
    hooks = (SCRIPTS / "claude-hooks.json").read_text().replace("/tmp/coder-pilot", str(SCRIPTS))
    (home / ".claude" / "settings.json").write_text(hooks)
    answered = {
        "hasCompletedOnboarding": True,
        "customApiKeyResponses": {"approved": [API_KEY[-20:]]},
        "projects": {str(home): {"hasTrustDialogAccepted": True}},
    }
    (home / ".claude.json").write_text(json.dumps(answered))
    return home


def environment(home: Path, api: str, state: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TERM": "xterm-256color",
        "ANTHROPIC_API_KEY": API_KEY,
        "ANTHROPIC_BASE_URL": api,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CODER_PILOT_STATE_DIR": str(state),
    }


def test_claude_code_claims_work_during_a_turn_and_rests_after_it(claude: Path, home: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with claude_api.serve(f"cat {state}/claims/[0-9]* >{tmp_path}/during", commands=1) as api:
        done = subprocess.run(
            [claude, "-p", "Work", "--allowedTools", "Bash"],
            cwd=home,
            env=environment(home, api, state),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert (done.returncode, done.stdout.strip()) == (0, "Done."), done.stderr
    assert (tmp_path / "during").read_text().startswith("working ")
    (claim,) = state.glob("claims/[0-9]*")
    assert claim.read_text().startswith("idle ")


class Terminal:
    """A Claude Code at which a person sits."""

    def __init__(self, command: list[str | Path], home: Path, env: dict[str, str]) -> None:
        self._own, other = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=home, env=env, stdin=other, stdout=other, stderr=other, start_new_session=True
        )
        os.close(other)
        self._written = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        # The other end is closed with an error.
        with contextlib.suppress(OSError):
            while more := os.read(self._own, 65536):
                self._written += more

    def shows(self, text: str) -> bool:
        """Whether it wrote `text`, apart from spaces: it moves the cursor instead of writing them."""
        shown = re.sub(rb"\x1b\[[^a-zA-Z]*[a-zA-Z]|\s", b"", self._written).decode(errors="replace")
        return text.replace(" ", "") in shown

    def types(self, keys: str) -> None:
        os.write(self._own, keys.encode())

    def used_s(self) -> float:
        """The processor time that it used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return sum(int(each) for each in fields[11:15]) / TICKS_PER_S

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)
        os.close(self._own)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def asked(claude: Path, home: Path, tmp_path: Path) -> Iterator[Terminal]:
    """One that asks whether it may run a command, which it claimed to do before."""
    with claude_api.serve(f"echo allowed >{tmp_path}/written", commands=1) as api:
        command: list[str | Path] = [claude, "Work", "--permission-mode", "default"]
        terminal = Terminal(command, home, environment(home, api, tmp_path / "state"))
        try:
            wait_until(lambda: terminal.shows("Do you want to proceed?"), "no question")
            yield terminal
        finally:
            terminal.end()


def claim(tmp_path: Path, pid: int) -> str:
    return (tmp_path / "state" / "claims" / str(pid)).read_text().split()[0]


def test_claude_code_rests_at_a_question_and_after_the_turn(asked: Terminal, tmp_path: Path) -> None:
    assert claim(tmp_path, asked.process.pid) == "working"
    wait_until(lambda: claim(tmp_path, asked.process.pid) == "idle", "a claim of work at a question")
    asked.types("1")
    wait_until((tmp_path / "written").exists, "the command did not run")
    wait_until(lambda: asked.shows("Done."), "the turn did not end")
    wait_until(lambda: claim(tmp_path, asked.process.pid) == "idle", "a claim of work after the turn")


def test_a_waiting_claude_code_uses_less_than_what_counts_as_work(asked: Terminal) -> None:
    found = re.search(r"^readonly busy_percent=(\d+)$", (SCRIPTS / "keep-alive.sh").read_text(), re.MULTILINE)
    assert found
    before_s, began_s = asked.used_s(), time.monotonic()
    time.sleep(MEASURED_S)
    used_percent = 100 * (asked.used_s() - before_s) / (time.monotonic() - began_s)
    assert 0 < used_percent < int(found[1])
