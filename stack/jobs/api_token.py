"""API tokens of Coder, as jobs make them."""

from __future__ import annotations

from stack.jobs import coder, engine

NANOSECONDS_PER_HOUR = 3600 * 10**9


def replace(api: coder.Api, name: str, prefix: str, lifetime_h: int, **power: object) -> str:
    """A token of that name, in the place of all whose names begin with `prefix`.

    Args:
        power: what it may, in the words of Coder's API: `scope`, or `scopes` with an `allow_list`.

    Raises:
        coder.ApiError: Coder refused or did not answer.
        engine.JobError: it answered without a token.
    """
    remove(api, prefix)
    answer = api.call(
        "POST", "/api/v2/users/me/keys/tokens",
        {"token_name": name, "lifetime": lifetime_h * NANOSECONDS_PER_HOUR, **power},
    )  # fmt: skip
    key = str(answer["key"]) if isinstance(answer, dict) and answer.get("key") else ""
    if not key:
        raise engine.JobError("Coder answered the request for an API token without one")
    return key


def remove(api: coder.Api, prefix: str, user: str = "me") -> None:
    """Delete all tokens of the user, by the id, whose names begin with `prefix`.

    Raises:
        coder.ApiError: Coder refused or did not answer.
    """
    # An expired one keeps its name, and newer servers than 2.30 list it only when asked to.
    tokens = api.call("GET", f"/api/v2/users/{user}/keys/tokens?include_expired=true")
    for token in tokens if isinstance(tokens, list) else []:
        if str(token["token_name"]).startswith(prefix):
            api.call("DELETE", f"/api/v2/users/{user}/keys/{token['id']}")
