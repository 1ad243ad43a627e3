"""Retirement parks every workspace through Coder, whatever it was doing, and ends also where Coder is of no help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stack.jobs import coder, retire
from tests.http_server import QuietHandler, serving

CHECKOUT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-that-nobody-may-see"
TIMEOUT_S = 0.5


@dataclass
class Coder:
    """A server that has workspaces; a build ends at the second look, as `outcomes` says, with success by default."""

    workspaces: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    conflicts: int = 0
    ends_at_once: int = 1000
    """So many builds end at a look."""
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
            assert path.endswith("?limit=0")
            shown = json.loads(json.dumps(list(self.workspaces.values())))
            self._tick()
            return 200, {"workspaces": shown}
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
        ended = 0
        for name, each in list(self.workspaces.items()):
            if ended == self.ends_at_once:
                return
            build = each["latest_build"]
            job = build["job"]
            if job["status"] == "canceling":
                job["status"] = "canceled"
            elif job["status"] == "pending":
                job["status"] = "running"
            elif job["status"] == "running" and build["id"].startswith("build-"):
                outcome = self.outcomes.get(name, "succeeded")
                ended += 1
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


def _settle(
    server: Coder, transition: str = "stop", token: str = TOKEN, timeout_s: float = 60, interval_s: float = 0.01
) -> list[str]:
    said: list[str] = []
    api = coder.Api(url=server.url, token=token)
    return retire.settle(api, transition, said.append, timeout_s=timeout_s, interval_s=interval_s)


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


def test_all_of_hundreds_are_asked_before_the_first_is_done(server: Coder) -> None:
    count = 300
    for number in range(count):
        server.add(f"w{number}", "start", "succeeded")
    assert _settle(server) == []
    posts = [index for index, call in enumerate(server.calls) if call.startswith("POST")]
    assert len(posts) == count
    assert posts == list(range(posts[0], posts[0] + count))
    assert {each["latest_build"]["transition"] for each in server.workspaces.values()} == {"stop"}


def test_many_have_the_time_that_they_take_as_long_as_one_ends_after_the_other(server: Coder) -> None:
    for number in range(20):
        server.add(f"w{number}", "start", "succeeded")
    server.ends_at_once = 1
    began_s = time.monotonic()
    # A second for one that ends is much on a busy machine too, and much less than all of them take.
    assert _settle(server, timeout_s=1, interval_s=0.1) == []
    assert time.monotonic() - began_s > 1.5


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
    assert _settle(server, timeout_s=0.3) == ["Coder did not stop every workspace: 1 left, and none ended for 0 s"]


@dataclass(kw_only=True)
class Engine:
    """A `docker` that has one workspace's container and a Coder with two CPUs, and writes down what it is told."""

    folder: Path
    pg_dump: str = 'echo "no such container" >&2; exit 1'

    def retire(self, url: str, token: str = TOKEN, **variables: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "docker").write_text(
            f'#!/bin/sh\necho "$@" >> {self.folder}/calls\ncase "$1 $4" in\n"ps "*) echo coder-admin-demo;;\n'
            f'"exec "*) {self.pg_dump};;\n*NanoCpus*) echo 2000000000;;\n*Image*) echo postgres:17;;\nesac\n'
        )
        (self.folder / "docker").chmod(0o755)
        return subprocess.run(
            [sys.executable, "-S", "-E", "-m", "stack.jobs.retire"],
            cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60,
            env={
                "PATH": f"{self.folder}:/usr/bin:/bin", "CODER_URL": url, "CODER_TOKEN": token, "STACK": "coder",
                "PURGE": "false", "DATA_DIRECTORY": str(self.folder / "data"), "POSTGRES_CONTAINER": "coder-postgres",
                "CODER_CONTAINER": "coder-server", "ROLE": "coder", "DATABASE": "coder", "BACKUPS_KEPT": "7",
                **variables,
            },
        )  # fmt: skip

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """With a database in the data directory."""
    (tmp_path / "data" / "postgres").mkdir(parents=True)
    (tmp_path / "data" / "postgres" / "PG_VERSION").write_text("17\n")
    return Engine(folder=tmp_path)


@pytest.mark.parametrize(
    ("url", "token", "reason"),
    [("", "a-revoked-one", "no longer knows our token"), ("http://127.0.0.1:9", TOKEN, "cannot be asked")],
    ids=["revoked", "dead"],
)
def test_without_coder_labelled_containers_go_with_a_warning(
    server: Coder, engine: Engine, url: str, token: str, reason: str
) -> None:
    done = engine.retire(url or server.url, token)
    assert f"warning: Coder {reason}" in done.stderr
    assert "warning: stopped without Coder: coder-admin-demo" in done.stderr
    assert token not in done.stderr
    start = engine.calls.index(next(call for call in engine.calls if call.startswith("ps ")))
    listing, *rest = engine.calls[start:]
    assert listing.startswith("ps --all --filter label=coder-pilot.stack=coder --filter label=coder.workspace_id")
    assert rest[:2] == ["stop coder-admin-demo", "rm --force coder-admin-demo"]
    assert not any("volume" in call for call in engine.calls)


def test_a_database_that_cannot_be_dumped_is_a_failure_with_its_reason_and_the_word_that_goes_on(
    server: Coder, engine: Engine
) -> None:
    done = engine.retire(server.url)
    assert done.returncode == 1
    files = engine.folder / "data" / "postgres"
    assert "error: the database was not dumped, so Postgres and Coder stay: `pg_dump` failed: no such" in done.stderr
    assert f"`make down WITHOUT_DUMP=yes`, which leaves the database's files alone in {files}" in done.stderr
    # After the workspaces: who comes again finds them stopped.
    assert engine.calls.index("rm --force coder-admin-demo") < engine.calls.index(
        next(call for call in engine.calls if "pg_dump" in call)
    )


def test_a_coder_that_stays_has_the_cpus_that_it_had(server: Coder, engine: Engine) -> None:
    engine.retire(server.url)
    updates = [call for call in engine.calls if call.startswith("update")]
    assert updates == [f"update --cpus {os.cpu_count()} coder-server", "update --cpus 2.0 coder-server"]


def test_there_is_no_dump_where_the_owner_says_so(server: Coder, engine: Engine) -> None:
    done = engine.retire(server.url, CODER_PILOT_WITHOUT_DUMP="yes")
    assert done.returncode == 0
    assert "the database is not dumped, as you said" in done.stderr
    assert not any("pg_dump" in call for call in engine.calls)


def test_where_no_database_was_ever_made_there_is_nothing_to_dump(server: Coder, engine: Engine) -> None:
    (engine.folder / "data" / "postgres" / "PG_VERSION").unlink()
    done = engine.retire(server.url)
    assert done.returncode == 0
    assert "there is no database yet, and so no dump" in done.stderr
