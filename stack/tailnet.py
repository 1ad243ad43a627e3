"""The tailnet: the address that Coder is told, and the `tailscale serve` entries that lead to it.

Two parts, because Coder's container needs its address before it exists, and nobody may reach Coder before it has an
admin: until then the first visitor would become one.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pulumi
from pulumi.output import UNKNOWN
from pulumi_command import local

JOB = "stack/jobs/serve.py"


@dataclass(frozen=True, kw_only=True)
class TailnetArgs:
    """Arguments of this part.

    Attributes:
        enabled: whether the tailnet may reach Coder; else only this machine can.
        port: Coder's port on 127.0.0.1, and its http port on the tailnet.
        name: the machine name that this node must have on the tailnet; None: any.
        socket: tailscaled's socket; None: the system's.
    """

    enabled: bool
    port: int
    name: str | None = None
    socket: str | None = None


def access_url(args: TailnetArgs) -> pulumi.Output[str]:
    """Where people reach Coder: this node's https name, or loopback while the tailnet is off.

    An invoke that only reads: every precondition of `tailscale serve` is verified here, before anything is created.
    In a preview a problem is a warning and the address unknown: a machine without Tailscale can still show a plan.
    """
    if not args.enabled:
        return pulumi.Output.from_input(f"http://127.0.0.1:{args.port}")
    return local.run_output(command=_job("check", args), logging=local.Logging.NONE).stdout.apply(_url_found)


class Tailnet(pulumi.ComponentResource):
    """The serve entries of this machine; declare it only where the tailnet is enabled.

    Attributes:
        url: the address, known once the entries were read back from tailscaled.
        note: what a change of the address means for people and running workspaces.
    """

    url: pulumi.Output[str]
    note: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        args: TailnetArgs,
        *,
        url: pulumi.Input[str],
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Args:
        url: what `access_url` found.
        after: what must stand before anybody can come in, the first admin above all.
        """
        super().__init__("coder-pilot:tailnet:Tailnet", name, {}, opts)
        serve = local.Command(
            "serve",
            create=_job("apply", args),
            update=_job("apply", args),
            delete=_job("remove", args),
            # No program reads it. Without it a node renamed in the admin console would not run `update`, and the
            # entries under its old name would stay for ever.
            environment={"CODER_PILOT_ACCESS_URL": url},
            logging=local.Logging.NONE,
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(after), delete_before_replace=True),
        )
        # A Command is not refreshed, so an entry that somebody took off would stay away. An invoke runs on every `up`.
        self.url = local.run_output(
            command=_job("check" if pulumi.runtime.is_dry_run() else "apply", args),
            logging=local.Logging.NONE,
            opts=pulumi.InvokeOutputOptions(parent=self, depends_on=[serve]),
        ).stdout.apply(_url_served)
        self.note = serve.stdout.apply(lambda stdout: str(json.loads(stdout)["note"]))
        self.register_outputs({"url": self.url, "note": self.note})


def _job(action: str, args: TailnetArgs) -> str:
    command = ["python3", JOB, action]
    if args.socket is not None:
        command += ["--socket", args.socket]
    if action != "remove":
        command += ["--port", str(args.port)]
        if args.name is not None:
            command += ["--name", args.name]
    if action == "check" and pulumi.runtime.is_dry_run():
        command += ["--report"]
    return shlex.join(command)


def _url_found(stdout: str) -> pulumi.Input[str]:
    found = json.loads(stdout)
    if "problem" in found:
        pulumi.log.warn(f"The tailnet is not ready, and `pulumi up` will stop here: {found['problem']}")
        return _unknown()
    return str(found["url"])


def _url_served(stdout: str) -> pulumi.Input[str]:
    served = json.loads(stdout)
    if "problem" in served:  # said by _url_found already
        return _unknown()
    if served.get("missing"):
        pulumi.log.warn(f"The tailnet does not have {' and '.join(served['missing'])}; `pulumi up` sets it.")
    return str(served["url"])


def _unknown() -> pulumi.Output[str]:
    return cast("pulumi.Output[str]", pulumi.Output.from_input(cast(str, UNKNOWN)))
