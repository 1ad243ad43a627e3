"""Coder's report of its own health is told in a line for each section that is not well, and not waited for long."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from pilot import health
from stack.jobs.coder import Api
from tests.http_server import QuietHandler, serving

WELL = {"severity": "ok", "warnings": [], "dismissed": False}
# As Coder 2.30.0 answered where its access URL led nowhere, without what nobody needs.
DERP = {
    "severity": "error", "warnings": [], "dismissed": False, "healthy": False, "netcheck_logs": ["netcheck: [v1] …"],
    "regions": {"999": {"severity": "error", "warnings": [], "node_reports": [
        {"severity": "error", "warnings": [], "client_errs": [["connect to derp: refused", "connect to derp: again"]]}
    ]}},
}  # fmt: skip
ACCESS_URL = {
    "severity": "error", "warnings": [], "dismissed": False, "healthy": False,
    "error": "EACS03: get healthz endpoint: connection refused",
}  # fmt: skip
DAEMONS = {
    "severity": "warning", "warnings": [], "dismissed": False,
    "items": [{"warnings": []}, {"warnings": [{"code": "EPD02", "message": "Mismatched version."}]}],
}  # fmt: skip
REPORT = {"time": "2026-11-26T07:19:36Z", "healthy": True, "severity": "ok", "derp": WELL, "access_url": WELL}


def _troubles(status: int, answer: Any, *, delay_s: float = 0) -> list[str]:
    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  http.server's name
            assert self.path == "/api/v2/debug/health"
            time.sleep(delay_s)
            # Who did not wait for it has hung up.
            with contextlib.suppress(BrokenPipeError):
                self.answer(status, answer)

    with serving(Handler) as url:
        return health.troubles(Api(url=url, token="a-token"))


def test_a_coder_that_is_well_has_no_troubles() -> None:
    assert _troubles(200, REPORT) == []


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"derp": DERP}, "derp: error, connect to derp: refused"),
        ({"access_url": ACCESS_URL}, "access_url: error, EACS03: get healthz endpoint: connection refused"),
        ({"provisioner_daemons": DAEMONS}, "provisioner_daemons: warning, EPD02: Mismatched version."),
        ({"database": {**WELL, "severity": "error"}}, "database: error, no reason given"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_section_that_is_not_well_is_told_with_severity_and_reason(section: dict[str, Any], told: str) -> None:
    assert _troubles(200, {**REPORT, "healthy": False, "severity": "error", **section}) == [told]


def test_what_was_dismissed_in_the_dashboard_is_not_told_again() -> None:
    assert _troubles(200, {**REPORT, "access_url": {**ACCESS_URL, "dismissed": True}}) == []


def test_a_report_that_does_not_come_in_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TIMEOUT_S", 0.2)
    assert _troubles(200, REPORT, delay_s=0.6) == ["no report within 0.2 s"]


def test_a_report_that_coder_gave_up_is_told_with_its_reason() -> None:
    answer = {"message": "Healthcheck timed out.", "detail": "Still running: DERP"}
    (told,) = _troubles(503, answer)
    assert told == "no report: GET /api/v2/debug/health: 503 Healthcheck timed out. Still running: DERP"
