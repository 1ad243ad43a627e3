"""A Claude at work holds the workspace, once a minute and up to the cap; a waiting, ended or other process does not.

Real processes are watched. A simulated Claude is a script called `claude`, which is also the name that Claude Code
gives itself; Claude Code itself runs in test_claude_hooks.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.template.template_support import SCRIPTS, FakeCoder

INTERVAL_S = 1
Start = Callable[..., subprocess.Popen[bytes]]

BUSY = "while :; do :; done"
WAITING = "sleep 1000"
BUSY_CHILD = "bash -c 'while :; do :; done' & wait"
# As Claude Code runs its hooks: from a shell of its own.
HOOK = f"echo '{{}}' | sh -c '{SCRIPTS}/keep-alive.sh %s; true'"


@pytest.fixture
def namespace() -> Iterator[list[str]]:
    """The command that runs another one among no processes but the test's, as in a container.

    Without it a real Claude on this machine would be watched as well.
    """
    # With the signal ignored the kernel takes away whatever ends, as a container's first process does.
    first = ["sh", "-c", "trap '' CHLD; echo ready; exec sleep infinity"]
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with subprocess.Popen([*unshare, *first], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        child = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().strip()
        yield ["nsenter", "--target", child, "--user", "--preserve-credentials", "--pid", "--mount", "--"]
        process.kill()


@pytest.fixture
def start(workspace_env: dict[str, str], tmp_path: Path, namespace: list[str]) -> Iterator[Start]:
    """Starts a program in a process group of its own, which ends with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def run(name: str, text: str) -> subprocess.Popen[bytes]:
        folder = tmp_path / f"program-{len(running)}"
        folder.mkdir()
        program = folder / name
        # Not through env, which would give the process the name of bash.
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
        running.append(
            subprocess.Popen([*namespace, program], env=workspace_env, start_new_session=True, stdin=subprocess.DEVNULL)
        )
        return running[-1]

    yield run
    for process in running:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


