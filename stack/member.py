"""The account for every day, a plain member: what a page can do with its session ends at its own workspaces."""

from __future__ import annotations

import pulumi
import pulumi_command as command

from stack import job, passwords, settings, told
from stack.alive import Alive


class Member(pulumi.ComponentResource):
    """Declares the account's password and the job that makes the server agree with it."""

    password: pulumi.Output[str]
    account: command.local.Command

    def __init__(
        self, name: str, config: settings.Member, site: settings.Site, alive: Alive, *, token: pulumi.Input[str]
    ) -> None:
        super().__init__("coder-pilot:member:Member", name, None, None)
        child = pulumi.ResourceOptions(parent=self)
        self.password = passwords.declare("member-password", 24, child).result
        if config.password:
            self.password = pulumi.Output.secret(str(config.password.plain))
        self.account = job.declare(
            "member-account",
            "member",
            environment={
                **site.environment(),
                "CODER_TOKEN": token,
                "MEMBER_USERNAME": config.username,
                "MEMBER_NAME": config.name,
                "MEMBER_EMAIL": config.email,
                "MEMBER_PASSWORD": self.password,
                # One more than the last where somebody changed the account in Coder: the job runs again.
                "MEMBER_GENERATION": alive.member_generation,
            },
            opts=child,
        )
        told.notices(self.account, "member", site.data_dir)
        self.register_outputs({"username": config.username})
