"""The tailnet reaches Coder over verified HTTPS, over nothing else, and only through tailscaled.

A real tailscaled on the box, a second one as the owner's laptop, and Chromium on that laptop. A webview counts as
working when its own document shows the text, never when its frame is merely there; and the same page over plain http
has to fail, or the test would prove nothing about the secure context.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import TimeoutError as StillOpen

from tests.e2e.browser_fixture import chromium
from tests.e2e.pilot_fixture import Pilot, docker, eventually, free_port, request
from tests.e2e.tailnet_fixture import Node, Tailnet, tailnet
from tests.e2e.workspace_fixture import go_to_editor, trust

T = TypeVar("T")

HEADING = "Rendered in a secure context"
PROJECT = "/home/coder/project"
WORKSPACE = "demo"
STEP_TIMEOUT_MS = 45_000
SEEN_TIMEOUT_MS = 60_000
WEBSOCKET_MS = 60_000
WEBVIEWS_REFUSED = "webviews will not work"
CHANGING = re.compile(r"^ *[-+~]+ +\S+ (\S+) (?:creat|updat|replac|delet)ing", re.MULTILINE)
"""The logical name in a line of `pulumi up` about a resource that is being changed."""
SOMEBODYS = ("serve", "--bg", "--https=8443", "http://127.0.0.1:3000")


@dataclass(frozen=True, kw_only=True)
class Switched:
    """A pilot with a running workspace, whose tailnet was switched on by one setting and one `up`."""

    pilot: Pilot
    workspace_id: str
    workspace_container: dict[str, Any]
    planned: dict[str, str]
    changed: set[str]

    @property
    def port(self) -> int:
        return int(self.pilot.config["port"])

    @property
    def container_name(self) -> str:
        return f"{self.pilot.name}.admin.{WORKSPACE}"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tailnet]:
    with tailnet(tmp_path_factory.mktemp("net")) as made:
        made.framework.tailscale(*SOMEBODYS)
        yield made


@pytest.fixture(scope="module")
def box(net: Tailnet, make_pilot: Callable[..., Pilot]) -> Switched:
    pilot = make_pilot(tailscaleSocket=str(net.framework.socket), tailnetName="framework")
    pilot.up()
    workspace = pilot.create_workspace(WORKSPACE)
    container = f"{pilot.name}.admin.{WORKSPACE}"
    docker("exec", container, "sh", "-c", f"printf '# {HEADING}\\n\\nBy *markdown preview*.\\n' > {PROJECT}/README.md")
    running = inspect(container)

    pilot.write_config(tailnet="true")
    planned = plan(pilot)
    return Switched(
        pilot=pilot,
        workspace_id=workspace["id"],
        workspace_container=running,
        planned=planned,
        changed=set(CHANGING.findall(pilot.up())),
    )


@pytest.fixture(scope="module")
def browser(net: Tailnet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("home"), trusted_ca=net.ca, socks=net.socks) as opened:
        yield opened


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport={"width": 1280, "height": 720})
    opened.set_default_timeout(STEP_TIMEOUT_MS)
    yield opened
    opened.close()


def inspect(container: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("container", "inspect", container))[0]
    return {"Id": found["Id"], "StartedAt": found["State"]["StartedAt"]}


def plan(pilot: Pilot) -> dict[str, str]:
    """What a preview says that it will change: logical name to operation."""
    text = pilot.pulumi("preview", "--json", "--suppress-outputs")
    steps = json.loads(text[text.index("{") :])["steps"]
    return {step["urn"].rsplit("::", 1)[1]: step["op"] for step in steps if step["op"] != "same"}


def curl(net: Tailnet, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    """`curl` on the laptop."""
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "20", "--socks5-hostname", net.socks, *more, url],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def answers(net: Tailnet, url: str) -> bool:
    return curl(net, f"{url}/healthz", "--fail", "--cacert", str(net.ca)).stdout == "OK"


def entries(node: Node) -> dict[str, str]:
    """What the node serves at "/": scheme and port to target."""
    config = node.serve_status()
    shown = {}
    for web, site in config.get("Web", {}).items():
        port = web.rpartition(":")[2]
        scheme = "https" if config["TCP"][port].get("HTTPS") else "http"
        shown[f"{scheme}={port}"] = site["Handlers"]["/"]["Proxy"]
    return shown


def ours(port: int) -> dict[str, str]:
    return {"https=443": f"http://127.0.0.1:{port}", f"http={port}": f"http://127.0.0.1:{port}"}


SOMEBODYS_ENTRY = {"https=8443": "http://127.0.0.1:3000"}


def again(attempt: Callable[[], T], what: str) -> T:
    """The first answer of `attempt` that no lost connection spoilt.

    Chromium drops all of them when a network interface comes or goes, as it does with every container on the machine.
    """

    def answered() -> list[T]:
        try:
            return [attempt()]
        except PlaywrightError as error:
            raise OSError(error.message) from None

    answers: list[T] = eventually(answered, timeout_s=400, what=what)
    return answers[0]


def sign_in(context: BrowserContext, box: Switched, base: str) -> Page:
    """A page on which the admin has signed in, by the form's own request."""
    page = context.new_page()
    again(lambda: page.goto(f"{base}/healthz"), f"{base} opens")
    outputs = box.pilot.outputs()
    credentials = {"email": outputs["adminEmail"], "password": outputs["adminPassword"]}
    form = (
        """async (body) => (await fetch("/api/v2/users/login", {method: "POST", body: JSON.stringify(body)})).status"""
    )
    assert again(lambda: page.evaluate(form, credentials), "sign-in") == 201
    return page


