"""The tailnet: the address that Coder is told, and the `tailscale serve` entries that lead to it.

Two steps, because Coder's container needs its address before it exists, and nobody may reach Coder before it has an
admin: until then the first visitor would become one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
from pulumi.output import UNKNOWN
from pulumi_command import local

from stack import job, settings, told
from stack.address import Address, tls


def address_of(config: settings.Settings) -> Address:
    """Where people reach Coder."""
    # What this program can tell by itself comes first.
    certificate = tls(config.tailnet)
    url, checked = _url(config.tailnet, config.site, config.control_plane.access_url)
    return Address(url=url, apps_domain=config.apps_domain, checked=checked, tls=certificate)


def _url(
    config: settings.Tailnet, site: settings.Site, own: str | None
) -> tuple[pulumi.Output[str], pulumi.Output[bool]]:
    """The owner's own, this node's https name, or loopback while the tailnet is off; and whether it was checked.

    An invoke that only reads: every precondition of `tailscale serve` is verified here, before anything is created.
    In a preview a problem is a warning and the address unknown: a machine without Tailscale can still show a plan.
    """
    if not config.enabled:
        return pulumi.Output.from_input(own or site.coder_url), pulumi.Output.from_input(True)
    found = _ask("check", config.environment(site))
    return found.apply(lambda answer: _url_found(answer, own)), found.apply(lambda _: True)


@dataclass(frozen=True, kw_only=True)
class Served:
    """Where people reach Coder, what they are told about it, and what was declared for it."""

    url: pulumi.Input[str]
    note: pulumi.Input[str] = ""
    resources: Sequence[pulumi.Resource] = ()


def serve(
    name: str,
    config: settings.Tailnet,
    site: settings.Site,
    *,
    url: pulumi.Input[str],
    after: Sequence[pulumi.Resource],
) -> Served:
    """Declare the serve entries; nothing while the tailnet is off."""
    if not config.enabled:
        return Served(url=url)
    part = Tailnet(name, config, site, url=url, after=after)
    return Served(url=part.url, note=pulumi.Output.concat(" ", part.note), resources=[part])


class Tailnet(pulumi.ComponentResource):
    """The serve entries of this machine.

    Attributes:
        url: Coder's address, once the entries that lead there were read back from tailscaled.
        note: what a change of the address means for people and running workspaces.
    """

    url: pulumi.Output[str]
    note: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        config: settings.Tailnet,
        site: settings.Site,
        *,
        url: pulumi.Input[str],
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Args:
        url: Coder's address, what `address_of` found unless the owner wants another.
        after: what must stand before anybody can come in, the first admin above all.
        """
        super().__init__("coder-pilot:tailnet:Tailnet", name, None, opts)
        environment = config.environment(site)
        serve = job.declare(
            "serve",
            "serve",
            # The job does not read ACCESS_URL. Without it a node renamed in the admin console would not make it run
            # again, and entries under the old name would stay forever.
            environment={**environment, "ACCESS_URL": url},
            delete=job.line("serve", "remove"),
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )
        # A Command is not refreshed: an entry that somebody took off would stay away. An invoke runs on every `up`.
        action = "check" if pulumi.runtime.is_dry_run() else "apply"
        served = _ask(action, environment, pulumi.InvokeOutputOptions(parent=self, depends_on=[serve]))
        made = pulumi.Output.unsecret(serve.stdout)
        # Joined with what the Command printed, unknown in a preview that has yet to make the entries: nothing lacks.
        self.url = pulumi.Output.all(url, served, made).apply(lambda known: _url_served(known[0], known[1]))
        self.note = made.apply(lambda stdout: str(json.loads(stdout)["note"]))
        self.register_outputs({"url": self.url, "note": self.note})


def _ask(
    action: str, environment: Mapping[str, str], opts: pulumi.InvokeOutputOptions | None = None
) -> pulumi.Output[dict[str, Any]]:
    """What the job answers, now; on `up` an error where it refuses.

    The job reports a refusal as its answer: as a failed invoke it would reach people below a Python traceback.
    """
    return local.run_output(
        command=job.line("serve", action, "--report"),
        environment=dict(environment),
        logging=local.Logging.NONE,
        opts=opts,
    ).stdout.apply(_answer)


def _answer(stdout: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(stdout)
    if "problem" in answer and not pulumi.runtime.is_dry_run():
        raise told.refusal(f"tailnet: {answer['problem']}")
    return answer


def _url_found(answer: dict[str, Any], own: str | None) -> pulumi.Input[str]:
    if "problem" not in answer:
        return own or str(answer["url"])
    told.warn(f"The tailnet is not ready, and `pulumi up` will stop here: {answer['problem']}")
    return own or pulumi.Output.from_input(cast(Any, UNKNOWN))


def _url_served(url: str, answer: dict[str, Any]) -> str:
    if lacking := answer.get("missing"):
        told.warn(f"The tailnet does not have {' and '.join(lacking)}; `pulumi up` sets it.")
    return url
