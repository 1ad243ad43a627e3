"""Coder's API as far as the keeper needs it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 10
PAGE = 25
"""Workspaces at a time: one has about 10 KB, and the keeper is small."""


class CoderError(Exception):
    """Coder refused; `status` is its HTTP status, 0 where it did not answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Coder:
    """One server, as seen with one token."""

    url: str
    token: str = field(default="", repr=False)
    timeout_s: float = TIMEOUT_S

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request; the answer's JSON.

        Raises:
            CoderError: the server refused or did not answer; the token is not in the message.
        """
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=self.timeout_s)
        headers = {"Content-Type": "application/json", **({"Coder-Session-Token": self.token} if self.token else {})}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise CoderError(0, f"Coder does not answer: {error}") from None
        finally:
            connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise CoderError(answer.status, _refusal(answer.status, text))
        return json.loads(text) if text.strip() else None

    def check(self) -> tuple[bool, str]:
        """Whether the API answers from its database, and what it has against the token, "" for nothing.

        `/healthz` stays 200 while Postgres is away.
        """
        try:
            self.call("GET", "/api/v2/workspaces?limit=1")
        except CoderError as error:
            answers = http.HTTPStatus.BAD_REQUEST <= error.status < http.HTTPStatus.INTERNAL_SERVER_ERROR
            return answers, str(error) if answers else ""
        return True, ""

    def running(self, template: str = "") -> Iterator[dict[str, Any]]:
        """The workspaces that run, of all users and templates, or of one template."""
        seen, query = 0, f"status:running+template:{template}" if template else "status:running"
        while True:
            answer = self.call("GET", f"/api/v2/workspaces?q={query}&limit={PAGE}&offset={seen}")
            yield from answer["workspaces"]
            seen += len(answer["workspaces"])
            if len(answer["workspaces"]) < PAGE:
                return

    def build(self, build_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/api/v2/workspacebuilds/{build_id}")
        return found

    def stop(self, workspace_id: str) -> str:
        """Ask for the stop; the build's id."""
        made = self.call("POST", f"/api/v2/workspaces/{workspace_id}/builds", {"transition": "stop"})
        return str(made["id"])


def _refusal(status: int, text: bytes) -> str:
    if status == http.HTTPStatus.UNAUTHORIZED:
        return "Coder does not take the keeper's token: `make up` makes a new one"
    try:
        answer = json.loads(text)
        return f"Coder refused, {status}: {answer.get('message', '')} {answer.get('detail', '')}".rstrip()
    except (ValueError, AttributeError):
        return f"Coder refused, {status}: {text[:200].decode(errors='replace')}"
