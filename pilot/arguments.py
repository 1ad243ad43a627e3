"""The one argument that every command has."""

from __future__ import annotations

import argparse
import os


def add_stack(parser: argparse.ArgumentParser) -> None:
    """Add `--stack`: which Pulumi.<stack>.yaml is meant; $STACK, else `local`."""
    parser.add_argument(
        "--stack", default=os.environ.get("STACK") or "local", help="the stack, default: $STACK or local"
    )
