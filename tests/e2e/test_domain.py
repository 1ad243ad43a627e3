"""With a domain of one's own on the tailnet each app has an origin below it, and Coder's is out of the apps' reach.

The box resolves the domain by a hosts file of its own, the laptop by a SOCKS proxy. Nothing else is stood in for.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext

from tests.e2e import hostile_page
from tests.e2e.browser_fixture import chromium
from tests.e2e.pilot_fixture import Pilot, docker, eventually
from tests.e2e.retirement_fixture import command, identity
from tests.e2e.tailnet_fixture import Tailnet, issue_certificate, leading, tailnet
from tests.e2e.workspace_fixture import agent_of, container_of, go_to_editor, trust

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]

DOMAIN = "coder.example.test"
BASE = f"https://{DOMAIN}"
EDITOR = f"https://code-server--demo--dev.{DOMAIN}/"
TIMEOUT_MS = 120_000
SIGN_IN = (
    """async (body) => (await fetch("/api/v2/users/login", {method: "POST", body: JSON.stringify(body)})).status"""
)
REACHES = """
async (url) => {
  const read = await fetch(url + "healthz", { credentials: "include" }).then(() => true, () => false)
  const opened = await new Promise((done) => {
    const socket = new WebSocket(url.replace("https", "wss"))
    socket.onopen = () => done(true)
    socket.onerror = () => done(false)
  })
  return { read, opened }
}
"""


@dataclass(frozen=True, kw_only=True)
class Box:
    """The pilot, and what decides where the names of its domain lead on its machine."""

    pilot: Pilot
    hosts: Path
    certificate: Path
    key: Path
    net: Tailnet

    def resolve(self, address: str) -> None:
        self.hosts.write_text(f"{address} {DOMAIN} any.{DOMAIN}\n" if address else "")

    def issue(self, *names: str) -> None:
        issue_certificate(self.net.ca, self.certificate, self.key, *names)

    @property
    def address(self) -> str:
        return str(self.net.framework.status()["Self"]["TailscaleIPs"][0])


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tailnet]:
    with tailnet(tmp_path_factory.mktemp("net")) as made:
        yield made


@pytest.fixture(scope="module")
def box(net: Tailnet, make_pilot: Callable[..., Pilot], tmp_path_factory: pytest.TempPathFactory) -> Box:
    """A pilot on the tailnet's name, with a running workspace; the domain is yet to be set."""
    folder = tmp_path_factory.mktemp("box")
    hosts, getent = folder / "hosts", folder / "bin" / "getent"
    hosts.touch()
    getent.parent.mkdir()
    getent.write_text(
        "#!/bin/sh\n"
        f'exec unshare --mount sh -c \'mount --bind {hosts} /etc/hosts && exec /usr/bin/getent "$@"\' getent "$@"\n'
    )
    getent.chmod(0o755)
    pilot = make_pilot(tailnet="true", tailscaleSocket=str(net.framework.socket))
    pilot.variables["PATH"] = f"{getent.parent}:{pilot.variables['PATH']}"
    pilot.up()
    command(pilot, "workspace", "demo")
    return Box(pilot=pilot, hosts=hosts, certificate=folder / "own.crt", key=folder / "own.key", net=net)


@pytest.fixture(scope="module")
def workspace(box: Box) -> dict[str, Any]:
    (found,) = box.pilot.call("GET", "/api/v2/workspaces")["workspaces"]
    made: dict[str, Any] = found
    return made


