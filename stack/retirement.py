"""The end of the pilot: what `destroy` does before anything is removed."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_command as command

from stack import job, settings, told
from stack.jobs import commands
from stack.world import World

NOTHING = "true"


class Retirement(pulumi.ComponentResource):
    """Declares the job that parks every workspace, or with `purge` deletes it, when the stack is destroyed.

    The first to be deleted is the last to be declared: `after` lists everything that must still be there. Not the
    template, which `make down` drops from the state where Coder cannot come back. Nobody runs the program then: the job
    takes what it needs from the state.
    """

    def __init__(
        self,
        name: str,
        config: settings.Retirement,
        world: World,
        *,
        token: pulumi.Input[str],
        after: Sequence[pulumi.Resource],
    ) -> None:
        site = world.site
        # Elsewhere nothing is deleted but by Coder.
        cluster: dict[str, pulumi.Input[str]] = {}
        if world.cluster and config.purge:
            cluster = world.cluster.environment()
        super().__init__("coder-pilot:retirement:Retirement", name, None, None)
        command.local.Command(
            "retire",
            create=NOTHING,
            update=NOTHING,
            delete=job.line("retire"),
            environment={
                **site.environment(),
                "STACK": site.name,
                "CODER_TOKEN": token,
                "BACKUPS_KEPT": str(config.backups_kept),
                "PURGE": str(config.purge).lower(),
                commands.VARIABLE: pulumi.get_stack(),
                **cluster,
            },
            # The one job that is heard: it says which workspaces it stops, and it prints no secret.
            logging=command.local.Logging.STDERR,
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=list(after), additional_secret_outputs=["stdout", "stderr"]
            ),
        )
        if config.purge:
            command.local.run_output(
                command=job.line("retire", "list"),
                environment=pulumi.Output.all(STACK=site.name, DOCKER_HOST=site.docker_host, **cluster),
                logging=command.local.Logging.NONE,
            ).stdout.apply(lambda listed: told.warn(_threat(listed.splitlines(), site.data_dir)))
        self.register_outputs({"purge": config.purge})


def _threat(listed: Sequence[str], data_dir: str) -> str:
    now = "\n".join(f"  - {each}" for each in [*listed, f"{data_dir} with the database and all backups"])
    return (
        "purgeOnDestroy is true: after an `up` with it, `pulumi destroy` deletes every workspace with its home, and "
        f"all that the pilot made. Now these are:\n{now}\nTo keep them, `pulumi config set purgeOnDestroy false` and "
        "`pulumi up`"
    )
