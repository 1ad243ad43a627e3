"""Say whether Coder answers, which generation of our API token it should know, and whether our template is there as we
declared it; `ensure` repairs what is not well.

Run by an invoke on every operation, between the containers and the coderd provider: the provider contacts Coder
whenever it is loaded, so a stopped Coder would block everything.

    python3 -m stack.jobs.alive look      changes nothing (previews)
    python3 -m stack.jobs.alive ensure    starts stopped containers, restarts a Coder that lost the engine, lets
                                          workspaces back into their network, and waits

Prints one JSON object:
    {"answers": bool, "generations": {"token": 1, "template-record": 0}, "differences": [str],
     "problem": str or null}
without generations while Coder or its database does not answer. A generation is one more than the last where what it
counts is to be made anew. A problem is no failure here: the program raises it, so that it stands alone and not in an
invoke's traceback.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from stack.jobs import adoption, coder, disk, engine, names, pilot_file, postgres, program

# A token about to expire is replaced while everything still works.
RENEW_BEFORE_DAYS = 14
PING_TIMEOUT_S = 5
WORDS = {
    "name": "its name",
    "display_name": "its display name",
    "description": "its description",
    "icon": "its icon",
    "default_ttl_ms": "autostop",
    "activity_bump_ms": "activity bump",
    "allow_user_cancel_workspace_jobs": "who may cancel builds",
    "cors_behavior": "who may read an app",
    "deprecation_message": "deprecation",
    "active_version_id": "the active version",
}
"""What of a template is declared, and what a person calls it."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What Coder's database says."""

    generations: Mapping[str, int]
    differences: Sequence[str]
    problem: str | None
    """Why the template cannot be made what is declared."""


def _look() -> Found:
    """Ask the database, in one call, for our token and our template.

    Raises:
        engine.JobError: it does not answer, or is not Coder's yet.
    """
    directory = program.variable("DATA_DIRECTORY")
    record, called = pilot_file.read(directory), pilot_file.template_name(directory)
    token, template = pilot_file.token_generation(directory), record.get("template")
    account = pilot_file.admin(directory)
    digest = postgres.literal(account.password_digest if account else "")
    name = postgres.literal(f"{program.variable('TOKEN_PREFIX')}{token}")
    identifier = postgres.literal(str(record.get("template_id")))
    rows = postgres.query(
        program.variable("POSTGRES_CONTAINER"), program.variable("ROLE"), program.variable("DATABASE"),
        # Another password than the job gave the admin counts as well.
        "SELECT 'token' FROM api_keys JOIN users ON users.id = user_id"  # noqa: S608  quoted literals
        f" WHERE token_name = {name} AND {postgres.PASSWORD_DIGEST} = {digest}"
        f" AND expires_at > now() + interval '{RENEW_BEFORE_DAYS} days' LIMIT 1;\n"
        "SELECT json_build_object('name', name, 'display_name', display_name, 'description', description,"
        " 'icon', icon, 'default_ttl_ms', default_ttl / 1000000, 'activity_bump_ms', activity_bump / 1000000,"
        " 'allow_user_cancel_workspace_jobs', allow_user_cancel_workspace_jobs, 'deprecation_message', deprecated,"
        " 'cors_behavior', cors_behavior,"
        f" 'active_version_id', active_version_id) FROM templates WHERE NOT deleted AND id::text = {identifier};\n"
        # As Coder's own query picks what it archives: used is what the latest build of a workspace has.
        # Nobody can create from one whose import failed.
        "SELECT 'unused' FROM template_versions JOIN templates ON templates.id = template_id"
        " JOIN provisioner_jobs ON provisioner_jobs.id = job_id AND job_status = 'succeeded'"
        f" WHERE template_id::text = {identifier} AND NOT archived AND template_versions.id <> active_version_id"
        " AND NOT EXISTS (SELECT 1 FROM (SELECT DISTINCT ON (workspace_id) template_version_id, transition"
        " FROM workspace_builds ORDER BY workspace_id, build_number DESC) AS latest"
        " WHERE transition <> 'delete' AND template_version_id = template_versions.id) LIMIT 1;\n"
        f"SELECT 'taken' FROM templates WHERE NOT deleted AND lower(name) = {postgres.literal(called)}"
        f" AND id::text <> {identifier} AND NOT {adoption.OURS};\n"
        f"{adoption.sql(str(record.get('template_id')))}",
    )  # fmt: skip
    counted = record.get("generations") or {}
    setting = int(counted.get("template-record", 0))
    # The template has a name, a workspace a title.
    shown = [json.loads(row) for row in rows if row.startswith("{")]
    live = next((each for each in shown if "name" in each), None)
    foreign = [adoption.workspace(row) for row in rows if row.startswith("{") and "title" in json.loads(row)]
    differences = []
    problem = None
    if template and live is None:
        # The program cannot make it anew by itself: the engine refuses to replace what was adopted once.
        problem = f"the template {called} was deleted in Coder: `make up` makes it anew"
    elif "taken" in rows:
        problem = _taken(called)
    elif endangered := adoption.endangered(foreign, pilot_file.adopted_home(directory)):
        problem = _endangered(called, endangered)
    if changed := [WORDS[key] for key, value in (template or {}).items() if live and live.get(key) != value]:
        differences.append(f"the template was changed in Coder ({', '.join(changed)}): it is set back")
    if differences or "unused" in rows:
        setting += 1
    return Found(
        generations={"token": token if "token" in rows else token + 1, "template-record": setting},
        differences=differences,
        problem=problem,
    )


