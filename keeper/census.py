"""What is known of the workspaces that run, from Coder, the engine and their watchers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from keeper import idle
from keeper.engine import Engine, EngineError
from stack.jobs.names import WORKSPACE_LABEL

CLAUDE_STATUS = "/tmp/coder-pilot/status"  # noqa: S108  the template writes it there
CLAUDE_STATUS_MAX = 60


def running(engine: Engine, stack: str) -> list[dict[str, Any]]:
    """The containers of the stack that run.

    Raises:
        EngineError: the engine does not answer.
    """
    return [each for each in engine.containers(stack) if each["State"] == "running"]


def claude(engine: Engine, containers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What the watcher in each workspace says about Claude, by workspace id; at most a line of plain text."""
    found = {}
    for container in containers:
        # Without keep-alive, or before the watcher runs, the file does not exist.
        with contextlib.suppress(EngineError):
            if workspace := container["Labels"].get(WORKSPACE_LABEL):
                # Whoever works there may write into it, and a terminal shows it.
                line = engine.file(container["Id"], CLAUDE_STATUS).strip().partition("\n")[0]
                found[workspace] = "".join(filter(str.isprintable, line))[:CLAUDE_STATUS_MAX]
    return found


def workspaces(engine: Engine, stack: str, records: Iterable[Mapping[str, Any]]) -> list[idle.Workspace]:
    """Those of Coder's `records`, which run.

    Raises:
        EngineError: the engine does not answer.
    """
    containers = running(engine, stack)
    of = {each["Labels"].get(WORKSPACE_LABEL): each["Id"] for each in containers}
    texts = claude(engine, containers)
    found = []
    for record in records:
        container_id, ram_mib = of.get(record["id"], ""), None
        with contextlib.suppress(EngineError):
            counters = engine.counters(container_id) if container_id else None
            ram_mib = counters.ram_mib if counters else None
        now = datetime.now(UTC)
        found.append(idle.workspace(record, now, container_id, ram_mib, texts.get(record["id"], "")))
    return found
