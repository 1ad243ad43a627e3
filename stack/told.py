"""What the program says to a person, with its commands for the stack that it declares."""

from __future__ import annotations

import pulumi
import pulumi_command as command

from stack.jobs import commands, pilot_file


def warn(text: str, resource: pulumi.Resource | None = None) -> None:
    """Show a warning, beside the resource that it is about."""
    pulumi.log.warn(_for_stack(text), resource)


def error(text: str) -> None:
    """Show an error, and go on: whatever failed says so itself."""
    pulumi.log.error(_for_stack(text))


def refusal(text: str) -> pulumi.RunError:
    """The error that ends the program with this text alone."""
    return pulumi.RunError(_for_stack(text))


def notices(account: command.local.Command, of: str, data_directory: str) -> None:
    """Show what the job that is about to run has to tell: on a terminal its standard error is gone when it is done."""
    before = pilot_file.notice(data_directory, of)

    def show(_: object) -> None:
        now = pilot_file.notice(data_directory, of)
        if now and now != before:
            warn(now["text"], account)

    account.stdout.apply(show)


def _for_stack(text: str) -> str:
    return commands.for_stack(text, pulumi.get_stack())