def _taken(name: str) -> str:
    if name != names.TEMPLATE:
        return f"a template that is not of this pilot is called {name}: rename it in the dashboard, then `make up`"
    return (
        f"this Coder has a template {name} that is not of this pilot: `make adopt` says whether its workspaces can "
        "become ours with their homes, and notes the answer; then `make up`"
    )


def _endangered(name: str, why: Sequence[str]) -> str:
    told = "\n".join(f"  - {each}" for each in why)
    return (
        f"an update of workspaces of the template {name} to ours would destroy what may hold files, so it is not "
        "sent:\n"
        f"{told}\n`make adopt` looks again; what still stands against it is to be deleted in the dashboard, after "
        "`make import` has copied its home"
    )


def _find(container: str) -> engine.State | None:
    """The container that runs, None where the engine does not answer or has none."""
    try:
        found = engine.state(container)
    except engine.JobError:
        return None
    return found if found and found.running else None


def _probe(url: str, found: engine.State | None) -> Found | None:
    """What the database says, None while Coder or its database does not answer."""
    # The container first: somebody else's server may hold the port where ours is stopped.
    # Its health is some seconds old, and says nothing of its way to the database.
    if found is None or not coder.answers(url):
        return None
    try:
        return _look()
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


def _join() -> None:
    """Let running workspaces that were cut off from their network find Coder again; one that ended meanwhile may go."""
    for container in json.loads(program.variable("CUT_OFF")):
        with contextlib.suppress(engine.JobError):
            engine.docker("network", "connect", program.variable("WORKSPACES_NETWORK"), container)


def _start(url: str, coder_container: str, postgres_container: str) -> None:
    role, database = program.variable("ROLE"), program.variable("DATABASE")
    engine.start_and_wait(postgres_container, lambda: postgres.ready(postgres_container, role, database))
    engine.start_and_wait(coder_container, lambda: coder.answers(url))


def main() -> None:
    url = program.variable("CODER_URL")
    coder_container, postgres_container = program.variable("CODER_CONTAINER"), program.variable("POSTGRES_CONTAINER")
    ensure = sys.argv[1:] == ["ensure"]
    problem = None
    container = _find(coder_container)
    found = _probe(url, container)
    try:
        if ensure:
            _join()
        if ensure and container and found and _lost_the_engine(coder_container, container):
            engine.docker("restart", coder_container)
            found = None
        if ensure and found is None:
            _start(url, coder_container, postgres_container)
            found = _look()
        if found and found.problem:
            raise engine.JobError(found.problem)
        if ensure and found:
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
    # The token's is written by who makes it.
    after = {**before, **{key: value for key, value in generations.items() if value and key != "token"}}
    if after != before:
        pilot_file.update(data_directory, generations=after)


if __name__ == "__main__":
    program.run(main)
