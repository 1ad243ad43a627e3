"""Print the report. `make verdict` runs this in the virtual environment, with an API token.

Data flows one way: `collect` asks and keeps the raw answers, `figures` computes from them and from nothing else,
`judge` compares the figures with the thresholds, `report` puts them into words; `terminal` and `page` only lay out.
Nothing here writes to Coder, to its database or to the engine. A figure that cannot be known is None, never zero.

The settings say where to ask. CODER_TOKEN is in the environment and never an argument, where every user of the box
could read it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pilot import cluster, configuration
from pilot.configuration import PilotError
from pilot.session import select_engine
from pilot.verdict import configure, report, terminal
from pilot.verdict.collect import Raw, Site, VerdictError, collect
from pilot.verdict.figures import Figures, compute
from pilot.verdict.judge import Verdict, judge
from stack.jobs import commands


def main(words: Sequence[str]) -> int:
    """Run; the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m pilot.verdict", description=__doc__.splitlines()[0])
    configure(parser)
    arguments = parser.parse_args(words)
    with (
        contextlib.redirect_stdout(commands.speaker(sys.stdout, arguments.stack)),
        contextlib.redirect_stderr(commands.speaker(sys.stderr, arguments.stack)),
    ):
        try:
            return _verdict(arguments)
        except (PilotError, VerdictError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1


def _verdict(arguments: argparse.Namespace) -> int:
    settings = configuration.settings(arguments.stack)
    select_engine(settings)
    purge = settings.retirement.purge
    site = Site(
        stack=settings.site.name,
        coder_url=settings.site.coder_url,
        token=_token(),
        docker_host=settings.site.docker_host,
        data_directory=Path(settings.site.data_dir),
        standalone=settings.keeper.standalone or "",
        cluster=cluster.known(settings.kubernetes),
        namespace=settings.kubernetes.namespace,
    )
    raw = collect(site, arguments.days)
    figures = compute(raw)
    verdict = judge(figures, settings.verdict)
    data_directory = str(site.data_directory)
    # Before it is laid out: a command that is cut by the end of a line would not be found.
    what_to_type = report.what_to_type(figures, verdict, settings.verdict)
    typed = [commands.for_stack(each, arguments.stack) for each in what_to_type]
    if arguments.html:
        from pilot.verdict import page  # Matplotlib takes a second to load, which only a page needs.

        text = page.render(figures, verdict, raw.queries, typed, purge=purge, data_directory=data_directory)
        try:
            arguments.html.write_text(commands.for_stack(text, arguments.stack))
        except OSError as error:
            raise VerdictError(f"the page cannot be written: {error}") from None
        print(f"wrote {arguments.html}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({**document(raw, figures, verdict), "what_to_type": typed}, indent=2, default=_plain))
    else:
        console = terminal.console(sys.stdout, sources=arguments.sources)
        terminal.begin(console, figures, verdict)
        if arguments.sources:
            terminal.everything(console, figures, purge=purge, data_directory=data_directory)
        else:
            terminal.key_figures(console, figures, arguments.stack)
        terminal.end(console, typed)
    return 0


def document(raw: Raw, figures: Figures, verdict: Verdict) -> dict[str, Any]:
    """Everything as JSON, each figure of the sections with its source; null is "unknown"."""
    return {
        "verdict": verdict,
        "derived": {
            "days": figures.days,
            "sessions": figures.sessions,
            "median_ready_s": figures.median_ready_s,
            "failed_percent": figures.failed_percent,
            "control_plane_gib": figures.control_plane_gib,
            "control_plane_gib_h": figures.control_plane_gib_h,
            "net_gib_h": figures.net_gib_h,
            "hours": [
                {
                    "name": each.name, "running_h": each.running_h, "parked_h": each.parked_h,
                    "unclear_h": each.unclear_h, "autoparked_h": each.autoparked_h,
                }
                for each in figures.workspaces
            ],
        },
        "figures": figures,
        "sections": report.sections(figures),
        "queries": raw.queries,
    }  # fmt: skip


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(type(value).__name__)


def _token() -> str:
    token = os.environ.get("CODER_TOKEN")
    if token is None:
        raise VerdictError("the environment variable CODER_TOKEN is not set: run `make verdict`, which sets it")
    return token


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
