"""Begin a new state for a pilot that may be running, where the old one can be opened no more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pilot import configuration, heal, state
from pilot.configuration import PROJECT, PilotError
from pilot.server import admin
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
    select_engine,
)
from stack.jobs import backups, engine, names
from stack.jobs.coder import workspaces

MARK_SUFFIX = ".take-over"
"""A file beside the state with the ids of the workspaces that ran, until the pilot is taken over."""


def is_begun(stack: str) -> bool:
    """Whether a new state was begun for the stack and the pilot is not taken over yet."""
    return _mark(stack).exists()


def begin(stack: str) -> None:
    """Note which workspaces run, and move all that belongs to the stack's state into a folder of its own.

    A new passphrase is made where there is none.

    Raises:
        PilotError: the passphrase fits, a living `pulumi` works on the stack, or its settings have problems or hold
            what the lost passphrase encrypted.
        engine.JobError: the engine does not answer.
    """
    settings = configuration.settings(stack)
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
    select_engine(settings)
    label = f"label={names.STACK_LABEL}={settings.site.name}"
    shown = engine.docker("ps", "--filter", label, "--format", '{{.Label "' + names.WORKSPACE_LABEL + '"}}')
    STATE.mkdir(exist_ok=True)
    _mark(stack).write_text(json.dumps(shown.split()))
    _put_aside(stack, committed if SALT_KEY in document else None)
    passphrase(new=True)


def take_over(session: Session) -> int:
    """Make anew under the new state what runs, and start again the workspaces that ran; the exit code of the `up`."""
    mark = _mark(session.stack)
    if code := heal.heal(session):
        return code
    ran = json.loads(mark.read_text())
    if ran:
        with admin(session) as api:
            for each in workspaces(api):
                if each["id"] in ran:
                    state.say(f"starting {each['owner_name']}/{each['name']} again")
                    api.call("POST", f"/api/v2/workspaces/{each['id']}/builds", {"transition": "start"})
    mark.unlink()
    return 0


def _mark(stack: str) -> Path:
    return STATE / f"{stack}{MARK_SUFFIX}"


def _refuse_good_state(stack: str) -> None:
    """Refuse where the passphrase is there and fits: then nothing is lost."""
    if not has_passphrase() or not (STACKS / f"{stack}.json").exists():
        return
    variables, _ = programs()
    if shutil.which("pulumi", path=variables["PATH"]) and passphrase_fits(stack, salted_file(stack), variables):
        raise PilotError(f"the passphrase fits the state of {stack}, so nothing is lost: run `make up STACK={stack}`")


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
