"""Pull the tags of the settings again, put what moved in place, and prove it; a backup is made first."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from pilot import backup, converge, prove, state
from pilot.arguments import add_stack
from pilot.session import BUILT_IMAGE_PREFIX, open_session
from stack.jobs import engine
from stack.settings import Settings

PULL_TIMEOUT_S = 30 * 60
WORKSPACE_IMAGES = "workspaceImages"


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.set_defaults(json=False)


def run(arguments: argparse.Namespace) -> int:
    session = open_session(arguments.stack, build=True)
    converge.refuse_whatever_up_refuses(session)
    tags = tags_of(session.settings)
    before = _images([tag for _, tag in tags])
    dump = backup.back_up(session)
    state.say(f"backed up to {dump}")
    for _, tag in tags:
        state.say(f"pulling {tag}")
        engine.docker("pull", "--quiet", tag, timeout_s=PULL_TIMEOUT_S)
    after = _images([tag for _, tag in tags])
    moved = {tag: was for _, tag in tags if (was := before.get(tag)) and was != after.get(tag)}
    state.say(f"moved: {', '.join(moved)}" if moved else "no tag has moved")
    code = converge.converge(session, "--refresh") or prove.run(arguments)
    if moved:
        state.say(
            f"what was here before: {_way_back(session.settings, moved)}. `make up` goes back to it; "
            f"where a newer one has changed the database, docs/runbooks.md, Upgrade Coder, tells the way, with {dump}"
        )
    return code


def tags_of(settings: Settings) -> list[tuple[str, str]]:
    """Setting and image of all that a registry has by tag: what was built here or has a digest cannot move."""
    images = [
        ("coderImage", settings.control_plane.image),
        ("postgresImage", settings.database.image),
        *((WORKSPACE_IMAGES, each) for each in settings.workspaces.images),
    ]
    return [(key, each) for key, each in images if "@" not in each and not each.startswith(BUILT_IMAGE_PREFIX)]


def _way_back(settings: Settings, moved: Mapping[str, str]) -> str:
    """The commands that set what was here before; `moved` has it by tag."""
    values = {key: moved[tag] for key, tag in tags_of(settings) if tag in moved}
    if WORKSPACE_IMAGES in values:
        # One setting for all of them, also for those that have not moved.
        values[WORKSPACE_IMAGES] = ",".join(moved.get(each, each) for each in settings.workspaces.images)
    return ", ".join(f"`pulumi config set {key} {value}`" for key, value in values.items())


def _images(tags: list[str]) -> dict[str, str]:
    """By tag, what it stands for now, so that it can be named when the tag has moved."""
    found: dict[str, str] = {}
    for each in engine.inspect(*tags):
        for tag in each.get("RepoTags") or []:
            found[tag] = next(iter(each.get("RepoDigests") or []), each["Id"])
    return found
