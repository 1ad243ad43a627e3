"""A throw-away Coder server on its own Postgres, for tests that want a real one without the pilot around it."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from toolchain.pieces import CODER_IMAGE, POSTGRES_IMAGE

SERVER_START_S = 120.0
JOB_S = 120.0


@dataclass(frozen=True, kw_only=True)
class CoderServer:
    """A Coder server, and the token of its only user, the owner."""

    url: str
    token: str

    def api(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON, None for an answer without a body.

        Raises:
            urllib.error.HTTPError: the server answered with a status above 399.
        """
        return _request(self.url, method, path, body, self.token)

    def template(self, name: str) -> dict[str, Any]:
        """The template called `name` in the default organization."""
        found: dict[str, Any] = self.api("GET", f"/api/v2/organizations/default/templates/{name}")
        return found

    def versions(self, template: str) -> list[dict[str, Any]]:
        """Every version of the template called `template`, oldest first."""
        listed = self.api("GET", f"/api/v2/templates/{self.template(template)['id']}/versions") or []
        return sorted(listed, key=lambda version: str(version["created_at"]))

    def build_workspace(self, template: str, name: str, transition: str) -> None:
        """Start a new workspace of `template`, or delete the one called `name`, and wait until that is done."""
        if transition == "start":
            wanted = {"template_id": self.template(template)["id"], "name": name}
            build = self.api("POST", "/api/v2/users/me/workspaces", wanted)["latest_build"]
        else:
            workspace = self.api("GET", f"/api/v2/users/me/workspace/{name}")
            build = self.api("POST", f"/api/v2/workspaces/{workspace['id']}/builds", {"transition": transition})

        def finished() -> str:
            status: str = self.api("GET", f"/api/v2/workspacebuilds/{build['id']}")["job"]["status"]
            return "" if status in ("pending", "running") else status

        assert until(f"the build of workspace {name} ends", finished, JOB_S) == "succeeded"


def _request(url: str, method: str, path: str, body: object, token: str = "") -> Any:
    request = urllib.request.Request(  # noqa: S310 - always the http address of our own server
        url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Coder-Session-Token": token} if token else {},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        text = answer.read()
    return json.loads(text) if text else None


def until(what: str, attempt: Callable[[], str], deadline_s: float) -> str:
    """The first text of `attempt` that is not empty. It may raise OSError until then."""
    end = time.monotonic() + deadline_s
    last: OSError | None = None
    while time.monotonic() < end:
        try:
            if value := attempt():
                return value
        except OSError as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"not within {deadline_s:g} s: {what}" + (f" ({last})" if last else ""))


def _docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=120)
    if check and done.returncode != 0:
        raise AssertionError(f"docker {arguments[0]}: {done.stderr.strip()}")
    return (done.stdout + done.stderr).strip()


def _first_user(url: str) -> str:
    """The session token of the owner that a new server gets."""
    user = {"email": "owner@contract.test", "username": "owner", "password": f"contract-{secrets.token_hex(12)}"}
    _request(url, "POST", "/api/v2/users/first", user)
    token: str = _request(url, "POST", "/api/v2/users/login", user)["session_token"]
    return token


@pytest.fixture(scope="session")
def coder_server() -> Iterator[CoderServer]:
    """Coder and Postgres in containers of their own, gone after the session."""
    prefix = f"coder-contract-{secrets.token_hex(4)}"
    network, postgres, coder = f"{prefix}-network", f"{prefix}-postgres", f"{prefix}-coder"
    password = secrets.token_hex(12)
    try:
        _docker("network", "create", network)
        _docker(
            "run", "--detach", "--name", postgres, "--network", network, "--tmpfs", "/var/lib/postgresql/data",
            "--env", "POSTGRES_USER=coder", "--env", f"POSTGRES_PASSWORD={password}",
            POSTGRES_IMAGE, "postgres", "-c", "fsync=off",
        )  # fmt: skip

        def accepts_connections() -> str:
            # Over TCP: the server that only prepares the cluster listens on the local socket alone.
            answer = _docker("exec", postgres, "pg_isready", "--host", "127.0.0.1", "--username", "coder", check=False)
            return answer if "accepting connections" in answer else ""

        until("Postgres accepts connections", accepts_connections, SERVER_START_S)
        _docker(
            "run", "--detach", "--name", coder, "--network", network, "--publish", "127.0.0.1::7080",
            "--env", f"CODER_PG_CONNECTION_URL=postgres://coder:{password}@{postgres}/coder?sslmode=disable",
            "--env", "CODER_HTTP_ADDRESS=0.0.0.0:7080", "--env", "CODER_ACCESS_URL=http://127.0.0.1:7080",
            "--env", "CODER_TELEMETRY_ENABLE=false", "--env", "CODER_UPDATE_CHECK=false",
            "--env", "CODER_DERP_SERVER_STUN_ADDRESSES=disable",
            # Twelve uploads a minute are fewer than the tests make.
            "--env", "CODER_DANGEROUS_DISABLE_RATE_LIMITS=true",
            "--env", "CODER_OAUTH2_GITHUB_DEFAULT_PROVIDER_ENABLE=false",
            CODER_IMAGE,
        )  # fmt: skip
        url = f"http://{_docker('port', coder, '7080/tcp').splitlines()[0]}"

        def healthy() -> str:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:  # noqa: S310
                return str(answer.read().decode())

        try:
            until("Coder answers /healthz", healthy, SERVER_START_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{_docker('logs', '--tail', '40', coder, check=False)}") from error
        yield CoderServer(url=url, token=_first_user(url))
    finally:
        _docker("rm", "--force", "--volumes", coder, postgres, check=False)
        _docker("network", "rm", network, check=False)
