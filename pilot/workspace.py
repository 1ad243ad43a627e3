"""Create a workspace from one of the stack's templates, or start it where it exists, and print its code-server URL."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

from pilot import editor, world
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.server import acting_for, admin, agents, member
from pilot.session import Session, open_session
from stack.jobs import engine, pilot_file
from stack.jobs.coder import Api, ApiError
from stack.jobs.workspace_world import Trouble, Workspace, World, troubles

REPOSITORY = "git_repository"
READY_TIMEOUT_S = 10 * 60
POLL_INTERVAL_S = 0.5
LOG_TAIL_LINES = 15
EDITOR_TIMEOUT_S = 60
SCRIPTS_TIMEOUT_S = 60
"""A clone may take half an hour, and the editor shows it meanwhile."""
BUILDING = ("pending", "running")

# Coder's own rule for names.
_NAME = re.compile(r"[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*")
NAME_MAX = 32


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("name", help="the workspace's name: letters, digits and single hyphens")
    parser.add_argument("--repo", default="", help="a Git repository to clone at the first start")
    parser.add_argument(
        "--template", default="", help="the template of a new one, as code-server-kubernetes; default: this machine's"
    )
    parser.add_argument("--new-home", action="store_true", help="make a new, empty home where the old one is gone")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.name:
        raise PilotError("the workspace has no name: run `make workspace NAME=demo`")
    if not _NAME.fullmatch(arguments.name) or len(arguments.name) > NAME_MAX:
        raise PilotError(
            f'"{arguments.name}" is no name for a workspace: give up to {NAME_MAX} letters, digits and single hyphens, '
            "`make workspace NAME=demo`"
        )
    session = open_session(arguments.stack)
    with world.looking(session) as looked, admin(session) as of_admin, _own(session, of_admin) as own:
        api, workspace = _find(own, of_admin, arguments.name)
        if workspace is None:
            member(session)
            called = arguments.template or pilot_file.template_name(session.settings.site.data_dir)
            workspace = create(api, arguments.name, called, arguments.repo)
            _say(f"{arguments.name}: creating")
        else:
            if arguments.repo:
                _say(f"{arguments.name} exists, REPO is not looked at: change the repository in its settings")
            if arguments.template not in ("", workspace["template_name"]):
                raise PilotError(
                    f"{arguments.name} is of the template {workspace['template_name']}, and no workspace changes that: "
                    "leave TEMPLATE out to start it, or choose another name"
                )
            if _is_ending(workspace):
                workspace = _ended(api, workspace)
                with world.looking(session) as looked:
                    pass
            found = looked()
            trouble = _trouble(found, workspace) if found else None
            if trouble and _repaired(trouble):
                _wait_for_editor(api, workspace)
            elif trouble and not trouble.works:
                _start_again(api, trouble, new_home=arguments.new_home)
            else:
                _start(api, workspace)
        ready = _wait(api, workspace["id"])
        failed = _failed_scripts(api, ready)
        for line in failed:
            _say(line)
        print(editor.address(api, ready, session.outputs()["url"]))
    return 1 if failed else 0


def _own(session: Session, of_admin: Api) -> contextlib.AbstractContextManager[Api | None]:
    """Coder's API as the account for every day; None as long as no `up` made that."""
    account = pilot_file.member(session.settings.site.data_dir)
    return acting_for(account, of_admin) if account else contextlib.nullcontext()


def _find(own: Api | None, of_admin: Api, name: str) -> tuple[Api, dict[str, Any] | None]:
    """One's own workspace of that name, else the administrator's: before there were two accounts, all were his.

    With the API of whose it is, or is to be.
    """
    for api in (*([own] if own else []), of_admin):
        try:
            return api, _record(api.call("GET", f"/api/v2/users/me/workspace/{name}"))
        except ApiError as error:
            if error.status != 404:
                raise
    return own or of_admin, None


def create(api: Api, name: str, template: str, repository: str = "") -> dict[str, Any]:
    """Ask for a workspace from the template of that name, and wait for nothing.

    Raises:
        PilotError: there is no template, or it refuses the repository.
        ApiError: Coder refused.
    """
    templates = api.call("GET", "/api/v2/templates")
    found = [each for each in templates if each["name"] == template] if isinstance(templates, list) else []
    if not found:
        there = ", ".join(sorted(each["name"] for each in templates)) if isinstance(templates, list) else ""
        others = f", it has {there}" if there else ""
        raise PilotError(f"this Coder has no template {template}{others}: run `make up`")
    if repository:
        _check_repository(api, found[0]["active_version_id"], repository)
    parameters = [{"name": REPOSITORY, "value": repository}] if repository else []
    path = f"/api/v2/organizations/{found[0]['organization_id']}/members/me/workspaces"
    wanted = {"name": name, "template_id": found[0]["id"], "rich_parameter_values": parameters}
    return _record(api.call("POST", path, wanted))


