"""The first user and the API token that everything after it uses."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_command as command

from stack import job, passwords
from stack.alive import Alive, Site
from stack.control_plane import TOKEN_LIFETIME_H


@dataclass(frozen=True, kw_only=True)
class AdminArgs:
    """Who the first user is, and where Coder is found."""

    username: str
    email: str
    site: Site
    alive: Alive


class Admin(pulumi.ComponentResource):
    """Declares the admin's password and the job that makes the server agree with it."""

    password: pulumi.Output[str]
    token: pulumi.Output[str]
    account: command.local.Command

    def __init__(self, name: str, args: AdminArgs) -> None:
        super().__init__("coder-pilot:admin:Admin", name, None, None)
        child = pulumi.ResourceOptions(parent=self)
        password = passwords.declare("admin-password", 24, child)
        self.account = job.declare(
            "admin-account",
            "admin",
            environment={
                **args.site.environment(),
                "ADMIN_USERNAME": args.username,
                "ADMIN_EMAIL": args.email,
                "ADMIN_PASSWORD": password.result,
                # One more than the last when Coder no longer knows that token: the job runs again and makes it.
                "TOKEN_GENERATION": args.alive.token_generation,
                "TOKEN_LIFETIME_H": str(TOKEN_LIFETIME_H),
            },
            opts=child,
        )
        self.password = password.result
        self.token = pulumi.Output.secret(self.account.stdout)
        self.register_outputs({"username": args.username})
