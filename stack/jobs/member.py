"""Make the account for every day, a plain member, whatever state the server is in; print its id.

No such account yet: create it. One that was suspended in the dashboard is activated, one with another password or with
a role gets ours and loses it, one that was deleted is made anew. Names as with the admin: a changed setting renames,
what was renamed in the dashboard stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from stack.jobs import accounts, coder, engine, pilot_file, program
from stack.jobs.accounts import User
from stack.jobs.pilot_file import Account


def refusal(found: Sequence[User], recorded: Account | None, username: str, email: str) -> str | None:
    """Why the settings cannot become the account, with what to type; None where they can.

    `recorded` is the account as `up` left it. One that has both the name and the address is taken over, such as that
    of an earlier data directory's `pilot.json`.
    """
    ours = next((each for each in found if recorded and each.id == recorded.id), None)
    holder = accounts.with_email(found, email)
    if ours and holder is None:
        return (
            f"email is {email}, but the address of {ours.username} is {ours.email} and Coder cannot change a user's: "
            f"run `pulumi config set email {ours.email}`. For an account with another address, delete {ours.username} "
            "in the dashboard first, which it refuses while it has workspaces"
        )
    if holder and holder != ours and holder.username.lower() != username.lower():
        return (
            f"email is {email}, the address of another user of this Coder, {holder.username}: choose another, "
            f"`pulumi config set email <address>`, or make that account yours, "
            f"`pulumi config set username {holder.username}`"
        )
    named = next((each for each in found if each.username.lower() == username.lower()), None)
    if named and named not in (ours, holder) and not (ours and recorded and recorded.username == username):
        return (
            f"username is {username}, which another user of this Coder is called: "
            f"run `pulumi config set username {ours.username if ours else '<name>'}`"
        )
    return None


def _create(api: coder.Api, username: str, name: str, email: str, password: str) -> None:
    accounts.refuse_weak(api, password, "password")
    me = api.call("GET", "/api/v2/users/me")
    organizations = me["organization_ids"] if isinstance(me, dict) else []
    api.call(
        "POST", "/api/v2/users",
        {
            "email": email, "username": username, "name": name, "password": password, "login_type": "password",
            "user_status": "active", "organization_ids": organizations[:1],
        },
    )  # fmt: skip


def _may_sign_in(api: coder.Api, email: str, password: str) -> bool:
    anonymous = coder.Api(url=api.url)
    try:
        token = accounts.session(anonymous, email, password)
    except coder.ApiError as error:
        if error.status != 401:
            raise
        return False
    coder.Api(url=api.url, token=token).call("POST", "/api/v2/users/logout")
    return True


def _users() -> list[User]:
    return accounts.users(
        program.variable("POSTGRES_CONTAINER"), program.variable("ROLE"), program.variable("DATABASE")
    )


def _converge(api: coder.Api, directory: str) -> str:
    """The account's id."""
    email, username = program.variable("MEMBER_EMAIL"), program.variable("MEMBER_USERNAME")
    name, password = program.variable("MEMBER_NAME"), program.variable("MEMBER_PASSWORD")
    found, recorded = _users(), pilot_file.member(directory)
    if refused := refusal(found, recorded, username, email):
        raise engine.JobError(refused)
    account = accounts.with_email(found, email)
    if account is None:
        _create(api, username, name, email, password)
    else:
        if not (recorded and recorded.id == account.id):
            _tell_of_the_change(account, next((each for each in found if recorded and each.id == recorded.id), None))
        _put_right(api, account, recorded)
    account = accounts.with_email(_users(), email)
    if account is None:
        raise engine.JobError(f"Coder took the account of {email}, and has none")
    applied = Account(
        id=account.id, username=username, name=name, email=account.email, password_digest=account.password_digest
    )
    pilot_file.update(directory, member=asdict(applied))
    return account.id


def _put_right(api: coder.Api, account: User, recorded: Account | None) -> None:
    path = f"/api/v2/users/{account.id}"
    username, name = program.variable("MEMBER_USERNAME"), program.variable("MEMBER_NAME")
    before = recorded if recorded and recorded.id == account.id else None
    if account.suspended:
        api.call("PUT", f"{path}/status/activate")
    if account.roles:
        api.call("PUT", f"{path}/roles", {"roles": []})
    password = program.variable("MEMBER_PASSWORD")
    if not _may_sign_in(api, account.email, password):
        accounts.refuse_weak(api, password, "password")
        api.call("PUT", f"{path}/password", {"password": password})
    new_username = username if before and username not in (before.username, account.username) else None
    new_name = name if name != (before.name if before else "") else None
    if new_username is not None or new_name is not None:
        accounts.rename(api, account, new_username, new_name)


def _tell_of_the_change(account: User, last: User | None) -> None:
    """Leave the notice that an account that was there becomes this one; `last` is the one of before, if it is there."""
    place = f" in the place of {last.username} ({last.email}), who stays, with his workspaces" if last else ""
    role = f", and is {', '.join(account.roles)} no more" if account.roles else ""
    text = (
        f"{account.username} ({account.email}), who was in this Coder already, is the account for every day from now on"
        f"{place}; he signs in with the password of `make password`{role}"
    )
    pilot_file.leave_notice(program.variable("DATA_DIRECTORY"), "member", text)


def main() -> None:
    api = coder.Api(url=program.variable("CODER_URL"), token=program.variable("CODER_TOKEN"))
    try:
        identifier = _converge(api, program.variable("DATA_DIRECTORY"))
    except coder.ApiError as error:
        raise engine.JobError(f"Coder at {api.url} refused: {error}") from None
    print(identifier)


if __name__ == "__main__":
    program.run(main)
