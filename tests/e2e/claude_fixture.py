"""Claude Code in a workspace, with a stand-in for its API, and its tile in the dashboard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from playwright.sync_api import Locator, Page, Route

from tests.e2e.pilot_fixture import Pilot
from tests.e2e.workspace_fixture import inside, sign_in

API_KEY = "sk-test-of-no-account-at-all"
TIMEOUT_MS = 90_000


def answer_first_questions(pilot: Pilot, workspace: Mapping[str, Any], api: str, allowed: str = "Bash") -> None:
    """What a person answers once: the questions of a first start, how to sign in, and which tools need no question."""
    files = {
        ".claude.json": {
            "hasCompletedOnboarding": True,
            "customApiKeyResponses": {"approved": [API_KEY[-20:]]},
            "projects": {"/home/coder/project": {"hasTrustDialogAccepted": True}},
        },
        ".claude/settings.json": {
            # A command may take ten minutes, where two are the default.
            "env": {"ANTHROPIC_BASE_URL": api, "ANTHROPIC_API_KEY": API_KEY, "BASH_DEFAULT_TIMEOUT_MS": "600000"},
            "permissions": {"allow": [allowed], "defaultMode": "default", "disableAutoMode": "disable"},
        },
    }
    for name, contents in files.items():
        inside(pilot, workspace, f"mkdir -p ~/.claude && cat >~/{name} <<'JSON'\n{json.dumps(contents)}\nJSON")


def open_tile(pilot: Pilot, workspace: Mapping[str, Any], page: Page) -> Locator:
    """Open Claude as the owner by its tile on the workspace's page; the lines of its terminal, once it has begun."""
    sign_in(pilot, page.context)
    page.set_default_timeout(TIMEOUT_MS)
    page.route("**/api/v2/deployment/config", _with_a_terminal_of_text)
    page.goto(f"{pilot.url}/@{workspace['owner_name']}/{workspace['name']}")
    # The agent is connected when it has told the memory; before that the page draws its tiles anew now and then.
    page.get_by_text(" GiB").first.wait_for()
    page.get_by_role("link", name="Claude").click()
    lines = page.locator(".xterm-rows")
    lines.get_by_text("Claude Code v").wait_for()
    return lines


def _with_a_terminal_of_text(route: Route) -> None:
    # By default the dashboard draws its terminal into a canvas, which no test can read.
    answer = route.fetch()
    settings = answer.json()
    settings["config"]["web_terminal_renderer"] = "dom"
    route.fulfill(response=answer, json=settings)


def say(page: Page, text: str) -> None:
    """Type a line into the terminal."""
    page.locator(".xterm-helper-textarea").focus()
    page.keyboard.type(text)
    page.keyboard.press("Enter")
