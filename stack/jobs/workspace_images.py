"""What is known of the workspace images beside Pulumi's state: whether they are there, and whole.

    python3 -m stack.jobs.workspace_images look    prints how often each image was to be built (previews)
    python3 -m stack.jobs.workspace_images tend    the same, and removes older images that nothing uses any more
    python3 -m stack.jobs.workspace_images         after a build: notes whether everything is in, prints what is not

An image counts as used by a container, by the settings, by the template's active version, and by the version with which
a workspace was built last: a parked one starts with that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from stack.jobs import engine, names, pilot_file, postgres, program

KEY = "workspace_images"
MARKS = "/usr/local/share/coder-pilot"
"""Where a build leaves a file for what it could not install, and the next one may."""
WITHOUT_EXTENSION, WITHOUT_TOOLS = "without-extension", "without-tools"
TOOLS = Path(__file__).resolve().parents[2] / "workspace-image" / "tools.sh"
RUN_TIMEOUT_S = 60

LISTING = "{{.Repository}}:{{.Tag}} {{.ID}}"
NAMES_IN_USE = """
SELECT DISTINCT variable.value
FROM (
    SELECT (
        SELECT template_version_id FROM workspace_builds
        WHERE workspace_id = workspaces.id ORDER BY build_number DESC LIMIT 1
    ) AS id FROM workspaces WHERE NOT deleted
    UNION SELECT active_version_id FROM templates WHERE NOT deleted
) AS version
JOIN template_version_variables AS variable
    ON variable.template_version_id = version.id AND variable.name = 'built_images';
"""


def _known() -> dict[str, dict[str, Any]]:
    """Per base what the last build left: {"name", "attempt", "whole"}."""
    value = pilot_file.read(program.variable("DATA_DIRECTORY")).get(KEY)
    return value if isinstance(value, dict) else {}


def _present() -> set[str] | None:
    """The stack's images on the engine, by name, or by id where they have none; None where it cannot be asked."""
    label = f"label={names.STACK_LABEL}={program.variable('STACK')}"
    try:
        shown = engine.docker("image", "ls", "--no-trunc", "--filter", label, "--format", LISTING)
    except engine.JobError:
        return None
    pairs = [line.split(" ", 1) for line in shown.splitlines()]
    return {identifier if "<none>" in name else name for name, identifier in pairs}


def _attempts(known: dict[str, dict[str, Any]], present: set[str] | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for base in json.loads(program.variable("BASES")):
        last = known.get(base)
        again = last is not None and (not last["whole"] or (present is not None and last["name"] not in present))
        found[base] = (last["attempt"] if last else 1) + again
    return found


def _sweep(known: dict[str, dict[str, Any]], present: set[str]) -> None:
    old = present - {each["name"] for each in known.values()} - {names.keeper_image(program.variable("STACK"))}
    if not old:
        return
    container = names.postgres_container(program.variable("STACK"))
    try:
        rows = postgres.query(container, names.ROLE, names.DATABASE, NAMES_IN_USE)
    except engine.JobError:
        return
    in_use = {name for row in rows for name in json.loads(row or "{}").values()}
    for name in old - in_use:
        try:
            # Without --force: the engine itself refuses where a container uses it.
            engine.docker("image", "rm", name)
        except engine.JobError:
            continue


def _record() -> None:
    attempts = json.loads(program.variable("ATTEMPTS"))
    known: dict[str, dict[str, Any]] = {}
    incomplete, lacking = [], {}
    for base, image in json.loads(program.variable("IMAGES")).items():
        marks, tools = _look_into(image["id"])
        known[base] = {"name": image["name"], "attempt": attempts[base], "whole": not marks}
        if WITHOUT_EXTENSION in marks:
            incomplete.append(base)
        if tools:
            lacking[base] = {"tools": tools, "again": WITHOUT_TOOLS in marks}
    pilot_file.update(program.variable("DATA_DIRECTORY"), **{KEY: known})
    print(json.dumps({"incomplete": incomplete, "lacking": lacking}))


def _look_into(image: str) -> tuple[set[str], list[str]]:
    """The marks that the image's build left, and the tools that the image lacks."""
    look = f'ls {MARKS} 2>/dev/null; exec bash -c "$1" tools.sh lacking'
    shown = engine.docker(
        "run", "--rm", "--network", "none", "--entrypoint", "bash", image, "-c", look, "look", TOOLS.read_text(),
        timeout_s=RUN_TIMEOUT_S,
    ).split()  # fmt: skip
    marks = {WITHOUT_EXTENSION, WITHOUT_TOOLS}.intersection(shown)
    return marks, [each for each in shown if each not in marks]


def main() -> None:
    if sys.argv[1:] == []:
        _record()
        return
    known, present = _known(), _present()
    # Without a record, in a new data directory for one, nobody can say which images are the current ones.
    if sys.argv[1:] == ["tend"] and known and present:
        _sweep(known, present)
    print(json.dumps(_attempts(known, present)))


if __name__ == "__main__":
    program.run(main)
