"""Where people reach Coder and what runs in workspaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pulumi
from pulumi.output import UNKNOWN

from stack import settings, told
from stack.jobs import certificate
from stack.jobs.engine import JobError


@dataclass(frozen=True, kw_only=True)
class Tls:
    """What Coder ends TLS with, as PEM text."""

    certificate: pulumi.Output[str]
    key: pulumi.Output[str]
    """A secret."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Coder's own address, and where apps are: below a domain, each with a name of its own, or paths of Coder's."""

    url: pulumi.Output[str]
    apps_domain: str
    """With the port; "" for paths."""
    checked: pulumi.Output[bool]
    """Known, in a preview too, unless something stands against this address, where an `up` ends."""
    tls: Tls | None = None
    """None where Coder speaks http, and tailscaled https where the address does."""


def tls(config: settings.Tailnet) -> Tls | None:
    """The certificate of a domain of one's own; unknown, with a warning, in a preview on a machine without it.

    Raises:
        pulumi.RunError: an `up` with one that a browser would refuse.
    """
    if not config.domain:
        return None
    try:
        found = certificate.read(config.certificate or "", config.key or "", config.domain)
    except JobError as error:
        if not pulumi.runtime.is_dry_run():
            raise told.refusal(f"domain: {error}") from None
        told.warn(f"The certificate is not good, and `pulumi up` will stop here: {error}")
        unknown = pulumi.Output.from_input(cast(Any, UNKNOWN)).apply(str)
        return Tls(certificate=unknown, key=pulumi.Output.secret(unknown))
    return Tls(certificate=pulumi.Output.from_input(found.certificate), key=pulumi.Output.secret(found.key))
