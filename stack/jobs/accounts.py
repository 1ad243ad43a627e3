"""Coder's accounts as jobs see and change them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from stack.jobs import coder, engine, names, postgres
from stack.jobs.pilot_file import Account

OWNER = "owner"
"""Coder's word for the role of an administrator."""
VALIDATE = "/api/v2/users/validate-password"
WEAKNESS_TIMEOUT_S = 5


@dataclass(frozen=True, kw_only=True)
class User(Account):
    """An account as the database has it."""

    roles: tuple[str, ...]
    """Of the whole site; none for a plain member."""
    suspended: bool


def users(container: str, role: str, database: str) -> list[User]:
    """All that were not deleted, the oldest first.

    Raises:
        engine.JobError: the database does not answer.
    """
    rows = postgres.query(
        container, role, database,
        f"SELECT id, username, {postgres.PASSWORD_DIGEST}, array_to_string(rbac_roles, ','), status, email"  # noqa: S608
        " FROM users WHERE NOT deleted ORDER BY created_at;",
    )  # fmt: skip
    # The address last: it may hold the separator.
    split = (row.split("|", 5) for row in rows)
    return [
        User(
            id=key, username=username, password_digest=digest, email=email,
            roles=tuple(filter(None, roles.split(","))), suspended=status == "suspended",
        )
        for key, username, digest, roles, status, email in split
    ]  # fmt: skip


def is_me(username: str) -> bool:
    """Whether Coder takes the name for whoever asks: such a user is made, and each of its apps answers 500 (2.30.0)."""
    # The names of apps are in small letters.
    return username.lower() == "me"


def with_email(found: Sequence[User], email: str) -> User | None:
    """The one with this address; Coder makes no difference between letters."""
    return next((each for each in found if each.email.lower() == email.lower()), None)


def session(api: coder.Api, email: str, password: str) -> str:
    """The token of a new session.

    Raises:
        coder.ApiError: Coder refused; 401 for another password, and for a suspended account.
    """
    answer = api.call("POST", "/api/v2/users/login", {"email": email, "password": password})
    if not isinstance(answer, dict) or not answer.get("session_token"):
        raise engine.JobError("Coder answered a log-in without a session token")
    return str(answer["session_token"])


def refuse_weak(api: coder.Api, password: str, setting: str) -> None:
    """Hold the password to Coder's own rules.

    Raises:
        engine.JobError: it is too weak; with the setting, and without the password.
    """
    if told := _weakness(api.call("POST", VALIDATE, {"password": password}), setting):
        # Those that we make are strong.
        raise engine.JobError(told)


def weakness(container: str, password: str, setting: str) -> str | None:
    """The same before anything is touched, as what to say; None where Coder takes the password, or cannot be asked.

    Asked inside of its container: where that is stopped, anybody may listen on the port.
    """
    ask = (
        f"exec curl --silent --fail --max-time {WEAKNESS_TIMEOUT_S} --header 'Content-Type: application/json' "
        f'--data @- "http://{names.LOOPBACK}:${{CODER_HTTP_ADDRESS##*:}}{VALIDATE}"'
    )
    try:
        answer = engine.docker(
            "exec", "--interactive", container, "sh", "-c", ask, stdin=json.dumps({"password": password})
        )
        return _weakness(json.loads(answer), setting)
    except (engine.JobError, ValueError):
        return None


def _weakness(answer: object, setting: str) -> str | None:
    if isinstance(answer, dict) and not answer.get("valid"):
        return f"Coder does not take the {setting}, {answer.get('details')}: run `pulumi config set --secret {setting}`"
    return None


def rename(api: coder.Api, account: Account, username: str | None, name: str | None) -> None:
    """Give the account another username, full name or both; None keeps the one in Coder.

    Raises:
        coder.ApiError: Coder refused; 409 for a username that another user has.
    """
    user = api.call("GET", f"/api/v2/users/{account.id}")
    kept = user.get("name", "") if isinstance(user, dict) else ""
    profile = {"username": username or account.username, "name": kept if name is None else name}
    api.call("PUT", f"/api/v2/users/{account.id}/profile", profile)
