"""`pilot.json` beside the data: what a new state adopts. No secret is in it.

For example:
    {"token_generation": 3, "keeper_token_generation": 3, "template_id": "<UUID>", "default_ttl_ms": 7200000,
     "owner": "/home/me/coder-pilot:local", "docker_host": "unix:///var/run/docker.sock",
     "containers": {"coder-server": "<id>"}, "networks": {"coder-control": "<id>"}, "generations": {"coder": 1},
     "adoption": {"template": "<UUID>", "home": "docker_volume.home_volume"},
     "admin": {"id": "<UUID>", "username": "admin", "email": "admin@framework.local", "password_digest": "<hex>"},
     "member": {"id": "<UUID>", "username": "dev", "email": "dev@framework.local", "password_digest": "<hex>"},
     "proved": {"coder": "2.30.0", "postgres": "17.6", "at": "2026-01-01T12:00:00+00:00", "passed": true},
     "restoring": "20260101T000000.000Z.dump",
     "upgrade": {"major": 17, "kept": "postgres-17-20260101T000000.000Z", "dump": "20260101T000000.000Z.dump"}}
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stack.jobs import names

NAME = "pilot.json"
NOTICES = {"admin": "notice", "member": "member_notice"}
KUBERNETES = "kubernetes_"
"""What the keys of the template for a cluster begin with."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account of Coder that `up` made or took over."""

    id: str
    username: str
    """In the file, the setting that was applied last: the account may have been renamed in the dashboard since."""
    email: str
    password_digest: str
    """Of Coder's own salted hash: it shows that the password was changed, and nobody can try passwords on it."""
    name: str = ""
    """The full name: the setting that was applied last, "" where it left Coder's alone."""


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """An upgrade of Postgres that is under way; names in the data directory, for that may be moved."""

    major: int
    """The Postgres that it comes from."""
    kept: str
    """The folder to which its data were moved."""
    dump: str
    """What is to be restored, in the backups."""