def _check_repository(api: Api, version: str, repository: str) -> None:
    """Hold the address to the template's own rule: Coder's refusal would repeat the address, with a password in it.

    Raises:
        PilotError: it breaks the rule; without the address.
    """
    parameters = api.call("GET", f"/api/v2/templateversions/{version}/rich-parameters")
    for each in parameters if isinstance(parameters, list) else []:
        if each["name"] == REPOSITORY and not re.search(each["validation_regex"], repository):
            raise PilotError(f"REPO: {each['validation_error']}")


def _is_ending(workspace: Mapping[str, Any]) -> bool:
    build = workspace["latest_build"]
    return build["transition"] != "start" and build["job"]["status"] in BUILDING


def _ended(api: Api, workspace: Mapping[str, Any]) -> dict[str, Any]:
    """The workspace when its stop has ended."""
    _say(f"{workspace['name']}: waiting for its {workspace['latest_build']['transition']} to end")
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while True:
        now = _record(api.call("GET", f"/api/v2/workspaces/{workspace['id']}"))
        if not _is_ending(now) or time.monotonic() > deadline_s:
            return now
        time.sleep(POLL_INTERVAL_S)


def _start(api: Api, workspace: Mapping[str, Any]) -> None:
    build = workspace["latest_build"]
    if build["transition"] == "start" and build["job"]["status"] in (*BUILDING, "succeeded"):
        return
    _say(f"{workspace['name']}: starting")
    api.call("POST", f"/api/v2/workspaces/{workspace['id']}/builds", {"transition": "start"})


def _trouble(found: World, workspace: Mapping[str, Any]) -> Trouble | None:
    """What is wrong with the workspace; None where somebody's build got in between."""
    of_build = {each.workspace.build: each for each in troubles(found)}
    return of_build.get(workspace["latest_build"]["id"])


def _repaired(trouble: Trouble) -> bool:
    """Put right what needs no start: what ran in the workspace goes on."""
    workspace, container = trouble.workspace, trouble.container_name
    if workspace.own is None or trouble.version:
        return False
    if trouble.container == "paused":
        _say(f"{workspace.name}: {trouble}: resuming it")
        engine.docker("unpause", container)
    elif trouble.container == "cut off":
        _say(f"{workspace.name}: {trouble}: connecting it")
        engine.docker("network", "connect", workspace.own.network, container)
    else:
        return False
    return True


def _start_again(api: Api, trouble: Trouble, *, new_home: bool) -> None:
    """Start a workspace with which something is wrong, in one build.

    Raises:
        PilotError: it would fail, or begin with an empty home that nobody agreed to.
    """
    workspace = trouble.workspace
    if trouble.no_image:
        raise PilotError(f"{workspace.name}: {trouble}: run `make up`, which builds it")
    if trouble.no_home and not new_home:
        how = "" if trouble.on_cluster else " (`docker system prune --volumes`?)"
        raise PilotError(
            f"{workspace.name}: {trouble}{how}. Put your copy of it back, docs/runbooks.md says how; without one, "
            f"`make workspace NAME={workspace.name} NEW_HOME=yes` starts with a new, empty home"
        )
    _say(f"{workspace.name}: {trouble}: starting it{' with the active version' if trouble.updates else ''}")
    wanted: dict[str, Any] = {"transition": "start"}
    if trouble.updates and workspace.active is not None:
        wanted["template_version_id"] = workspace.active.id
        if changed := _out_of_bounds(api, workspace, workspace.active.id):
            wanted["rich_parameter_values"] = changed
    if trouble.container == "unknown":
        # Its name is the one that the new container will have.
        engine.remove_container(trouble.container_name)
    api.call("POST", f"/api/v2/workspaces/{workspace.id}/builds", wanted)


