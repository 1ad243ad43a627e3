"""A look into a workspace right before it would be stopped."""

from __future__ import annotations

from pathlib import Path

from keeper.engine import Engine, EngineError

SCRIPT = Path(__file__).with_name("probe.sh")
REASONS = {
    "connected": "somebody is connected to it",
    "session": "a terminal, SSH or a script of the agent is at work in it",
    "busy": "Claude works in it",
    "no agent": "it has no agent that could be asked",
}


def why_it_stays(engine: Engine, container_id: str, claude: str) -> str:
    """The reason that shows only inside, in words; "" for one that may go.

    Args:
        claude: what its watcher says; "" where there is none, and then any Claude may be at work.
    """
    try:
        shown = engine.run(container_id, ["bash", "-c", SCRIPT.read_text()]).split("\n")
    except EngineError as error:
        return f"nobody could look into it: {error}"
    for word, reason in REASONS.items():
        if word in shown:
            return reason
    if "looked" not in shown:
        return "nobody could look into it"
    return "a Claude runs in it, and nothing tells whether it works" if "claude" in shown and not claude else ""
