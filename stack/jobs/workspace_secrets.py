"""Write the secrets of the settings into the file that every workspace reads at its start; `remove` takes it away.

In a file, for as a variable of the template they would be on a command line at every build, in Coder's database, in
every dump of it, and in older versions of the template that any member may read.

    <data directory>/secrets/              for the owner of the data directory alone
    <data directory>/secrets/workspace/    what workspaces see, read-only
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from stack.jobs import disk, engine, pilot_file, program

FOLDER = "secrets"
"""In the data directory."""
SHARED = "workspace"
FILE = "environment"


def shared(data_directory: str) -> Path:
    """The folder that is mounted into workspaces."""
    return Path(data_directory) / FOLDER / SHARED


def is_lost(data_directory: str) -> bool:
    """Whether the file was written and is gone."""
    return bool(pilot_file.read(data_directory).get(FOLDER)) and not (shared(data_directory) / FILE).exists()


def text(values: Mapping[str, str]) -> str:
    """The file's contents."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(values.items()))


def write(folder: Path, values: dict[str, str]) -> None:
    """Write the file whole or not at all: a workspace that starts meanwhile reads the one before."""
    # The path to it is closed to others; in a workspace, whoever runs there reads it.
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o755, exist_ok=True)
    partial = folder / f".{FILE}"
    partial.write_text(text(values))
    partial.chmod(0o644)
    partial.replace(folder / FILE)


def main() -> None:
    directory = program.variable("DATA_DIRECTORY")
    folder = shared(directory)
    if sys.argv[1:] == ["remove"]:
        (folder / FILE).unlink(missing_ok=True)
        return
    try:
        write(folder, json.loads(program.variable("SECRETS")))
        pilot_file.update(directory, **{FOLDER: True})
    except OSError as error:
        raise engine.JobError(disk.explained(f"the secrets of workspaces: {error}", directory)) from None


if __name__ == "__main__":
    program.run(main)