def _out_of_bounds(api: Api, workspace: Workspace, version: str) -> list[dict[str, str]]:
    """Parameters of the workspace that this version refuses, such as a limit above a new cap: with what it takes."""
    offered = api.call("GET", f"/api/v2/templateversions/{version}/rich-parameters")
    before = api.call("GET", f"/api/v2/workspacebuilds/{workspace.build}/parameters")
    values = {each["name"]: each["value"] for each in before} if isinstance(before, list) else {}
    changed = []
    for each in offered if isinstance(offered, list) else []:
        value = values.get(each["name"])
        allowed = value if value is None else _allowed(each, value)
        if allowed is not None and allowed != value:
            _say(f"{workspace.name}: {each['display_name']}: {value} is no longer allowed, it is {allowed} now")
            changed.append({"name": each["name"], "value": allowed})
    return changed


def _allowed(parameter: Mapping[str, Any], value: str) -> str:
    """The value, or what the parameter has in its place: the default of a choice, the nearest end of a range."""
    if options := [each["value"] for each in parameter["options"]]:
        return value if value in options else str(parameter["default_value"])
    if parameter["type"] != "number":
        return value
    low, high = parameter.get("validation_min"), parameter.get("validation_max")
    if high is not None and float(value) > high:
        return str(high)
    return str(low) if low is not None and float(value) < low else value


def _wait_for_editor(api: Api, workspace: Mapping[str, Any]) -> None:
    """Wait until the editor answers through Coder, whose record may be from before; at most EDITOR_TIMEOUT_S."""
    deadline_s = time.monotonic() + EDITOR_TIMEOUT_S
    while time.monotonic() < deadline_s and not editor.answers(api, workspace):
        time.sleep(POLL_INTERVAL_S)


def _wait(api: Api, workspace_id: str) -> dict[str, Any]:
    """Wait until code-server answers, with a line for every step.

    Raises:
        PilotError: the build failed, with the end of its log; or READY_TIMEOUT_S went by.
    """
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    said = ""
    while time.monotonic() < deadline_s:
        workspace = _record(api.call("GET", f"/api/v2/workspaces/{workspace_id}"))
        step = _step(api, workspace)
        if step == "ready":
            return workspace
        if step != said:
            _say(f"{workspace['name']}: {step}")
            said = step
        time.sleep(POLL_INTERVAL_S)
    raise PilotError(f"{said} for {READY_TIMEOUT_S // 60} minutes; see the workspace's log in the dashboard")


def _step(api: Api, workspace: dict[str, Any]) -> str:
    build = workspace["latest_build"]
    if build["job"]["status"] in ("failed", "canceled"):
        logs = api.call("GET", f"/api/v2/workspacebuilds/{build['id']}/logs")
        lines = [str(each["output"]) for each in logs] if isinstance(logs, list) else []
        tail = "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])
        raise PilotError(f"the build of {workspace['name']} failed: {build['job'].get('error')}\n{tail}")
    if build["job"]["status"] != "succeeded":
        return "building the container"
    if not all(agent["status"] == "connected" for agent in agents(workspace)):
        return "waiting for the agent"
    apps = [app for agent in agents(workspace) for app in agent["apps"] if app["slug"] == editor.APP]
    healthy = apps and all(app["health"] == "healthy" for app in apps)
    return "ready" if healthy and editor.answers(api, workspace) else "waiting for code-server"


def _failed_scripts(api: Api, workspace: Mapping[str, Any]) -> list[str]:
    """What a start script said last that failed, such as the clone; [] where all of them are well.

    Waits for them, but not for a clone that takes longer than SCRIPTS_TIMEOUT_S.
    """
    deadline_s = time.monotonic() + SCRIPTS_TIMEOUT_S
    said = False
    while any(agent["lifecycle_state"] in ("created", "starting") for agent in agents(workspace)):
        if time.monotonic() > deadline_s:
            _say(f"{workspace['name']}: its scripts still run, the clone for one; the workspace's page has their log")
            return []
        if not said:
            _say(f"{workspace['name']}: waiting for its scripts")
            said = True
        time.sleep(POLL_INTERVAL_S)
        workspace = _record(api.call("GET", f"/api/v2/workspaces/{workspace['id']}"))
    failed = [agent for agent in agents(workspace) if agent["lifecycle_state"] == "start_error"]
    if not failed:
        return []
    logs = [api.call("GET", f"/api/v2/workspaceagents/{agent['id']}/logs") for agent in failed]
    lines = [str(each["output"]) for log in logs if isinstance(log, list) for each in log if each["level"] == "error"]
    return [
        f"{workspace['name']}: it runs, but one of its start scripts failed:",
        *(f"  | {line}" for line in lines[-LOG_TAIL_LINES:]),
    ]


def _record(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise PilotError("Coder answered with something else than an object")
    return answer


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