def read(data_directory: str) -> dict[str, Any]:
    """The file's contents, {} where it is missing, unreadable or no JSON object."""
    try:
        value = json.loads((Path(data_directory) / NAME).read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def update(data_directory: str, **values: object) -> None:
    """Set `values` and keep the rest; None removes. Written beside and renamed, so that no reader sees half of it."""
    folder = Path(data_directory)
    # Jobs and hooks of one `up` run side by side: without the lock one would lose what the other wrote.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        merged = {**read(data_directory), **values}
        kept = {key: value for key, value in merged.items() if value is not None}
        partial = folder / f"{NAME}.partial"
        partial.write_text(json.dumps(kept, indent=2) + "\n")
        partial.replace(folder / NAME)
    finally:
        os.close(descriptor)


def record_container(data_directory: str, container: Mapping[str, Any], owner: str, docker_host: str) -> None:
    """Note that `up` made the container, as the engine tells it, and its networks; for whom and where."""
    before = read(data_directory)
    joined = container["NetworkSettings"]["Networks"]
    update(
        data_directory,
        owner=owner,
        docker_host=docker_host,
        containers={**(before.get("containers") or {}), container["Name"].removeprefix("/"): container["Id"]},
        networks={**(before.get("networks") or {}), **{name: each["NetworkID"] for name, each in joined.items()}},
    )


def containers(data_directory: str) -> dict[str, str]:
    """The ids of the containers that `up` made, by name; {} once the pilot is retired."""
    value = read(data_directory).get("containers")
    return {str(key): str(item) for key, item in value.items()} if isinstance(value, dict) else {}


def record_data_directory(checkout: Path, stack: str, data_directory: str) -> None:
    """Note in the checkout where the stack's database is: where that was changed, only the checkout can tell."""
    if (checkout / names.STATE).is_dir():
        _data_directory_file(checkout, stack).write_text(f"{data_directory}\n")


def last_data_directory(checkout: Path, stack: str) -> str:
    """Where the stack's database was, "" where nobody noted it."""
    try:
        return _data_directory_file(checkout, stack).read_text().strip()
    except OSError:
        return ""


def _data_directory_file(checkout: Path, stack: str) -> Path:
    return checkout / names.STATE / f"{stack}.data-directory"


def upgrade(data_directory: str) -> Upgrade | None:
    """The upgrade of Postgres that was begun and has not ended."""
    value = read(data_directory).get("upgrade")
    try:
        begun = Upgrade(**value) if isinstance(value, dict) else None
    except TypeError:
        return None
    # Noted before the data are moved: until they are, and where they were put back, all is as it was.
    return begun if begun and (Path(data_directory) / begun.kept).is_dir() else None


def held_dumps(data_directory: str) -> list[object]:
    """The names of the dumps that are still to be read: by a restore, or an upgrade of Postgres, that has not ended."""
    begun = upgrade(data_directory)
    return [read(data_directory).get("restoring"), begun and begun.dump]


def token_generation(data_directory: str) -> int:
    """How often an API token was made for this data, 0 for never."""
    value = read(data_directory).get("token_generation")
    return value if isinstance(value, int) else 0


def keeper_token_generation(data_directory: str) -> int:
    """The same of the keeper's own token."""
    value = read(data_directory).get("keeper_token_generation")
    return value if isinstance(value, int) else 0


def template_id(data_directory: str, prefix: str = "") -> str | None:
    """The template that the last state had here; the one for a cluster with KUBERNETES."""
    value = read(data_directory).get(f"{prefix}template_id")
    return value if isinstance(value, str) else None


def record_template(data_directory: str, prefix: str, identifier: str | None) -> None:
    """Note which template the next `up` takes over, None for none; nothing is known of it yet."""
    update(data_directory, **{f"{prefix}template_id": identifier, f"{prefix}template": None})


def adoption(data_directory: str) -> dict[str, str] | None:
    """What `make adopt` found: the id of the "template" that is not ours, and the address of its "home" volume, which
    ours takes over; "" where it cannot, and stays beside ours."""
    value = read(data_directory).get("adoption")
    return value if isinstance(value, dict) and {"template", "home"} <= value.keys() else None


def adopted_home(data_directory: str) -> str:
    """The address of the home volume in the template that became ours; "" for none."""
    return (adoption(data_directory) or {"home": ""})["home"]


def template_name(data_directory: str) -> str:
    """What our template is called."""
    found = adoption(data_directory)
    return names.TEMPLATE_BESIDE if found and not found["home"] else names.TEMPLATE


def default_ttl_ms(data_directory: str, prefix: str = "") -> int | None:
    """The idle time that the last state gave the template; `prefix` as in `template_id`."""
    value = read(data_directory).get(f"{prefix}default_ttl_ms")
    return value if isinstance(value, int) else None


def kubernetes_attempts(data_directory: str) -> int:
    """How often the cluster did not take the secrets: another number makes the next `up` try again."""
    value = read(data_directory).get("kubernetes_attempts")
    return value if isinstance(value, int) else 0


def admin(data_directory: str) -> Account | None:
    """The administrator's account as it was when `up` last signed in with it."""
    return _account(read(data_directory).get("admin"))


def member(data_directory: str) -> Account | None:
    """The account for every day, as `up` left it."""
    return _account(read(data_directory).get("member"))


def _account(value: object) -> Account | None:
    try:
        return Account(**value) if isinstance(value, dict) else None
    except TypeError:
        return None


def notice(data_directory: str, account: str) -> dict[str, str] | None:
    """What the last job had to tell about "admin" or "member": its "text", and "at" which time, which makes it another
    than an equal one."""
    value = read(data_directory).get(NOTICES[account])
    return value if isinstance(value, dict) else None


def leave_notice(data_directory: str, account: str, text: str) -> None:
    """Leave one for the program to show."""
    told = {"at": datetime.now(UTC).isoformat(), "text": text}
    update(data_directory, **{NOTICES[account]: told})
    # Shown only where the job fails after all, and the program shows no notice.
    print(text, file=sys.stderr)
