"""Retirement parks every workspace through Coder, whatever it was doing, and ends also where Coder is of no help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stack.jobs import coder, retire
from tests.http_server import QuietHandler, serving

CHECKOUT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-that-nobody-may-see"


@dataclass
class Coder:
    """A server that has workspaces; a build ends at the second look, as `outcomes` says, with success by default."""

    workspaces: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    conflicts: int = 0
    url: str = ""
    builds: int = 0

    def add(self, name: str, transition: str, status: str) -> None:
        self.workspaces[name] = {
            "id": name, "name": name, "owner_name": "admin",
            "latest_build": {"id": f"{name}-0", "transition": transition, "job": {"status": status}},
        }  # fmt: skip

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.calls.append(f"{method} {path.split('?')[0]}")
        if method == "GET":
            offset = int(path.rsplit("=", 1)[1])
            shown = json.loads(json.dumps(list(self.workspaces.values())))
            if offset == 0:
                self._tick()
            return 200, {"workspaces": shown[offset : offset + coder.PAGE]}
        if method == "PATCH":
            builds = {each["latest_build"]["id"]: each["latest_build"] for each in self.workspaces.values()}
            job = builds[path.split("/")[4]]["job"]
            if job["status"] not in ("pending", "running"):
                return 412, {"message": "Job has already completed or is canceled!"}
            job["status"] = "canceling"
            return 200, {}
        workspace = self.workspaces[path.split("/")[4]]
        if self.conflicts or workspace["latest_build"]["job"]["status"] in ("pending", "running", "canceling"):
            self.conflicts = max(0, self.conflicts - 1)
            return 409, {"message": "A workspace build is already active."}
        self.builds += 1
        workspace["latest_build"] = {
            "id": f"build-{self.builds}", "transition": body["transition"], "job": {"status": "pending"},
        }  # fmt: skip
        return 201, workspace["latest_build"]

    def _tick(self) -> None:
        for name, each in list(self.workspaces.items()):
            build = each["latest_build"]
            job = build["job"]
            if job["status"] == "canceling":
                job["status"] = "canceled"
            elif job["status"] == "pending":
                job["status"] = "running"
            elif job["status"] == "running" and build["id"].startswith("build-"):
                outcome = self.outcomes.get(name, "succeeded")
                job.update(status=outcome, error="no space left" if outcome == "failed" else "")
                if build["transition"] == "delete" and outcome == "succeeded":
                    del self.workspaces[name]


@pytest.fixture
def server() -> Iterator[Coder]:
    state = Coder()

    class Handler(QuietHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if self.headers.get("Coder-Session-Token") != TOKEN:
                self.answer(401, {"message": "You are signed out."})
            else:
                self.answer(*state.answer(self.command, self.path, body))

        do_GET = do_POST = do_PATCH = _serve  # noqa: N815  http.server's names

    with serving(Handler) as state.url:
        yield state


def _settle(server: Coder, transition: str = "stop", token: str = TOKEN, timeout_s: float = 60) -> list[str]:
    said: list[str] = []
    api = coder.Api(url=server.url, token=token)
    return retire.settle(api, transition, said.append, timeout_s=timeout_s, interval_s=0.01)


@pytest.mark.parametrize(
    ("transition", "status", "posts", "patches"),
    [
        ("start", "succeeded", 1, 0),
        ("start", "failed", 1, 0),
        ("start", "canceled", 1, 0),
        ("start", "running", 1, 1),
        ("start", "pending", 1, 1),
        ("start", "canceling", 1, 1),
        ("stop", "succeeded", 0, 0),
        ("stop", "failed", 1, 0),
        ("stop", "canceled", 1, 0),
        ("stop", "canceling", 1, 0),
        ("delete", "failed", 1, 0),
        ("delete", "running", 1, 1),
    ],
)
def test_a_workspace_ends_up_stopped_from_every_state(
    server: Coder, transition: str, status: str, posts: int, patches: int
) -> None:
    server.add("w", transition, status)
    assert _settle(server) == []
    build = server.workspaces["w"]["latest_build"]
    assert (build["transition"], build["job"]["status"]) == ("stop", "succeeded")
    assert [call.split()[0] for call in server.calls if not call.startswith("GET")] == ["PATCH"] * patches + [
        "POST"
    ] * posts


def test_a_stop_that_runs_already_is_waited_for_and_not_asked_again(server: Coder) -> None:
    server.add("w", "stop", "pending")
    server.workspaces["w"]["latest_build"]["id"] = "build-by-somebody"
    assert _settle(server) == []
    assert server.workspaces["w"]["latest_build"]["job"]["status"] == "succeeded"
    assert not [call for call in server.calls if not call.startswith("GET")]


def test_all_are_asked_before_the_first_is_done_and_none_is_missed_on_a_later_page(server: Coder) -> None:
    count = coder.PAGE + 5
    for number in range(count):
        server.add(f"w{number}", "start", "succeeded")
    assert _settle(server) == []
    posts = [index for index, call in enumerate(server.calls) if call.startswith("POST")]
    assert len(posts) == count
    assert posts == list(range(posts[0], posts[0] + count))
    assert {each["latest_build"]["transition"] for each in server.workspaces.values()} == {"stop"}


def test_delete_is_done_when_the_workspace_has_left_the_list(server: Coder) -> None:
    server.add("w", "stop", "succeeded")
    assert _settle(server, "delete") == []
    assert server.workspaces == {}


def test_a_stop_that_fails_is_named_and_does_not_hold_up_the_others(server: Coder) -> None:
    server.add("full", "start", "succeeded")
    # Has to be cancelled first, so that it is stopped only after the other one failed.
    server.add("late", "start", "running")
    server.outcomes["full"] = "failed"
    assert _settle(server) == ["Coder could not stop admin/full: no space left"]
    assert server.workspaces["late"]["latest_build"]["job"]["status"] == "succeeded"
    assert server.builds == 2


def test_a_build_that_gets_in_between_is_no_failure(server: Coder) -> None:
    server.add("w", "start", "succeeded")
    server.conflicts = 2
    assert _settle(server) == []
    assert server.workspaces["w"]["latest_build"]["transition"] == "stop"


def test_a_stop_that_never_ends_is_given_up_in_time(server: Coder) -> None:
    server.add("w", "start", "succeeded")
    server.outcomes["w"] = "running"
    assert _settle(server, timeout_s=0.3) == ["Coder did not stop every workspace within 0 s"]


@pytest.mark.parametrize(
    ("url", "token", "reason"),
    [("", "a-revoked-one", "no longer knows our token"), ("http://127.0.0.1:9", TOKEN, "cannot be asked")],
    ids=["revoked", "dead"],
)
def test_without_coder_labelled_containers_go_and_the_job_succeeds_with_a_warning(
    server: Coder, tmp_path: Path, url: str, token: str, reason: str
) -> None:
    # A `docker` that has one workspace's container, and writes down what it is told.
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        'case "$1" in ps) echo coder-admin-demo;; exec) echo "no such container" >&2; exit 1;; esac\n'
    )
    (tmp_path / "docker").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-m", "stack.jobs.retire"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60,
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin", "CODER_URL": url or server.url, "CODER_TOKEN": token, "STACK": "coder",
            "PURGE": "false", "DATA_DIRECTORY": str(tmp_path / "data"), "POSTGRES_CONTAINER": "coder-postgres",
            "CODER_CONTAINER": "coder-server", "ROLE": "coder", "DATABASE": "coder", "BACKUPS_KEPT": "7",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"warning: Coder {reason}" in done.stderr
    assert "warning: stopped without Coder: coder-admin-demo" in done.stderr
    assert f"warning: the database was not dumped, its files stay in {tmp_path}/data/postgres" in done.stderr
    assert token not in done.stderr
    first, *calls = (tmp_path / "calls").read_text().splitlines()
    assert first == f"update --cpus {os.cpu_count()} coder-server"
    assert calls[0].startswith("ps --all --filter label=coder-pilot.stack=coder --filter label=coder.workspace_id")
    assert calls[1:3] == ["stop --time 10 coder-admin-demo", "rm --force coder-admin-demo"]
    assert not any("volume" in call for call in calls)
