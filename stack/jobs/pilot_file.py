"""`pilot.json` beside the data: what a new state adopts. No secret is in it.

For example:
    {"token_generation": 3, "template_id": "<UUID>", "default_ttl_ms": 7200000,
     "admin": {"id": "<UUID>", "username": "admin", "email": "admin@framework.local", "password_digest": "<hex>"}}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

NAME = "pilot.json"


@dataclass(frozen=True, kw_only=True)
class Admin:
    """The account that `up` signs in with."""

    id: str
    username: str
    """In the file, the setting that was applied last: the account may have been renamed in the dashboard since."""
    email: str
    password_digest: str
    """Of Coder's own salted hash: it shows that the password was changed, and nobody can try passwords on it."""


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


def admin(data_directory: str) -> Admin | None:
    """The account as it was when `up` last signed in with it."""
    value = read(data_directory).get("admin")
    try:
        return Admin(**value) if isinstance(value, dict) else None
    except TypeError:
        return None


def notice(data_directory: str) -> dict[str, str] | None:
    """What the last job had to tell: its "text", and "at" which time, which makes it another than an equal one."""
    value = read(data_directory).get("notice")
    return value if isinstance(value, dict) else None
