"""Record what Coder, Postgres and the running workspaces use at this moment, for the verdict; the timer runs this."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from pilot.arguments import add_stack
from pilot.session import PROJECT, PilotError
from pilot.verdict import samples, site
from pilot.verdict.engine import Engine, EngineError


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)


def run(arguments: argparse.Namespace) -> int:
    if not (PROJECT / f"Pulumi.{arguments.stack}.yaml").exists():
        raise PilotError(f"there is no Pulumi.{arguments.stack}.yaml")
    where = site(arguments.stack)
    try:
        taken = samples.take(
            Engine(host=where["DOCKER_HOST"]), where["STACK"], where["CODER_URL"], datetime.now(UTC)
        )  # fmt: skip
        samples.append(Path(where["DATA_DIRECTORY"]) / samples.NAME, taken)
    except EngineError as error:
        raise PilotError(str(error)) from None
    except OSError as error:
        raise PilotError(f"the sample cannot be written: {error}; run `make up`, which creates the folder") from None
    return 0
