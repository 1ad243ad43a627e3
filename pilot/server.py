"""The stack's Coder as its admin, signed in for as long as a command runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from pilot.configuration import PilotError
from pilot.session import PASSPHRASE, PASSPHRASE_VARIABLES, Session, passphrase_variable
from stack.jobs import disk
from stack.jobs.coder import Api, ApiError


@contextlib.contextmanager
def admin(session: Session) -> Iterator[Api]:
    """Coder's API on loopback; the session of the log-in is ended afterwards.

    Raises:
        PilotError: the stack is not up, or Coder does not answer or refuses.
    """
    outputs = session.outputs(secret=True)
    if "adminPassword" not in outputs:
        raise PilotError(f"the stack {session.stack} is not up: run `make up STACK={session.stack}`")
    anonymous = Api(url=session.settings.site.coder_url)
    try:
        api = _log_in(anonymous, outputs["adminEmail"], outputs["adminPassword"], session.stack)
        try:
            yield api
        finally:
            with contextlib.suppress(ApiError):
                api.call("POST", "/api/v2/users/logout")
    except ApiError as error:
        advice = "" if error.status else f"; run `make up STACK={session.stack}`, which starts what is stopped"
        told = disk.explained(f"Coder at {anonymous.url}: {error}{advice}", session.settings.site.data_dir)
        raise PilotError(told) from None


def _log_in(anonymous: Api, email: str, password: str, stack: str) -> Api:
    try:
        answer = anonymous.call("POST", "/api/v2/users/login", {"email": email, "password": password})
    except ApiError as error:
        if error.status != 401:
            raise
        command = f"pulumi config set --secret adminPassword --stack {stack}"
        if not passphrase_variable():
            command = f"{PASSPHRASE_VARIABLES[1]}={PASSPHRASE.name} {command}"
        raise PilotError(
            f"the password of {email} was changed in Coder: `make up STACK={stack}` sets it back to that of "
            f"`make password`; to keep your own, first `{command}`"
        ) from None
    return Api(url=anonymous.url, token=_text(answer, "session_token"))


def agents(workspace: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The agents of the workspace's latest build."""
    resources = workspace["latest_build"].get("resources") or []
    return [agent for resource in resources for agent in resource.get("agents") or []]


def _text(answer: object, key: str) -> str:
    if not isinstance(answer, dict) or not answer.get(key):
        raise PilotError(f"Coder answered without {key}")
    return str(answer[key])
