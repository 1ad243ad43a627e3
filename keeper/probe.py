"""A look into a workspace right before it would be stopped."""

from __future__ import annotations

from pathlib import Path

from keeper.engine import Engine, EngineError

SCRIPT = Path(__file__).with_name("probe.sh")
REASONS = {
    "connected": "somebody is connected to it",
    "session": "a terminal, SSH or a script of the agent is at work in it",
    "busy": "Claude works in it",
    "silent": "a Claude in it does not say whether it works",
    "no agent": "it has no agent that could be asked",
}


def why_it_stays(engine: Engine, container_id: str) -> str:
    """The reason that shows only inside, in words; "" for one that may go."""
    try:
        shown = engine.run(container_id, ["bash", "-c", SCRIPT.read_text()]).split("\n")
    except EngineError as error:
        return f"nobody could look into it: {error}"
    for word, reason in REASONS.items():
        if word in shown:
            return reason
    return "" if "looked" in shown else "nobody could look into it"
