"""Print every problem of a stack's settings, one a line; run by `make doctor` with the virtual environment's Python.

Usage:
    python -m pilot.settings_check FOLDER STACK
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from stack import settings

PREFIX = "coder-pilot:"


def problems(folder: Path, stack: str) -> list[str]:
    """The problems of the settings in the project `folder`."""
    project = yaml.safe_load((folder / "Pulumi.yaml").read_text())
    own = yaml.safe_load((folder / f"Pulumi.{stack}.yaml").read_text()) or {}
    values = {key: str(entry["default"]) for key, entry in project["config"].items()}
    for key, value in (own.get("config") or {}).items():
        values[key.removeprefix(PREFIX)] = str(value)
    try:
        settings.parse(values)
    except settings.SettingsError as error:
        return [line.removeprefix("  - ") for line in str(error).splitlines()[1:]]
    return []


if __name__ == "__main__":
    print("\n".join(problems(Path(sys.argv[1]), sys.argv[2])))
