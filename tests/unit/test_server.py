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
USER = {"id": "m-id", "status": "active"}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """What Coder is asked: with which token, how and what. A suspended account's token is refused."""
    asked: list[tuple[str, str, str]] = []

    def call(api: Api, method: str, path: str, body: Any = None) -> object:
        asked.append((api.token, method, path))
        if path == f"{KEYS}/tokens":
            assert (body["scope"], body["lifetime"]) == ("all", 3600 * 10**9)
            return {"key": "anid-secret"}
        if api.url != "active" and api.token == "anid-secret":
            raise ApiError(500, "GET /api/v2/users/me: 500 pq: Cannot create API key for deleted user")
        users = {"active": [USER], "suspended": [{**USER, "status": "suspended"}], "deleted": []}
        return {"users": users[api.url]} if path == "/api/v2/users" else {}

    monkeypatch.setattr(Api, "call", call)
    return asked


@pytest.mark.parametrize("fails", [False, True])
def test_the_members_token_goes_in_the_end(calls: list[tuple[str, str, str]], fails: bool) -> None:
    try:
        with server.acting_for(MEMBER, Api(url="active", token="admins")) as own:
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


@pytest.mark.parametrize(
    ("state", "told"),
    [("suspended", "is suspended in Coder: `make up` activates it"), ("deleted", "was deleted in Coder: `make up`")],
)
def test_an_account_that_cannot_be_used_is_told_with_what_puts_it_right_and_without_the_database_s_words(
    calls: list[tuple[str, str, str]], state: str, told: str
) -> None:
    acting = server.acting_for(MEMBER, Api(url=state, token="admins"))
    with pytest.raises(PilotError, match=rf"the account of dev@x\.y {told}") as refused, acting:
        pytest.fail("it was used")
    assert "pq:" not in str(refused.value)
    assert "secret" not in str(calls[-1][1:])