def open_preview(page: Page, base: str) -> None:
    """Open code-server through Coder, the README in it, and the markdown preview beside that."""
    # An attempt that was cut short left the README and the preview open, and code-server opens them again: then there
    # are two of each forever.
    page.goto("about:blank")
    kept = {"origin": base, "storageTypes": "indexeddb,local_storage"}
    page.context.new_cdp_session(page).send("Storage.clearDataForOrigin", kept)
    go_to_editor(page, f"{base}/@admin/{WORKSPACE}.main/apps/code-server/?folder={PROJECT}")
    trust(page)
    page.get_by_role("treeitem", name="README.md").dblclick()
    page.locator(".view-lines").get_by_text(HEADING).wait_for()
    page.get_by_role("button", name=re.compile("Open Preview to the Side")).click()


def heading(page: Page) -> Locator:
    """The heading in the document that the markdown preview's webview shows."""
    shown = page.locator("iframe.webview.ready").content_frame.locator("iframe#active-frame").content_frame
    return shown.get_by_role("heading", name=HEADING)


# The template, because the tailnet's one name has none below it: apps are paths then.
CHANGES = {
    "tailnet": "create",
    "serve": "create",
    "coder": "replace",
    "template": "update",
    "template-record": "update",
}


def test_the_plan_of_switching_it_on_shows_the_entries_coders_container_and_the_template_alone(box: Switched) -> None:
    assert box.planned == CHANGES


def test_switching_it_on_changes_the_entries_coders_container_and_the_template_alone(box: Switched) -> None:
    assert box.changed == CHANGES.keys()
    assert box.pilot.pulumi("stack", "output", "url") == "https://framework.tailnet.test\n", "and it is no secret"


def test_workspaces_live_through_the_change_of_the_address(box: Switched) -> None:
    box.pilot.wait_workspace(box.workspace_id)
    assert inspect(box.container_name) == box.workspace_container


def test_somebody_elses_entry_stands_beside_ours(net: Tailnet, box: Switched) -> None:
    assert entries(net.framework) == {**SOMEBODYS_ENTRY, **ours(box.port)}


def test_the_certificate_is_verified(net: Tailnet, box: Switched) -> None:
    url = f"https://{net.framework.host}"
    eventually(lambda: answers(net, url), timeout_s=60, what=f"{url} answers")
    distrusted = curl(net, f"{url}/healthz")
    assert distrusted.returncode == 60, f"curl's exit code for a CA that it does not know: {distrusted}"


def test_the_http_address_of_before_goes_on_working(net: Tailnet, box: Switched) -> None:
    url = f"http://{net.framework.host}:{box.port}"
    eventually(lambda: answers(net, url), timeout_s=60, what=f"{url} answers")
    # Our entry answers, and not userspace mode, which passes every port on to loopback: Coder would answer any name.
    other = curl(net, f"{url}/healthz", "--header", "Host: other.example", "--write-out", "%{http_code}")
    assert other.stdout.endswith("404")


