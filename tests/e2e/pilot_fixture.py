"""A pilot of a test's own: the program's files in a folder, with a name, port, data and PULUMI_HOME of its own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.e2e import parts
from tests.e2e.parts import CODER_IMAGE, POSTGRES_IMAGE, WORKSPACE_IMAGE

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAM = (
    "Pulumi.yaml",
    "__main__.py",
    "keeper",
    "stack",
    "terraform-template",
    "terraform-template-kubernetes",
    "workspace-image",
)
NAME_PREFIX = "pilot-test"
UP_TIMEOUT_S = 300
STACK_LABEL = "coder-pilot.stack"


def free_port() -> int:
    """A TCP port on loopback that nobody holds."""
    # Below the kernel's ephemeral range (32768 up): while a test has its pilot stopped, no outgoing connection of
    # another test may take the port.
    for port in random.sample(range(20000, 32000), k=100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("none of a hundred ports is free")


def eventually(check: Callable[[], Any], *, timeout_s: float, what: str, interval_s: float = 0.2) -> Any:
    """The first truthy answer of `check`, asked until the deadline.

    Raises:
        AssertionError: there was none; the last exception is its cause.
    """
    deadline_s = time.monotonic() + timeout_s
    last: Exception | None = None
    while time.monotonic() < deadline_s:
        try:
            if answer := check():
                return answer
        except (OSError, AssertionError, KeyError, ValueError) as error:
            last = error
        time.sleep(interval_s)
    raise AssertionError(f"not within {timeout_s:.0f} s: {what}") from last


def docker(*arguments: str, check: bool = True, stdin: str = "", timeout_s: float = 120) -> str:
    """The standard output of a `docker` command."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=False, timeout=timeout_s, input=stdin
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(kw_only=True)
class Pilot:
    """One stack in a folder of its own."""

    directory: Path
    name: str
    stack: str = "test"
    config: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return Path(self.config["dataDir"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.config['port']}"

    @property
    def state_file(self) -> Path:
        return self.directory / ".pulumi-state" / ".pulumi" / "stacks" / "coder-pilot" / f"{self.stack}.json"

    def write_config(self, **changes: str) -> None:
        """Change settings; the salt of an existing stack stays, and what is encrypted."""
        self.config.update(changes)
        file = self.directory / f"Pulumi.{self.stack}.yaml"
        old = file.read_text().splitlines() if file.exists() else []
        kept = [line for line in old if line.startswith("encryptionsalt")]
        secret = (yaml.safe_load("\n".join(old)) or {}).get("config") or {}
        everything = {key: value for key, value in secret.items() if isinstance(value, dict)}
        everything |= {f"coder-pilot:{key}": value for key, value in self.config.items()}
        # JSON is YAML.
        lines = [f"  {key}: {json.dumps(value)}" for key, value in everything.items()]
        file.write_text("\n".join(["config:", *lines, *kept]) + "\n")

    def pulumi(self, *arguments: str, check: bool = True, timeout_s: float = UP_TIMEOUT_S, **variables: str) -> str:
        """Run `pulumi` in the folder; what it printed, both streams.

        Raises:
            AssertionError: it failed, unless `check` is false.
        """
        done = subprocess.run(
            ["pulumi", *arguments, "--stack", self.stack, "--non-interactive"],
            cwd=self.directory, env={**os.environ, **self.variables, **variables}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=timeout_s,
        )  # fmt: skip
        with (self.directory / "console.log").open("a") as log:
            log.write(done.stdout)
        if check:
            assert done.returncode == 0, done.stdout
        return done.stdout

    def up(self, *arguments: str, check: bool = True) -> str:
        """`pulumi up --yes --skip-preview`."""
        return self.pulumi("up", "--yes", "--skip-preview", *arguments, check=check)

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs with the secret ones in plain text."""
        done = subprocess.run(
            ["pulumi", "stack", "output", "--json", "--show-secrets", "--stack", self.stack],
            cwd=self.directory, env={**os.environ, **self.variables}, capture_output=True, text=True, check=True,
            timeout=60,
        )  # fmt: skip
        value: dict[str, Any] = json.loads(done.stdout)
        return value

    def resources(self) -> dict[str, dict[str, Any]]:
        """The resources in the state by logical name."""
        state = json.loads(self.state_file.read_text())
        found = state["checkpoint"]["latest"].get("resources") or []
        return {each["urn"].rsplit("::", 1)[1]: each for each in found}

    def call(self, method: str, path: str, body: object = None, token: str = "") -> Any:
        """One request to Coder's API as the admin, or with `token`."""
        if not token:
            if "token" not in self.variables:
                outputs = self.outputs()
                credentials = {"email": outputs["adminEmail"], "password": outputs["adminPassword"]}
                self.variables["token"] = request(self.url, "POST", "/api/v2/users/login", credentials)["session_token"]
            token = self.variables["token"]
        return request(self.url, method, path, body, token)

    def create_workspace(self, name: str, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Create a workspace from the stack's template and wait until its agent is connected."""
        (template,) = self.call("GET", "/api/v2/templates")
        values = [{"name": key, "value": value} for key, value in (parameters or {}).items()]
        made = self.call(
            "POST", f"/api/v2/organizations/{template['organization_id']}/members/me/workspaces",
            {"name": name, "template_id": template["id"], "rich_parameter_values": values},
        )  # fmt: skip
        return self.wait_workspace(made["id"])

    def workspace(self, workspace_id: str) -> dict[str, Any]:
        """The workspace as Coder tells it."""
        found: dict[str, Any] = self.call("GET", f"/api/v2/workspaces/{workspace_id}")
        return found

    def wait_workspace(self, workspace_id: str, timeout_s: float = 120) -> dict[str, Any]:
        """Wait until the workspace's agent is connected and its apps with a health check are healthy."""

        def ready() -> dict[str, Any] | None:
            found = self.workspace(workspace_id)
            assert found["latest_build"]["job"]["status"] != "failed", found["latest_build"]["job"]["error"]
            agents = [agent for each in found["latest_build"]["resources"] for agent in each.get("agents") or []]
            apps = [app for agent in agents for app in agent["apps"]]
            connected = bool(agents) and all(agent["status"] == "connected" for agent in agents)
            return found if connected and all(app["health"] in ("healthy", "disabled") for app in apps) else None

        found: dict[str, Any] = eventually(ready, timeout_s=timeout_s, what=f"workspace {workspace_id} ready")
        return found

    def transition(self, workspace_id: str, transition: str, timeout_s: float = 120, **more: str) -> dict[str, Any]:
        """Build a workspace's "start", "stop" or "delete", with `more` in the request, and wait for the build."""
        build = self.call("POST", f"/api/v2/workspaces/{workspace_id}/builds", {"transition": transition, **more})

        def done() -> dict[str, Any] | None:
            found: dict[str, Any] = self.call("GET", f"/api/v2/workspacebuilds/{build['id']}")
            assert found["job"]["status"] != "failed", found["job"]["error"]
            return found if found["job"]["status"] == "succeeded" else None

        answer: dict[str, Any] = eventually(done, timeout_s=timeout_s, what=f"{transition} of {workspace_id}")
        return answer

    def remove(self) -> None:
        """Take away everything that carries this pilot's label, whatever state it is in."""
        sweep(self.name)
        # A `pulumi` that a test killed could not end the plugins that it had started.
        for process in self.plugins():
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)

    def plugins(self) -> list[int]:
        """The processes of this pilot's plugins."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cmdline").read_bytes().startswith(f"{self.directory}/home/".encode()):
                    found.append(int(process.name))
        return found


def request(url: str, method: str, path: str, body: object = None, token: str = "") -> Any:
    """One request to a Coder server.

    Raises:
        urllib.error.HTTPError: the server refused.
    """
    sent = urllib.request.Request(  # noqa: S310  http on loopback
        f"{url}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **({"Coder-Session-Token": token} if token else {})},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(sent, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def make_pilot(directory: Path, number: int, **config: str) -> Pilot:
    """Lay a pilot into `directory`; nothing runs yet."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in PROGRAM:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, directory / name)
    (directory / ".pulumi-state").mkdir()
    parts.lay(directory, directory / "home")
    pilot = Pilot(
        directory=directory,
        name=f"{NAME_PREFIX}-{os.getpid()}-{number}",
        variables={
            **parts.variables(),
            "PULUMI_HOME": str(directory / "home"),
            "PULUMI_CONFIG_PASSPHRASE": "a passphrase of the tests",
        },
    )
    pilot.write_config(
        **{
            "name": pilot.name,
            "port": str(free_port()),
            "dataDir": str(directory / "data"),
            "coderImage": CODER_IMAGE,
            "postgresImage": POSTGRES_IMAGE,
            "workspaceImages": WORKSPACE_IMAGE,
            "tailnet": "false",
            # Whoever else uses the machine must not decide which workspaces of a test stop.
            "memoryReserve": "0",
            "standaloneContainer": "",
            **config,
        }
    )
    pilot.pulumi("stack", "init")
    return pilot


def sweep(name: str | None = None) -> None:
    """Remove what a pilot of that name left on the engine; without a name, what dead test runs left."""
    kinds = {
        "container": ("ps", "--all"), "volume": ("volume", "ls"),
        "network": ("network", "ls"), "image": ("image", "ls"),
    }  # fmt: skip
    for kind, listing in kinds.items():
        field = "Name" if kind == "volume" else "ID"
        shown = docker(*listing, "--filter", f"label={STACK_LABEL}", "--format", f"{{{{.{field}}}}}")
        for identifier in set(shown.splitlines()):
            config = "Config." if kind in ("container", "image") else ""
            label = f'{{{{index .{config}Labels "{STACK_LABEL}"}}}}'
            owner = docker(kind, "inspect", "--format", label, identifier, check=False)
            if owner == name or (name is None and _is_orphan(owner)):
                force = ["--force"] if kind != "network" else []
                docker(*([kind, "rm", *force, identifier]), check=False)


def _is_orphan(owner: str) -> bool:
    parts = owner.removeprefix(f"{NAME_PREFIX}-").split("-")
    return owner.startswith(f"{NAME_PREFIX}-") and not Path(f"/proc/{parts[0]}").exists()
