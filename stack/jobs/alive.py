"""Say whether Coder answers, and what somebody changed of what was made there; `ensure` repairs what is not well.

Run by an invoke on every operation, between the containers and the coderd provider: the provider contacts Coder
whenever it is loaded, so a stopped Coder would block everything.

    python3 -m stack.jobs.alive look      changes nothing (previews)
    python3 -m stack.jobs.alive ensure    starts stopped containers, restarts a Coder that lost the engine, lets
                                          workspaces back into their network, and waits

Prints one JSON object:
    {"answers": bool, "generations": {"token": 1, "keeper-token": 1, "template-record": 0, "member": 0},
     "differences": [str], "problem": str or null}
without generations while Coder or its database does not answer. A generation is one more than the last where what it
counts is to be made anew. A problem is no failure here: the program raises it, so that it stands alone and not in an
invoke's traceback.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from stack.jobs import coder, coder_records, disk, engine, pilot_file, postgres, program, world

PING_TIMEOUT_S = 5


def _started_at(container: str) -> str:
    """When the container was started, "" unless it runs and the engine says so."""
    try:
        found = engine.state(container)
    except engine.JobError:
        return ""
    return found.started_at if found and found.running else ""


def _probe(url: str, started_at: str) -> coder_records.Found | None:
    """What the database says, None while Coder or its database does not answer."""
    # The container first: somebody else's server may hold the port where ours is stopped.
    # Its health is some seconds old, and says nothing of its way to the database.
    if not started_at or not coder.answers(url):
        return None
    try:
        return coder_records.look()
    except engine.JobError:
        return None


def _lost_the_engine(container: str, started_at: str) -> bool:
    """Whether Coder's mount is a socket on which nobody listens any more, so that no workspace could be built.

    An engine with `live-restore` makes a new socket when it restarts, and its containers live on with the old one.
    """
    socket = Path(program.variable("DOCKER_SOCKET"))
    started_s = datetime.fromisoformat(started_at).timestamp()
    # Cheap, and nearly always the answer: the container is younger than the socket.
    if not socket.exists() or socket.stat().st_mtime < started_s:
        return False
    ping = ["curl", "--silent", "--fail", "--max-time", str(PING_TIMEOUT_S), "--unix-socket"]
    try:
        engine.docker("exec", container, *ping, program.variable("SOCKET_IN_CONTAINER"), "http://engine/_ping")
    except engine.JobError:
        return True
    return False


def _join(running: frozenset[str]) -> None:
    """Let workspaces that run without their network find Coder again; one that ended meanwhile may go."""
    stack, network = program.variable("STACK"), program.variable("WORKSPACES_NETWORK")
    # Nearly always all are there, and the engine is not asked for more.
    if {f"{stack}.{each}" for each in running} <= set(json.loads(program.variable("JOINED"))):
        return
    for row in world.listed():
        if row.workspace and row.stack == stack and row.state == "running" and network not in row.networks:
            with contextlib.suppress(engine.JobError):
                engine.docker("network", "connect", network, row.name)


def _start(url: str, coder_container: str, postgres_container: str) -> None:
    role, database = program.variable("ROLE"), program.variable("DATABASE")
    engine.start_and_wait(postgres_container, lambda: postgres.ready(postgres_container, role, database))
    engine.start_and_wait(coder_container, lambda: coder.answers(url))


def main() -> None:
    url = program.variable("CODER_URL")
    coder_container, postgres_container = program.variable("CODER_CONTAINER"), program.variable("POSTGRES_CONTAINER")
    ensure = sys.argv[1:] == ["ensure"]
    problem = None
    # Where it ran when `up` looked at the world, or the one that took its place does, the engine need not be asked.
    started_at = program.variable("CODER_STARTED_AT") or _started_at(coder_container)
    found = _probe(url, started_at)
    try:
        if ensure and found and _lost_the_engine(coder_container, started_at):
            engine.docker("restart", coder_container)
            found = None
        if ensure and found is None:
            _start(url, coder_container, postgres_container)
            found = coder_records.look()
        if found and found.problem:
            raise engine.JobError(found.problem)
        if ensure and found:
            _join(found.running)
            _note(found.generations)
    except engine.JobError as error:
        problem = disk.explained(str(error), program.variable("DATA_DIRECTORY"))
    answer = {
        "answers": found is not None,
        "generations": found.generations if found else {},
        "differences": found.differences if found else (),
        "problem": problem,
    }
    print(json.dumps(answer))


def _note(generations: Mapping[str, int]) -> None:
    """Keep what was counted, so that the next `up` takes it for done."""
    data_directory = program.variable("DATA_DIRECTORY")
    before = pilot_file.read(data_directory).get("generations") or {}
    # Those of tokens are written by who makes them.
    after = {**before, **{key: value for key, value in generations.items() if value and "token" not in key}}
    if after != before:
        pilot_file.update(data_directory, generations=after)


if __name__ == "__main__":
    program.run(main)
