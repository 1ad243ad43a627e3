"""Pull the tags of the settings again, put what moved in place, and prove it; a backup is made first."""

from __future__ import annotations

import argparse

from pilot import backup, converge, prove, state
from pilot.arguments import add_stack
from pilot.session import BUILT_IMAGE_PREFIX, open_session
from stack.jobs import engine
from stack.settings import Settings

PULL_TIMEOUT_S = 30 * 60


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
    moved = [(key, tag) for key, tag in tags if before.get(tag) and before[tag] != after.get(tag)]
    state.say(f"moved: {', '.join(tag for _, tag in moved)}" if moved else "no tag has moved")
    code = converge.converge(session, "--refresh") or prove.run(arguments)
    if moved:
        before_it = ", ".join(f"`pulumi config set {key} {before[tag]}`" for key, tag in moved)
        state.say(
            f"what was here before: {before_it}. `make up` goes back to it; where a newer one "
            f"has changed the database, docs/runbooks.md, Upgrade Coder, tells the way, with {dump}"
        )
    return code


def tags_of(settings: Settings) -> list[tuple[str, str]]:
    """Setting and image of all that a registry has by tag: what was built here or has a digest cannot move."""
    images = [
        ("coderImage", settings.control_plane.image),
        ("postgresImage", settings.database.image),
        *(("workspaceImages", each) for each in settings.workspaces.images),
    ]
    return [(key, each) for key, each in images if "@" not in each and not each.startswith(BUILT_IMAGE_PREFIX)]


def _images(tags: list[str]) -> dict[str, str]:
    """By tag, what it stands for now, so that it can be named when the tag has moved."""
    found: dict[str, str] = {}
    for each in engine.inspect(*tags):
        for tag in each.get("RepoTags") or []:
            found[tag] = next(iter(each.get("RepoDigests") or []), each["Id"])
    return found
