"""What the stack tells a person, and the front door."""

from __future__ import annotations

import pulumi

from stack import settings
from stack.admin import Admin
from stack.jobs import commands
from stack.member import Member
from stack.network import Networks
from stack.tailnet import Served
from stack.template import Template


def export(
    config: settings.Settings, networks: Networks, served: Served, admin: Admin, member: Member, template: Template
) -> None:
    """Export everything that a person needs to go on."""
    pulumi.export("url", served.url)
    pulumi.export("username", config.member.username)
    pulumi.export("email", config.member.email)
    pulumi.export("password", member.password)
    pulumi.export("adminUsername", config.admin.username)
    pulumi.export("adminEmail", config.admin.email)
    pulumi.export("adminPassword", admin.password)
    # For the front door: what it asks for must not depend on how often somebody typed a wrong password.
    pulumi.export("apiToken", admin.token)
    pulumi.export("templateVersion", template.version)
    pulumi.export("workspaceNetwork", networks.workspaces)
    sign_in = f"sign in as {config.member.email} (`pulumi stack output password --show-secrets`)"
    workspace = "create a workspace, or run `make workspace NAME=demo`."
    do = commands.for_stack(f", {sign_in} and {workspace}", pulumi.get_stack())
    pulumi.export("next", pulumi.Output.concat("Open ", served.url, do, served.note))
