"""Say whether Coder answers and which generation of our API token it should know; `ensure` starts what is stopped.

Run by an invoke on every operation, between the containers and the coderd provider: the provider contacts Coder
whenever it is loaded, so a stopped Coder would block everything.

    python3 -m stack.jobs.alive look      changes nothing (previews)
    python3 -m stack.jobs.alive ensure    starts stopped containers and waits for them

Prints one JSON object: {"answers": bool, "token_generation": int or null, "problem": str or null}. A problem is
no failure here: the program raises it, so that it stands alone and not in an invoke's traceback.
"""

from __future__ import annotations

import json
import sys

from stack.jobs import coder, engine, pilot_file, postgres, program

# A token about to expire is replaced while everything still works.
RENEW_BEFORE_DAYS = 14


def _wanted_generation() -> int:
    """The generation that the token should have: one more than the last when Coder no longer knows that one."""
    generation = pilot_file.token_generation(program.variable("DATA_DIRECTORY"))
    name = postgres.literal(f"{program.variable('TOKEN_PREFIX')}{generation}")
    known = postgres.query(
        program.variable("POSTGRES_CONTAINER"), program.variable("ROLE"), program.variable("DATABASE"),
        f"SELECT 1 FROM api_keys WHERE token_name = {name}"  # noqa: S608  a quoted literal
        f" AND expires_at > now() + interval '{RENEW_BEFORE_DAYS} days';",
    )  # fmt: skip
    return generation if known else generation + 1


def _probe(url: str, container: str) -> int | None:
    """The wanted generation, None while Coder or its database does not answer."""
    try:
        found = engine.state(container)
        # The container first: somebody else's server may hold the port where ours is stopped.
        if found is None or not found.running or not (found.healthy or coder.answers(url)):
            return None
        return _wanted_generation()
    except engine.JobError:
        return None


def _start(url: str, coder_container: str, postgres_container: str) -> None:
    role, database = program.variable("ROLE"), program.variable("DATABASE")
    engine.start_and_wait(postgres_container, lambda: postgres.ready(postgres_container, role, database))
    engine.start_and_wait(coder_container, lambda: coder.answers(url))


def main() -> None:
    url = program.variable("CODER_URL")
    coder_container, postgres_container = program.variable("CODER_CONTAINER"), program.variable("POSTGRES_CONTAINER")
    problem = None
    generation = _probe(url, coder_container)
    if generation is None and sys.argv[1:] == ["ensure"]:
        try:
            _start(url, coder_container, postgres_container)
            generation = _wanted_generation()
        except engine.JobError as error:
            problem = str(error)
    print(json.dumps({"answers": generation is not None, "token_generation": generation, "problem": problem}))


if __name__ == "__main__":
    program.run(main)
