"""Claude Code, as it is in the workspace image, says when it works, when it waits for its user, and when it is idle."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
TIMEOUT_S = 60
ASK_LIMIT_S = 0.3
ALLOWED = ("--permission-mode", "default", "--allowedTools", "Bash,Agent")


@pytest.fixture
def claude() -> Path:
    """The `claude` of the workspace image."""
    program = Builder(pieces=PIECES).directory("code-server") / "bin" / "claude"
    assert program.exists(), f"{program} is missing: run `python3 -m toolchain build code-server`"
    return program


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose owner has answered the questions of a first start."""
    home = tmp_path / "home"
    home.mkdir()
    answered = {
        "hasCompletedOnboarding": True,
        "customApiKeyResponses": {"approved": [API_KEY[-20:]]},
        "projects": {str(home): {"hasTrustDialogAccepted": True}},
    }
    (home / ".claude.json").write_text(json.dumps(answered))
    return home


def environment(home: Path, api: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TERM": "xterm-256color",
        "ANTHROPIC_API_KEY": API_KEY,
        "ANTHROPIC_BASE_URL": api,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


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


@dataclass
class Work:
    """A command that Claude Code is told to run: it lasts until `finish` is there."""

    begun: Path
    finish: Path

    @property
    def command(self) -> str:
        return f"bash -c 'touch {self.begun}; until [ -e {self.finish} ]; do sleep 0.2; done'"


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "begun", tmp_path / "finish")


def ask(pid: int) -> list[dict[str, object]]:
    """What the watcher asks for."""
    asked = [SCRIPTS / "keep-alive.sh", "ask", str(pid)]
    done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60)
    answer: list[dict[str, object]] = json.loads(done.stdout)
    return answer


def says(pid: int, status: str) -> bool:
    """Whether the one session says that its status is this."""
    return [each["status"] for each in ask(pid)] == [status]


@pytest.mark.parametrize(
    ("way", "delegate"), [("terminal", False), ("-p", False), ("--bg", False), ("terminal", True), ("-p", True)]
)
def test_claude_code_says_that_it_works_for_as_long_as_a_turn_lasts(
    claude: Path, home: Path, work: Work, way: str, delegate: bool
) -> None:
    """In a terminal, unattended, in the background, and where a sub-agent does the work."""
    with claude_api.serve(work.command, commands=1, delegate=delegate) as api:
        options = [] if way == "terminal" else [way]
        terminal = Terminal([claude, *options, "Work", *ALLOWED], home, environment(home, api))
        pid = terminal.process.pid
        try:
            wait_until(work.begun.exists, "the command did not begin")
            if way == "--bg":
                # A process of its own, and what began it has ended.
                pid = json.loads(run(claude, "agents", "--json", home=home, api=api))[0]["pid"]
            assert says(pid, "busy")
            work.finish.touch()
            if way == "-p":
                assert terminal.process.wait(timeout=TIMEOUT_S) == 0
            else:
                wait_until(lambda: says(pid, "idle"), "the turn did not end")
        finally:
            run(claude, "daemon", "stop", "--any", home=home, api=api)
            terminal.end()


def run(claude: Path, *arguments: str, home: Path, api: str) -> str:
    done = subprocess.run(
        [claude, *arguments], env=environment(home, api), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def waiting(claude: Path, home: Path, work: Work) -> Iterator[Terminal]:
    """One that asks whether it may run a command."""
    with claude_api.serve(work.command, commands=1) as api:
        command: list[str | Path] = [claude, "Work", "--permission-mode", "default"]
        terminal = Terminal(command, home, environment(home, api))
        try:
            wait_until(lambda: terminal.shows("Do you want to proceed?"), "no question")
            yield terminal
        finally:
            terminal.end()


def test_claude_code_says_that_it_waits_at_a_question_works_after_it_and_is_idle_when_interrupted(
    waiting: Terminal, work: Work
) -> None:
    pid = waiting.process.pid
    wait_until(lambda: says(pid, "waiting"), "it does not say that it waits")
    waiting.types("1")
    wait_until(work.begun.exists, "the command did not begin")
    assert says(pid, "busy")
    waiting.types("\x1b")
    wait_until(lambda: says(pid, "idle"), "Esc did not end the turn")


def test_asking_is_cheap(waiting: Terminal) -> None:
    used_s = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ask(waiting.process.pid)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used_s.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    # The least of them: a busy machine makes the same work take longer.
    assert min(used_s) <= ASK_LIMIT_S, used_s


def test_a_waiting_claude_code_uses_less_than_what_counts_as_work(waiting: Terminal) -> None:
    found = re.search(r"^readonly busy_percent=(\d+)$", (SCRIPTS / "keep-alive.sh").read_text(), re.MULTILINE)
    assert found
    before_s, began_s = waiting.used_s(), time.monotonic()
    time.sleep(MEASURED_S)
    used_percent = 100 * (waiting.used_s() - before_s) / (time.monotonic() - began_s)
    assert 0 < used_percent < int(found[1])
