"""Who goes next: pure functions over what is known of the workspaces that run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_REST = re.compile(r"(?:idle|waits for you) for (\d+) min")
_WORKING = "working"
_UNHEARD = "keep-alive does not work"
"""The watcher's words, see terraform-template/scripts/keep-alive.sh."""


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """One that runs, as Coder, the engine and its own watcher tell it."""

    id: str
    title: str
    """owner/name."""
    container_id: str
    """ "" where the engine has none that runs."""
    ram_mib: float | None
    """What its container uses; None where nobody measured it."""
    started_s: float
    """Seconds since its start was done; negative for one that is said to be in the future."""
    unused_s: float
    """Seconds since its last connection."""
    claude: str
    """What its watcher says about Claude; "" where it says nothing."""

    @property
    def rest_s(self) -> float:
        """For how long nobody has used it."""
        return min(self.unused_s, self.started_s)


def workspace(
    record: Mapping[str, Any], now: datetime, container_id: str, ram_mib: float | None, claude: str
) -> Workspace:
    """From Coder's record of one."""
    build = record["latest_build"]

    def age_s(text: str) -> float:
        return (now - datetime.fromisoformat(text)).total_seconds()

    return Workspace(
        id=record["id"],
        title=f"{record['owner_name']}/{record['name']}",
        container_id=container_id,
        ram_mib=ram_mib,
        started_s=age_s(build["job"].get("completed_at") or build["created_at"]),
        unused_s=age_s(record["last_used_at"]),
        claude=claude,
    )


def why_it_stays(each: Workspace, idle_s: float, even_s: float = float("inf")) -> str:
    """The reason, in words; "" for one that may go.

    Args:
        idle_s: so long nobody may have used it.
        even_s: for so long the clock has run evenly; a longer time since something is not to be believed.
    """
    if each.claude.startswith(_WORKING):
        return "Claude works in it"
    if each.claude.startswith(_UNHEARD):
        return "its Claude cannot be told to work or not"
    if each.started_s < idle_s:
        return "it was just started"
    if each.unused_s < idle_s:
        return f"it was used {duration(each.unused_s)} ago"
    # A rest this short may be one between two turns.
    if (rest := _REST.match(each.claude)) and int(rest[1]) * 60 < idle_s:
        return f"its Claude {each.claude}" if each.claude.startswith("waits") else f"its Claude is {each.claude}"
    if even_s < idle_s:
        return f"the clock was set, or nobody watched it, {duration(max(even_s, 0))} ago"
    if not each.container_id:
        return "it has no container that could give memory back"
    return ""


def order(found: Iterable[Workspace], idle_s: float, even_s: float = float("inf")) -> list[Workspace]:
    """Those that may go, the longest unused first."""
    may_go = [each for each in found if not why_it_stays(each, idle_s, even_s)]
    return sorted(may_go, key=lambda each: (-each.rest_s, each.title))


def in_the_way(found: Sequence[Workspace], idle_s: float, even_s: float = float("inf")) -> list[str]:
    """A line for each that stays: what it has, and why."""
    return [
        f"{each.title}{'' if each.ram_mib is None else f', {size(each.ram_mib)}'}: {reason}"
        for each in sorted(found, key=lambda each: -(each.ram_mib or 0))
        if (reason := why_it_stays(each, idle_s, even_s))
    ]


def size(mib: float) -> str:
    """Memory as a person reads it."""
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"


def duration(seconds: float) -> str:
    """A time as a person reads it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