@pytest.fixture
def watch(workspace_env: dict[str, str], namespace: list[str]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the watcher, with a minute that takes a second."""
    watchers: list[subprocess.Popen[bytes]] = []

    def run(cap_s: int = 3600) -> subprocess.Popen[bytes]:
        environment = {
            **workspace_env,
            "CODER_PILOT_KEEP_ALIVE_INTERVAL_S": str(INTERVAL_S),
            "CODER_PILOT_KEEP_ALIVE_CAP_S": str(cap_s),
        }
        watchers.append(
            subprocess.Popen(
                [*namespace, "bash", SCRIPTS / "keep-alive.sh", "watch"],
                env=environment,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        )
        wait_until(lambda: status_file(workspace_env).exists())
        return watchers[-1]

    yield run
    for process in watchers:
        survived = process.poll() is None
        stop(process)
        assert survived, f"the watcher ended: {process.stderr.read().decode() if process.stderr else ''}"


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def status_file(workspace_env: dict[str, str]) -> Path:
    return Path(workspace_env["CODER_PILOT_STATE_DIR"]) / "status"


def samples_pass(workspace_env: dict[str, str], count: int) -> None:
    """Returns after the watcher looked `count` times more: it writes its status each time."""
    for _ in range(count):
        before = status_file(workspace_env).stat().st_mtime_ns
        wait_until(lambda before=before: status_file(workspace_env).stat().st_mtime_ns != before)  # type: ignore[misc]


def test_a_busy_claude_is_reported_as_working(
    start: Start, watch: Start, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    watch()
    start("claude", BUSY)
    fake_coder.wait_for(lambda: len(fake_coder.requests) >= 2)
    assert fake_coder.requests[0] == (
        "PATCH",
        "/api/v2/workspaceagents/me/app-status",
        {"app_slug": "code-server", "state": "working", "message": "Claude is working", "uri": ""},
    )
    assert set(fake_coder.states()) == {"working"}
    assert fake_coder.tokens == {"agent-token"}
    assert status_file(workspace_env).read_text().startswith("working for 0 min")


def test_what_a_claude_started_counts_as_its_work(start: Start, watch: Start, fake_coder: FakeCoder) -> None:
    watch()
    start("claude", BUSY_CHILD)
    fake_coder.wait_for(lambda: fake_coder.states() == ["working"])


def test_a_waiting_claude_is_not_reported(
    start: Start, watch: Start, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    start("claude", WAITING)
    watch()
    samples_pass(workspace_env, 3)
    assert fake_coder.requests == []
    assert status_file(workspace_env).read_text() == "idle\n"


def test_another_busy_program_is_not_reported(
    start: Start, watch: Start, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    watch()
    start("claudette", BUSY)
    samples_pass(workspace_env, 3)
    assert fake_coder.requests == []


def test_an_ended_program_that_nobody_took_away_disturbs_nothing(
    start: Start, watch: Start, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    """Such a zombie has no command line."""
    start("careless", f"sleep 0.5 & exec {WAITING}")
    watch()
    samples_pass(workspace_env, 2)
    start("claude", BUSY)
    fake_coder.wait_for(lambda: "working" in fake_coder.states())


def test_idle_is_reported_once_when_the_claude_ends(
    start: Start, watch: Start, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    watch()
    claude = start("claude", BUSY)
    fake_coder.wait_for(lambda: "working" in fake_coder.states())
    stop(claude)
    fake_coder.wait_for(lambda: "idle" in fake_coder.states())
    told = len(fake_coder.requests)
    samples_pass(workspace_env, 3)
    assert len(fake_coder.requests) == told
    assert fake_coder.requests[-1][2]["message"] == "Claude is idle"


def test_a_report_comes_at_most_once_an_interval(start: Start, watch: Start, fake_coder: FakeCoder) -> None:
    watch()
    start("claude", BUSY)
    start("claude", BUSY)
    fake_coder.wait_for(lambda: len(fake_coder.arrivals_s) >= 4)
    gaps_s = [later - earlier for earlier, later in pairwise(fake_coder.arrivals_s)]
    assert min(gaps_s) >= 0.9 * INTERVAL_S


def test_a_hook_claims_work_that_uses_no_cpu(start: Start, watch: Start, fake_coder: FakeCoder) -> None:
    watch()
    start("claude", f"{HOOK % 'working'}; {WAITING}")
    fake_coder.wait_for(lambda: len(fake_coder.requests) >= 3)
    assert set(fake_coder.states()) == {"working"}


def test_the_hook_of_the_end_of_a_turn_makes_it_idle(
    start: Start, watch: Start, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    watch()
    flag = Path(workspace_env["HOME"]) / "finish"
    start("claude", f"{HOOK % 'working'}; until [ -e {flag} ]; do sleep 0.2; done; {HOOK % 'idle'}; {WAITING}")
    fake_coder.wait_for(lambda: "working" in fake_coder.states())
    flag.touch()
    fake_coder.wait_for(lambda: "idle" in fake_coder.states())
    samples_pass(workspace_env, 3)
    assert fake_coder.states()[-1] == "idle"


def test_the_claim_of_an_ended_claude_counts_no_more(start: Start, watch: Start, fake_coder: FakeCoder) -> None:
    watch()
    claude = start("claude", f"{HOOK % 'working'}; {WAITING}")
    fake_coder.wait_for(lambda: "working" in fake_coder.states())
    stop(claude)
    fake_coder.wait_for(lambda: "idle" in fake_coder.states())


def test_the_claim_of_a_process_with_a_reused_id_counts_no_more(
    start: Start, watch: Start, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    pid_file = Path(workspace_env["HOME"]) / "pid"
    start("other", f"echo $$ >{pid_file}; {WAITING}")
    wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
    claim = Path(workspace_env["CODER_PILOT_STATE_DIR"]) / "claims" / pid_file.read_text().strip()
    claim.parent.mkdir(parents=True)
    claim.write_text("working 1\n")
    watch()
    wait_until(lambda: not claim.exists())
    assert fake_coder.requests == []


def test_a_claim_that_no_event_renews_counts_no_more(
    start: Start, watch: Start, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    """Esc ends a turn without an event, and the prompt then waits for its user."""
    watch()
    start("claude", f"{HOOK % 'working'}; {WAITING}")
    fake_coder.wait_for(lambda: "working" in fake_coder.states())
    (claim,) = (Path(workspace_env["CODER_PILOT_STATE_DIR"]) / "claims").iterdir()
    long_ago_s = time.time() - 21 * INTERVAL_S
    os.utime(claim, (long_ago_s, long_ago_s))
    fake_coder.wait_for(lambda: "idle" in fake_coder.states())


def test_after_the_cap_a_busy_claude_is_reported_no_more(
    start: Start, watch: Start, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    watch(cap_s=3)
    start("claude", BUSY)
    fake_coder.wait_for(lambda: "idle" in fake_coder.states())
    assert 2 <= fake_coder.states().count("working") <= 4
    told = len(fake_coder.requests)
    samples_pass(workspace_env, 3)
    assert len(fake_coder.requests) == told
    assert status_file(workspace_env).read_text() == "working, but past the keep-alive limit\n"


def test_a_short_rest_does_not_begin_the_cap_anew(
    start: Start, watch: Start, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    cap_s = 12
    watch(cap_s=cap_s)
    claude = start("claude", BUSY)
    fake_coder.wait_for(
        lambda: len(fake_coder.arrivals_s) > 1 and fake_coder.arrivals_s[-1] > fake_coder.arrivals_s[0] + 8
    )
    stop(claude)
    wait_until(lambda: status_file(workspace_env).read_text() == "idle\n")
    resumed_s = time.monotonic()
    start("claude", BUSY)
    # The status and not what Coder is told: on a slow machine the cap may come during the rest, and that is told once.
    wait_until(lambda: "past the keep-alive limit" in status_file(workspace_env).read_text(), timeout_s=40)
    assert time.monotonic() - resumed_s < cap_s


def test_a_failing_coder_is_told_again(start: Start, watch: Start, fake_coder: FakeCoder) -> None:
    fake_coder.status = 500
    watch()
    claude = start("claude", BUSY)
    fake_coder.wait_for(lambda: len(fake_coder.requests) >= 2)
    fake_coder.status = 200
    told = len(fake_coder.requests)
    fake_coder.wait_for(lambda: len(fake_coder.requests) > told)
    fake_coder.status = 500
    stop(claude)
    fake_coder.wait_for(lambda: fake_coder.states().count("idle") >= 2)


def test_the_token_is_in_no_process_list(start: Start, watch: Start, fake_coder: FakeCoder) -> None:
    seen: list[bytes] = []
    watch()
    start("claude", BUSY)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (directory / "cmdline").read_bytes()
            except OSError:
                continue
            if b"app-status" in arguments:
                seen.append(arguments)
        if len(seen) >= 2 and len(fake_coder.requests) >= 2:
            break
    assert seen, "no report was observed"
    assert not [arguments for arguments in seen if b"agent-token" in arguments]


def test_a_hook_succeeds_and_is_silent_outside_of_a_claude(workspace_env: dict[str, str]) -> None:
    for environment in (workspace_env, {"PATH": os.environ["PATH"]}):
        done = subprocess.run(
            ["bash", SCRIPTS / "keep-alive.sh", "working"],
            env=environment,
            input="{}",
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
