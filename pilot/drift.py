"""What differs from what is declared, as the next `up` will say it: for the commands that only look."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

from pilot.configuration import PROJECT
from stack import declared
from stack.jobs import engine, pilot_file, world
from stack.jobs.world import Declared
from stack.settings import Settings
from toolchain.paths import CHECKOUT

LOOK_TIMEOUT_S = 120


def wanted(settings: Settings, stack: str) -> Declared:
    """What the program declares for this checkout's stack."""
    checkout = PROJECT.resolve()
    return declared.of(settings, declared.owner(checkout, stack), checkout, stack)


def coder(settings: Settings, started_at: str = "") -> dict[str, Any]:
    """What stack/jobs/alive.py finds; it changes nothing."""
    variables = {
        **os.environ, **settings.site.environment(), **settings.kubernetes.environment(),
        "CODER_STARTED_AT": started_at,
    }  # fmt: skip
    shown = subprocess.run(
        [sys.executable, "-m", "stack.jobs.alive", "look"], cwd=CHECKOUT, env=variables,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=LOOK_TIMEOUT_S,
    ).stdout  # fmt: skip
    found: dict[str, Any] = json.loads(shown)
    return found


def differences(settings: Settings, stack: str) -> list[str]:
    """One line for each thing that `make up` will put right; none where the engine does not answer."""
    found: list[str] = []
    with contextlib.suppress(engine.JobError):
        site, parts = settings.site, wanted(settings, stack)
        live = world.live(parts)
        different = world.compare(parts, live, pilot_file.read(site.data_dir))
        found += [text for texts in different.values() for text in texts]
        found += [f"{each} is paused" for each in world.paused(parts, live)]
        found += [f"{each} is stopped" for each in world.stopped(parts, live, different)]
        seen = coder(settings, world.started_at(live))
        found += [*seen["differences"], *([seen["problem"]] if seen["problem"] else [])]
    return found
