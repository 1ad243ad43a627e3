"""The stack's Coder as its admin, and for whom."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from pilot.configuration import PilotError
from pilot.session import PASSPHRASE, PASSPHRASE_VARIABLES, Session, passphrase_variable
from stack.jobs import disk, pilot_file
from stack.jobs.coder import Api, ApiError
from stack.jobs.names import TOKEN_PREFIX

TOKEN_LIFETIME_NS = 3600 * 10**9


@contextlib.contextmanager
def admin(session: Session) -> Iterator[Api]:
    """Coder's API on loopback, with the token that `up` made: wrong passwords of others cannot lock us out.

    Raises:
        PilotError: the stack is not up, or Coder does not answer or refuses.
    """
    outputs = session.outputs(secret=True)
    if "apiToken" not in outputs:
        raise PilotError(f"the stack {session.stack} is not up: run `make up`")
    api = Api(url=session.settings.site.coder_url, token=outputs["apiToken"])
    try:
        yield api
    except ApiError as error:
        if error.status == 401:
            raise PilotError(_unknown_token(outputs["adminEmail"])) from None
        advice = "" if error.status else "; run `make up`, which starts what is stopped"
        told = disk.explained(f"Coder at {api.url}: {error}{advice}", session.settings.site.data_dir)
        raise PilotError(told) from None


def member(session: Session) -> pilot_file.Account:
    """The account to which new workspaces belong.

    Raises:
        PilotError: there is none yet.
    """
    account = pilot_file.member(session.settings.site.data_dir)
    if account is None:
        wanted = session.settings.member.username
        raise PilotError(f"there is no account {wanted} for every day yet: run `make up`, which makes it")
    return account


@contextlib.contextmanager
def acting_for(account: pilot_file.Account, admin: Api) -> Iterator[Api]:
    """Coder's API as the account, with a token that goes in the end. One that is left over, because somebody killed
    us, is good for an hour at most, and Coder deletes it a week later.

    The administrator's own would not do: where apps are paths, Coder shows no owner the apps of others. And a log-in
    would be shut out by wrong passwords of anybody on this machine.

    Raises:
        PilotError: the account is gone or suspended.
    """
    path = f"/api/v2/users/{account.id}/keys"
    wanted = {"token_name": f"{TOKEN_PREFIX}{secrets.token_hex(4)}", "scope": "all", "lifetime": TOKEN_LIFETIME_NS}
    try:
        answer = admin.call("POST", f"{path}/tokens", wanted)
        key = str(answer["key"]) if isinstance(answer, dict) else ""
        own = Api(url=admin.url, token=key)
        own.call("GET", "/api/v2/users/me")
    except ApiError as error:
        if not error.status:
            raise
        raise PilotError(_why_unusable(account, admin) or f"{account.email} cannot be used: {error}") from None
    try:
        yield own
    finally:
        with contextlib.suppress(ApiError):
            admin.call("DELETE", f"{path}/{key.partition('-')[0]}")


def _why_unusable(account: pilot_file.Account, admin: Api) -> str:
    """What happened to the account, with what puts it right; "" for nothing that Coder's list of users shows."""
    answer = admin.call("GET", "/api/v2/users")
    users = answer["users"] if isinstance(answer, dict) else []
    status = next((each["status"] for each in users if each["id"] == account.id), "deleted")
    if status == "deleted":
        return f"the account of {account.email} was deleted in Coder: `make up` makes it anew"
    return f"the account of {account.email} is suspended in Coder: `make up` activates it" * (status == "suspended")


def _unknown_token(email: str) -> str:
    return (
        f"Coder does not take our API token any more: the password of {email} was changed there, the account suspended "
        f"or the token removed. `make up` makes a new one, and sets the password back to that of "
        f"`make password WHO=admin`; {_to_keep('adminPassword')}"
    )


def changed_password(email: str) -> str:
    """What to do where Coder refuses the password of the account for every day."""
    return (
        f"Coder refuses the password of {email}, which was changed there: `make up` sets it back to that of "
        f"`make password`; {_to_keep('password')}"
    )


def _to_keep(key: str) -> str:
    variable = "" if passphrase_variable() else f"{PASSPHRASE_VARIABLES[1]}={PASSPHRASE.name} "
    return f"to keep your own, first `{variable}pulumi config set --secret {key}`"


def agents(workspace: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The agents of the workspace's latest build."""
    resources = workspace["latest_build"].get("resources") or []
    return [agent for resource in resources for agent in resource.get("agents") or []]
