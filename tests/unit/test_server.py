"""The front door acts as the member for as long as it needs, and says what to type where it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from pilot import server
from pilot.configuration import PilotError
from stack.jobs.coder import Api, ApiError
from stack.jobs.pilot_file import Account

MEMBER = Account(id="m-id", username="dev", email="dev@x.y", password_digest="")
KEYS = "/api/v2/users/m-id/keys"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """What Coder is asked: with which token, how and what. A suspended account's token is refused."""
    asked: list[tuple[str, str, str]] = []

    def call(api: Api, method: str, path: str, body: Any = None) -> object:
        asked.append((api.token, method, path))
        if path == f"{KEYS}/tokens":
            assert (body["scope"], body["lifetime"]) == ("all", 3600 * 10**9)
            return {"key": "anid-secret"}
        if api.url == "suspended" and api.token == "anid-secret":
            raise ApiError(401, "GET /api/v2/users/me: 401 suspended")
        return {}

    monkeypatch.setattr(Api, "call", call)
    return asked


@pytest.mark.parametrize("fails", [False, True])
def test_the_members_token_goes_in_the_end(calls: list[tuple[str, str, str]], fails: bool) -> None:
    try:
        with server.acting_for(MEMBER, Api(url="", token="admins"), "local") as own:
            assert own.token == "anid-secret"
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert calls == [
        ("admins", "POST", f"{KEYS}/tokens"),
        ("anid-secret", "GET", "/api/v2/users/me"),
        ("admins", "DELETE", f"{KEYS}/anid"),
    ]


def test_an_account_that_cannot_be_used_is_told_with_what_puts_it_right(calls: list[tuple[str, str, str]]) -> None:
    acting = server.acting_for(MEMBER, Api(url="suspended", token="admins"), "framework")
    with (
        pytest.raises(PilotError, match=r"dev@x\.y cannot be used, .*suspended: run `make up STACK=framework`"),
        acting,
    ):
        pytest.fail("it was used")
    assert "secret" not in str(calls[-1][1:])