def test_a_second_up_changes_nothing(box: Switched) -> None:
    box.pilot.up("--expect-no-changes")
    box.pilot.up("--refresh", "--expect-no-changes")


def test_a_webview_renders_over_https(net: Tailnet, box: Switched, context: BrowserContext, artifacts: Path) -> None:
    base = f"https://{net.framework.host}"
    page = sign_in(context, box, base)

    def seen() -> None:
        open_preview(page, base)
        heading(page).wait_for()

    again(seen, "the preview's heading in the webview's document")
    assert page.evaluate("isSecureContext") is True
    page.screenshot(path=artifacts / "webview-over-https.png")


@pytest.mark.drill
def test_a_websocket_over_https_lives_for_a_minute(net: Tailnet, box: Switched, context: BrowserContext) -> None:
    base = f"https://{net.framework.host}"
    page = sign_in(context, box, base)

    def lived() -> bool:
        with page.expect_websocket(lambda opened: "reconnectionToken" in opened.url) as opening:
            page.goto(f"{base}/@admin/{WORKSPACE}.main/apps/code-server/?folder={PROJECT}")
        assert opening.value.url.startswith(f"wss://{net.framework.host}/")
        frames: list[object] = []
        opening.value.on("framereceived", lambda frame: frames.append(frame))
        try:
            opening.value.wait_for_event("close", timeout=WEBSOCKET_MS)
        except StillOpen:
            assert frames, "open and silent for that long is not alive"
            return True
        return False

    # Twice at most, see `again`: a proxy that drops websockets after seconds does it each time.
    assert again(lived, "code-server's websocket") or again(lived, "code-server's second websocket")


@pytest.mark.drill
def test_the_same_page_over_plain_http_has_no_webview(
    net: Tailnet, box: Switched, context: BrowserContext, artifacts: Path
) -> None:
    base = f"http://{net.framework.host}:{box.port}"
    # A browser keeps no Secure cookie from http, so the session is put there by hand.
    outputs = box.pilot.outputs()
    credentials = {"email": outputs["adminEmail"], "password": outputs["adminPassword"]}
    session = request(box.pilot.url, "POST", "/api/v2/users/login", credentials)["session_token"]
    context.add_cookies([{"name": "coder_session_token", "value": session, "url": base}])
    page = context.new_page()

    def refused() -> None:
        with page.expect_console_message(lambda said: WEBVIEWS_REFUSED in said.text, timeout=SEEN_TIMEOUT_MS):
            open_preview(page, base)

    again(refused, "code-server says that it has no webviews")
    assert page.evaluate("isSecureContext") is False
    assert not heading(page).is_visible()
    page.screenshot(path=artifacts / "webview-over-http.png")


def listeners() -> set[tuple[str, int]]:
    """Address (as /proc/net/tcp writes it) and port of everything on this machine that accepts TCP connections."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            if state == "0A":
                address, _, port = local.partition(":")
                found.add((address, int(port, 16)))
    return found


def published(pilot: Pilot) -> set[tuple[str, int]]:
    """Address and port of everything that the engine publishes for this pilot's containers, workspaces too."""
    names = docker("ps", "--quiet", "--filter", f"label=coder-pilot.stack={pilot.name}").split()
    shown = json.loads(docker("container", "inspect", *names))
    assert len(shown) == 4, "Postgres, Coder, the keeper, the workspace"
    ports = [each["NetworkSettings"]["Ports"] or {} for each in shown]
    bindings = [binding for of_one in ports for of_port in of_one.values() for binding in of_port or []]
    return {(binding["HostIp"], int(binding["HostPort"])) for binding in bindings}


def test_on_the_machine_only_loopback_listens(box: Switched) -> None:
    assert published(box.pilot) == {("127.0.0.1", box.port)}
    loopback = "0100007F"
    assert {address for address, port in listeners() if port == box.port} == {loopback}


def open_ports(net: Tailnet, ports: set[int]) -> set[int]:
    """Those of `ports` that the laptop can connect to on the box."""
    address, _, socks_port = net.socks.partition(":")
    name = net.framework.host.encode()

    def is_open(port: int) -> bool:
        """By one SOCKS5 CONNECT without authentication (RFC 1928): its reply is 5, then 0 for success."""
        with socket.create_connection((address, int(socks_port)), timeout=30) as proxy:
            proxy.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
            reply = b""
            while len(reply) < 4:
                part = proxy.recv(64)
                assert part, "the proxy hung up without a reply"
                reply += part
            return reply[3] == 0

    listed = sorted(ports)
    with ThreadPoolExecutor(64) as pool:
        return {port for port, found in zip(listed, pool.map(is_open, listed), strict=True) if found}


