"""What is wrong with workspaces, and what to type: for every command that shows them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from pilot import cluster, state
from pilot.session import Session
from stack.jobs import engine, workspace_world
from stack.jobs.workspace_world import Trouble, World
from stack.settings import Settings


@contextlib.contextmanager
def looking(session: Session) -> Iterator[Callable[[], World | None]]:
    """Look while the caller does something else; the world, None where the database or the engine did not answer."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(look, session.settings).result


def look(settings: Settings) -> World | None:
    """The world of the stack's workspaces, None where the database or the engine does not answer."""
    with contextlib.suppress(engine.JobError):
        return workspace_world.look(settings.site.name, cluster.known(settings.kubernetes))
    return None


@contextlib.contextmanager
def report(session: Session) -> Iterator[None]:
    """Look meanwhile, and say afterwards what is wrong."""
    with looking(session) as looked:
        yield
        world = looked()
    for line in lines(world, session.settings) if world else ():
        state.say(line)


def lines(world: World, settings: Settings) -> list[str]:
    """One line for each workspace with which something is wrong, each container and home that Coder does not know."""
    return [f"{found} -> {fix}" for found, fix in findings(world, settings)]


def findings(world: World, settings: Settings) -> list[tuple[str, str]]:
    """The same in two parts: what was found, and what fixes it."""
    by_name = _by_name(world, settings)
    return [
        *(
            (f"{each.workspace.title}: {each}", _fix(each, by_name=each.workspace.id in by_name))
            for each in workspace_world.troubles(world)
        ),
        *(
            (f"{name} is of no workspace that Coder knows", f"`docker rm --force {name}` ends it, its home stays")
            for name in workspace_world.strangers(world, settings.site.name)
        ),
        *(
            (
                f"{volume}, once the home of {title}, is of no workspace that Coder knows",
                f"`make import FROM={volume}:<folder> NAME=<workspace>` copies out of it, `docker volume rm` ends it",
            )
            for volume, title in world.strays.items()
        ),
    ]


def _by_name(world: World, settings: Settings) -> set[str]:
    """The ids of the workspaces that `make workspace NAME=…` finds, as pilot/workspace.py looks."""
    found = {
        each.name: each.id
        for username in (settings.admin.username, settings.member.username)
        for each in world.workspaces
        if each.owner == username
    }
    return set(found.values())


def _fix(trouble: Trouble, *, by_name: bool) -> str:
    if trouble.no_image:
        return "`make up` builds it"
    workspace = trouble.workspace
    if trouble.works:
        address = f", until then `make workspace NAME={workspace.name}` prints one that works"
        return f"choose Update in the dashboard{address if by_name else ''}"
    if by_name:
        return f"`make workspace NAME={workspace.name}`"
    if trouble.container_name and trouble.container == "unknown":
        return f"`docker rm --force {trouble.container_name}`, its home stays; then start it in the dashboard"
    if trouble.updates:
        return "choose Update in the dashboard"
    if trouble.container == "paused":
        return f"`docker unpause {trouble.container_name}`"
    return "start it in the dashboard" if trouble.container is None else "restart it in the dashboard"
