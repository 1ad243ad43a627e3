"""The two accounts of the pilot: the administrator, and the one for every day."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pulumi

from stack import settings
from stack.admin import Admin
from stack.alive import Alive
from stack.jobs import accounts, engine, names, pilot_file
from stack.jobs.accounts import User
from stack.jobs.admin import taken
from stack.jobs.member import refusal
from stack.member import Member


def declare(config: settings.Settings, alive: Alive) -> tuple[Admin, Member]:
    """Both; the administrator's token makes the other."""
    admin = Admin("admin", config.admin, config.site, alive)
    return admin, Member("member", config.member, config.site, alive, token=admin.token)


def check(config: settings.Settings) -> None:
    """Refuse what cannot become of the accounts, before anything is declared.

    Raises:
        pulumi.RunError: another user has a name or an address, or an account has another address.
    """
    _check_admin(config.admin, config.site)
    _check_member(config.member, config.site)


def _check_admin(config: settings.Admin, site: settings.Site) -> None:
    account = pilot_file.admin(site.data_dir)
    if account is None:
        return
    if config.email.lower() != account.email.lower():
        other = accounts.with_email(_users(site), config.email)
        if other is None or accounts.OWNER not in other.roles:
            raise pulumi.RunError(
                f"adminEmail is {config.email}, but the admin's address is {account.email} and Coder cannot change a "
                f"user's: run `pulumi config set adminEmail {account.email}`"
            )
    elif config.username != account.username and any(
        each.username.lower() == config.username.lower() and each.id != account.id for each in _users(site)
    ):
        raise pulumi.RunError(taken(config.username, account.username))


def _check_member(config: settings.Member, site: settings.Site) -> None:
    account = pilot_file.member(site.data_dir)
    if account and (account.username, account.email.lower()) == (config.username, config.email.lower()):
        return
    if refused := refusal(_users(site), account, config.username, config.email):
        raise pulumi.RunError(refused)


def _users(site: settings.Site) -> Sequence[User]:
    """Coder's accounts; none where the database does not run, and the jobs have to find out."""
    # Nothing else of the program looks at it, the provider has its own.
    os.environ["DOCKER_HOST"] = site.docker_host
    try:
        return accounts.users(site.postgres_container, names.ROLE, names.DATABASE)
    except engine.JobError:
        return ()
