"""What is known of the workspaces that run, from Coder, the engine and their watchers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from keeper import idle
from keeper.engine import Engine
from stack.jobs.names import KUBERNETES_TEMPLATE, WORKSPACE_LABEL

CLAUDE_STATUS = "/tmp/coder-pilot/status"  # noqa: S108  the template writes it there
CLAUDE_STATUS_MAX = 60
REPORTED_LATELY_S = 150
"""A watcher tells of work once a minute, and of its end once."""
IDLE = "idle"


def running(engine: Engine, stack: str) -> list[dict[str, Any]]:
    """The containers of the stack that run.

    Raises:
        EngineError: the engine does not answer.
    """
    return [each for each in engine.containers(stack) if each["State"] == "running"]


def claude(engine: Engine, containers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What the watcher in each workspace says about Claude, by workspace id; at most a line of plain text."""
    of = {each["Id"]: workspace for each in containers if (workspace := each["Labels"].get(WORKSPACE_LABEL))}
    # Without keep-alive, or before the watcher runs, the file does not exist.
    return {of[container]: _plain(text) for container, text in engine.files(of, CLAUDE_STATUS).items()}


def _plain(text: str) -> str:
    """Whoever works there may write it, and a terminal shows it."""
    line = text.strip().partition("\n")[0]
    return "".join(filter(str.isprintable, line))[:CLAUDE_STATUS_MAX]


def reported(records: Iterable[Mapping[str, Any]], now: datetime) -> dict[str, str]:
    """The same of workspaces on a cluster, among Coder's `records`: what their watchers told Coder."""
    there = (each for each in records if each["template_name"] == KUBERNETES_TEMPLATE)
    return {each["id"]: _plain(_report(each, now)) for each in there if each["latest_build"]["status"] == "running"}


def _report(record: Mapping[str, Any], now: datetime) -> str:
    status = record.get("latest_app_status")
    if not status:
        return IDLE
    told, began = (datetime.fromisoformat(each["created_at"]) for each in (status, record["latest_build"]))
    if told < began:
        # Of the session before.
        return IDLE
    if status["state"] != "working":
        return str(status["message"]).removeprefix("Claude ").removeprefix("is ")
    return "working for some time" if (now - told).total_seconds() <= REPORTED_LATELY_S else IDLE


def workspaces(
    engine: Engine, stack: str, records: Iterable[Mapping[str, Any]], texts: Mapping[str, str] | None = None
) -> list[idle.Workspace]:
    """Those of Coder's `records`, which run, on this machine: one on a cluster has none of its memory.

    `texts` are those of `claude`, where they are known already.

    Raises:
        EngineError: the engine does not answer.
    """
    containers = running(engine, stack)
    of = {each["Labels"].get(WORKSPACE_LABEL): each["Id"] for each in containers}
    ram_mib = {each: counters.ram_mib for each, counters in engine.counters(of[key] for key in of if key)}
    texts = claude(engine, containers) if texts is None else texts
    found = []
    for record in records:
        if record["template_name"] == KUBERNETES_TEMPLATE:
            continue
        container_id, now = of.get(record["id"], ""), datetime.now(UTC)
        found.append(idle.workspace(record, now, container_id, ram_mib.get(container_id), texts.get(record["id"], "")))
    return found
