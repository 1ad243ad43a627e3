"""Record what Coder, Postgres and the running workspaces use at this moment, for the verdict; the timer runs this."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from pilot import configuration
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.verdict import samples
from pilot.verdict.engine import Engine, EngineError


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)


def run(arguments: argparse.Namespace) -> int:
    site = configuration.settings(arguments.stack).site
    try:
        taken = samples.take(Engine(host=site.docker_host), site.name, site.coder_url, datetime.now(UTC))
        samples.append(Path(site.data_dir) / samples.NAME, taken)
    except EngineError as error:
        raise PilotError(str(error)) from None
    except OSError as error:
        raise PilotError(f"the sample cannot be written: {error}; run `make up`, which creates the folder") from None
    return 0
