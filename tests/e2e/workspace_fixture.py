"""What the end-to-end tests ask of a workspace, its agent and its editor."""

from __future__ import annotations

import contextlib
import shlex
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

from playwright.sync_api import BrowserContext, Page, Request, TimeoutError

from tests.e2e.pilot_fixture import Pilot, docker, eventually, request

# A first start on a cluster took more than 60 s where three other files ran beside it.
EDITOR_TIMEOUT_S = 180
DRAWN_TIMEOUT_S = 120
# An editor was drawn within 6 s of a click, at a load of 25 too.
PATIENCE_MS = 30_000

# Each does something, so that one which is there and broken is found too.
TOOLS = (
    "git init /tmp/tools",
    "cd /tmp/tools && git lfs track '*.bin'",
    "ssh -V && ssh-keygen -t ed25519 -N '' -f /tmp/tools/key",
    "curl --version",
    "less --version",
    "nano --version",
    "vim --version",
    "tmux new-session -d true",
    "rg --version",
    "echo '{}' | jq .",
    "make --version",
    "node --eval 0",
    "npm --version && npx --version",
    "python3 -m venv --without-pip /tmp/tools/venv && /tmp/tools/venv/bin/python -c 'import ensurepip'",
    "[[ $(printf ü | LC_ALL=en_US.UTF-8 wc --chars) == 1 && $(printf ü | wc --chars) == 1 ]]",
    "[[ $(TZ=Asia/Tokyo date +%Z) == JST ]]",
)


def container_of(pilot: Pilot, workspace: Mapping[str, Any]) -> str:
    """The container's name, "" for none."""
    return docker("ps", "--all", "--filter", f"label=coder.workspace_id={workspace['id']}", "--format", "{{.Names}}")


def inside(pilot: Pilot, workspace: Mapping[str, Any], command: str, *options: str) -> str:
    """What a command prints in the workspace."""
    return docker("exec", *options, container_of(pilot, workspace), "bash", "-c", command)


def tools_that_do_not_run(pilot: Pilot, workspace: Mapping[str, Any]) -> str:
    """Those of `TOOLS` that fail, one a line."""
    tried = "\n".join(f"({each}) &>/dev/null || echo {shlex.quote(each)}" for each in TOOLS)
    return inside(pilot, workspace, f"{tried}\nrm -rf /tmp/tools")


def agent_of(workspace: Mapping[str, Any]) -> dict[str, Any]:
    (agent,) = _agents(workspace["latest_build"])
    return agent


def _agents(build: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [agent for each in build["resources"] for agent in each.get("agents") or []]


def agent_log(pilot: Pilot, workspace: Mapping[str, Any]) -> str:
    """What the agent's log on the workspace's page says."""
    agent = agent_of(pilot.workspace(workspace["id"]))
    return "\n".join(line["output"] for line in pilot.call("GET", f"/api/v2/workspaceagents/{agent['id']}/logs"))


def build_log(pilot: Pilot, build_id: str) -> str:
    return "\n".join(line["output"] for line in pilot.call("GET", f"/api/v2/workspacebuilds/{build_id}/logs"))


def new_workspace(pilot: Pilot, name: str, template: str = "", **parameters: str) -> dict[str, Any]:
    """Ask for a workspace and wait for nothing."""
    found = [each for each in pilot.call("GET", "/api/v2/templates") if not template or each["name"] == template]
    chosen = next(each for each in found if template or each["name"] != "minimal")
    values = [{"name": key, "value": value} for key, value in parameters.items()]
    made: dict[str, Any] = pilot.call(
        "POST", f"/api/v2/organizations/{chosen['organization_id']}/members/me/workspaces",
        {"name": name, "template_id": chosen["id"], "rich_parameter_values": values},
    )  # fmt: skip
    return made


def editor_url(pilot: Pilot, workspace: Mapping[str, Any]) -> str:
    return f"http://{_editor_host(pilot, workspace)}/"


def _editor_host(pilot: Pilot, workspace: Mapping[str, Any]) -> str:
    return f"code-server--{workspace['name']}--{workspace['owner_name']}.localhost:{pilot.config['port']}"


def editor_answers(pilot: Pilot, workspace: Mapping[str, Any]) -> bool:
    """Whether code-server answers 200 through Coder."""
    # Not every machine knows where *.localhost is.
    asked = urllib.request.Request(f"{pilot.url}/healthz")  # noqa: S310  http on loopback
    asked.add_header("Host", _editor_host(pilot, workspace))
    asked.add_header("Coder-Session-Token", pilot.variables["token"])
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=10) as answer:
            # A sign-in page would answer 200 as well, and so would Coder itself.
            return answer.status == 200 and b'"status"' in answer.read()
    except (urllib.error.URLError, TimeoutError):
        return False


