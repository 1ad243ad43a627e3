"""Where people reach Coder and what runs in workspaces."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi


@dataclass(frozen=True, kw_only=True)
class Address:
    """Coder's own address, and where apps are: below a domain, each with a name of its own, or paths of Coder's."""

    url: pulumi.Output[str]
    apps_domain: str
    """With the port; "" for paths."""