def test_the_laptop_finds_our_two_ports_and_nothing_else_of_ours(net: Tailnet, box: Switched) -> None:
    # In userspace mode, unlike on the box, tailscaled passes every port on to this machine's loopback. So somebody
    # else's listeners show through, and so would any port that one of our containers published.
    expected = {
        443,
        box.port,
        8443,
        *(int(url.rpartition(":")[2]) for url in net.framework.status()["Self"]["PeerAPIURL"]),
    }

    def foreign() -> set[int]:
        return {port for _, port in listeners()} - {port for _, port in published(box.pilot)}

    scanned = {*range(1, 10_001), *expected, *(port for _, port in listeners())}
    before = foreign()
    found = open_ports(net, scanned)
    assert {443, box.port} <= found
    # Other programs come and go while a scan runs: what is open a second time and unexplained is ours.
    unexplained = found - expected - before - foreign()
    assert open_ports(net, unexplained) - foreign() == set()


def test_an_entry_taken_off_by_hand_is_said_by_a_preview_and_set_by_the_next_up(net: Tailnet, box: Switched) -> None:
    net.framework.tailscale("serve", "--https=443", "off")
    said = box.pilot.pulumi("preview", "--expect-no-changes")
    assert "The tailnet does not have https=443; `pulumi up" in said
    assert "https=443" not in entries(net.framework), "a preview changes nothing"
    box.pilot.up("--expect-no-changes")
    assert entries(net.framework) == {**SOMEBODYS_ENTRY, **ours(box.port)}


def test_a_public_port_stops_everything(net: Tailnet, box: Switched) -> None:
    net.framework.tailscale("funnel", "--bg", "--https=443", f"http://127.0.0.1:{box.port}")
    try:
        said = box.pilot.up(check=False)
        assert "error: tailnet: port 443 is public" in said
        assert "run `tailscale funnel --https=443 off`" in said
        assert "Traceback" not in said
    finally:
        net.framework.tailscale("funnel", "--https=443", "off")
    box.pilot.up("--expect-no-changes")
    assert entries(net.framework) == {**SOMEBODYS_ENTRY, **ours(box.port)}


def test_a_preview_works_where_there_is_no_tailnet(box: Switched) -> None:
    usual = box.pilot.config["tailscaleSocket"]
    box.pilot.write_config(tailscaleSocket="/run/nobody-listens-here.sock")
    try:
        said = box.pilot.pulumi("preview")
        assert (
            "tailscaled does not answer at /run/nobody-listens-here.sock: run `sudo systemctl start tailscaled`" in said
        )
    finally:
        box.pilot.write_config(tailscaleSocket=usual)


def test_another_machine_name_than_expected_is_refused(box: Switched) -> None:
    box.pilot.write_config(tailnetName="frame")
    try:
        assert "not frame: run `pulumi config set tailnetName framework" in box.pilot.up(check=False)
    finally:
        box.pilot.write_config(tailnetName="framework")


@pytest.mark.drill
def test_another_port_takes_the_place_of_the_one_before(net: Tailnet, box: Switched) -> None:
    box.pilot.write_config(port=str(free_port()))
    box.pilot.up()
    assert entries(net.framework) == {**SOMEBODYS_ENTRY, **ours(box.port)}
    eventually(lambda: answers(net, f"https://{net.framework.host}"), timeout_s=60, what="https on the new port")
    box.pilot.up("--expect-no-changes")


@pytest.mark.drill
def test_switching_it_off_takes_off_our_entries_alone(net: Tailnet, box: Switched) -> None:
    box.pilot.write_config(tailnet="false")
    box.pilot.up()
    assert entries(net.framework) == SOMEBODYS_ENTRY
    box.pilot.write_config(tailnet="true")
    box.pilot.up()
    assert entries(net.framework) == {**SOMEBODYS_ENTRY, **ours(box.port)}


def test_destroy_takes_off_our_entries_alone(net: Tailnet, box: Switched) -> None:
    box.pilot.pulumi("destroy", "--yes", "--skip-preview")
    assert entries(net.framework) == SOMEBODYS_ENTRY
