"""The serve job against a real tailscaled: what the stand-in of the unit tests only claims that tailscaled does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.tailnet_fixture import ENVIRONMENT, Node, Tailnet, tailnet

CHECKOUT = Path(__file__).resolve().parents[2]
PORT = "7080"
TARGET = f"http://127.0.0.1:{PORT}"
SOMEBODYS = {
    "TCP": {"8443": {"HTTPS": True}},
    "Web": {"framework.tailnet.test:8443": {"Handlers": {"/": {"Proxy": TARGET}}}},
}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tailnet]:
    with tailnet(tmp_path_factory.mktemp("net")) as made:
        yield made


@pytest.fixture
def node(net: Tailnet) -> Node:
    """The box, serving nothing but somebody else's entry."""
    lay(net.framework, SOMEBODYS)
    return net.framework


def lay(node: Node, config: dict[str, Any]) -> None:
    subprocess.run(
        ["tailscale", f"--socket={node.socket}", "serve", "set-raw"],
        env=ENVIRONMENT, input=json.dumps(config), text=True, check=True, timeout=60,
    )  # fmt: skip


def job(node: Node, action: str, before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stack.jobs.serve", action],
        cwd=CHECKOUT,
        env={
            "PATH": ENVIRONMENT["PATH"],
            "PORT": PORT,
            "MACHINE": "framework",
            "DOMAIN": "",
            "TAILSCALE_SOCKET": str(node.socket),
            "PULUMI_COMMAND_STDOUT": before,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def apply(node: Node, before: str = "") -> str:
    """What a job that made the entries printed, which the next one gets."""
    done = job(node, "apply", before)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_applied_is_served_and_taken_off_again(node: Node) -> None:
    applied = apply(node)
    ours = {f"{node.host}:{port}": {"Handlers": {"/": {"Proxy": TARGET}}} for port in ("443", PORT)}
    assert node.serve_status() == {
        "TCP": {"443": {"HTTPS": True}, PORT: {"HTTP": True}, **SOMEBODYS["TCP"]},
        "Web": {**ours, **SOMEBODYS["Web"]},
    }
    removed = job(node, "remove", applied)
    assert removed.returncode == 0, removed.stderr
    assert node.serve_status() == SOMEBODYS


def test_somebody_elses_path_on_our_port_stays(node: Node) -> None:
    applied = apply(node)
    node.tailscale("serve", "--bg", "--https=443", "--set-path=/grafana", "http://127.0.0.1:3000")
    apply(node, applied)
    assert job(node, "remove", applied).returncode == 0
    left = node.serve_status()["Web"][f"{node.host}:443"]
    assert left == {"Handlers": {"/grafana": {"Proxy": "http://127.0.0.1:3000"}}}


def test_entries_of_an_earlier_name_are_replaced(node: Node) -> None:
    applied = apply(node)
    before = applied.replace(node.host, "earlier.tailnet.test")
    lay(node, json.loads(json.dumps(node.serve_status()).replace(f"{node.host}:443", "earlier.tailnet.test:443")))
    apply(node, before)
    assert set(node.serve_status()["Web"]) == {f"{node.host}:{port}" for port in ("443", PORT, "8443")}


def test_a_disconnected_machine_can_still_be_cleaned(node: Node) -> None:
    applied = apply(node)
    node.tailscale("down")
    try:
        refused = job(node, "apply", applied)
        assert "disconnected from its tailnet: run `sudo tailscale up`" in refused.stderr
        assert job(node, "remove", applied).returncode == 0
    finally:
        node.tailscale("up")
    assert node.serve_status() == SOMEBODYS


def test_a_tailnet_without_https_is_refused_before_anything_is_tried(tmp_path: Path) -> None:
    with tailnet(tmp_path, "-https=false") as without:
        refused = job(without.framework, "apply")
        assert refused.returncode == 1
        assert "enable MagicDNS and HTTPS at https://login.tailscale.com/admin/dns" in refused.stderr
        assert without.framework.serve_status() == {}


def test_who_is_logged_out_is_told_so(tmp_path: Path) -> None:
    with tailnet(tmp_path) as other:
        applied = apply(other.framework)
        other.framework.tailscale("logout")
        assert "logged out of its tailnet: run `sudo tailscale up`" in job(other.framework, "apply").stderr
        removed = job(other.framework, "remove", applied)
        assert removed.returncode == 0
        assert "nothing to take off the tailnet" in removed.stderr
    gone = job(other.framework, "remove", applied)
    assert gone.returncode == 0
    assert "tailscaled does not answer" in gone.stderr
