"""`make outdated` compares what is here with what the sources publish, and says what it could not ask."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from pilot import outdated
from pilot.outdated import Part, ask, number, within
from tests.http_server import QuietHandler, serving

ANSWERS: dict[str, Any] = {
    "/coder/coder/releases/latest": {"tag_name": "v2.38.8"},
    "/coder/coder/security-advisories?per_page=100": [
        {
            "ghsa_id": "GHSA-1", "severity": "high", "summary": "a link makes a workspace",
            "vulnerabilities": [{"vulnerable_version_range": ">= 2.25.0, < 2.30.2"}],
        },
        {"ghsa_id": "GHSA-2", "vulnerabilities": [{"vulnerable_version_range": "< 2.29.17"}]},
        {"ghsa_id": "GHSA-3", "vulnerabilities": [{"vulnerable_version_range": None}]},
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


def test_a_source_that_does_not_answer_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outdated, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(outdated, "_asked", lambda _: time.sleep(1))
    began_s = time.monotonic()
    (found,) = ask([Part(name="Coder", here="2.30.0")])
    assert (found.not_asked, found.here) == ("no answer within 0.2 s", "2.30.0")
    assert time.monotonic() - began_s < 0.9


@pytest.mark.parametrize(("here", "newest", "told"), [("17.12", "17.14", ""), ("17", "", "`17` moves")])
def test_postgres_is_compared_within_its_major_and_a_tag_that_moves_with_nothing(
    here: str, newest: str, told: str
) -> None:
    (found,) = ask([Part(name="Postgres", here=here)])
    assert (found.newest, found.not_asked) == (newest, told)


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
