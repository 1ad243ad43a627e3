"""Begin a new state for a pilot that may be running, where the old one can be opened no more."""

from __future__ import annotations

import shutil
from pathlib import Path

from pilot import configuration, state
from pilot.configuration import PROJECT, PilotError
from pilot.session import SALT_KEY, SALT_SUFFIX, STACKS, STATE, passphrase
from stack.jobs import backups, names


def put_aside(stack: str) -> Path:
    """Move all that belongs to the stack's state into a folder of its own; that folder.

    A new passphrase is made where there is none.

    Raises:
        PilotError: a living `pulumi` works on the stack, or its settings hold what the lost passphrase encrypted.
    """
    committed = PROJECT / f"Pulumi.{stack}.yaml"
    document = configuration.document(configuration.file_of(stack))
    config = document.get("config") or {}
    encrypted = [key for key, value in config.items() if configuration.without_encrypted([value]) != [value]]
    if encrypted:
        raise PilotError(
            f"{committed.name} holds what the old passphrase encrypted: remove {', '.join(encrypted)} from it, run the "
            "same command again, then `pulumi config set --secret` for each"
        )
    state.refuse_living_lock(stack)
    aside = STATE / "aside" / f"{stack}-{backups.timestamp()}"
    aside.mkdir(parents=True, mode=0o700)
    own = STATE / ".pulumi"
    parts = [
        *STACKS.glob(f"{stack}.json*"),
        *(own / folder / names.PROJECT / stack for folder in ("history", "backups")),
        own / "locks" / "organization" / names.PROJECT / stack,
        STATE / f"{stack}{SALT_SUFFIX}",
        STATE / committed.name,
    ]
    for part in parts:
        if part.exists():
            target = aside / part.relative_to(STATE)
            target.parent.mkdir(parents=True, exist_ok=True)
            part.rename(target)
    if SALT_KEY in document:
        # `pulumi stack init` wrote it there.
        shutil.copy2(committed, aside)
        lines = committed.read_text().splitlines(keepends=True)
        committed.write_text("".join(line for line in lines if not line.startswith(SALT_KEY)))
    passphrase(new=True)
    state.say(f"the old state is in {aside}")
    return aside
