"""Say whether Coder answers and which generation of our API token it should know; `ensure` repairs what is not well.

Run by an invoke on every operation, between the containers and the coderd provider: the provider contacts Coder
whenever it is loaded, so a stopped Coder would block everything.

    python3 -m stack.jobs.alive look      changes nothing (previews)
    python3 -m stack.jobs.alive ensure    starts stopped containers, restarts a Coder that lost the engine, and waits

Prints one JSON object: {"answers": bool, "token_generation": int or null, "problem": str or null}. A problem is
no failure here: the program raises it, so that it stands alone and not in an invoke's traceback.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path

from stack.jobs import coder, engine, pilot_file, postgres, program

# A token about to expire is replaced while everything still works.
RENEW_BEFORE_DAYS = 14
PING_TIMEOUT_S = 5


def _wanted_generation() -> int:
    """The generation that the token should have: one more than the last when Coder no longer knows that one, or the
    admin has another password than the job gave it.
    """
    directory = program.variable("DATA_DIRECTORY")
    generation, account = pilot_file.token_generation(directory), pilot_file.admin(directory)
    name = postgres.literal(f"{program.variable('TOKEN_PREFIX')}{generation}")
    digest = postgres.literal(account.password_digest if account else "")
    known = postgres.query(
        program.variable("POSTGRES_CONTAINER"), program.variable("ROLE"), program.variable("DATABASE"),
        f"SELECT 1 FROM api_keys JOIN users ON users.id = user_id WHERE token_name = {name}"  # noqa: S608  quoted
        f" AND {postgres.PASSWORD_DIGEST} = {digest}"
        f" AND expires_at > now() + interval '{RENEW_BEFORE_DAYS} days';",
    )  # fmt: skip
    return generation if known else generation + 1


def _find(container: str) -> engine.State | None:
    """The container that runs, None where the engine does not answer or has none."""
    try:
        found = engine.state(container)
    except engine.JobError:
        return None
    return found if found and found.running else None


def _probe(url: str, found: engine.State | None) -> int | None:
    """The wanted generation, None while Coder or its database does not answer."""
    # The container first: somebody else's server may hold the port where ours is stopped.
    if found is None or not (found.healthy or coder.answers(url)):
        return None
    try:
        return _wanted_generation()
    except engine.JobError:
        return None


def _lost_the_engine(container: str, found: engine.State) -> bool:
    """Whether Coder's mount is a socket on which nobody listens any more, so that no workspace could be built.

    An engine with `live-restore` makes a new socket when it restarts, and its containers live on with the old one.
    """
    socket = Path(program.variable("DOCKER_SOCKET"))
    started_s = datetime.fromisoformat(found.started_at).timestamp()
    # Cheap, and nearly always the answer: the container is younger than the socket.
    if not socket.exists() or socket.stat().st_mtime < started_s:
        return False
    ping = ["curl", "--silent", "--fail", "--max-time", str(PING_TIMEOUT_S), "--unix-socket"]
    try:
        engine.docker("exec", container, *ping, program.variable("SOCKET_IN_CONTAINER"), "http://engine/_ping")
    except engine.JobError:
        return True
    return False


def _start(url: str, coder_container: str, postgres_container: str) -> None:
    role, database = program.variable("ROLE"), program.variable("DATABASE")
    engine.start_and_wait(postgres_container, lambda: postgres.ready(postgres_container, role, database))
    engine.start_and_wait(coder_container, lambda: coder.answers(url))


def main() -> None:
    url = program.variable("CODER_URL")
    coder_container, postgres_container = program.variable("CODER_CONTAINER"), program.variable("POSTGRES_CONTAINER")
    ensure = sys.argv[1:] == ["ensure"]
    problem = None
    found = _find(coder_container)
    generation = _probe(url, found)
    try:
        if ensure and found and generation is not None and _lost_the_engine(coder_container, found):
            engine.docker("restart", coder_container)
            generation = None
        if ensure and generation is None:
            _start(url, coder_container, postgres_container)
            generation = _wanted_generation()
    except engine.JobError as error:
        problem = str(error)
    print(json.dumps({"answers": generation is not None, "token_generation": generation, "problem": problem}))


if __name__ == "__main__":
    program.run(main)
