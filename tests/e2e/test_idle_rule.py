"""A workspace is stopped when nobody and no Claude is at work in it, and not before.

The idle rule runs in minutes where the owner has hours; Coder looks for due deadlines once a minute.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from tests import claude_api
from tests.e2e.browser_fixture import chromium
from tests.e2e.pilot_fixture import Pilot, docker, eventually
from tests.e2e.workspace_fixture import gateway_of, inside, open_editor

# Coder looks once a minute and cuts the moment at which it looks to the minute, then the container has to end.
STOP_DELAY_S = 150


@dataclass
class Watched:
    """One workspace of the idle rule: when its deadline was first, and when it was found stopped (time.time())."""

    workspace: dict[str, Any]
    first_deadline_s: float
    stopped_s: float = 0.0


def deadline_s(workspace: Mapping[str, Any]) -> float:
    moment: float = datetime.fromisoformat(workspace["latest_build"]["deadline"].replace("Z", "+00:00")).timestamp()
    return moment


@pytest.fixture(scope="module")
def evening(make_pilot: Callable[..., Pilot], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Watched]:
    """Four workspaces, left to themselves until well past their first deadlines.

    Nobody is connected to any but `tab`, which is open in a browser. In `working` the real Claude Code is in a long
    turn that uses no CPU. In `parked` a Claude waits for its user. In `capped` one works on past its keep-alive limit.
    """
    pilot = make_pilot(idleTtl="2m", idleBump="2m")
    pilot.up()
    seen = {}
    for name in ("parked", "capped", "working", "tab"):
        workspace = pilot.create_workspace(name)
        seen[name] = Watched(workspace, deadline_s(workspace))
    with contextlib.ExitStack() as open_things:
        browser = open_things.enter_context(chromium(tmp_path_factory.mktemp("browser") / "home", only=pilot.url))
        open_editor(pilot, seen["tab"].workspace, browser.new_page())
        api = open_things.enter_context(claude_api.serve("sleep 30", commands=1000, address=gateway_of(pilot)))
        inside(
            pilot, seen["working"].workspace, "cd ~/project && exec claude -p Work --allowedTools Bash",
            "--detach", "--env", f"ANTHROPIC_BASE_URL={api}", "--env", "ANTHROPIC_API_KEY=sk-test",
        )  # fmt: skip
        inside(pilot, seen["parked"].workspace, "exec -a claude sleep 3600", "--detach")
        busy = "while :; do for _ in {1..300000}; do :; done; sleep 0.1; done"
        inside(pilot, seen["capped"].workspace, f"exec -a claude bash -c '{busy}'", "--detach")
        inside(pilot, seen["capped"].workspace, "pkill -f 'keep-alive.sh watch'")
        inside(
            pilot, seen["capped"].workspace, "exec /tmp/coder-pilot/keep-alive.sh watch",
            "--detach", "--env", "CODER_PILOT_KEEP_ALIVE_INTERVAL_S=10", "--env", "CODER_PILOT_KEEP_ALIVE_CAP_S=45",
        )  # fmt: skip

        def stopped(name: str) -> bool:
            watched = seen[name]
            watched.workspace = pilot.workspace(watched.workspace["id"])
            build = watched.workspace["latest_build"]
            if not watched.stopped_s and build["transition"] == "stop" and build["job"]["status"] == "succeeded":
                watched.stopped_s = time.time()
            return bool(watched.stopped_s)

        last_s = max(watched.first_deadline_s for watched in seen.values()) + STOP_DELAY_S
        # `capped` has its first deadline moved by its short run, to 45 s and the bump of 2 min after it.
        eventually(
            lambda: stopped("parked") & stopped("capped") and time.time() > last_s,
            timeout_s=480, interval_s=2, what="the end of the idle workspaces",
        )  # fmt: skip
        for name in ("working", "tab"):
            stopped(name)
    return seen


def test_an_idle_workspace_with_a_parked_claude_is_stopped_at_its_deadline(evening: dict[str, Watched]) -> None:
    watched = evening["parked"]
    assert watched.first_deadline_s <= watched.stopped_s <= watched.first_deadline_s + STOP_DELAY_S
    assert docker("ps", "--all", "--quiet", "--filter", f"label=coder.workspace_id={watched.workspace['id']}") == ""
    assert docker("volume", "ls", "--quiet", "--filter", f"name=coder-{watched.workspace['id']}-home") != ""


def test_a_working_claude_keeps_its_workspace_past_the_deadline(evening: dict[str, Watched]) -> None:
    watched = evening["working"]
    assert watched.stopped_s == 0
    assert deadline_s(watched.workspace) > watched.first_deadline_s + 60


def test_an_open_tab_keeps_its_workspace_past_the_deadline(evening: dict[str, Watched]) -> None:
    watched = evening["tab"]
    assert watched.stopped_s == 0
    assert deadline_s(watched.workspace) > watched.first_deadline_s + 60


def test_a_claude_that_works_on_past_its_cap_keeps_its_workspace_no_longer(evening: dict[str, Watched]) -> None:
    watched = evening["capped"]
    assert watched.stopped_s > watched.first_deadline_s, "it was not kept at all"
    assert watched.stopped_s <= watched.first_deadline_s + 45 + 120 + STOP_DELAY_S
