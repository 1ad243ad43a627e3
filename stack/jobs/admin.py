"""Make the first admin and its API token, whatever state the server is in; print the token.

No user yet: create it. A user with another password: reset it inside the container, as Coder's own command does, with
a notice where it was changed in Coder. `adminUsername` is another than the one that was applied last: rename the
account; one that was renamed in the dashboard keeps its name, unless that is `me`. The same for the full name,
`adminName`. `adminEmail` is
the address of another owner: that one is the admin from now on. Then replace every API token of ours by a new one, and
check it: a job that printed nothing would surface as a misleading error two resources later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from stack.jobs import accounts, api_token, coder, engine, names, pilot_file, postgres, program
from stack.jobs.accounts import User
from stack.jobs.pilot_file import Account


def taken(username: str, before: str) -> str:
    """What to do where another user has the name."""
    back = "" if accounts.is_me(before) else f", or run `pulumi config set adminUsername {before}`"
    return f"adminUsername is {username}, which another user of this Coder is called: choose another name{back}"


def _first_user(api: coder.Api, email: str, username: str, name: str, password: str) -> None:
    try:
        api.call("GET", "/api/v2/users/first")
        return
    except coder.ApiError as error:
        if error.status != 404:
            raise
    accounts.refuse_weak(api, password, "adminPassword")
    try:
        api.call(
            "POST", "/api/v2/users/first",
            {"email": email, "username": username, "name": name, "password": password, "trial": False},
        )  # fmt: skip
    except coder.ApiError as error:
        # 409: somebody was faster, which is as good.
        if error.status != 409:
            raise


def _owners() -> list[User]:
    found = accounts.users(
        program.variable("POSTGRES_CONTAINER"), program.variable("ROLE"), program.variable("DATABASE")
    )
    return [each for each in found if accounts.OWNER in each.roles]


def _find(owners: Sequence[User], recorded: Account | None, email: str, username: str) -> User:
    """The admin's account: the owner with the address of the settings.

    Raises:
        JobError: there is none; with the owner that is most likely meant.
    """
    if found := accounts.with_email(owners, email):
        return found
    likely = next((each for each in owners if recorded and each.id == recorded.id), None)
    known = likely is not None
    likely = likely or next((each for each in owners if each.username == username), owners[0] if owners else None)
    told = f"run `pulumi config set adminEmail {likely.email if likely else '<address>'}`"
    # What was applied to one that is recorded stays so.
    if likely and not known and likely.username != username and not accounts.is_me(likely.username):
        told += f" and `pulumi config set adminUsername {likely.username}`"
    raise engine.JobError(
        f"this Coder has no owner with the address {email}, its owners are "
        f"{', '.join(f'{each.username} ({each.email})' for each in owners) or 'none'}: {told}"
    )


def _reset_password(api: coder.Api, account: Account, password: str) -> None:
    accounts.refuse_weak(api, password, "adminPassword")
    # The database's URL is in the container's own environment; the password is asked for twice.
    engine.docker(
        "exec", "--interactive", program.variable("CODER_CONTAINER"), "/opt/coder", "reset-password", account.username,
        stdin=f"{password}\n{password}\n",
    )  # fmt: skip


def _notify(account: Account, recorded: Account | None) -> None:
    """Leave the notice that the account's password was set back, for the program to show.

    The same hash as recorded: it is ours that changed, by the setting or with the state, and nothing of anybody's went.
    """
    if recorded and recorded.password_digest == account.password_digest:
        return
    what = "was changed in Coder: set back" if recorded else "was another one in Coder: set"
    text = (
        f"the password of {account.username} {what} to that of `make password WHO=admin`; to keep one of your own, "
        "`pulumi config set --secret adminPassword`"
    )
    pilot_file.leave_notice(program.variable("DATA_DIRECTORY"), "admin", text)


def _refuse_intruder(account: Account) -> None:
    """Refuse an account that somebody made after this Coder started and before we could.

    Whoever made it has a session of it, which a new password does not end.

    Raises:
        JobError: it is one.
    """
    started = engine.state(program.variable("CODER_CONTAINER"))
    identifier, since = postgres.literal(account.id), postgres.literal(started.started_at if started else "infinity")
    made_since = postgres.query(
        program.variable("POSTGRES_CONTAINER"), program.variable("ROLE"), program.variable("DATABASE"),
        f"SELECT 1 FROM users WHERE id = {identifier} AND created_at > {since}::timestamptz;",  # noqa: S608  quoted
    )  # fmt: skip
    if made_since:
        raise engine.JobError(
            f"somebody else made the first user of this Coder, {account.username} ({account.email}), after it started: "
            "a process of this machine, by its port. Find it, `make down`, and begin with another `dataDir`; "
            "if it was you, `make down` and `make up` take it over"
        )


def _converge(anonymous: coder.Api, directory: str, generation: int) -> str:
    """The token."""
    email, username = program.variable("ADMIN_EMAIL"), program.variable("ADMIN_USERNAME")
    name = program.variable("ADMIN_NAME")
    password, prefix = program.variable("ADMIN_PASSWORD"), program.variable("TOKEN_PREFIX")
    _first_user(anonymous, email, username, name, password)
    owners, recorded = _owners(), pilot_file.admin(directory)
    if recorded and recorded.id not in {each.id for each in owners}:
        # Another database, or an account that is gone: what was recorded says nothing any more.
        pilot_file.update(directory, admin=None)
        recorded = None
    account = _find(owners, recorded, email, username)
    # None where the settings name another owner than that of the last time.
    before = recorded if recorded and recorded.id == account.id else None
    try:
        session = accounts.session(anonymous, email, password)
    except coder.ApiError as error:
        if error.status != 401:
            raise
        if recorded is None:
            _refuse_intruder(account)
        _reset_password(anonymous, account, password)
        session = accounts.session(anonymous, email, password)
        _notify(account, before)
        account = _find(_owners(), recorded, email, username)
    api = coder.Api(url=anonymous.url, token=session)
    changed = before and username not in (before.username, account.username)
    new_username = username if changed or accounts.is_me(account.username) else None
    new_name = name if name != (before.name if before else "") else None
    if new_username is not None or new_name is not None:
        try:
            accounts.rename(api, account, new_username, new_name)
        except coder.ApiError as error:
            if error.status != 409:
                raise
            raise engine.JobError(taken(username, account.username)) from None
    lifetime_h = int(program.variable("TOKEN_LIFETIME_H"))
    key = api_token.replace(api, f"{prefix}{generation}", prefix, lifetime_h, scope="all")
    coder.Api(url=anonymous.url, token=key).call("GET", "/api/v2/users/me")
    if recorded and recorded.id != account.id:
        # The administrator of before may stay an owner, but no longer with a token in states and backups.
        for each in (prefix, names.KEEPER_TOKEN_PREFIX):
            api_token.remove(api, each, recorded.id)
    api.call("POST", "/api/v2/users/logout")
    applied = Account(
        id=account.id, username=username, name=name, email=account.email, password_digest=account.password_digest
    )
    pilot_file.update(directory, token_generation=generation, admin=asdict(applied))
    return key


def main() -> None:
    anonymous = coder.Api(url=program.variable("CODER_URL"))
    try:
        key = _converge(anonymous, program.variable("DATA_DIRECTORY"), int(program.variable("TOKEN_GENERATION")))
    except coder.ApiError as error:
        raise engine.JobError(f"Coder at {anonymous.url} refused: {error}") from None
    print(key)


if __name__ == "__main__":
    program.run(main)
