"""What one build of a workspace says: its outcome, how long a start took, why it failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

Build = Mapping[str, Any]
"""Coder's own record."""
UNSETTLED: Final = ("pending", "running", "canceling")
AGENT_RESTARTED: Final = timedelta(minutes=1)
"""An agent that began later than this after its first connection was started again."""
REASON_LENGTH: Final = 200
PRESSURE: Final = "pressure"
"""The reason of a stop that the keeper asked for, because the host's memory was short; none of Coder's."""
AUTOMATIC: Final = ("autostop", "dormancy", PRESSURE)


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start: from the request to the end of the agent's start scripts."""

    time: datetime
    workspace: str
    seconds: float | None
    """None: not ready yet, never ready, or the agent started again since then, which overwrites the time."""
    status: str
    """The build's."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One failed build, with the first line of the reason."""

    time: datetime
    workspace: str
    transition: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Pressed:
    """One stop that the keeper asked for, because the host's memory was short."""

    time: datetime
    workspace: str
    ram_mib: float | None
    """What the workspace had, and gave back."""


def pressed(made: Iterable[tuple[str, Build]], stops: Mapping[str, Mapping[str, Any]]) -> tuple[Pressed, ...]:
    """Those of the builds that went well, each of which comes with its workspace's title; oldest first."""
    found = (
        Pressed(time=created(build), workspace=title, ram_mib=stops[build["id"]].get("ram_mib"))
        for title, build in made
        if build["id"] in stops and status(build) == "succeeded"
    )
    return tuple(sorted(found, key=lambda each: each.time))


def stamp(text: str | None) -> datetime | None:
    """A time from Coder, whose zero time means none."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text).astimezone(UTC)


def created(build: Build) -> datetime:
    """When the build was requested."""
    return datetime.fromisoformat(build["created_at"]).astimezone(UTC)


def status(build: Build) -> str:
    """The job's status; "canceled" also where Coder 2.30.0 says "failed" because Terraform was cancelled half-way."""
    job = build["job"]
    return "canceled" if job["status"] == "failed" and stamp(job.get("canceled_at")) else str(job["status"])


def automatic(build: Build) -> bool:
    """Whether Coder or the keeper requested the build by itself."""
    return build["reason"] in AUTOMATIC


def agents(build: Build) -> list[Mapping[str, Any]]:
    """The agents that the build started."""
    return [agent for each in build.get("resources") or [] for agent in each.get("agents") or []]


def start(title: str, build: Build) -> Start:
    return Start(time=created(build), workspace=title, seconds=_ready_s(build), status=status(build))


def _ready_s(build: Build) -> float | None:
    """Seconds from the request until the last agent was ready."""
    ready = [stamp(agent.get("ready_at")) for agent in agents(build)]
    if not ready or None in ready or build["job"]["status"] != "succeeded":
        return None
    for agent in agents(build):
        connected, started = stamp(agent.get("first_connected_at")), stamp(agent.get("started_at"))
        # After a reboot of the box the agent starts again and overwrites its times.
        if connected is not None and started is not None and started - connected > AGENT_RESTARTED:
            return None
    seconds = (max(time for time in ready if time is not None) - created(build)).total_seconds()
    return seconds if seconds >= 0 else None


def failures(settled: Iterable[tuple[str, Build]], errors: Mapping[str, str]) -> tuple[Failure, ...]:
    """The failed ones of the builds, each of which comes with its workspace's title; oldest first."""
    found = (_failure(title, build, errors) for title, build in settled if status(build) == "failed")
    return tuple(sorted(found, key=lambda each: each.time))


def _failure(title: str, build: Build, errors: Mapping[str, str]) -> Failure:
    lines = (errors.get(build["id"]) or build["job"].get("error") or "").strip().splitlines()
    return Failure(
        time=datetime.fromisoformat(build["created_at"]),
        workspace=title,
        transition=build["transition"],
        reason=lines[0][:REASON_LENGTH] if lines else "no reason given",
    )
