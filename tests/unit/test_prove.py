"""What the proof says of a page that names another app, and what its exit code then is; the rest is in tests/e2e."""

from __future__ import annotations

import argparse
import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from pilot import editor, proof, prove
from pilot.prove import BrokenError, KnownError, NotTriedError, Outcome, Trial
from pilot.session import Session
from stack.jobs.coder import Api, ApiError

EDITOR = "code-server--demo--dev.localhost:7080"


class Coder(http.server.BaseHTTPRequestHandler):
    """Leads to the editor by the name of the host, or by the header where it `heeds` that."""

    heeds = True

    def do_GET(self) -> None:
        named = self.headers["X-Forwarded-Host"] if self.heeds else None
        found = (named or self.headers["Host"]) == EDITOR and self.headers["Coder-Session-Token"] == "token"
        self.send_response(200 if found else 502)
        self.end_headers()
        self.wfile.write(b'{"status":"alive","lastHeartbeat":0}' if found else b"nobody listens")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Coder) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _trial(url: str, version: str) -> Trial:
    return Trial(
        session=cast(Any, None), api=Api(url=url, token="token"), name="x", deadline_s=float("inf"),
        coder_version=version, workspace={"id": "w", "name": "demo"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("heeds", "version", "raised"),
    [
        (False, "2.30.0", None),
        (False, "2.38.8", None),
        (True, "2.30.0", KnownError),
        (True, "2.33.9", KnownError),
        (True, "2.34.0", BrokenError),
        (True, "2.38.8", BrokenError),
        (True, "unknown", BrokenError),
    ],
)
def test_a_header_that_leads_to_another_app_is_a_failure_but_of_a_coder_that_is_known_for_it(
    monkeypatch: pytest.MonkeyPatch, url: str, heeds: bool, version: str, raised: type[Exception] | None
) -> None:
    monkeypatch.setattr(Coder, "heeds", heeds)
    monkeypatch.setattr(editor, "host", lambda *_: EDITOR)
    trial = _trial(url, version)
    if raised is None:
        assert prove._no_other_app(trial) == "X-Forwarded-Host of 9--main--demo--dev.localhost:7080 is not heeded"
        return
    with pytest.raises(BrokenError) as found:
        prove._no_other_app(trial)
    assert type(found.value) is raised


@pytest.mark.parametrize(
    ("address", "allowed", "broken"),
    [("127.0.0.1", None, False), ("192.0.2.7", None, True), ("192.0.2.7", "192.0.2.7", False),
     ("192.0.2.8", "192.0.2.7", True)],
)  # fmt: skip
def test_coder_is_published_on_loopback_and_on_the_address_for_the_cluster_alone(
    monkeypatch: pytest.MonkeyPatch, address: str, allowed: str | None, broken: bool
) -> None:
    settings = argparse.Namespace(
        kubernetes=argparse.Namespace(agent_address=allowed), tailnet=argparse.Namespace(enabled=False)
    )
    site = argparse.Namespace(name="coder", coder_container="coder-server", port=7080)
    trial = argparse.Namespace(session=argparse.Namespace(settings=settings), site=site)
    published = {"7080/tcp": [{"HostIp": each, "HostPort": "7080"} for each in ("127.0.0.1", address)], "1/tcp": None}
    container = {"Name": "/coder-server", "NetworkSettings": {"Ports": published}}
    monkeypatch.setattr(prove.engine, "docker", lambda *_: "id")
    monkeypatch.setattr(prove.engine, "inspect", lambda *_: [container])
    # Where it is published, it answers.
    monkeypatch.setattr(prove, "_own_address", lambda: allowed or "")
    monkeypatch.setattr(prove, "_is_open", lambda *_: True)
    with pytest.raises(BrokenError, match=address) if broken else contextlib.nullcontext():
        assert f"coder-server on {address}:7080" in prove._ports(cast(Trial, trial))


def test_a_password_that_was_changed_in_coder_is_named_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        settings = argparse.Namespace(site=argparse.Namespace(coder_url="http://127.0.0.1:1"))

        def outputs(self, *, secret: bool) -> dict[str, str]:
            assert secret
            return {"email": "dev@x", "password": "old", "apiToken": "t", "adminEmail": "admin@x"}

    def refuse(*_: object) -> None:
        raise ApiError(401, "Incorrect email or password.")

    monkeypatch.setattr(prove.Api, "call", refuse)
    ((outcome,), _) = prove.prove(cast(Session, Refusing()))
    assert not outcome.kept
    assert outcome.found.startswith("Coder refuses the password of dev@x")
    assert outcome.found.endswith("pulumi config set --secret password`")


def test_it_is_not_tried_where_apps_are_paths(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(editor, "host", lambda *_: "")
    with pytest.raises(NotTriedError, match=r"docs/domain\.md"):
        prove._no_other_app(_trial(url, "2.38.8"))


def test_an_editor_that_never_answers_is_no_proof(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(editor, "host", lambda *_: "code-server--other--dev.localhost:7080")
    monkeypatch.setattr(prove, "REPORT_TIMEOUT_S", 0)
    with pytest.raises(BrokenError, match="the editor's answer"):
        prove._no_other_app(_trial(url, "2.38.8"))


@pytest.mark.parametrize(("known", "code", "said"), [(True, 0, "but for what is OPEN"), (False, 1, "NOT proved")])
def test_only_what_the_version_is_not_known_for_makes_the_proof_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], known: bool, code: int, said: str
) -> None:
    outcome = Outcome(promise="x", kept=False, found="why", took_s=0, known=known)
    versions = {"coder": "2.30.0", "postgres": "17"}
    recorded: list[bool] = []
    monkeypatch.setattr(prove, "open_session", lambda _: argparse.Namespace(settings=argparse.Namespace(site=None)))
    monkeypatch.setattr(prove, "prove", lambda _: ([outcome], versions))
    monkeypatch.setattr(proof, "record", lambda *_, passed: recorded.append(passed))
    assert prove.run(argparse.Namespace(stack="x", json=False)) == code
    assert recorded == [code == 0]
    assert said in capsys.readouterr().out
