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
from tests.e2e.claude_fixture import answer_first_questions, open_tile
from tests.e2e.pilot_fixture import Pilot, docker, eventually
from tests.e2e.workspace_fixture import gateway_of, inside, new_workspace, open_editor
from tests.processor_time import BUSY

# Coder looks once a minute and cuts the moment at which it looks to the minute, then the container has to end.
STOP_DELAY_S = 150
# Uses no CPU.
WORK = "bash -c 'until [ -e ~/finish ]; do sleep 1; done'"
# As the tile does. Not by the browser: a connection would move the deadline too.
IN_THE_TILE = "tmux -u -L coder-pilot new-session -d -s claude -x 120 -y 40 -c ~/project 'claude Work'"
ASKED = """
until tmux -L coder-pilot capture-pane -p | grep --quiet 'Do you want to proceed?'; do
  ((SECONDS < 60)) || exit 1
  sleep 0.5
done"""
SHORT = "CODER_PILOT_KEEP_ALIVE_INTERVAL_S=10 CODER_PILOT_KEEP_ALIVE_CAP_S=45"
# The workspaces, and what begins what is in them; first the one that takes longest.
BEGIN = {
    "capped": (
        f"(exec -a claude bash -c '{BUSY}') &>/dev/null &",
        "pkill -f 'keep-alive.sh watch'",
        f"{SHORT} /tmp/coder-pilot/keep-alive.sh watch &>/dev/null &",
    ),
    "tab": (),
    "parked": ("(exec -a claude sleep 3600) &>/dev/null &",),
    "waiting": (IN_THE_TILE, ASKED),
    "tile": (IN_THE_TILE,),
    "background": ("cd ~/project && claude --bg Work",),
    "root": (
        "sudo cp -r ~/.claude ~/.claude.json /root/",
        "cd /root 2>/dev/null; sudo -H claude -p Work &>/dev/null &",
    ),
}


ENDS = ("parked", "waiting", "capped")


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
def evening(
    make_pilot: Callable[..., Pilot], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, Watched]:
    """Those workspaces of which a test is run, left to themselves until well past their first deadlines.

    Nobody is connected to any but `tab`, which is open in a browser. The real Claude Code is in a long turn in `tile`,
    in the tile's terminal, in `background`, where it was started with --bg, and unattended in `root`, in the shell of
    another user; in `waiting` it asks for a permission. In `parked` is what only has its name, and in `capped` one that
    works on past its keep-alive limit.
    """
    pilot = make_pilot(idleTtl="2m", idleBump="2m")
    pilot.up()
    asked = {each.callspec.params["name"] for each in request.session.items if each.path == request.path}
    begin = {name: commands for name, commands in BEGIN.items() if name in asked}
    seen = {}
    with contextlib.ExitStack() as open_things:
        browser = open_things.enter_context(chromium(tmp_path_factory.mktemp("browser") / "home", only=pilot.url))
        api = open_things.enter_context(claude_api.serve(WORK, commands=1, address=gateway_of(pilot)))
        # Each is begun as soon as it is ready: on a busy machine the first deadlines come before the last is ready.
        for workspace in [new_workspace(pilot, name) for name in begin]:
            ready = pilot.wait_workspace(workspace["id"], timeout_s=240)
            seen[ready["name"]] = Watched(ready, deadline_s(ready))
            if ready["name"] == "tab":
                open_editor(pilot, ready, browser.new_page())
            else:
                answer_first_questions(pilot, ready, api, "Read" if ready["name"] == "waiting" else "Bash")
                for command in begin[ready["name"]]:
                    inside(pilot, ready, command)
            if ready["name"] == "waiting":
                # It works until it asks, and on a busy machine that is noted, as it should be.
                seen["waiting"].first_deadline_s = deadline_s(pilot.workspace(ready["id"]))

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
            lambda: {stopped(name) for name in ENDS if name in begin} <= {True} and time.time() > last_s,
            timeout_s=480, interval_s=2, what="the end of the idle workspaces",
        )  # fmt: skip
        for name in begin:
            stopped(name)
        if "tile" in begin:
            page = browser.new_page()
            open_tile(pilot, seen["tile"].workspace, page).get_by_text("until [").first.wait_for()
            page.close()
            inside(pilot, seen["tile"].workspace, "touch ~/finish")
            open_tile(pilot, seen["tile"].workspace, browser.new_page()).get_by_text("Done.").wait_for()
    return seen


@pytest.mark.parametrize("name", ["parked", "waiting"])
def test_a_workspace_in_which_nothing_works_is_stopped_at_its_deadline(evening: dict[str, Watched], name: str) -> None:
    watched = evening[name]
    assert watched.first_deadline_s <= watched.stopped_s <= watched.first_deadline_s + STOP_DELAY_S
    assert docker("ps", "--all", "--quiet", "--filter", f"label=coder.workspace_id={watched.workspace['id']}") == ""
    assert docker("volume", "ls", "--quiet", "--filter", f"name=coder-{watched.workspace['id']}-home") != ""


@pytest.mark.parametrize("name", [
    "tab", "tile", pytest.param("background", marks=pytest.mark.drill), pytest.param("root", marks=pytest.mark.drill),
])  # fmt: skip
def test_an_open_tab_and_a_working_claude_keep_a_workspace_past_the_deadline(
    evening: dict[str, Watched], name: str
) -> None:
    watched = evening[name]
    assert watched.stopped_s == 0
    assert deadline_s(watched.workspace) > watched.first_deadline_s + 60


@pytest.mark.drill
@pytest.mark.parametrize("name", ["capped"])
def test_a_claude_that_works_on_past_its_cap_keeps_its_workspace_no_longer(
    evening: dict[str, Watched], name: str
) -> None:
    watched = evening[name]
    assert watched.stopped_s > watched.first_deadline_s, "it was not kept at all"
    assert watched.stopped_s <= watched.first_deadline_s + 45 + 120 + STOP_DELAY_S
