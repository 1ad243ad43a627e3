"""What cannot become of the two accounts, before anything is declared. Needs no Pulumi SDK."""

from __future__ import annotations

import os
from collections.abc import Sequence

from stack import settings
from stack.jobs import accounts, engine, member, names, pilot_file
from stack.jobs.accounts import User
from stack.jobs.admin import taken


def refusal(config: settings.Settings) -> str | None:
    """Why an `up` cannot make the accounts what the settings say: another user has a name or an address, an account has
    another address, or a password is too weak; with what to type. None where nothing stands against it."""
    # Nothing else of the program looks at it, the provider has its own.
    os.environ["DOCKER_HOST"] = config.site.docker_host
    return _of_admin(config.admin, config.site) or _of_member(config.member, config.site) or _of_passwords(config)


def _of_admin(config: settings.Admin, site: settings.Site) -> str | None:
    account = pilot_file.admin(site.data_dir)
    if account is None:
        return None
    if config.email.lower() != account.email.lower():
        other = accounts.with_email(_users(site), config.email)
        if other is None or accounts.OWNER not in other.roles:
            return (
                f"adminEmail is {config.email}, but the admin's address is {account.email} and Coder cannot change a "
                f"user's: run `pulumi config set adminEmail {account.email}`"
            )
    elif config.username != account.username and any(
        each.username.lower() == config.username.lower() and each.id != account.id for each in _users(site)
    ):
        return taken(config.username, account.username)
    return None


def _of_member(config: settings.Member, site: settings.Site) -> str | None:
    account = pilot_file.member(site.data_dir)
    if account and (account.username, account.email.lower()) == (config.username, config.email.lower()):
        return None
    return member.refusal(_users(site), account, config.username, config.email)


def _of_passwords(config: settings.Settings) -> str | None:
    own = {"adminPassword": config.admin.password, "password": config.member.password}
    told = (
        accounts.weakness(config.site.coder_container, password.plain, setting)
        for setting, password in own.items()
        if password and password.plain
    )
    return next(filter(None, told), None)


def _users(site: settings.Site) -> Sequence[User]:
    """Coder's accounts; none where the database does not run, and the jobs have to find out."""
    try:
        return accounts.users(site.postgres_container, names.ROLE, names.DATABASE)
    except engine.JobError:
        return ()
