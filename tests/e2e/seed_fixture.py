"""The compose pilot with what its owner has in it: templates in the shape of Coder's own Docker example, workspaces."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.compose_fixture import ComposePilot
from tests.e2e.parts import POSTGRES_IMAGE, WORKSPACE_IMAGE
from tests.e2e.pilot_fixture import docker, eventually, request
from tests.e2e.retirement_fixture import checksum

OWNER = {"email": "me@framework.local", "username": "me", "password": "Seeds-0wn-passw0rd!", "trial": False}
BUILD_TIMEOUT_S = 90

TEMPLATE = """
terraform {
  required_providers {
    coder  = { source = "coder/coder" }
    docker = { source = "kreuzwerker/docker" }
  }
}
data "coder_workspace" "me" {}
resource "coder_agent" "dev" {
  arch = "amd64"
  os   = "linux"
}
resource "coder_app" "editor" {
  agent_id = coder_agent.dev.id
  slug     = "editor"
  url      = "http://localhost:13337"
}
resource "docker_volume" "home_volume" {
  name = "coder-${data.coder_workspace.me.id}-home"
  lifecycle { ignore_changes = all }
  labels {
    label = "coder.workspace_name_at_creation"
    value = data.coder_workspace.me.name
  }
}
resource "docker_container" "workspace" {
  count      = data.coder_workspace.me.start_count
  image      = "IMAGE"
  name       = "PREFIX-${lower(data.coder_workspace.me.name)}"
  entrypoint = ["sleep", "infinity"]
  env        = ["CODER_AGENT_TOKEN=${coder_agent.dev.token}"]
  volumes {
    container_path = "/home/coder"
    volume_name    = docker_volume.home_volume.name
  }
}
"""


@dataclass(kw_only=True)
class Seed:
    """A compose pilot that runs, with its owner signed in."""

    compose: ComposePilot
    token: str = ""
    workspaces: list[str] = field(default_factory=list)
    furnished: list[str] = field(default_factory=list)
    """Those with files in their homes."""

    @classmethod
    def started(cls, compose: ComposePilot) -> Seed:
        """Start it and give it an owner."""
        compose.up()
        seed = cls(compose=compose)
        seed.call("POST", "/api/v2/users/first", {**OWNER, "name": ""})
        session = {key: OWNER[key] for key in ("email", "password")}
        seed.token = seed.call("POST", "/api/v2/users/login", session)["session_token"]
        return seed

    @property
    def prefix(self) -> str:
        """What the names of its workspaces' containers begin with."""
        return f"{self.compose.stack}-seed"

    def call(self, method: str, path: str, body: object = None) -> Any:
        return request(self.compose.url, method, path, body, self.token)

    def push(self, text: str = TEMPLATE, template: str = "") -> str:
        """Push a template, or a version of one that is made the active one; the template's id."""
        (organization,) = self.call("GET", "/api/v2/users/me/organizations")
        base = f"/api/v2/organizations/{organization['id']}"
        version = self.call("POST", f"{base}/templateversions", {
            "storage_method": "file", "file_id": self._upload(text), "provisioner": "terraform",
            **({"template_id": template} if template else {}),
        })  # fmt: skip
        self._succeeds(f"/api/v2/templateversions/{version['id']}")
        if template:
            self.call("PATCH", f"/api/v2/templates/{template}/versions", {"id": version["id"]})
            return template
        return str(self.call("POST", f"{base}/templates", {
            "name": "code-server", "template_version_id": version["id"]})["id"])  # fmt: skip

    def workspace(self, template: str, name: str, *, succeeds: bool = True) -> str:
        """A new running workspace, or one whose first build fails; its id."""
        (organization,) = self.call("GET", "/api/v2/users/me/organizations")
        base = f"/api/v2/organizations/{organization['id']}"
        made = self.call("POST", f"{base}/members/me/workspaces", {"name": name, "template_id": template})
        self.workspaces.append(made["id"])
        self._ends(f"/api/v2/workspacebuilds/{made['latest_build']['id']}", "succeeded" if succeeds else "failed")
        return str(made["id"])

    def furnish(self, name: str) -> None:
        """Put files into the home of a running workspace."""
        found = self.call("GET", f"/api/v2/users/me/workspace/{name}")
        self.furnished.append(found["id"])
        script = "mkdir -p ~/kept/deep; echo marker >~/kept/marker; head -c 100000 /dev/urandom >~/kept/deep/random"
        docker("exec", f"{self.prefix}-{name}", "sh", "-c", f"HOME=/home/coder; {script}")

    def stop(self, workspace: str) -> None:
        build = self.call("POST", f"/api/v2/workspaces/{workspace}/builds", {"transition": "stop"})
        self._succeeds(f"/api/v2/workspacebuilds/{build['id']}")

    def homes(self) -> list[tuple[str, str]]:
        """Of each home the inode of its volume's folder, another for another volume, and the checksum of its files."""
        return [(_inode(f"coder-{each}-home"), checksum(each)) for each in self.furnished]

    def remove(self) -> None:
        """Take away what carries no label of the tests."""
        running = docker("ps", "--all", "--quiet", "--filter", f"name=^{self.prefix}-")
        docker("rm", "--force", *running.split(), check=False)
        homes = [f"coder-{each}-home" for each in self.workspaces]
        docker("volume", "rm", "--force", *homes, f"{self.prefix}-data", f"{self.prefix}-named", check=False)

    def _upload(self, text: str) -> str:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            content = text.replace("IMAGE", WORKSPACE_IMAGE).replace("PREFIX", self.prefix).encode()
            entry = tarfile.TarInfo("main.tf")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        done = subprocess.run(
            ["curl", "--silent", "--fail", "--header", f"Coder-Session-Token: {self.token}", "--header",
             "Content-Type: application/x-tar", "--data-binary", "@-", f"{self.compose.url}/api/v2/files"],
            input=packed.getvalue(), check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        return str(json.loads(done.stdout)["hash"])

    def _succeeds(self, path: str) -> None:
        self._ends(path, "succeeded")

    def _ends(self, path: str, status: str) -> None:
        def done() -> bool:
            found = self.call("GET", path)
            assert found["job"]["status"] in (status, "pending", "running"), found["job"]
            return bool(found["job"]["status"] == status)

        eventually(done, timeout_s=BUILD_TIMEOUT_S, what=path)


def _inode(volume: str) -> str:
    return docker("run", "--rm", "--network", "none", "--volume", f"{volume}:/home/coder:ro", "--entrypoint", "stat",
                  POSTGRES_IMAGE, "--format", "%i", "/home/coder")  # fmt: skip


def compose_pilot(directory: Path, stack: str, port: int) -> ComposePilot:
    directory.mkdir(exist_ok=True)
    return ComposePilot(directory=directory, stack=stack, port=port)
