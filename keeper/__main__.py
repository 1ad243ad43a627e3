"""The keeper: one loop in which each part has its turn, and none stops the others.

Configured by its environment, see `stack/keeper.py`; what pg_dump needs is in the variables of libpq.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from keeper import census, host, journal
from keeper.coder import Coder, CoderError
from keeper.dumps import Dumps
from keeper.engine import Engine, EngineError
from keeper.parking import Parking, stops_file
from keeper.pressure import Pressure
from keeper.samples import INTERVAL_S, Sampler
from stack.jobs import disk, names

TICK_S = 5
TURN_TIMEOUT_S = 45
ENGINE_LOST_S = 300
"""An engine that restarts with `live-restore` makes a new socket: the container has to start anew to see it."""
CALL_TIMEOUT_S = 10
LINES_A_DAY = 24 * 3600 // INTERVAL_S
ALIVE = Path("/dev/shm/keeper-alive")  # noqa: S108  in memory: the disk may be full
"""Touched in each round; the container's health check looks at its age."""


class TurnTooLong(Exception):  # noqa: N818  not an error of ours
    """A part did not come to the end of its turn."""


@contextlib.contextmanager
def bounded(timeout_s: float) -> Iterator[None]:
    """Interrupt what takes longer, wherever it waits.

    Raises:
        TurnTooLong: it did.
    """

    def interrupt(_: int, __: FrameType | None) -> None:
        raise TurnTooLong(f"it took longer than {timeout_s:.0f} s")

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def say(text: str) -> None:
    """A line in the container's log."""
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}", flush=True)


class Keeper:
    """All parts, and what is wrong with each."""

    def __init__(self, environment: dict[str, str]) -> None:
        data = Path(environment["DATA_DIRECTORY"])
        stack, up_s = environment["STACK"], host.uptime_s()
        engine = Engine(host=environment["ENGINE"], timeout_s=CALL_TIMEOUT_S)
        coder = Coder(url=environment["CODER_URL"], token=environment["CODER_TOKEN"], timeout_s=CALL_TIMEOUT_S)
        self._data = data
        self._problems: dict[str, str] = {}
        self._sample_from_s = 0.0
        self._status = ""
        self._engine_seen_s = up_s
        self._coder, self._refusal = coder, ""
        self._sampler = Sampler(
            engine=engine, stack=stack, standalone=environment["STANDALONE_CONTAINER"], answers=self._answers,
            reported=self._reported if environment.get("CLUSTER") == "yes" else dict,
        )  # fmt: skip
        self._journal = journal.Journal(
            data / names.SAMPLES,
            limit_bytes=int(environment["SAMPLES_MIB"]) << 20,
            limit_lines=int(environment["SAMPLES_DAYS"]) * LINES_A_DAY,
        )
        self._pressure = Pressure(
            reserve=environment["MEMORY_RESERVE"],
            parking=Parking(
                engine=engine, coder=coder, stack=stack, idle_s=float(environment["PRESSURE_IDLE_S"]), say=say,
                stops=stops_file(data),
            ),
            clock=host.Clock(host.moments(journal.tail(data / names.SAMPLES)), time.time(), up_s, host.boot()),
            say=say,
        )  # fmt: skip
        hours, minutes = map(int, environment["BACKUP_AT"].split(":"))
        first = host.moments(list(itertools.islice(journal.read(data / names.SAMPLES), 1)))
        since_s = first[0]["wall_s"] if first else time.time()
        self._dumps = Dumps(data, (hours, minutes), int(environment["BACKUPS_KEPT"]), since_s, say, up_s)

    def round(self) -> None:
        """Give each part its turn."""
        up_s = host.uptime_s()
        self._turn("memory", lambda: self._pressure.turn(time.time(), up_s))
        self._turn("backup", lambda: self._dumps.turn(up_s))
        if up_s >= self._sample_from_s:
            # By the time since boot: a clock that is set makes no gap and no crowd.
            self._sample_from_s = up_s + INTERVAL_S
            self._turn("samples", self._sample)
        self._write_status()
        with contextlib.suppress(OSError):
            ALIVE.touch()

    def _turn(self, part: str, turn: Callable[[], str]) -> None:
        try:
            with bounded(TURN_TIMEOUT_S):
                problem = turn()
        except (CoderError, EngineError, OSError, TurnTooLong, ValueError, KeyError, TypeError) as error:
            problem = disk.explained(str(error) or type(error).__name__, str(self._data))
            if problem != self._problems.get(part, ""):
                say(f"{part}: {problem}")
        self._problems[part] = problem

    def _sample(self) -> str:
        sample = self._sampler.take()
        self._engine_seen_s = host.uptime_s()
        self._journal.append(sample.record())
        return self._refusal

    def _answers(self) -> bool:
        answers, self._refusal = self._coder.check()
        return answers

    def _reported(self) -> dict[str, str]:
        # What Coder does not tell now, the next sample may have.
        with contextlib.suppress(CoderError):
            return census.reported(self._coder.running(names.KUBERNETES_TEMPLATE), datetime.now(UTC))
        return {}

    def is_lost(self) -> bool:
        """Whether only a new start can help."""
        return host.uptime_s() - self._engine_seen_s > ENGINE_LOST_S and not self._dumps.is_at_work()

    def _write_status(self) -> None:
        """For `make status` and `make doctor`, which tell what is wrong; written when that changes."""
        text = json.dumps({"problems": {part: told for part, told in self._problems.items() if told}})
        if text == self._status:
            return
        file = self._data / names.KEEPER_STATUS
        partial = file.with_name(f"{file.name}.partial")
        try:
            partial.write_text(f"{text}\n")
            partial.replace(file)
        except OSError:
            partial.unlink(missing_ok=True)
            return
        self._status = text

    def close(self) -> None:
        """End what runs."""
        self._dumps.close()


def main(environment: dict[str, str]) -> None:
    """Run until the container is stopped."""

    def end(*_: Any) -> None:
        sys.exit(0)

    # Process 1 has no action of its own for it.
    signal.signal(signal.SIGTERM, end)
    keeper = Keeper(environment)
    say("the keeper runs")
    try:
        while not keeper.is_lost():
            keeper.round()
            time.sleep(TICK_S)
        say("the engine is lost: starting anew")
        sys.exit(1)
    finally:
        keeper.close()


if __name__ == "__main__":
    main(dict(os.environ))
