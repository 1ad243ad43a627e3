"""Say whether the pilot earned its keep, or take a sample. `make verdict` runs this with what it needs.

    python3 -m stack.verdict [--days 7] [--json] [--html FILE]
    python3 -m stack.verdict sample

The environment says where to ask: STACK, CODER_URL, DOCKER_HOST, DATA_DIRECTORY, and for the verdict CODER_TOKEN, PURGE
and SETTINGS, the configuration as JSON. The token is never an argument, where every user of the box could read it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stack.verdict import samples
from stack.verdict.collect import Raw, Site, VerdictError, collect
from stack.verdict.engine import Engine, EngineError
from stack.verdict.figures import Figures, compute
from stack.verdict.judge import Thresholds, Verdict, judge

DAYS_MAX = 366


def main(words: Sequence[str]) -> int:
    """Run; the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m stack.verdict", description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("verdict", "sample"), default="verdict")
    parser.add_argument("--days", type=_days, default=7, help="how many days to look back, default: 7")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one self-contained page")
    arguments = parser.parse_args(words)
    try:
        if arguments.what == "sample":
            return _sample()
        return _verdict(arguments)
    except (VerdictError, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _verdict(arguments: argparse.Namespace) -> int:
    thresholds, purge = _thresholds(), _variable("PURGE") == "true"
    site = Site(
        stack=_variable("STACK"),
        coder_url=_variable("CODER_URL"),
        token=_variable("CODER_TOKEN"),
        docker_host=_variable("DOCKER_HOST"),
        data_directory=Path(_variable("DATA_DIRECTORY")),
    )
    raw = collect(site, arguments.days)
    figures = compute(raw)
    verdict = judge(figures, thresholds)
    data_directory = str(site.data_directory)
    if arguments.html:
        from stack.verdict import page  # Matplotlib takes a second, which nobody waits for without a page.

        text = page.render(figures, verdict, raw.queries, purge=purge, data_directory=data_directory)
        try:
            arguments.html.write_text(text)
        except OSError as error:
            raise VerdictError(f"the page cannot be written: {error}") from None
        print(f"wrote {arguments.html}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(document(raw, figures, verdict), indent=2, default=_plain))
    else:
        from stack.verdict import terminal  # Only here is `rich` needed: a sample is taken without it.

        terminal.show(figures, verdict, purge=purge, data_directory=data_directory, stream=sys.stdout)
    return 0


def _sample() -> int:
    file = Path(_variable("DATA_DIRECTORY")) / samples.NAME
    taken = samples.take(
        Engine(host=_variable("DOCKER_HOST")), _variable("STACK"), _variable("CODER_URL"), datetime.now(UTC)
    )
    try:
        samples.append(file, taken)
    except OSError as error:
        raise VerdictError(f"the sample cannot be written: {error}; run `make up`, which makes the folder") from None
    return 0


def document(raw: Raw, figures: Figures, verdict: Verdict) -> dict[str, Any]:
    """Everything as JSON: null is "unknown"."""
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
        "queries": raw.queries,
    }  # fmt: skip


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(type(value).__name__)


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= DAYS_MAX:
        raise argparse.ArgumentTypeError(f'"{text}" is no whole number from 1 to {DAYS_MAX}')
    return int(text)


def _thresholds() -> Thresholds:
    try:
        return Thresholds.of(json.loads(_variable("SETTINGS")))
    except ValueError as error:
        raise VerdictError(str(error)) from None


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise VerdictError(f"the environment variable {name} is not set: run `make verdict`, which sets it")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
