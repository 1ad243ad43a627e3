"""Pulumi's state where a `pulumi` that was killed, or a Coder that is gone, left it unusable."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilot.configuration import PilotError
from pilot.session import STACKS, STATE, Session
from stack.jobs import engine, names, world

BACKUPS = STATE / ".pulumi" / "backups" / names.PROJECT

Resource = dict[str, Any]


def say(text: str) -> None:
    """Tell the person, beside what `pulumi` prints."""
    print(text, file=sys.stderr, flush=True)


def refuse_living_lock(stack: str) -> bool:
    """Whether a `pulumi` that is dead left its lock.

    Raises:
        PilotError: one is alive, or belongs to another machine, where we cannot see that.
    """
    stale = False
    for file in (STATE / ".pulumi" / "locks").rglob("*.json"):
        if file.parent.name != stack:
            continue
        try:
            lock = json.loads(file.read_text())
        except ValueError:
            # Its `pulumi` was killed while it wrote it.
            file.unlink()
            say(f"removed the lock {file.name}, which was cut short")
            continue
        pid, host, since = lock["pid"], lock["hostname"], lock["timestamp"]
        if host != socket.gethostname():
            raise PilotError(
                f"process {pid} on {host} works on {stack} since {since}: wait for it, or, if you know that "
                f"it is dead, run `pulumi cancel`"
            )
        if _is_pulumi(pid):
            raise PilotError(
                f"a `pulumi` (process {pid}) works on {stack} since {since}: wait for it, or end it, "
                f"`kill {pid}`, and run the same command again"
            )
        stale = True
    return stale


def clear_lock(session: Session) -> None:
    """Remove the locks of a `pulumi` that is dead, and repair the file that it was writing.

    Raises:
        PilotError: one is alive, or belongs to another machine, where we cannot see that.
    """
    stale = refuse_living_lock(session.stack)
    for attributes in remove_broken_attributes(STATE / ".pulumi"):
        say(f"removed {attributes.name}, which was cut short: it says nothing that matters")
    if copy := mend_checkpoint(STACKS / f"{session.stack}.json", BACKUPS / session.stack):
        say(f"the state file was cut short: took the copy {copy.name}")
    if stale:
        session.read("cancel", "--yes")
        say("removed the lock of a `pulumi` that is dead")


def remove_broken_attributes(folder: Path) -> list[Path]:
    """Remove what a killed `pulumi` left empty or half written beside a file; those removed.

    The file backend keeps each file's content type in <file>.attrs, writes that first and not at once, and can read no
    file whose .attrs is broken ("failed to load checkpoint: EOF"); one without it, it can.
    """
    broken = [each for each in folder.rglob("*.attrs") if not _is_json(each)]
    for each in broken:
        each.unlink()
    return broken


def mend_checkpoint(file: Path, backups: Path) -> Path | None:
    """Put the newest whole copy in the place of a state file that a killed `pulumi` left half written; that copy.

    The file backend moves the old file to <stack>.json.bak and then writes the new one. Beside that it keeps a copy of
    every update in `backups`; their names order as time does.
    """
    if _is_json(file):
        return None
    copies = [file.with_name(f"{file.name}.bak"), *sorted(backups.glob("*.json"), reverse=True)]
    found = next((each for each in copies if _is_json(each)), None)
    if found is not None:
        shutil.copy2(found, file)
    return found


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    return True


def _is_pulumi(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    # Another program may have got the number since.
    return os.path.basename(words[0]) == b"pulumi"  # noqa: PTH119  bytes


def deployment(session: Session) -> dict[str, Any]:
    """The state as its file has it, {} before the first `up`; `pulumi` would take half a second to tell.

    Raises:
        PilotError: the file was cut short, and `clear_lock` has not mended it, or could not.
    """
    file = STACKS / f"{session.stack}.json"
    try:
        content = json.loads(file.read_text())
    except OSError:
        return {}
    except ValueError:
        raise PilotError(
            f"{file} was cut short: `make up` takes its newest whole copy; where there is none, move the file away, "
            "then `make up NEW_STATE=yes`"
        ) from None
    found = content.get("checkpoint", {}).get("latest")
    return found if isinstance(found, dict) else {}


def resources(session: Session) -> list[Resource]:
    """The resources in the state."""
    return list(deployment(session).get("resources") or [])


def edit(session: Session, change: Callable[[dict[str, Any]], bool]) -> bool:
    """Let `change` change the exported deployment, and import it where it says that it did."""
    exported = json.loads(session.read("stack", "export"))
    if not change(exported["deployment"]):
        return False
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.json"
        file.write_text(json.dumps(exported))
        session.read("stack", "import", "--file", str(file))
    return True


def clear_pending(session: Session) -> bool:
    """Drop the record of operations that nobody will finish, whether there were any; what they made has its label."""
    if not deployment(session).get("pending_operations"):
        return False

    def change(deployment: dict[str, Any]) -> bool:
        pending = deployment.pop("pending_operations", None) or []
        for each in pending:
            say(f"cut short: {each['type']} {each['resource']['urn'].rsplit('::', 1)[1]}")
        return bool(pending)

    return edit(session, change)


def forget_template(session: Session) -> bool:
    """Drop the templates, their provider and their records from the state, never from Coder; whether one was there."""

    def ours(each: Resource) -> bool:
        # Nothing else depends on these.
        return each["type"] in ("coderd:index/template:Template", "pulumi:providers:coderd") or each["urn"].endswith(
            ("::template-record", "::kubernetes-template-record")
        )

    def change(deployment: dict[str, Any]) -> bool:
        before = deployment.get("resources") or []
        deployment["resources"] = [each for each in before if not ours(each)]
        return len(deployment["resources"]) < len(before)

    return edit(session, change)


def remove_orphans(session: Session, name: str) -> None:
    """Remove the pilot's own containers and networks that are not in its state: they hold no data, and `up` could not
    make those of the same name. Workspaces run on without their network; `up` lets them into the new one.

    Raises:
        engine.JobError: the engine refused.
    """
    known = {each.get("id") for each in resources(session) if each["type"].startswith("docker:")}
    for row in world.listed():
        if row.stack == name and not row.workspace and row.identifier not in known:
            say(f"removing the container {row.name}, which is not in the state")
            engine.remove_container(row.identifier, world.STOP_GRACE_S)
    listing = ("network", "ls", "--no-trunc", "--filter", f"label={names.STACK_LABEL}={name}", "--format", "{{.ID}}")
    for network in engine.inspect(*(set(engine.docker(*listing).splitlines()) - known)):
        say(f"removing the network {network['Name']}, which is not in the state")
        world.remove_network(network)
