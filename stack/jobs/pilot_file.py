"""`pilot.json` beside the data: what a new state adopts. No secret is in it.

For example:
    {"token_generation": 3, "template_id": "<UUID>", "default_ttl_ms": 7200000}
"""

from __future__ import annotations

import json
from pathlib import Path

NAME = "pilot.json"


def read(data_directory: str) -> dict[str, object]:
    """The file's contents, {} where it is missing, unreadable or no JSON object."""
    try:
        value = json.loads((Path(data_directory) / NAME).read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def update(data_directory: str, **values: object) -> None:
    """Set `values` and keep the rest; None removes. Written beside and renamed, so that no reader sees half of it."""
    merged = {**read(data_directory), **values}
    partial = Path(data_directory) / f"{NAME}.partial"
    partial.write_text(json.dumps({key: value for key, value in merged.items() if value is not None}, indent=2) + "\n")
    partial.replace(Path(data_directory) / NAME)


def token_generation(data_directory: str) -> int:
    """How often an API token was made for this data, 0 for never."""
    value = read(data_directory).get("token_generation")
    return value if isinstance(value, int) else 0


def template_id(data_directory: str) -> str | None:
    """The template that the last state had here."""
    value = read(data_directory).get("template_id")
    return value if isinstance(value, str) else None


def default_ttl_ms(data_directory: str) -> int | None:
    """The idle time that the last state gave the template."""
    value = read(data_directory).get("default_ttl_ms")
    return value if isinstance(value, int) else None
