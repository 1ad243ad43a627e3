"""`make outdated` compares what is here with what the sources publish, and says what it could not ask."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot import configuration, outdated
from pilot.outdated import Part, ask, number, unasked, within
from stack.jobs import pilot_file
from stack.jobs.engine import JobError
from stack.settings import parse
from tests.http_server import QuietHandler, serving

CHECKOUT = Path(__file__).resolve().parents[2]
ANSWERS: dict[str, Any] = {
    "/coder/coder/releases/latest": {"tag_name": "v2.38.8"},
    "/coder/coder/security-advisories?per_page=100": [
        {
            "ghsa_id": "GHSA-1", "severity": "high", "summary": "a link makes a workspace",
            "vulnerabilities": [{"vulnerable_version_range": ">= 2.25.0, < 2.30.2"}],
        },
        {"ghsa_id": "GHSA-2", "vulnerabilities": [{"vulnerable_version_range": "< 2.29.17"}]},
        {"ghsa_id": "GHSA-3", "vulnerabilities": [{"vulnerable_version_range": None}]},
        {"ghsa_id": "GHSA-4", "vulnerabilities": 4},
        "no advisory",
    ],
    "/pulumi/pulumi/releases/latest": {"tag_name": "v3.274.1"},
    "/pulumi/pulumi/security-advisories?per_page=100": [],
    "/pulumi/pulumi-docker/releases/latest": {"tag_name": "the newest"},
    "/coder/code-server/releases/latest": b"<html>",
    "/postgres/17": {"latest": "17.14"},
}  # fmt: skip


class Feeds(QuietHandler):
    """Answers as the feeds do."""

    def do_GET(self) -> None:  # noqa: N802  the library's name
        body = ANSWERS.get(self.path)
        if body is None:
            self.answer(429, {"message": "API rate limit exceeded"})
        elif isinstance(body, bytes):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)
        else:
            self.answer(200, body)


@pytest.fixture(autouse=True)
def _feeds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with serving(Feeds) as url:
        monkeypatch.setattr(outdated, "GITHUB", url + "/{repository}/{feed}")
        monkeypatch.setattr(outdated, "POSTGRES_RELEASES", url + "/postgres/{major}")
        yield


def test_what_moved_on_is_told_with_the_holes_of_the_version_that_is_here() -> None:
    (coder, pulumi) = ask([Part(name="Coder", here="2.30.0"), Part(name="Pulumi", here="3.274.1")])
    assert (coder.newest, coder.behind, coder.not_asked) == ("2.38.8", True, "")
    assert coder.holes == ("GHSA-1 (high): a link makes a workspace",)
    assert (pulumi.behind, pulumi.holes) == (False, ())


def test_what_could_not_be_asked_is_told_and_stops_nothing() -> None:
    names = ("pulumi-docker", "code-server", "Claude Code", "Pulumi")
    found = ask([Part(name=each, here="1.0") for each in names])
    assert [each.not_asked for each in found] == [
        'no version in "the newest"', "the answer is no JSON", "HTTP status 429", "",
    ]  # fmt: skip
    assert not any(each.behind for each in found[:3])


NOBODY_ANSWERS = """
import sys, time
from pilot import outdated
outdated.TIMEOUT_S = 0.2
outdated._asked = lambda _: time.sleep(60)
(found,) = outdated.ask([outdated.Part(name="Coder", here="2.30.0")])
print(found.not_asked, found.here)
"""


def test_a_source_that_does_not_answer_holds_up_neither_the_table_nor_the_end_of_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOBODY_ANSWERS], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "no answer in time 2.30.0\n"


def test_the_deadlines_of_all_that_is_asked_leave_room_within_ten_seconds() -> None:
    assert outdated.HERE_TIMEOUT_S + outdated.TIMEOUT_S < 10


def test_without_a_network_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outdated, "GITHUB", "https://feeds.invalid/{repository}/{feed}")
    monkeypatch.setattr(outdated, "POSTGRES_RELEASES", "https://feeds.invalid/{major}")
    found = ask([Part(name=each, here="1.0") for each in ("Coder", "Postgres", "Pulumi")])
    assert unasked(found) == ["could not ask any source: its name is not found; check the network, or set HTTPS_PROXY"]


def test_sources_that_fail_in_the_same_way_share_a_line() -> None:
    found = ask([Part(name=each, here="1.0") for each in ("Claude Code", "coder/coderd", "code-server", "Pulumi")])
    assert unasked(found) == [
        "could not ask the source of Claude Code, coder/coderd: HTTP status 429",
        "could not ask the source of code-server: the answer is no JSON",
    ]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ssl.SSLCertVerificationError("CERTIFICATE_VERIFY_FAILED"), "set SSL_CERT_FILE"),
        (TimeoutError("The read operation timed out"), "no answer in time"),
        (OSError("Tunnel connection failed: 403 Forbidden"), "Tunnel connection failed: 403 Forbidden"),
    ],
)
def test_a_failed_request_is_told_in_plain_words(monkeypatch: pytest.MonkeyPatch, error: OSError, told: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(outdated.urllib.request, "urlopen", refuse)
    (found,) = ask([Part(name="Coder", here="2.30.0")])
    assert told in found.not_asked


@pytest.mark.parametrize(("here", "behind"), [("17.12", True), ("17.14", False), ("17", False)])
def test_postgres_is_compared_within_its_major_and_a_tag_that_moves_as_far_as_it_goes(here: str, behind: bool) -> None:
    (found,) = ask([Part(name="Postgres", here=here)])
    assert (found.newest, found.behind, found.not_asked) == ("17.14", behind, "")


def test_what_a_workspace_has_is_what_its_image_says_else_what_a_build_would_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nobody(*_: object, **__: object) -> str:
        raise JobError("down")

    def in_image(*words: str, **_: object) -> str:
        if "localhost/built:1" not in words:
            raise JobError("no Postgres")
        programs = 'code-server() { echo "[time] info  Wrote it"; echo "4.139.1 53c2 with Code"; }; claude() { false; }'
        return subprocess.run(
            ["bash", "-c", f"{programs}\n{words[-1]}"], capture_output=True, text=True, check=True, timeout=10
        ).stdout

    monkeypatch.setenv("DOCKER_HOST", "unix:///none")  # set by what is tried, and put back by this
    settings = parse({**configuration.values("local"), "dataDir": str(tmp_path)}, CHECKOUT)
    monkeypatch.setattr(outdated, "_coder", lambda _: "2.38.8")
    monkeypatch.setattr(outdated.engine, "docker", nobody)
    before = {each.name: each.here for each in outdated.here(settings)}
    pilot_file.update(str(tmp_path), workspace_images={"base": {"name": "localhost/built:1"}})
    monkeypatch.setattr(outdated.engine, "docker", in_image)
    after = {each.name: each.here for each in outdated.here(settings)}
    parts = outdated._script_versions()
    assert (before["code-server"], before["Postgres"]) == (parts["code_server_version"], "17")
    assert (after["code-server"], after["Claude Code"]) == ("4.139.1", parts["claude_version"])


@pytest.mark.parametrize(
    ("ranges", "version", "inside"),
    [
        (">= 2.25.0, < 2.30.2", "2.30.0", True), (">= 2.25.0, < 2.30.2", "2.30.2", False),
        ("<= v2.30.0", "2.30.0", True),
        ("2.30.0", "2.30.0-dashboard", True), ("< 2.9", "2.30.0", False), ("", "2.30.0", False),
        ("all of them", "2.30.0", False), ("< 2.30", "latest", False),
    ],
)  # fmt: skip
def test_the_range_of_an_advisory_is_held_against_numbers_not_text(ranges: str, version: str, inside: bool) -> None:
    assert within(ranges, version) is inside


def test_versions_are_numbers_and_what_has_none_is_behind_nothing() -> None:
    assert number("v2.30.0-dashboard") == (2, 30, 0) > number("2.9.12")
    assert number("latest") == ()
    assert not Part(name="Coder", here="2.30.0", newest="").behind
