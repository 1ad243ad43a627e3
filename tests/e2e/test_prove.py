"""`make prove` says of each promise whether it is kept, and leaves nothing behind, whatever it finds.

Each promise is broken on purpose once, by what could break it on a box.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from pilot.prove import FILE, PROMISES, SIGN_IN
from tests.e2e.parts import CODER_VERSION, POSTGRES_IMAGE
from tests.e2e.pilot_fixture import CHECKOUT, Pilot, docker, eventually
from tests.e2e.retirement_fixture import command, variables

pytestmark = pytest.mark.drill

BREAK_TIMEOUT_S = 120
# Coder 2.30.0 does not keep this one; with others tests/unit/test_prove.py stands in.
KNOWN = "no page reads another app"


@pytest.fixture(scope="module")
def proved(pilot: Pilot) -> dict[str, Any]:
    """What it says of the whole pilot."""
    assert f"not proved on Coder {CODER_VERSION}, Postgres 17" in command(pilot, "status")
    return _prove(pilot)


def _prove(pilot: Pilot, *, kept: bool = True) -> dict[str, Any]:
    shown = command(pilot, "prove", "--json", check=kept)
    found: dict[str, Any] = json.loads(shown.splitlines()[-1])
    return found


def _kept(found: dict[str, Any]) -> dict[str, bool | None]:
    return {each["promise"]: each["kept"] for each in found["promises"]}


def _nothing_is_left(pilot: Pilot) -> bool:
    containers = docker("ps", "--all", "--filter", f"label=coder-pilot.stack={pilot.name}", "--format", "{{.Names}}")
    volumes = docker("volume", "ls", "--quiet", "--filter", f"label=coder-pilot.stack={pilot.name}")
    return "prove-" not in containers and not volumes and not list(pilot.data.glob("prove-*"))


def test_every_promise_of_the_local_pilot_is_kept(pilot: Pilot, proved: dict[str, Any]) -> None:
    others = {"https in the browser": None, KNOWN: False}
    assert _kept(proved) == {SIGN_IN: True, **dict.fromkeys(PROMISES, True), **others}
    assert [each["promise"] for each in proved["promises"] if each["known"]] == [KNOWN]
    assert sum(each["took_s"] for each in proved["promises"]) < 180
    assert _nothing_is_left(pilot)
    assert f"proved on Coder {CODER_VERSION}, Postgres 17" in command(pilot, "status")


@contextlib.contextmanager
def _meanwhile(act: Callable[[], Any]) -> Iterator[None]:
    """Do something as soon as it can be done, while the promises are tried."""
    done = threading.Event()
    thread = threading.Thread(
        target=lambda: eventually(lambda: done.is_set() or act(), timeout_s=BREAK_TIMEOUT_S, what="the moment to act")
    )
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _trial_container(pilot: Pilot) -> str:
    return docker("ps", "--filter", f"name={pilot.name}.dev.prove-", "--format", "{{.Names}}", check=False)


@contextlib.contextmanager
def _no_template(pilot: Pilot) -> Iterator[None]:
    (template,) = pilot.call("GET", "/api/v2/templates")
    pilot.call("PATCH", f"/api/v2/templates/{template['id']}", {**_changed(template), "name": "elsewhere"})
    yield
    pilot.call("PATCH", f"/api/v2/templates/{template['id']}", _changed(template))


@contextlib.contextmanager
def _no_bump(pilot: Pilot) -> Iterator[None]:
    (template,) = pilot.call("GET", "/api/v2/templates")
    pilot.call("PATCH", f"/api/v2/templates/{template['id']}", {**_changed(template), "activity_bump_ms": 0})
    yield
    pilot.call("PATCH", f"/api/v2/templates/{template['id']}", _changed(template))


def _changed(template: dict[str, Any]) -> dict[str, Any]:
    return {key: template[key] for key in ("name", "display_name", "default_ttl_ms", "activity_bump_ms")}


def _no_editor(pilot: Pilot) -> AbstractContextManager[None]:
    """Suspended: it would be started again if it ended. Its health stays good for the agent's patience, 20 looks."""

    def suspend() -> bool:
        container = _trial_container(pilot)
        healthy = ("curl", "--fail", "--silent", "--max-time", "1", "http://127.0.0.1:13337/healthz")
        ready = bool(container) and "status" in docker("exec", container, *healthy, check=False)
        if ready:
            docker("exec", container, "pkill", "-STOP", "--full", "out/node/entry")
        return ready

    return _meanwhile(suspend)


def _lost_file(pilot: Pilot) -> AbstractContextManager[None]:
    return _meanwhile(
        lambda: (
            docker("exec", _trial_container(pilot) or "none", "bash", "-c", f"rm {FILE} && echo gone", check=False)
            == "gone"
        )
    )


@contextlib.contextmanager
def _postgres_in_reach(pilot: Pilot) -> Iterator[None]:
    docker("network", "connect", f"{pilot.name}-workspaces", f"{pilot.name}-postgres")
    yield
    docker("network", "disconnect", f"{pilot.name}-workspaces", f"{pilot.name}-postgres")


@contextlib.contextmanager
def _one_more_listens(pilot: Pilot) -> Iterator[None]:
    name = f"{pilot.name}-listens"
    docker(
        "run", "--detach", "--rm", "--name", name, "--label", f"coder-pilot.stack={pilot.name}", "--publish", "0:80",
        "--entrypoint", "sleep", POSTGRES_IMAGE, "600",
    )  # fmt: skip
    yield
    docker("rm", "--force", name)


@contextlib.contextmanager
def _no_pg_dump(pilot: Pilot) -> Iterator[None]:
    program = docker("exec", f"{pilot.name}-postgres", "sh", "-c", "readlink -f $(command -v pg_dump)")
    docker("exec", "--user", "root", f"{pilot.name}-postgres", "mv", program, f"{program}.away")
    yield
    docker("exec", "--user", "root", f"{pilot.name}-postgres", "mv", f"{program}.away", program)


BROKEN = {
    "a workspace is made": _no_template,
    "work moves its deadline": _no_bump,
    "its editor answers": _no_editor,
    "stop and start keep a file": _lost_file,
    "Postgres is out of its reach": _postgres_in_reach,
    "only Coder listens, on loopback": _one_more_listens,
    "a backup can be read": _no_pg_dump,
}


@pytest.mark.usefixtures("proved")
@pytest.mark.parametrize("promise", BROKEN)
def test_a_promise_that_was_broken_is_named_and_nothing_is_left(pilot: Pilot, promise: str) -> None:
    with BROKEN[promise](pilot):
        found = _prove(pilot, kept=False)
    assert _kept(found)[promise] is False, found
    assert _nothing_is_left(pilot)
    assert f"a promise was BROKEN on Coder {CODER_VERSION}" in command(pilot, "status")


@pytest.mark.usefixtures("proved")
def test_a_proof_that_is_interrupted_leaves_no_workspace(pilot: Pilot) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pilot", "prove", "--stack", pilot.stack],
        cwd=CHECKOUT, env=variables(pilot), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    eventually(lambda: _trial_container(pilot), timeout_s=60, what="the workspace of the proof")
    process.terminate()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert _nothing_is_left(pilot)
