"""A Claude at work holds the workspace, once a minute and up to the cap; a waiting, ended or other process does not.

Real processes are watched. A simulated Claude is a script called `claude`, which is also the name that Claude Code
gives itself; Claude Code itself runs in test_claude_code.py.
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

from tests.processor_time import BUSY
from tests.template.template_support import FakeCoder, with_parts

INTERVAL_S = 1
Start = Callable[..., subprocess.Popen[bytes]]

WAITING = "sleep 1000"
BUSY_CHILD = f"bash -c '{BUSY}' & wait"
# A simulated Claude is run by bash, which takes `agents` for a script on PATH when it is asked in its place.
SAYS = "echo %s >$HOME/sessions/$$"
ANSWER = r"""
echo asked >>"$HOME/asked"
separator='['
for file in "$HOME"/sessions/*; do
  [[ -d /proc/${file##*/} ]] || continue
  printf '%s{\n  "pid": %d,\n  "kind": "interactive",\n  "status": "%s"}\n' "$separator" "${file##*/}" "$(<"$file")"
  separator=,
done
[[ $separator == , ]] || echo '['
echo ']'
"""


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


@pytest.fixture
def sessions(workspace_env: dict[str, str], tmp_path: Path) -> Path:
    """Where a simulated Claude says what it does; without this fixture it is too old to tell."""
    folder = Path(workspace_env["HOME"]) / "sessions"
    folder.mkdir()
    programs = folder.parent / "bin"
    programs.mkdir()
    answer_with(programs / "agents", ANSWER)
    workspace_env["PATH"] = f"{programs}:{workspace_env['PATH']}"
    return folder


def answer_with(program: Path, text: str) -> None:
    """Replace what answers `agents --json`, at once."""
    program.with_name("new").write_text(f"{text}\n")
    program.with_name("new").rename(program)


def stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


@pytest.fixture
def watch(
    workspace_env: dict[str, str], namespace: list[str], tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
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
                [*namespace, "bash", with_parts("keep-alive.sh", tmp_path), "watch"],
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
    wait_until(lambda: status_file(workspace_env).read_text().startswith("working for 0 min"))


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
    assert status_file(workspace_env).read_text() == "idle for 0 min\n"


def test_without_a_claude_none_is_idle_and_one_that_has_ended_is(
    start: Start, watch: Start, workspace_env: dict[str, str]
) -> None:
    watch()
    samples_pass(workspace_env, 2)
    assert status_file(workspace_env).read_text() == "not started\n"
    claude = start("claude", WAITING)
    wait_until(lambda: status_file(workspace_env).read_text() == "idle for 0 min\n")
    stop(claude)
    samples_pass(workspace_env, 2)
    assert status_file(workspace_env).read_text() == "idle for 0 min\n"


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


def test_a_session_that_says_so_is_reported_though_it_uses_no_cpu(
    start: Start, watch: Start, sessions: Path, fake_coder: FakeCoder
) -> None:
    watch()
    start("claude", f"{SAYS % 'busy'}; {WAITING}")
    fake_coder.wait_for(lambda: len(fake_coder.requests) >= 3)
    assert set(fake_coder.states()) == {"working"}


@pytest.mark.parametrize(("status", "shown"), [("waiting", "waits for you for 0 min"), ("idle", "idle for 0 min")])
def test_a_session_that_waits_or_is_idle_is_not_reported_though_it_uses_the_cpu(
    start: Start, watch: Start, sessions: Path, fake_coder: FakeCoder, workspace_env: dict[str, str],
    status: str, shown: str,
) -> None:  # fmt: skip
    start("claude", f"{SAYS % status}; {BUSY_CHILD}")
    wait_until(lambda: len(list(sessions.iterdir())) == 1)
    watch()
    samples_pass(workspace_env, 3)
    assert fake_coder.requests == []
    assert status_file(workspace_env).read_text() == f"{shown}\n"


def test_of_two_claudes_the_one_that_works_counts(
    start: Start, watch: Start, sessions: Path, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    watch()
    start("claude", f"{SAYS % 'waiting'}; {WAITING}")
    working = start("claude", f"{SAYS % 'busy'}; {WAITING}")
    fake_coder.wait_for(lambda: "working" in fake_coder.states())
    stop(working)
    fake_coder.wait_for(lambda: "idle" in fake_coder.states())
    assert status_file(workspace_env).read_text().startswith("waits for you")
    assert fake_coder.requests[-1][2] == {
        "app_slug": "code-server", "state": "idle", "message": "Claude waits for you", "uri": "",
    }  # fmt: skip


def test_claude_is_asked_once_a_minute_for_each_home_and_never_while_none_lives(
    start: Start, watch: Start, sessions: Path, workspace_env: dict[str, str], tmp_path: Path
) -> None:
    """With several of one home, one of another, and another program."""
    asked = Path(workspace_env["HOME"]) / "asked"
    start("claudette", WAITING)
    watch()
    samples_pass(workspace_env, 3)
    assert not asked.exists()
    for text in (f"{SAYS % 'idle'}; {WAITING}", WAITING, WAITING):
        start("claude", text)
    start("claude", f"export HOME={tmp_path}; exec -a claude sleep 1000")
    wait_until(asked.exists)
    samples_pass(workspace_env, 1)
    before = len(asked.read_text().splitlines())
    samples_pass(workspace_env, 3)
    assert len(asked.read_text().splitlines()) - before == 3


def test_without_an_answer_the_last_one_counts_once_and_then_processor_time(
    start: Start, watch: Start, sessions: Path, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    watch()
    start("claude", f"{SAYS % 'busy'}; {WAITING}")
    fake_coder.wait_for(lambda: "working" in fake_coder.states())
    program = sessions.parent / "bin" / "agents"
    program.unlink()
    told = len(fake_coder.requests)
    fake_coder.wait_for(lambda: "idle" in fake_coder.states())
    # A look may have begun before.
    assert fake_coder.states()[told:] in (["working", "idle"], ["working", "working", "idle"])
    for name, spoiled in {
        "does not end": "trap '' TERM; while :; do sleep 0.1; done",
        "leaves a child behind": "setsid sleep 30 & exit 1",
        "prints without an end": "yes '[{'",
        "prints garbage": "head -c 9999 /dev/urandom",
        "is cut short": """echo '[{"pid": 1'""",
        "says something else": """echo '[{"pid": "x", "status": [7]}]'""",
        "is too old": "echo 'unknown option --json' >&2; exit 1",
        "has a full home, where it cannot note its sessions": "echo '[]'",
    }.items():
        answer_with(program, spoiled)
        samples_pass(workspace_env, 2)
        assert fake_coder.states()[-1] == "idle", name
    start("claude", BUSY)
    fake_coder.wait_for(lambda: fake_coder.states()[-1] == "working")


def test_a_claude_that_cannot_be_looked_into_disturbs_nothing(
    start: Start, watch: Start, sessions: Path, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    """As one of another user, or one that has just ended."""
    answer_with(sessions.parent / "bin" / "readlink", "#!/bin/sh\nexit 1")
    (sessions.parent / "bin" / "readlink").chmod(0o755)
    watch()
    start("claude", f"{SAYS % 'busy'}; {WAITING}")
    fake_coder.wait_for(lambda: fake_coder.states().count("working") >= 2)
    answer_with(sessions.parent / "bin" / "stat", "#!/bin/sh\nexit 1")
    (sessions.parent / "bin" / "stat").chmod(0o755)
    samples_pass(workspace_env, 3)


def test_one_missing_answer_does_not_end_a_run(
    start: Start, watch: Start, sessions: Path, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    program = sessions.parent / "bin" / "agents"
    answer_with(program, f"[[ -e {sessions.parent}/odd ]] && rm {sessions.parent}/odd && exit 1\n{ANSWER}")
    watch()
    start("claude", f"{SAYS % 'busy'}; {WAITING}")
    fake_coder.wait_for(lambda: "working" in fake_coder.states())
    (sessions.parent / "odd").touch()
    wait_until(lambda: not (sessions.parent / "odd").exists())
    samples_pass(workspace_env, 2)
    assert set(fake_coder.states()) == {"working"}


def test_a_processor_time_that_was_seen_before_does_not_count_again(
    start: Start, watch: Start, sessions: Path, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    """Of a session that is idle after a long turn, and then does not answer."""
    start("claude", f"for _ in {{1..400000}}; do :; done; {SAYS % 'idle'}; {WAITING}")
    wait_until(lambda: len(list(sessions.iterdir())) == 1)
    watch()
    samples_pass(workspace_env, 2)
    answer_with(sessions.parent / "bin" / "agents", "exit 1")
    samples_pass(workspace_env, 3)
    assert fake_coder.requests == []


def test_a_name_that_looks_like_a_status_is_a_name(
    start: Start, watch: Start, sessions: Path, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    named = r"""a\"}, {\"status\": \"busy\", \"x\": {]"""
    answer = r"""[{"name": "%s", "status":"waiting", "x": {"status": 7}, "pid":%d}, {"pid": 1, "status": "busy"}]"""
    claude = start("claude", f"{SAYS % 'idle'}; {WAITING}")
    wait_until(lambda: len(list(sessions.iterdir())) == 1)
    (session,) = sessions.iterdir()
    answer_with(sessions.parent / "bin" / "agents", f"cat <<'JSON'\n{answer % (named, int(session.name))}\nJSON")
    watch()
    wait_until(lambda: status_file(workspace_env).read_text().startswith("waits for you"))
    samples_pass(workspace_env, 1)
    assert claude.poll() is None
    assert fake_coder.requests == []


