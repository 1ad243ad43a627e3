"""Watches the host's memory, and parks workspaces while it stays below the reserve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keeper import host, idle, reserve
from keeper.coder import CoderError
from keeper.engine import EngineError
from keeper.parking import Parking

PATIENCE_S = 60
"""Memory that is short for a moment, as of a compiler, is nobody's loss."""
LOOK_AGAIN_S = 30
"""Where nobody could go."""
TELL_AGAIN_S = 600


@dataclass(kw_only=True)
class Pressure:
    """The reserve, and since when it is not there; `turn` never waits for a stop."""

    reserve: str
    parking: Parking
    clock: host.Clock
    say: Callable[[str], None]
    memory: Callable[[], host.Memory] = host.memory
    _below_since_s: float | None = None
    _look_from_s: float = 0
    _problem: str = ""
    _told_s: float = float("-inf")

    def turn(self, now_s: float, up_s: float) -> str:
        """See whether memory is short, and stop one workspace if so; what stands against it, "" for nothing.

        Raises:
            CoderError: Coder refused or did not answer.
            EngineError: the engine did not.
        """
        even_s = self.clock.even_s(now_s, up_s)
        if self.parking.stopping is not None:
            told = self.parking.follow()
            if told is not None:
                self._problem = told
            return self._problem
        memory = self.memory()
        wanted_mib = reserve.mib(self.reserve, memory.total)
        if wrong := reserve.problem(self.reserve, memory.total):
            self._tell(wrong, up_s)
            return wrong
        if memory.available >= wanted_mib:
            self._below_since_s, self._problem, self._told_s = None, "", float("-inf")
            return ""
        if self._below_since_s is None:
            self._below_since_s = up_s
        if up_s - self._below_since_s >= PATIENCE_S and up_s >= self._look_from_s:
            self._look_from_s = up_s + LOOK_AGAIN_S
            try:
                parked = self.parking.park_one(wanted_mib, even_s)
            except (CoderError, EngineError) as error:
                # Told until the next look.
                self._problem = str(error)
                raise
            if parked:
                # After this stop the next look is at once.
                self._look_from_s, self._problem = 0, ""
            else:
                short = f"{idle.size(memory.available)} of memory available, the reserve is {idle.size(wanted_mib)}"
                self._problem = f"{short}, and no workspace can be stopped"
                self._tell("; ".join([self._problem, *self.parking.in_the_way]), up_s)
        return self._problem

    def _tell(self, text: str, up_s: float) -> None:
        if up_s - self._told_s >= TELL_AGAIN_S:
            self._told_s = up_s
            self.say(text)
