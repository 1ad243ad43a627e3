"""What Coder reports of its own health, as on the dashboard's page Healthcheck."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stack.jobs.coder import Api, ApiError

PATH = "/api/v2/debug/health"
TIMEOUT_S = 8
"""Each of its checks has 5 s. Coder keeps a report for ten minutes, and finishes one that we did not wait for."""


def troubles(api: Api) -> list[str]:
    """A line with section, severity and message for each section that is not well and was not dismissed."""
    try:
        report = api.call("GET", PATH, timeout_s=TIMEOUT_S)
    except ApiError as error:
        return [f"no report within {TIMEOUT_S} s" if error.status == 0 else f"no report: {error}"]
    sections = report.items() if isinstance(report, dict) else ()
    return [f"{name}: {each['severity']}, {_message(each)}" for name, each in sections if _is_ill(each)]


def _is_ill(section: object) -> bool:
    return isinstance(section, dict) and section.get("severity") != "ok" and not section.get("dismissed")


def _message(section: Mapping[str, Any]) -> str:
    """The first that the section, or a part of it, has to say."""
    return next(_messages(section), "no reason given")


def _messages(part: object) -> Iterator[str]:
    if isinstance(part, list):
        for each in part:
            yield from _messages(each)
    if not isinstance(part, dict):
        return
    if part.get("error"):
        yield str(part["error"])
    for each in part.get("warnings") or []:
        yield f"{each['code']}: {each['message']}"
    # Of a relay, by client and attempt.
    for attempts in part.get("client_errs") or []:
        yield from (attempts or [])[:1]
    for each in part.values():
        yield from _messages(each)
