"""Begin a new state for a pilot that may be running, where the old one can be opened no more."""

from __future__ import annotations

import shutil
from pathlib import Path

from pilot import configuration, converge, state
from pilot.configuration import PROJECT, PilotError
from pilot.session import (
    SALT_KEY,
    SALT_SUFFIX,
    STACKS,
    STATE,
    Session,
    has_passphrase,
    passphrase,
    passphrase_fits,
    programs,
    salted_file,
)
from stack.jobs import backups, names

MARK_SUFFIX = ".take-over"
"""An empty file beside the state, until the pilot is taken over."""


def is_begun(stack: str) -> bool:
    """Whether a new state was begun for the stack and the pilot is not taken over yet."""
    return _mark(stack).exists()


def begin(stack: str) -> None:
    """Move all that belongs to the stack's state into a folder of its own.

    A new passphrase is made where there is none.

    Raises:
        PilotError: the passphrase fits, a living `pulumi` works on the stack, or its settings have problems or hold
            what the lost passphrase encrypted.
    """
    configuration.settings(stack)
    committed = PROJECT / f"Pulumi.{stack}.yaml"
    document = configuration.document(committed)
    config = document.get("config") or {}
    encrypted = [key for key, value in config.items() if configuration.without_encrypted([value]) != [value]]
    if encrypted:
        raise PilotError(
            f"{committed.name} holds what the old passphrase encrypted: remove {', '.join(encrypted)} from it, run the "
            "same command again, then `pulumi config set --secret` for each"
        )
    state.refuse_living_lock(stack)
    _refuse_good_state(stack)
    STATE.mkdir(exist_ok=True)
    _mark(stack).touch()
    _put_aside(stack, committed if SALT_KEY in document else None)
    passphrase(new=True)


def take_over(session: Session) -> int:
    """Make anew under the new state what runs; the exit code of the `up`."""
    code = converge.converge(session)
    if code == 0:
        _mark(session.stack).unlink()
    return code


def _mark(stack: str) -> Path:
    return STATE / f"{stack}{MARK_SUFFIX}"


def _refuse_good_state(stack: str) -> None:
    """Refuse where the passphrase is there and fits: then nothing is lost."""
    if not has_passphrase() or not (STACKS / f"{stack}.json").exists():
        return
    variables, _ = programs()
    if shutil.which("pulumi", path=variables["PATH"]) and passphrase_fits(stack, salted_file(stack), variables):
        raise PilotError(f"the passphrase fits the state of {stack}, so nothing is lost: run `make up`")


def _put_aside(stack: str, salted: Path | None) -> None:
    """Move the state; out of `salted`, the committed settings, goes the salt that `pulumi stack init` wrote there."""
    aside = STATE / "aside" / f"{stack}-{backups.timestamp()}"
    aside.mkdir(parents=True, mode=0o700)
    own = STATE / ".pulumi"
    parts = [
        *STACKS.glob(f"{stack}.json*"),
        *(own / folder / names.PROJECT / stack for folder in ("history", "backups")),
        own / "locks" / "organization" / names.PROJECT / stack,
        STATE / f"{stack}{SALT_SUFFIX}",
        STATE / f"Pulumi.{stack}.yaml",
    ]
    for part in parts:
        if part.exists():
            target = aside / part.relative_to(STATE)
            target.parent.mkdir(parents=True, exist_ok=True)
            part.rename(target)
    if salted:
        (aside / "committed").mkdir()
        shutil.copy2(salted, aside / "committed")
        lines = salted.read_text().splitlines(keepends=True)
        salted.write_text("".join(line for line in lines if not line.startswith(SALT_KEY)))
    state.say(f"the old state is in {aside}")
