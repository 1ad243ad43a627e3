"""The first user and the API token that everything after it uses."""

from __future__ import annotations

import pulumi
import pulumi_command as command

from stack import job, passwords, settings, told
from stack.alive import Alive
from stack.control_plane import TOKEN_LIFETIME_H


class Admin(pulumi.ComponentResource):
    """Declares the admin's password and the job that makes the server agree with it.

    The generated password stays declared beside one of the owner's own, and counts again without that.
    """

    password: pulumi.Output[str]
    token: pulumi.Output[str]
    account: command.local.Command

    def __init__(self, name: str, config: settings.Admin, site: settings.Site, alive: Alive) -> None:
        super().__init__("coder-pilot:admin:Admin", name, None, None)
        child = pulumi.ResourceOptions(parent=self)
        self.password = passwords.declare("admin-password", 24, child).result
        if config.password:
            self.password = pulumi.Output.secret(str(config.password.plain))
        self.account = job.declare(
            "admin-account",
            "admin",
            environment={
                **site.environment(),
                "ADMIN_USERNAME": config.username,
                "ADMIN_NAME": config.name,
                "ADMIN_EMAIL": config.email,
                "ADMIN_PASSWORD": self.password,
                # One more than the last when Coder no longer knows that token: the job runs again and makes it.
                "TOKEN_GENERATION": alive.token_generation,
                "TOKEN_LIFETIME_H": str(TOKEN_LIFETIME_H),
            },
            opts=child,
        )
        told.notices(self.account, "admin", site.data_dir)
        self.token = pulumi.Output.secret(self.account.stdout)
        self.register_outputs({"username": config.username})
