"""A random walk over a pilot: what people and accidents do to it, in any order, with an `up` now and then."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

from hypothesis import strategies
from hypothesis.errors import StopTest
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.e2e.pilot_fixture import Pilot, docker, eventually
from tests.e2e.retirement_fixture import belongings, command, container_of, furnished, kill_at, sql
from tests.e2e.workspace_fixture import editor_answers

WORKSPACES_MAX = 3
NAMES = strategies.sampled_from(["ada", "grace", "edsger", "barbara"])
SETTINGS = strategies.sampled_from(
    [
        (key, value)
        for key, values in {
            "idleTtl": ("2h", "3h"),
            "coderMemory": ("2GiB", "3GiB"),
            "postgresCpus": ("1", "2"),
            "keepAliveMax": ("6h", "12h"),
            "timezone": ("", "Europe/Berlin"),
            "fullName": ("Ada Lovelace", "Grace Hopper"),
            "backupAt": ("03:30", "04:15"),
        }.items()
        for value in values
    ]
)
UP_TAKES_S = 15


def _server(pilot: Pilot) -> str:
    return f"{pilot.name}-server"


def _template_changed(pilot: Pilot) -> None:
    (template,) = pilot.call("GET", "/api/v2/templates")
    change = {"display_name": "Mine", "name": template["name"], "default_ttl_ms": 60_000, "activity_bump_ms": 60_000}
    pilot.call("PATCH", f"/api/v2/templates/{template['id']}", change)


ACCIDENTS: dict[str, Callable[[Pilot], Any]] = {
    "Coder removed": lambda pilot: docker("rm", "--force", _server(pilot)),
    "Postgres removed": lambda pilot: docker("rm", "--force", f"{pilot.name}-postgres"),
    "the keeper removed": lambda pilot: docker("rm", "--force", f"{pilot.name}-keeper"),
    "the keeper killed": lambda pilot: docker("kill", f"{pilot.name}-keeper"),
    "Coder stopped": lambda pilot: docker("stop", _server(pilot)),
    "Coder cut off": lambda pilot: docker("network", "disconnect", f"{pilot.name}-workspaces", _server(pilot)),
    "another limit": lambda pilot: docker("update", "--memory", "1g", "--memory-swap", "1g", _server(pilot)),
    "the template changed": _template_changed,
    "the token revoked": lambda pilot: sql(pilot, "DELETE FROM api_keys WHERE token_name LIKE 'coder-pilot-%'"),
    "the keeper's token revoked": lambda pilot: sql(
        pilot, "DELETE FROM api_keys WHERE token_name LIKE 'coder-keeper-%'"
    ),
}


class Walk(RuleBasedStateMachine):
    """One walk. Coder is asked only while it is whole; after an accident or a `down`, an `up` makes it so again."""

    def __init__(self, pilot: Pilot) -> None:
        super().__init__()
        self.pilot = pilot
        self.whole = True
        self.owned = belongings(pilot)

    def _workspaces(self) -> list[dict[str, Any]]:
        found = self.pilot.call("GET", "/api/v2/workspaces?limit=0")["workspaces"]
        return sorted(found, key=lambda each: str(each["name"]))

    def _chosen(self, number: int, transition: str) -> dict[str, Any] | None:
        """One of those whose last build was a start, or a stop."""
        found = [each for each in self._workspaces() if each["latest_build"]["transition"] == transition]
        return found[number % len(found)] if found else None

    @precondition(lambda self: self.whole)
    @rule()
    def a_look(self) -> None:
        """The first of the rules by its name, of which alone Hypothesis makes its first walks: so it is a cheap one."""
        assert len(self._workspaces()) <= WORKSPACES_MAX

    @precondition(lambda self: self.whole)
    @rule()
    def status(self) -> None:
        assert "Coder's health" in command(self.pilot, "status")

    @precondition(lambda self: self.whole)
    @rule(name=NAMES)
    def create(self, name: str) -> None:
        found = self._workspaces()
        if len(found) < WORKSPACES_MAX and name not in {each["name"] for each in found}:
            furnished(self.pilot, name)
            self.owned = belongings(self.pilot)

    @precondition(lambda self: self.whole)
    @rule(number=strategies.integers(0, 9))
    def stop(self, number: int) -> None:
        if workspace := self._chosen(number, "start"):
            self.pilot.transition(workspace["id"], "stop")

    @precondition(lambda self: self.whole)
    @rule(number=strategies.integers(0, 9))
    def start(self, number: int) -> None:
        if workspace := self._chosen(number, "stop"):
            self.pilot.transition(workspace["id"], "start")
            self.pilot.wait_workspace(workspace["id"])

    @precondition(lambda self: self.whole)
    @rule(number=strategies.integers(0, 9))
    def delete(self, number: int) -> None:
        found = self._workspaces()
        if len(found) == WORKSPACES_MAX:
            self.pilot.transition(found[number % len(found)]["id"], "delete")
            self.owned = belongings(self.pilot)

    @precondition(lambda self: self.whole)
    @rule(number=strategies.integers(0, 9), name=NAMES)
    def rename(self, number: int, name: str) -> None:
        found = self._workspaces()
        if found and name not in {each["name"] for each in found}:
            self.pilot.call("PATCH", f"/api/v2/workspaces/{found[number % len(found)]['id']}", {"name": name})
            self.owned = belongings(self.pilot)

    @precondition(lambda self: self.whole)
    @rule(what=strategies.sampled_from(sorted(ACCIDENTS)))
    def accident(self, what: str) -> None:
        ACCIDENTS[what](self.pilot)
        self.whole = False

    @precondition(lambda self: self.whole)
    @rule(number=strategies.integers(0, 9))
    def a_workspace_ends_by_itself(self, number: int) -> None:
        if workspace := self._chosen(number, "start"):
            docker("rm", "--force", container_of(workspace["id"]))
            command(self.pilot, "workspace", workspace["name"])

    @rule(setting=SETTINGS)
    def set(self, setting: tuple[str, str]) -> None:
        self.pilot.write_config(**dict([setting]))
        self.whole = False

    @precondition(lambda self: self.whole)
    @rule()
    def down(self) -> None:
        command(self.pilot, "down")
        self.whole = False

    @rule(moment_s=strategies.floats(0.3, UP_TAKES_S))
    def up_killed(self, moment_s: float) -> None:
        kill_at(self.pilot, moment_s, "up")
        self.whole = False

    @precondition(lambda self: not self.whole)
    @rule()
    def up(self) -> None:
        command(self.pilot, "up")
        self.pilot.variables.pop("token", None)
        self.whole = True
        assert belongings(self.pilot) == self.owned
        self.pilot.up("--expect-no-changes")

    def teardown(self) -> None:
        """Every workspace opens in the end."""
        fault = sys.exc_info()[1]
        # A walk that may take no step any more ends so, and the next one begins where it ended.
        if fault and not isinstance(fault, StopTest):
            # Hypothesis takes the same way once more, on which a fault of the moment does not come again.
            traceback.print_exc()
            return
        if not self.whole:
            self.up()
        for each in self._workspaces():
            command(self.pilot, "workspace", each["name"])
            eventually(lambda each=each: editor_answers(self.pilot, each), timeout_s=60, what="its editor")
