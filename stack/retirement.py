"""The end of the pilot: what `destroy` does before anything is removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command

from stack import job
from stack.alive import Site

NOTHING = "true"


@dataclass(frozen=True, kw_only=True)
class RetirementArgs:
    """What the job needs when nobody runs the program any more: `destroy` takes it from the state."""

    stack: str
    site: Site
    token: pulumi.Input[str]
    backups_kept: int
    purge: bool


class Retirement(pulumi.ComponentResource):
    """Declares the job that parks every workspace, or with `purge` deletes it, when the stack is destroyed.

    The first to be deleted is the last to be declared: `after` lists everything that must still be there.
    """

    def __init__(self, name: str, args: RetirementArgs, *, after: Sequence[pulumi.Resource]) -> None:
        super().__init__("coder-pilot:retirement:Retirement", name, None, None)
        command.local.Command(
            "retire",
            create=NOTHING,
            update=NOTHING,
            delete=job.line("retire"),
            environment={
                **args.site.environment(),
                "STACK": args.stack,
                "CODER_TOKEN": args.token,
                "BACKUPS_KEPT": str(args.backups_kept),
                "PURGE": str(args.purge).lower(),
            },
            # The one job that is heard: it says which workspaces it stops, and it prints no secret.
            logging=command.local.Logging.STDERR,
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=list(after), additional_secret_outputs=["stdout", "stderr"]
            ),
        )
        if args.purge:
            command.local.run_output(
                command=job.line("retire", "list"),
                environment={"STACK": args.stack, "DOCKER_HOST": args.site.docker_host},
                logging=command.local.Logging.NONE,
            ).stdout.apply(lambda volumes: pulumi.log.warn(_threat(volumes.split(), args.site.data_dir)))
        self.register_outputs({"purge": args.purge})


def _threat(volumes: Sequence[str], data_dir: str) -> str:
    homes = ", ".join(volumes) or "none yet"
    return (
        "purgeOnDestroy is true: after an `up` with it, `pulumi destroy` deletes every workspace, the homes of all "
        f"(now: {homes}), and {data_dir} with the database and all backups. To keep them, "
        "`pulumi config set purgeOnDestroy false` and `pulumi up`"
    )