def test_after_the_cap_a_busy_claude_is_reported_no_more(
    start: Start, watch: Start, fake_coder: FakeCoder, workspace_env: dict[str, str]
) -> None:
    watch(cap_s=3)
    start("claude", BUSY)

    def past_the_limit() -> bool:
        return status_file(workspace_env).read_text() == "working, but past the keep-alive limit\n"

    # Waited for: on a machine without a core to spare it has less than a tenth of one for a while, and counts as idle.
    wait_until(past_the_limit)
    fake_coder.wait_for(lambda: fake_coder.states()[-1] == "idle")
    assert 1 <= fake_coder.states().count("working") <= 4
    told = len(fake_coder.requests)
    samples_pass(workspace_env, 3)
    assert len(fake_coder.requests) == told
    wait_until(past_the_limit)


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
    wait_until(lambda: status_file(workspace_env).read_text().startswith("idle for "))
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


@pytest.mark.parametrize("status", [404, 405, 410])
def test_a_coder_that_takes_no_such_report_is_told_once_in_the_agents_log_and_always_in_the_metadata(
    start: Start, watch: Start, fake_coder: FakeCoder, workspace_env: dict[str, str], status: int
) -> None:
    fake_coder.status = status
    watch()
    start("claude", BUSY)
    fake_coder.wait_for(lambda: len(fake_coder.states()) >= 3)
    (line,) = fake_coder.log()
    assert (
        f"Keep-alive does not work on this Coder, which answers the watcher's report with HTTP status {status}" in line
    )
    wait_until(
        lambda: status_file(workspace_env).read_text() == "keep-alive does not work on this Coder\n", timeout_s=10
    )
    # A Coder that was replaced by another one.
    fake_coder.status = 200
    wait_until(lambda: status_file(workspace_env).read_text().startswith("working for"), timeout_s=10)


def test_the_token_is_in_no_process_list(start: Start, watch: Start, fake_coder: FakeCoder) -> None:
    seen: list[bytes] = []
    # Long enough for a look at all processes of a busy machine.
    fake_coder.takes_s = 1
    watch()
    start("claude", BUSY)
    deadline = time.monotonic() + 20
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
