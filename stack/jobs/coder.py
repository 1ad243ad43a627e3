"""Coder's API as jobs see it, every call bounded in time."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CALL_TIMEOUT_S = 20
LIST_TIMEOUT_S = 60
"""Some hundred workspaces take seconds."""

Workspace = Mapping[str, Any]
"""One workspace as the API shows it."""

# Loopback: a proxy from the environment would only be in the way.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ApiError(Exception):
    """Coder refused; `status` is its HTTP status, 0 where it did not answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Api:
    """One server, as seen with one session or API token."""

    url: str
    token: str = ""

    def call(
        self, method: str, path: str, body: object = None, *, timeout_s: float = CALL_TIMEOUT_S, host: str = ""
    ) -> object:
        """One request, with `host` to an app of that name; the answer's JSON, None for an empty one.

        Raises:
            ApiError: the server refused, or did not answer as Coder does; no request body or token is in the message.
        """
        request = urllib.request.Request(  # noqa: S310  the http address of our own server
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                **({"Coder-Session-Token": self.token} if self.token else {}),
                **({"Host": host} if host else {}),
            },
        )
        try:
            with _opener.open(request, timeout=timeout_s) as answer:
                text, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, f"{method} {path}: {error.code} {_reason(error.read())}") from None
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(0, f"{method} {path}: {error}") from None
        try:
            return json.loads(text) if text.strip() else None
        except ValueError:
            raise ApiError(status, f"{method} {path}: the answer is no JSON, as Coder's is") from None


def _reason(text: bytes) -> str:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return text[:200].decode(errors="replace")
    details = [str(item.get("detail", "")) for item in answer.get("validations") or []]
    return " ".join(filter(None, [answer.get("message", ""), answer.get("detail", ""), *details]))


def answers(url: str) -> bool:
    """Whether the API answers from its database; `/healthz` stays 200 while Postgres is away."""
    try:
        Api(url=url).call("GET", "/api/v2/users/first")
    except ApiError as error:
        # 404: a server without users.
        return error.status == 404
    return True


def workspaces(api: Api) -> list[Workspace]:
    """All workspaces of all users.

    In one answer: those that run come first, so one that stops between two pages would move all others.

    Raises:
        ApiError: Coder refused or did not answer.
    """
    # Without a limit: that is what 0 means.
    answer = api.call("GET", "/api/v2/workspaces?limit=0", timeout_s=LIST_TIMEOUT_S)
    return list(answer["workspaces"]) if isinstance(answer, dict) else []
