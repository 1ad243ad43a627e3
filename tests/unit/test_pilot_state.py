"""A lock is removed only where its `pulumi` is dead, and only what is ours and lost leaves the state or the engine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilot import configuration, state
from pilot.configuration import PilotError
from pilot.session import Session


class _Session(Session):
    """Answers as `pulumi` would, and writes down what it is asked."""

    def __init__(self, deployment: dict[str, Any] | None = None) -> None:
        settings = configuration.settings("local")
        super().__init__(stack="test", settings=settings, environment={}, config_file=Path("c"), published=False)
        object.__setattr__(self, "asked", [])
        self._write(deployment or {})

    def _write(self, deployment: dict[str, Any]) -> None:
        (state.STACKS / "test.json").write_text(json.dumps({"version": 3, "checkpoint": {"latest": deployment}}))

    def read(self, *arguments: str) -> str:
        self.asked.append(arguments[:2])  # type: ignore[attr-defined]
        if arguments[:2] == ("stack", "import"):
            self._write(json.loads(Path(arguments[3]).read_text())["deployment"])
        return json.dumps({"version": 3, "deployment": state.deployment(self)})


@pytest.fixture(autouse=True)
def stacks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "STACKS", tmp_path_factory.mktemp("stacks"))


@pytest.fixture
def lay_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(state, "STATE", tmp_path)
    monkeypatch.setattr(state, "STACKS", tmp_path)
    monkeypatch.setattr(state, "BACKUPS", tmp_path)

    def lay(pid: int, host: str = socket.gethostname(), stack: str = "test") -> None:
        folder = tmp_path / ".pulumi" / "locks" / "organization" / "coder-pilot" / stack
        folder.mkdir(parents=True)
        (folder / "l.json").write_text(json.dumps({"pid": pid, "hostname": host, "timestamp": "2026-11-25T01:00:00Z"}))

    return lay


def _dead_pid() -> int:
    done = subprocess.Popen(["true"])
    done.wait(10)
    return done.pid


def test_the_lock_of_a_dead_pulumi_is_removed(lay_lock: Callable[..., None]) -> None:
    lay_lock(_dead_pid())
    session = _Session()
    state.clear_lock(session)
    assert session.asked == [("cancel", "--yes")]  # type: ignore[attr-defined]


def test_a_number_that_another_program_got_since_is_no_pulumi(lay_lock: Callable[..., None]) -> None:
    lay_lock(os.getpid())
    session = _Session()
    state.clear_lock(session)
    assert session.asked == [("cancel", "--yes")]  # type: ignore[attr-defined]


def test_a_pulumi_that_is_alive_is_left_alone_and_named(lay_lock: Callable[..., None], tmp_path: Path) -> None:
    program = tmp_path / "pulumi"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as alive:
        try:
            # Linux shows no command line for a moment after it began to run the program.
            deadline_s = time.monotonic() + 10
            while not Path(f"/proc/{alive.pid}/cmdline").read_bytes() and time.monotonic() < deadline_s:
                time.sleep(0.01)
            lay_lock(alive.pid)
            session = _Session()
            with pytest.raises(PilotError, match=rf"`pulumi` \(process {alive.pid}\) works on test"):
                state.clear_lock(session)
        finally:
            alive.kill()
    assert session.asked == []  # type: ignore[attr-defined]


def test_a_lock_of_another_machine_is_left_to_the_person(lay_lock: Callable[..., None]) -> None:
    lay_lock(_dead_pid(), host="elsewhere")
    session = _Session()
    with pytest.raises(PilotError, match="pulumi cancel"):
        state.clear_lock(session)
    assert session.asked == []  # type: ignore[attr-defined]


def test_a_lock_of_another_stack_is_none_of_ours(lay_lock: Callable[..., None]) -> None:
    lay_lock(_dead_pid(), stack="other")
    session = _Session()
    state.clear_lock(session)
    assert session.asked == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        ({"test.json": "{}", "test.json.bak": '{"copy": 1}'}, None),
        ({"test.json": "", "test.json.bak": '{"copy": 1}', "b/test.1.json": "{}"}, "test.json.bak"),
        ({"test.json": '{"half', "test.json.bak": '{"copy": 1}'}, "test.json.bak"),
        ({"test.json.bak": '{"copy": 1}'}, "test.json.bak"),
        ({"test.json": "", "b/test.1.json": '{"a": 1}', "b/test.2.json": '{"b": 1}'}, "test.2.json"),
        ({"test.json": "", "b/test.1.json": '{"a": 1}', "b/test.2.json": "{"}, "test.1.json"),
        ({"test.json": "", "test.json.bak": ""}, None),
        ({}, None),
    ],
)
def test_a_state_file_that_was_cut_short_is_taken_from_its_newest_whole_copy(
    tmp_path: Path, files: dict[str, str], taken: str | None
) -> None:
    (tmp_path / "b").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    before = files.get("test.json")
    found = state.mend_checkpoint(tmp_path / "test.json", tmp_path / "b")
    assert (found.name if found else None) == taken
    if found:
        assert (tmp_path / "test.json").read_text() == found.read_text()
    elif before is not None:
        assert (tmp_path / "test.json").read_text() == before


def test_broken_attributes_are_removed_and_whole_ones_stay(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    for name, text in {"a.json": "", "a.json.attrs": "", "b.json.attrs": '{"md5"', "c.json.attrs": "{}"}.items():
        (tmp_path / "stacks" / name).write_text(text)
    removed = state.remove_broken_attributes(tmp_path)
    assert {each.name for each in removed} == {"a.json.attrs", "b.json.attrs"}
    assert {each.name for each in (tmp_path / "stacks").iterdir()} == {"a.json", "c.json.attrs"}


def _resource(type_: str, name: str, **more: object) -> dict[str, Any]:
    return {"type": type_, "urn": f"urn:pulumi:test::coder-pilot::x${type_}::{name}", **more}


def test_to_forget_the_template_drops_these_three_and_nothing_else() -> None:
    kept = [
        _resource("coder-pilot:template:Template", "template"),
        _resource("pulumi:providers:docker", "docker"),
        _resource("command:local:Command", "admin-account"),
        _resource("command:local:Command", "retire"),
    ]
    dropped = [
        _resource("pulumi:providers:coderd", "coderd"),
        _resource("coderd:index/template:Template", "template"),
        _resource("command:local:Command", "template-record"),
    ]
    session = _Session({"resources": [*kept, *dropped]})
    assert state.forget_template(session)
    assert state.resources(session) == kept
    assert not state.forget_template(session)


def test_unfinished_operations_are_dropped_and_resources_stay() -> None:
    container = _resource("docker:index/container:Container", "coder")
    pending = [{"resource": container, "type": "creating"}]
    session = _Session({"resources": [_resource("x", "y")], "pending_operations": pending})
    assert state.clear_pending(session)
    assert state.deployment(session) == {"resources": [_resource("x", "y")]}
    before = len(session.asked)  # type: ignore[attr-defined]
    # To ask `pulumi` whether there is something to do would cost every `up` half a second.
    assert not state.clear_pending(session)
    assert session.asked[before:] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("lost", "removed"),
    [
        ([], []),
        (["coder"], ["stop --time 60 c1", "rm --force c1"]),
        (["control"], ["network rm n1"]),
        (["workspaces"], ["network disconnect --force n2 w1", "network rm n2"]),
    ],
)
def test_what_is_not_in_the_state_goes_and_no_workspace_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: list[str], removed: list[str]
) -> None:
    rows = [
        ["c1", "coder-server", "coder", "", "running", "coder-workspaces"],
        ["w1", "coder-admin-demo", "coder", "1234", "running", "coder-workspaces"],
        ["d1", "other-server", "other", "", "running", "other-workspaces"],
    ]
    networks = {
        "n1": {"Id": "n1", "Name": "coder-control", "Containers": {}},
        "n2": {"Id": "n2", "Name": "coder-workspaces", "Containers": {"w1": {}}},
    }
    (tmp_path / "ps").write_text("".join("\t".join(row) + "\n" for row in rows))
    (tmp_path / "network").write_text("n1\nn2\n")
    for name, network in networks.items():
        (tmp_path / name).write_text(json.dumps([network]))
    docker = tmp_path / "docker"
    docker.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncd {tmp_path}\n'
        'case "$1 $2" in "ps --all" | "network ls") cat "$1";; inspect*) cat "$2";; esac\n'
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    everything = {
        "coder": _resource("docker:index/container:Container", "coder", id="c1"),
        "control": _resource("docker:index/network:Network", "control", id="n1"),
        "workspaces": _resource("docker:index/network:Network", "workspaces", id="n2"),
    }
    session = _Session({"resources": [each for name, each in everything.items() if name not in lost]})
    state.remove_orphans(session, "coder")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call for call in calls if not call.startswith(("ps", "network ls", "inspect"))] == removed
    # The state has whole identifiers, the engine shows short ones unless asked.
    assert all("--no-trunc" in call for call in calls if call.startswith(("ps", "network ls")))
