"""What stands in the way of `make prove` is told as a promise that is not kept, and nobody's workspace is touched."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilot import prove
from pilot.prove import SIGN_IN, Trial
from stack.jobs import disk
from stack.jobs.coder import Api, ApiError
from stack.jobs.engine import JobError
from tests.http_server import QuietHandler, serving

TEMPLATE = {"id": "t", "name": "code-server", "organization_id": "o"}
Asked = list[tuple[str, str]]


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(disk, "docker_root", lambda: None)
    site = SimpleNamespace(data_dir=str(tmp_path), postgres_container="coder-postgres")
    session: Any = SimpleNamespace(settings=SimpleNamespace(site=site), stack="local")
    api = Api(url="http://127.0.0.1:1")
    return Trial(session=session, api=api, name="prove-1", deadline_s=time.monotonic() + 5)


def _coder(monkeypatch: pytest.MonkeyPatch, answers: Callable[[str, str], object]) -> Asked:
    """A Coder that answers so; what it is asked."""
    asked: Asked = []

    def call(_: Api, method: str, path: str, *__: object, **___: object) -> object:
        asked.append((method, path))
        answer = answers(method, path)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Api, "call", call)
    return asked


def test_a_pilot_without_a_template_is_told_what_makes_one(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    _coder(monkeypatch, lambda *_: [])
    outcome = prove._tried("a workspace is made", prove._create, trial)
    assert outcome.kept is False
    assert outcome.found == "this Coder has no template code-server: run `make up`"


def test_a_workspace_with_the_name_of_the_proofs_is_left_alone(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = ApiError(409, 'Workspace "prove-1" already exists.')
    asked = _coder(monkeypatch, lambda method, _: taken if method == "POST" else [TEMPLATE])
    with prove._throw_away(trial.session, trial.api, "2.30.0") as thrown_away:
        outcome = prove._tried("a workspace is made", prove._create, thrown_away)
    assert (outcome.kept, outcome.found) == (False, 'Workspace "prove-1" already exists.')
    assert [path for method, path in asked if method != "GET"] == ["/api/v2/organizations/o/members/me/workspaces"]


def test_a_full_disk_is_named_with_what_to_free(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(prove.backups, "dump", full)
    outcome = prove._tried("a backup can be read", prove._backup, trial)
    assert outcome.kept is False
    assert outcome.found.startswith(f"the disk of {trial.site.data_dir} ran out of space")
    assert list(Path(trial.site.data_dir).iterdir()) == []


def test_an_answer_that_is_no_json_is_a_promise_that_is_not_kept(trial: Trial) -> None:
    class Page(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  the library's name
            self.reply(200, b"<html>Welcome</html>", "text/html")

    with serving(Page) as url:
        trial.api = Api(url=url)
        outcome = prove._tried("a workspace is made", prove._create, trial)
    assert outcome.kept is False
    assert outcome.found == "GET /api/v2/templates: the answer is no JSON, as Coder's is"


def test_a_port_on_which_something_else_than_a_web_server_listens_is_told_so(trial: Trial) -> None:
    class Ssh(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  the library's name
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    with serving(Ssh) as url:
        trial.api = Api(url=url)
        outcome = prove._tried("a workspace is made", prove._create, trial)
    assert outcome.kept is False
    assert "SSH-2.0-OpenSSH_9.2" in outcome.found


def test_a_postgres_that_does_not_answer_is_told_at_the_sign_in(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Any:
        raise JobError("`docker exec` failed")

    monkeypatch.setattr(prove, "admin", lambda _: prove.contextlib.nullcontext(trial.api))
    monkeypatch.setattr(prove, "_sign_in", lambda _: "me@example.org")
    monkeypatch.setattr(prove.proof, "coder_version", lambda _: "2.38.8")
    monkeypatch.setattr(prove.proof, "postgres_version", refuse)
    (outcome,), versions = prove.prove(trial.session)
    assert (outcome.promise, outcome.kept, outcome.found) == (SIGN_IN, False, "`docker exec` failed")
    assert versions == {}
