"""The commands of the pilot: `python3 -m pilot COMMAND --help`; `make help` has the short forms."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Final

COMMANDS: Final[Mapping[str, str]] = {
    "up": "bring a stack up, or put right what differs from the settings",
    "down": "retire a stack; homes, database and backups stay",
    "import": "copy a project from a container, a volume or a folder into a workspace's home",
    "leave": "retire a stack, and write a script that runs the homes without Coder",
    "preview": "say what `up` would change; changes nothing",
    "status": "show containers, workspaces, their deadlines and memory",
    "workspace": "create a workspace, or start it, and print its code-server URL",
    "password": "print your password, or the administrator's",
    "doctor": "say whether `up` would work, and how to fix what is missing",
    "prove": "try every promise on the running pilot, with a workspace that is deleted again",
    "outdated": "say which pins and images have moved on, and which have known holes",
    "upgrade": "pull the tags of the settings again, after a backup, and prove the result",
    "verdict": "say from the pilot's own figures whether it is worth keeping",
    "room": "stop idle workspaces until so much memory is available, or say what is in the way",
    "backup": "dump the database and keep the state beside it",
    "restore": "put a backup in the place of the database",
    "upgrade-postgres": "move the data to another major version of Postgres",
    "adopt": "say how to take over a pilot that runs with docker compose",
}


def main(words: Sequence[str]) -> int:
    """Run one command; the exit code."""
    listed = "\n".join(f"  {name:18}{what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python3 -m pilot", description=__doc__, epilog=f"commands:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    name = parser.parse_args(words[:1]).command
    return _run(name, words[1:])


def _run(name: str, words: Sequence[str]) -> int:
    # Only the module of the command: `up` of a fresh machine must not need what `status` needs.
    module = importlib.import_module(f"pilot.{name.replace('-', '_')}")
    own = argparse.ArgumentParser(prog=f"python3 -m pilot {name}", description=module.__doc__)
    module.configure(own)
    from pilot.configuration import PilotError
    from stack.jobs import commands, disk, processes
    from stack.jobs.engine import JobError
    from toolchain.paths import PULUMI_HOME

    arguments = own.parse_args(words)
    homes = {PULUMI_HOME, processes.home()}
    with (
        contextlib.redirect_stdout(commands.speaker(sys.stdout, arguments.stack)),
        contextlib.redirect_stderr(commands.speaker(sys.stderr, arguments.stack)),
    ):
        try:
            # Before, too: what a killed `pulumi` left may still be at work.
            for home in homes:
                processes.end_left_behind(home)
            return int(module.run(arguments))
        except KeyboardInterrupt:
            back = ", `make up` goes back" if name in ("down", "leave") else ""
            print(f"interrupted; the same command again goes on{back}", file=sys.stderr)
            return 130
        except (PilotError, JobError, OSError) as error:
            if isinstance(error, OSError) and not disk.is_meant(str(error)):
                raise
            print(f"error: {_told(str(error), arguments.stack)}", file=sys.stderr)
            return 1
        finally:
            for home in homes:
                processes.end_left_behind(home)


def _told(error: str, stack: str) -> str:
    """The error; one about space with the disk that is full."""
    from pilot import configuration
    from stack.jobs import disk

    if not disk.is_meant(error):
        return error
    try:
        return disk.explained(error, configuration.settings(stack).site.data_dir)
    except configuration.PilotError:
        return error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