def until_the_editor(
    pilot: Pilot, begin: Callable[[], Any], workspace: Mapping[str, Any] | None = None
) -> tuple[float, Any]:
    """Seconds from `begin` to the editor's answer, and what `begin` gave: the workspace, unless it is another."""
    began_s = time.monotonic()
    begun = begin()
    of = workspace or begun
    try:
        eventually(
            lambda: editor_answers(pilot, of), timeout_s=EDITOR_TIMEOUT_S, interval_s=0.05, what="the editor's answer"
        )
    except AssertionError as late:
        build = pilot.workspace(of["id"])["latest_build"]
        states = ", ".join(f"{each['status']} and {each['lifecycle_state']}" for each in _agents(build))
        raise AssertionError(f"{late}; its build is {build['status']}, its agent {states or 'not there'}") from late
    return time.monotonic() - began_s, begun


def open_editor(pilot: Pilot, workspace: Mapping[str, Any], page: Page) -> None:
    """Open the editor as the owner, wait until it is drawn, and trust the project."""
    visit_editor(pilot, workspace, page)
    trust(page)


def sign_in(pilot: Pilot, context: BrowserContext, session: str = "") -> None:
    """Give the browser a session, that of the administrator unless another one is given."""
    if not session:
        pilot.call("GET", "/api/v2/users/me")
    value = session or pilot.variables["token"]
    context.add_cookies([{"name": "coder_session_token", "value": value, "url": pilot.url}])


def member_session(pilot: Pilot) -> str:
    """A new session of the account for every day."""
    outputs = pilot.outputs()
    credentials = {"email": outputs["email"], "password": outputs["password"]}
    return str(request(pilot.url, "POST", "/api/v2/users/login", credentials)["session_token"])


def visit_editor(pilot: Pilot, workspace: Mapping[str, Any], page: Page) -> None:
    """Open the editor as the owner and wait until it is drawn."""
    sign_in(pilot, page.context)
    go_to_editor(page, editor_url(pilot, workspace))


def go_to_editor(page: Page, url: str) -> None:
    """Open this URL of an editor and wait until it is drawn.

    Not for the page's `load`: an editor was drawn and never reached it, three times, on a busy machine.
    """
    waits_for = unanswered(page)
    page.goto(url, wait_until="commit")
    drawn(page, waits_for)


def unanswered(page: Page) -> set[Request]:
    """The page's requests that have no answer yet, from now on."""
    found: set[Request] = set()
    # Playwright takes no method of a built-in type.
    page.on("request", lambda request: found.add(request))
    page.on("requestfinished", lambda request: found.discard(request))
    page.on("requestfailed", lambda request: found.discard(request))
    return found


def drawn(page: Page, waits_for: Collection[Request]) -> None:
    """Wait until the page is an editor that is drawn, and reload it as a person would who sees nothing.

    Coder leads apps through a tunnel between server and agent, with gVisor's TCP on both ends. On a busy machine a
    transfer there sometimes stops in the middle of a file, for good: the page stays white until it is loaded again.

    Raises:
        AssertionError: it never is; with what it shows, and the requests that it waits for.
    """
    editor = page.locator(".monaco-workbench .explorer-folders-view")
    # Coder's own page, where its tile was quicker than code-server.
    not_yet = page.get_by_text("Retry", exact=True)
    deadline_s = time.monotonic() + DRAWN_TIMEOUT_S
    while True:
        with contextlib.suppress(TimeoutError):
            editor.or_(not_yet).first.wait_for(timeout=PATIENCE_MS)
        if editor.is_visible():
            return
        shown, open_ones = page.locator("body").inner_text()[:1000], [each.url for each in waits_for]
        if time.monotonic() > deadline_s:
            raise AssertionError(f"no editor at {page.url}: {shown!r}, without an answer: {open_ones}")
        if not not_yet.is_visible():
            warnings.warn(f"{page.url} showed {shown!r} and had no answer from {open_ones}: reloaded", stacklevel=2)
        with contextlib.suppress(TimeoutError):
            page.reload(wait_until="commit")


def trust(page: Page) -> None:
    """Answer the editor's question, at the first visit of a project, whether its code may run."""
    page.get_by_role("button", name="Yes, I trust the authors").click()
    page.locator(".monaco-dialog-box").wait_for(state="detached")


def gateway_of(pilot: Pilot) -> str:
    """The host's address on the workspaces' network."""
    return docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", f"{pilot.name}-workspaces")
