"""Show the stack: its containers with health and memory, every workspace with its state, its deadline and what
Claude does in it, what Coder reports of its own health, and the host's memory with who would be stopped for it."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keeper import census
from keeper.engine import Engine, EngineError
from pilot import drift, health, keeper, proof, world
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.server import admin, agents
from pilot.session import Session, open_session
from stack.jobs import coder, disk, engine
from stack.jobs.coder import Api
from stack.jobs.names import KUBERNETES_TEMPLATE, STACK_LABEL, WORKSPACE_LABEL, home_volume
from stack.jobs.workspace_world import World
from stack.settings import Site

DOCKER_TIMEOUT_S = 30
# Docker reads every file of every volume.
HOMES_TIMEOUT_S = 10 * 60


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("--homes", action="store_true", help="measure the homes, the parked ones too; may take a while")


def run(arguments: argparse.Namespace) -> int:
    session = open_session(arguments.stack)
    with world.looking(session) as looked:
        return _show(session, looked, homes=arguments.homes)


def _show(session: Session, looked: Callable[[], World | None], *, homes: bool) -> int:
    containers = _containers(session.settings.site.name)
    memory = _memory([each["ID"] for each in containers if each["State"] == "running"])
    labels = {each["ID"]: dict(pair.partition("=")[::2] for pair in each["Labels"].split(",")) for each in containers}
    of_workspace = {labels[each["ID"]].get(WORKSPACE_LABEL): each for each in containers}
    servers = [each for each in containers if WORKSPACE_LABEL not in labels[each["ID"]]]
    if not servers:
        print(f"the stack {session.stack} has no containers: run `make up`")
        return 1
    rows = [[each["Names"], each["Status"], memory.get(each["ID"], "")] for each in sorted(servers, key=_name)]
    print(table(["CONTAINER", "STATE", "MEMORY"], rows))
    claude: dict[str, str] = {}
    with contextlib.suppress(EngineError):
        ours = Engine(host=session.settings.site.docker_host)
        claude = census.claude(ours, census.running(ours, session.settings.site.name))
    try:
        with admin(session) as api:
            workspaces, troubles = coder.workspaces(api), health.troubles(api)
            memory_lines = keeper.memory_lines(session.settings, api, claude)
            claude |= census.reported(workspaces, datetime.datetime.now(datetime.UTC))
            proved = _proved(session.settings.site, api)
    except PilotError as error:
        print(f"\nworkspaces cannot be told: {error}")
        return 1
    sizes = _home_sizes() if homes else {}
    rows = [
        [
            f"{each['owner_name']}/{each['name']}",
            _state(each),
            deadline(each["latest_build"], datetime.datetime.now(datetime.UTC)),
            _in_use(each, of_workspace, memory),
            claude.get(each["id"], ""),
            *([_home(each, sizes)] if homes else []),
        ]
        for each in sorted(workspaces, key=lambda each: str(each["name"]))
    ]
    print()
    heads = ["WORKSPACE", "STATE", "STOPS", "MEMORY", "CLAUDE", *(["HOME"] if homes else [])]
    print(table(heads, rows) if rows else "no workspaces: run `make workspace NAME=demo`")
    print()
    for line in troubles or ["ok"]:
        print(f"Coder's health: {line}")
    print(proved)
    print("\n".join(memory_lines))
    print(f"Keeper: {keeper.work_line(session.settings.site)}")
    for line in keeper.troubles(session.settings):
        print(f"Keeper: {line}")
    different = drift.differences(session.settings, session.stack)
    if different:
        print("\nrun `make up`, which puts right:")
        print("\n".join(f"  {each}" for each in different))
    found = looked()
    wrong = world.lines(found, session.settings) if found else []
    if wrong:
        print("\n" + "\n".join(wrong))
    if told := disk.full(session.settings.site.data_dir):
        print(f"\n{told}")
    return 0


def _state(workspace: Mapping[str, Any]) -> str:
    """Coder's word for it, and whether a start script failed, such as the clone."""
    status = str(workspace["latest_build"]["status"])
    failed = any(agent["lifecycle_state"] == "start_error" for agent in agents(workspace))
    return f"{status}, a start script failed" if failed and status == "running" else status


def _in_use(
    workspace: Mapping[str, Any], containers: Mapping[str | None, Mapping[str, str]], memory: Mapping[str, str]
) -> str:
    """The memory that a workspace uses; where it is, if that is not this machine."""
    if workspace["template_name"] == KUBERNETES_TEMPLATE:
        return "on Kubernetes"
    container = containers.get(workspace["id"])
    return memory.get(container["ID"], "") if container else ""


def _home(workspace: Mapping[str, Any], sizes: Mapping[str, str]) -> str:
    elsewhere = workspace["template_name"] == KUBERNETES_TEMPLATE
    return "on Kubernetes" if elsewhere else sizes.get(home_volume(workspace["id"]), "none")


def _proved(site: Site, api: Api) -> str:
    try:
        return proof.told(site, proof.servers(site, api))
    except engine.JobError as error:
        return f"whether this is proved cannot be told: {error}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows in columns, each as wide as its widest entry."""
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    lines = ("  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)) for row in [heads, *rows])
    return "\n".join(line.rstrip() for line in lines)


def deadline(build: Mapping[str, Any], now: datetime.datetime) -> str:
    """When a workspace is stopped, as "in 1 h 59 min"; "" for one that has no deadline, or does not run."""
    stamp = build.get("deadline")
    # The build of a stop may keep the deadline of the start.
    if not stamp or build.get("transition") != "start":
        return ""
    left_min = int((datetime.datetime.fromisoformat(stamp) - now).total_seconds() // 60)
    if left_min < 0:
        return "now"
    return f"in {left_min // 60} h {left_min % 60:02} min" if left_min >= 60 else f"in {left_min} min"


def _containers(name: str) -> list[dict[str, str]]:
    return _docker("ps", "--all", "--filter", f"label={STACK_LABEL}={name}")


def _memory(identifiers: Sequence[str]) -> dict[str, str]:
    if not identifiers:
        return {}
    try:
        shown = _docker("stats", "--no-stream", *identifiers)
    except PilotError:
        # One that ends meanwhile, as a workspace at its deadline does, spoils the answer for all.
        return {}
    return {each["ID"]: each["MemUsage"] for each in shown}


def _home_sizes() -> dict[str, str]:
    """The size of every volume by its name, as Docker tells it."""
    (volumes,) = _docker("system", "df", "--verbose", form="{{json .Volumes}}", timeout_s=HOMES_TIMEOUT_S)
    return {each["Name"]: each["Size"] for each in volumes}


def _docker(*arguments: str, form: str = "{{json .}}", timeout_s: float = DOCKER_TIMEOUT_S) -> list[Any]:
    try:
        done = subprocess.run(
            ["docker", *arguments, "--format", form],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise PilotError(f"`docker {arguments[0]}` did not end within {timeout_s:.0f} s; run `make doctor`") from None
    except FileNotFoundError:
        raise PilotError("there is no `docker` on PATH: run `python3 -m toolchain engine --start`") from None
    if done.returncode != 0:
        raise PilotError(f"`docker {arguments[0]}` failed: {done.stderr.strip()}; run `make doctor`")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _name(container: dict[str, str]) -> str:
    return container["Names"]
