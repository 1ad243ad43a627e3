"""The two accounts of the pilot: the administrator, and the one for every day."""

from __future__ import annotations

from stack import account_check, settings, told
from stack.admin import Admin
from stack.alive import Alive
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
    if refused := account_check.refusal(config):
        raise told.refusal(refused)
