"""Runs the true `__main__.py` under Pulumi's mocks and keeps every registration, options included."""

from __future__ import annotations

import asyncio
import gc
import json
import runpy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime import mocks, rpc, stack
from pulumi.runtime.settings import SETTINGS, reset_options, set_root_resource

CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = "coder-pilot"

LOCAL: Mapping[str, str] = {
    "dataDir": "/srv/pilot",
    "coderImage": "example/coder:v1",
    "postgresImage": "example/postgres:17",
    "workspaceImages": "example/workspace:1",
    "tailnet": "false",
    # Only its group is read, and it is there also where Docker is stopped.
    "dockerSocket": "/dev/null",
}

# What the jobs would print; anything that looks at them is under test, they are not.
GENERATIONS = {"token": 1, "keeper-token": 1, "template-record": 0, "kubernetes-template-record": 0, "member": 0}
ALIVE = {"answers": True, "generations": GENERATIONS, "differences": [], "problem": None}
WORLD = {
    "generations": {}, "differences": [], "paused": [], "stopped": [], "coder_started_at": "", "joined": [],
    "to_do": False, "problem": None,
}  # fmt: skip
TAILNET = {"url": "https://framework.example.ts.net", "missing": [], "note": "sign in again"}
RECORD = json.dumps({"incomplete": []})
TOKEN = "token-of-the-admin"  # what the mock of the job prints
KEEPERS_TOKEN = "token-of-the-keeper"


def defaults() -> dict[str, str]:
    """The defaults of Pulumi.yaml."""
    project = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())
    return {key: entry["default"] for key, entry in project["config"].items()}


@dataclass(kw_only=True)
class Registration:
    """One resource as the engine would see it; secrets are unwrapped in `inputs` and named in `secrets`."""

    type: str
    name: str
    inputs: dict[str, Any]
    secrets: set[str]
    request: Any


@dataclass
class Declared:
    """Everything that one run of the program declared and exported."""

    resources: list[Registration] = field(default_factory=list)
    invokes: list[dict[str, Any]] = field(default_factory=list)
    exports: dict[str, Any] = field(default_factory=dict)

    def of(self, type_: str) -> list[Registration]:
        """The resources of a type."""
        return [each for each in self.resources if each.type == type_]

    def one(self, name: str) -> Registration:
        """The resource with a logical name; components are none."""
        (found,) = [each for each in self.resources if each.name == name and each.request.custom]
        return found


def is_secret(value: object) -> bool:
    """Whether `value` is Pulumi's wrapping of a secret."""
    return isinstance(value, dict) and value.get(rpc._special_sig_key) == rpc._special_secret_sig


def _plain(value: Any) -> Any:
    if is_secret(value):
        return _plain(value["value"])
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _secret_paths(value: Any, path: str) -> Iterator[str]:
    if is_secret(value):
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _secret_paths(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            yield from _secret_paths(item, path)


class _Mocks(mocks.Mocks):
    def __init__(
        self,
        declared: Declared,
        alive: Mapping[str, object],
        tailnet: Mapping[str, object],
        world: Mapping[str, object],
    ) -> None:
        self.declared, self.alive, self.tailnet, self.world = declared, alive, tailnet, world

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        outputs: dict[str, Any] = dict(args.inputs)
        if args.typ == "random:index/randomPassword:RandomPassword":
            outputs["result"] = {
                rpc._special_sig_key: rpc._special_secret_sig, "value": f"password-of-{args.name}",
            }  # fmt: skip
        if args.typ == "docker:index/remoteImage:RemoteImage":
            outputs["imageId"] = f"sha256:{args.name}"
        if args.typ == "command:local:Command":
            printed = {
                "admin-account": TOKEN,
                "keeper-token": KEEPERS_TOKEN,
                "serve": json.dumps(TAILNET),
                "workspace-image-record": RECORD,
                "kubernetes-secrets": "",
            }
            outputs["stdout"] = printed.get(args.name, "{}")
        return f"{args.name}-id", outputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        self.declared.invokes.append(args.args)
        answer: Mapping[str, object] = self.alive
        if "stack.jobs.serve" in args.args["command"]:
            answer = self.tailnet
        elif "stack.jobs.workspace_images" in args.args["command"]:
            answer = dict.fromkeys(json.loads(args.args["environment"]["BASES"]), 1)
        elif "stack.jobs.world" in args.args["command"]:
            answer = self.world
        return {"stdout": json.dumps(answer), **args.args}, []


class _Monitor(mocks.MockMonitor):
    def RegisterResource(self, request: Any) -> Any:  # noqa: N802  gRPC's name
        inputs = rpc.deserialize_properties(request.object)
        declared = self.mocks.declared  # type: ignore[attr-defined]
        declared.resources.append(
            Registration(
                type=request.type,
                name=request.name,
                inputs=_plain(inputs),
                secrets=set(_secret_paths(inputs, "")),
                request=request,
            )
        )
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802  gRPC's name
        if request.urn.split("::")[-2].endswith("pulumi:pulumi:Stack"):
            self.mocks.declared.exports = rpc.deserialize_properties(request.outputs)  # type: ignore[attr-defined]
        return super().RegisterResourceOutputs(request)


def declare(
    config: Mapping[str, str],
    *,
    alive: Mapping[str, object] = ALIVE,
    tailnet: Mapping[str, object] = TAILNET,
    world: Mapping[str, object] = WORLD,
    preview: bool = False,
    secrets: tuple[str, ...] = (),
    into: Declared | None = None,
) -> Declared:
    """Run the program with `config` over the defaults of Pulumi.yaml; where it is refused, `into` has what it began."""
    declared = Declared() if into is None else into
    recorder = _Mocks(declared, alive, tailnet, world)
    # Whatever an earlier run left in Pulumi would be taken for part of this one.
    reset_options()
    SETTINGS.rpc_manager.clear()
    SETTINGS.outputs.clear()
    asyncio.set_event_loop(asyncio.new_event_loop())
    values = {f"{PROJECT}:{key}": value for key, value in {**defaults(), **config}.items()}
    pulumi.runtime.set_all_config(values, [f"{PROJECT}:{key}" for key in secrets])
    pulumi.runtime.set_mocks(recorder, project=PROJECT, stack="test", preview=preview, monitor=_Monitor(recorder))
    # `set_mocks` made a root stack without a program; ours makes its own, with exports.
    set_root_resource(None)  # type: ignore[arg-type]

    def run() -> None:
        runpy.run_path(str(CHECKOUT / "__main__.py"), run_name="__main__")

    loop = asyncio.get_event_loop()
    # A refusal reaches everything that waits for the part; it is raised here once, and that is enough.
    loop.set_exception_handler(lambda *_: None)
    try:
        loop.run_until_complete(stack.run_in_stack(run))
    finally:
        # What waits for a part that was refused waits forever, and would be complained of when the tests end.
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        # Now and not at some later time: CPython 3.11 fails an `ast.parse` in which a coroutine is finalised
        # ("AST constructor recursion depth mismatch").
        del pending
        gc.collect()
    return declared