@pytest.fixture(scope="module")
def context(net: Tailnet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """The laptop's browser."""
    with leading(DOMAIN, net.framework.host, net.socks) as socks:
        home = tmp_path_factory.mktemp("home")
        # In a network of its own: on the machine's it drops requests whenever a container comes or goes.
        with chromium(home, trusted_ca=net.ca, socks=socks, only=f"http://{socks}") as browser:
            opened = browser.new_context(viewport={"width": 1280, "height": 720})
            opened.set_default_timeout(TIMEOUT_MS)
            yield opened


@pytest.fixture(scope="module")
def signed_in(context: BrowserContext, box: Box) -> BrowserContext:
    """The laptop's browser with a session of the account for every day; only once the domain leads to Coder."""
    sign_in(context, box, "email", "password")
    return context


def sign_in(context: BrowserContext, box: Box, email: str, password: str) -> None:
    """Sign in with these two outputs, as nobody else."""
    context.clear_cookies()
    page = context.new_page()
    page.goto(f"{BASE}/healthz")
    outputs = box.pilot.outputs()
    assert page.evaluate(SIGN_IN, {"email": outputs[email], "password": outputs[password]}) == 201
    page.close()


def serial_served(box: Box) -> str:
    """The serial number of the certificate that Coder answers with."""
    port = int(box.pilot.config["port"]) + 1
    script = f"openssl s_client -connect 127.0.0.1:{port} -servername {DOMAIN} </dev/null | openssl x509 -noout -serial"
    return _printed(["sh", "-c", script])


def serial_of(certificate: Path) -> str:
    return _printed(["openssl", "x509", "-noout", "-serial", "-in", str(certificate)])


def _printed(words: list[str]) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout


def test_what_would_not_work_is_refused_before_anything_is_touched(box: Box) -> None:
    pilot = box.pilot
    server = identity(f"{pilot.name}-server")
    pilot.write_config(domain=DOMAIN, tlsCertificate=str(box.certificate), tlsKey=str(box.key))
    attempts: list[tuple[Mapping[str, Any], str]] = [
        ({}, "own.crt cannot be read"),
        ({"names": (DOMAIN,)}, f"not for *.{DOMAIN}"),
        ({"names": (DOMAIN, f"*.{DOMAIN}")}, f"{DOMAIN} leads nowhere, not to this machine's {box.address}"),
        ({"leads": "192.0.2.7"}, f"{DOMAIN} leads to 192.0.2.7, not to this machine's {box.address}"),
    ]
    for change, told in attempts:
        if names := change.get("names"):
            box.issue(*names)
        box.resolve(change.get("leads", ""))
        said = command(pilot, "up", check=False)
        assert told in said
        assert "docs/domain.md" in said or "pulumi config set" in said
        assert "Traceback" not in said
        assert identity(f"{pilot.name}-server") == server
    box.resolve(box.address)


def test_one_up_leads_the_domain_to_coder_and_running_workspaces_go_on(box: Box, workspace: dict[str, Any]) -> None:
    before = identity(container_of(box.pilot, workspace))
    said = command(box.pilot, "up")
    assert f"Coder         {BASE}" in said
    assert "dev/demo: its apps and ports are at another address from its next start on" in said
    port = int(box.pilot.config["port"])
    assert box.net.framework.serve_status()["TCP"] == {
        "443": {"TCPForward": f"127.0.0.1:{port + 1}"}, str(port): {"HTTP": True},
    }  # fmt: skip
    assert identity(container_of(box.pilot, workspace)) == before
    assert command(box.pilot, "workspace", "demo").strip() == EDITOR
    box.pilot.up("--expect-no-changes")


def test_after_its_next_start_the_workspace_knows_the_domain(box: Box, workspace: dict[str, Any]) -> None:
    box.pilot.transition(workspace["id"], "stop")
    assert "starting it with the active version" in command(box.pilot, "workspace", "demo")
    assert "another address" not in command(box.pilot, "status")
    found = box.pilot.workspace(workspace["id"])
    (editor,) = [each for each in agent_of(found)["apps"] if each["slug"] == "code-server"]
    assert editor["subdomain"]


def test_the_editor_opens_and_survives_the_renewal_of_the_certificate(
    box: Box, signed_in: BrowserContext, artifacts: Path
) -> None:
    page = signed_in.new_page()
    go_to_editor(page, EDITOR)
    # Until then its question stands before everything.
    trust(page)
    assert page.evaluate("isSecureContext") is True
    page.screenshot(path=artifacts / "editor-below-a-domain.png")
    page.evaluate("window.never_reloaded = true")
    assert serial_served(box) == serial_of(box.certificate)
    # As a client's hook does after a renewal.
    box.issue(DOMAIN, f"*.{DOMAIN}")
    assert serial_served(box) != serial_of(box.certificate)
    with page.expect_websocket(lambda opened: "reconnectionToken" in opened.url):
        command(box.pilot, "up")
    assert serial_served(box) == serial_of(box.certificate)
    page.keyboard.press("Control+Backquote")
    page.locator(".terminal-wrapper.active .xterm-rows").get_by_text("$").first.wait_for()
    assert page.evaluate("window.never_reloaded") is True
    page.close()


def test_a_page_of_a_workspace_has_no_way_to_coder_and_none_to_another_app(
    box: Box, workspace: dict[str, Any], signed_in: BrowserContext
) -> None:
    hostile_page.serve(container_of(box.pilot, workspace))
    agent = agent_of(box.pilot.workspace(workspace["id"]))["id"]
    port = EDITOR.replace("code-server--", f"{hostile_page.PORT}--main--")
    for viewer, email, password in (("admin", "adminEmail", "adminPassword"), ("dev", "email", "password")):
        sign_in(signed_in, box, email, password)
        page = signed_in.new_page()
        for url in (EDITOR, port):
            page.goto(url)
            found = hostile_page.ways_to_coder(
                page, coder=BASE, viewer=viewer, owner="dev", workspace="demo", agent=agent
            )
            assert (viewer, url, found) == (viewer, url, [])
        # One cookie is for all names of the domain. Coder itself would say that this person's apps may read each other.
        assert page.evaluate(REACHES, EDITOR) == {"read": False, "opened": False}
        page.close()


def test_without_the_domain_again_the_tailnets_name_is_back(box: Box) -> None:
    box.pilot.write_config(domain="", tlsCertificate="", tlsKey="")
    command(box.pilot, "up")
    port = int(box.pilot.config["port"])
    assert box.net.framework.serve_status()["TCP"] == {"443": {"HTTPS": True}, str(port): {"HTTP": True}}
    ports = docker("port", f"{box.pilot.name}-server").splitlines()
    assert [each.rpartition(":")[2] for each in ports] == [str(port)]
    url = f"https://{box.net.framework.host}/healthz"
    eventually(
        lambda: _printed(["curl", "-sS", "--cacert", str(box.net.ca), "--socks5-hostname", box.net.socks, url]) == "OK",
        timeout_s=60, what=url,
    )  # fmt: skip
