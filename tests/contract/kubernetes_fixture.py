"""An API server of Kubernetes on loopback with its controllers, and no node; Terraform with the stand-in on it.

Nothing runs on it: a test that wants a pod ready says so to the API, as a kubelet would.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster_fixture import SERVERS, administrator, certificates
from tests.e2e.pilot_fixture import eventually, free_port
from toolchain.builder import Builder
from toolchain.pieces import PIECES

COMMAND_TIMEOUT_S = 120
READY_TIMEOUT_S = 120
MANIFEST = Path(__file__).resolve().parents[2] / "docs" / "kubernetes.yaml"


@dataclass(kw_only=True)
class ApiServer:
    """The API, and its administrator."""

    directory: Path
    url: str

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "admin.json"

    def kubectl(self, *words: str, stdin: str = "", check: bool = True) -> str:
        """What `kubectl` prints for the administrator."""
        done = subprocess.run(
            [self.directory / "bin" / "kubectl", f"--kubeconfig={self.kubeconfig}", *words],
            input=stdin, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def object(self, *words: str) -> dict[str, Any]:
        """One object, {} for none."""
        found = self.kubectl("get", *words, "-o", "json", "--ignore-not-found")
        return dict(json.loads(found)) if found else {}

    def namespace(self) -> str:
        """A new one, with the account that docs/kubernetes.yaml makes, for a test alone."""
        name = f"t-{secrets.token_hex(4)}"
        self.kubectl("apply", "-f", "-", stdin=MANIFEST.read_text().replace("coder-pilot", name))
        # Pods are refused before it is there.
        eventually(
            lambda: self.object("serviceaccount", "default", "-n", name), timeout_s=60, what="the account of pods"
        )
        return name

    def account(self, namespace: str, path: Path) -> Path:
        """The kubeconfig of the namespace's account."""
        config = json.loads(self.kubeconfig.read_text())
        config["users"][0]["user"]["token"] = self.kubectl("create", "token", namespace, "-n", namespace).strip()
        path.write_text(json.dumps(config))
        return path


@dataclass(kw_only=True)
class Terraform:
    """A folder with a configuration and its state."""

    directory: Path
    api: ApiServer
    namespace: str
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    provider: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def _write(self) -> None:
        document: dict[str, Any] = {
            "terraform": {"required_providers": {"kubernetes": {"source": "hashicorp/kubernetes"}}},
            "provider": {"kubernetes": self.provider},
        }
        if self.resources:
            document["resource"] = {kind: {"it": body} for kind, body in self.resources.items()}
        (self.directory / "main.tf.json").write_text(json.dumps(document, indent=2))

    def begin(self, *words: str) -> subprocess.Popen[str]:
        self._write()
        return subprocess.Popen(
            ["tofu", *words, "-no-color"],
            cwd=self.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "TF_CLI_CONFIG_FILE": str(self.directory / "tofurc"), **self.environment},
        )  # fmt: skip

    def end(self, running: subprocess.Popen[str], *, fails: bool = False) -> str:
        printed = running.communicate(timeout=COMMAND_TIMEOUT_S)[0]
        assert (running.returncode != 0) == fails, printed
        # Wrapped in a frame.
        return " ".join(printed.replace("│", " ").split())

    def run(self, *words: str, fails: bool = False) -> str:
        """Everything that the command printed, on one line; it must fail exactly when `fails`."""
        return self.end(self.begin(*words), fails=fails)

    def apply(self, *, fails: bool = False) -> str:
        return self.run("apply", "-auto-approve", "-compact-warnings", fails=fails)

    def plan(self) -> str:
        return self.run("plan", "-compact-warnings")

    def destroy(self) -> str:
        return self.run("destroy", "-auto-approve", "-compact-warnings")

    def state(self) -> dict[str, Any]:
        """What the state has of each resource, by its type."""
        document = json.loads((self.directory / "terraform.tfstate").read_text())
        return {each["type"]: each["instances"][0] for each in document["resources"]}

    def schema(self) -> Mapping[str, Any]:
        """The provider's."""
        self._write()
        done = subprocess.run(
            ["tofu", "providers", "schema", "-json"],
            cwd=self.directory, capture_output=True, text=True, check=True, timeout=COMMAND_TIMEOUT_S,
            env={**os.environ, "TF_CLI_CONFIG_FILE": str(self.directory / "tofurc")},
        )  # fmt: skip
        (found,) = json.loads(done.stdout)["provider_schemas"].values()
        return dict(found)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[ApiServer]:
    """An API server that is ready; nothing of it is left afterwards."""
    piece = Builder(PIECES).directory("kubernetes")
    assert piece.exists(), f"{piece} is missing: run `python3 -m toolchain build kubernetes`"
    (directory / "bin").mkdir()
    for name in SERVERS:
        (directory / "bin" / name).symlink_to(piece / "kubernetes")
    etcd, peer, port = free_port(), free_port(), free_port()
    api = ApiServer(directory=directory, url=f"https://127.0.0.1:{port}")
    certificates(directory)
    administrator(directory, api.url)
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *options: str) -> None:
        with (directory / f"{name}.log").open("ab") as log:
            started.append(
                subprocess.Popen([directory / "bin" / name, *options], cwd=directory, stdout=log, stderr=log)
            )

    try:
        start(
            "etcd", f"--data-dir={directory}/etcd", "--unsafe-no-fsync", f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}", f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        )  # fmt: skip
        start(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{etcd}", "--bind-address=127.0.0.1",
            # Where pods would find it; it must not be loopback, and nobody asks.
            "--advertise-address=10.99.0.11", f"--secure-port={port}",
            "--tls-cert-file=server.pem", "--tls-private-key-file=server.key", "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC", "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=accounts.key", "--service-account-signing-key-file=accounts.key",
            "--service-cluster-ip-range=10.96.0.0/16", f"--cert-dir={directory}",
        )  # fmt: skip
        eventually(lambda: api.kubectl("get", "--raw", "/readyz"), timeout_s=READY_TIMEOUT_S, what="the API server")
        start(
            "kube-controller-manager", f"--kubeconfig={api.kubeconfig}", "--leader-elect=false", "--secure-port=0",
            "--service-account-private-key-file=accounts.key", "--root-ca-file=authority.pem",
            f"--cert-dir={directory}",
        )  # fmt: skip
        yield api
    finally:
        for process in reversed(started):
            process.kill()
            process.wait(60)


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One for all tests, for it takes seconds to start."""
    with running(tmp_path_factory.mktemp("api-server")) as api:
        yield api


@pytest.fixture
def terraform(tmp_path: Path, api_server: ApiServer) -> Terraform:
    """An empty configuration, whose provider is the account of a namespace of the test's own."""
    piece = Builder(PIECES).directory("terraform-provider-kubernetes")
    assert piece.exists(), f"{piece} is missing: run `python3 -m toolchain build terraform-provider-kubernetes`"
    overridden = f'"registry.opentofu.org/hashicorp/kubernetes" = "{piece}"'
    (tmp_path / "tofurc").write_text(f"provider_installation {{\n  dev_overrides {{ {overridden} }}\n}}\n")
    namespace = api_server.namespace()
    kubeconfig = api_server.account(namespace, tmp_path / "kubeconfig")
    return Terraform(directory=tmp_path, api=api_server, namespace=namespace, provider={"config_path": str(kubeconfig)})
