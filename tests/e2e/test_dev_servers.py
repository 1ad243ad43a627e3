"""A dev server in a workspace opens at the first try, with its websocket: at a name of its own, and below a path.

The table in docs/use.md was measured by hand in the same way, with more servers and over the tailnet too.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.e2e import hostile_page
from tests.e2e.browser_fixture import chromium
from tests.e2e.pilot_fixture import Pilot, docker, eventually
from tests.e2e.retirement_fixture import command
from tests.e2e.workspace_fixture import agent_of, container_of, inside, member_session, sign_in

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]

VITE_PORT, LOG_IN_PORT = 5173, 8000
PATH = "/@admin/demo.main/apps/code-server"
PAGE = '<title>served by Vite</title><script type="module" src="/main.js"></script><p>waiting</p>'
MAIN = 'import { word } from "./word.js"\ndocument.querySelector("p").textContent = word\n'
ACCEPTED = 'import.meta.hot.accept("./word.js", (now) => (document.querySelector("p").textContent = now.word))\n'
LOG_IN = f"""
require("http").createServer((asked, answer) => {{
  const known = (asked.headers.cookie || "").includes("who=ann")
  if (asked.url.endsWith("/log-in") && asked.method === "POST") {{
    answer.writeHead(303, {{ "Set-Cookie": "who=ann; Path=/", Location: "/" }}).end()
  }} else if (known) answer.end("hello ann")
  else if (asked.url.endsWith("/log-in")) {{
    answer.setHeader("Content-Type", "text/html").end("<form method=post action=/log-in><button>in</button></form>")
  }} else answer.writeHead(302, {{ Location: "/log-in" }}).end()
}}).listen({LOG_IN_PORT}, "127.0.0.1")
"""


@pytest.fixture(scope="module")
def vite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vite from npm, with a page; a workspace need not reach the registry as this machine does."""
    folder = tmp_path_factory.mktemp("vite")
    subprocess.run(["npm", "install", "--silent", "vite"], cwd=folder, check=True, timeout=300)
    for name, text in {"index.html": PAGE, "main.js": MAIN + ACCEPTED, "word.js": word("first")}.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def page(pilot: Pilot, tmp_path: Path) -> Iterator[Page]:
    """A page of the signed-in owner."""
    with chromium(tmp_path / "home", only=pilot.url) as browser:
        context = browser.new_context()
        sign_in(pilot, context)
        yield context.new_page()


def word(text: str) -> str:
    return f'export const word = "{text}"\n'


def as_agent(pilot: Pilot, workspace: dict[str, Any], folder: str, program: str) -> None:
    """Run the program in the background with the environment that the agent gives."""
    script = "/tmp/coder-pilot/keep-alive.sh"
    of_agent = inside(pilot, workspace, f"grep -lsz '^{script}$' /proc/[0-9]*/cmdline | head -n 1 | xargs dirname")
    given = inside(pilot, workspace, f"cat {of_agent}/environ").split("\0")
    options = [each for variable in given if "=" in variable for each in ("--env", variable)]
    container = container_of(pilot, workspace)
    line = f"cd {folder} && exec {program} >/tmp/program.log 2>&1"
    docker("exec", "--detach", *options, container, "bash", "-c", line)


def serve_vite(pilot: Pilot, workspace: dict[str, Any], vite: Path, *options: str) -> None:
    inside(pilot, workspace, "rm -rf ~/vite")
    docker("cp", str(vite), f"{container_of(pilot, workspace)}:/home/coder/vite")
    inside(pilot, workspace, "chown --recursive coder /home/coder/vite", "--user", "root")
    as_agent(pilot, workspace, "~/vite", f"npx vite {' '.join(options)}")
    eventually(lambda: "Local:" in inside(pilot, workspace, "cat /tmp/program.log"), timeout_s=60, what="Vite is ready")


def see_a_change_without_a_reload(pilot: Pilot, workspace: dict[str, Any], page: Page, url: str) -> None:
    with page.expect_websocket() as opening:
        page.goto(url)
    assert opening.value.url.startswith(url.replace("http", "ws"))
    page.get_by_text("first").wait_for()
    page.evaluate("window.never_reloaded = true")
    # Vite listens only when its websocket's page has said so.
    page.wait_for_function("performance.getEntriesByType('resource').some((each) => each.name.includes('client'))")

    def changed() -> bool:
        inside(pilot, workspace, f"cat >~/vite/word.js <<'JS'\n{word('second')}JS")
        return page.get_by_text("second").is_visible()

    eventually(changed, timeout_s=60, interval_s=1, what="the change in the page")
    assert page.evaluate("window.never_reloaded") is True


def test_vite_without_a_flag_and_a_plain_log_in_work_at_names_of_their_own(
    pilot: Pilot, vite: Path, page: Page
) -> None:
    workspace = pilot.create_workspace("demo")
    serve_vite(pilot, workspace, vite)
    name = f"main--demo--admin.localhost:{pilot.config['port']}"
    see_a_change_without_a_reload(pilot, workspace, page, f"http://{VITE_PORT}--{name}/")
    docker("exec", "--detach", container_of(pilot, workspace), "node", "-e", LOG_IN)
    url = f"http://{LOG_IN_PORT}--{name}/"
    eventually(
        lambda: inside(pilot, workspace, f"curl -sL http://127.0.0.1:{LOG_IN_PORT}/"), timeout_s=30, what="the log-in"
    )
    page.goto(url)
    assert page.url == f"{url}log-in"
    page.get_by_role("button").click()
    page.get_by_text("hello ann").wait_for()
    assert page.url == url


def test_vite_with_its_base_works_below_the_editors_path_on_an_address_without_names_below_it(
    pilot: Pilot, vite: Path, page: Page
) -> None:
    # Any name: the browser goes to loopback, where Coder answers to all.
    pilot.write_config(accessUrl=f"http://framework:{pilot.config['port']}")
    (workspace,) = pilot.call("GET", "/api/v2/workspaces")["workspaces"]
    pilot.transition(workspace["id"], "stop")
    command(pilot, "up")
    assert PATH in command(pilot, "workspace", "demo")
    workspace = pilot.workspace(workspace["id"])
    base = f"{PATH}/absproxy/{VITE_PORT}/"
    serve_vite(pilot, workspace, vite, "--base", base)
    see_a_change_without_a_reload(pilot, workspace, page, f"{pilot.url}{base}")


def test_where_apps_are_paths_a_page_may_do_what_its_viewer_may_and_a_members_ends_at_his_own_workspaces(
    pilot: Pilot, tmp_path: Path
) -> None:
    """As docs/domain.md says of the tailnet's own name."""
    pilot.write_config(accessUrl=f"http://framework:{pilot.config['port']}")
    command(pilot, "up")
    command(pilot, "workspace", "page")
    pilot.create_workspace("page")
    found = {each["owner_name"]: each for each in pilot.call("GET", "/api/v2/workspaces?q=name:page")["workspaces"]}
    for workspace in found.values():
        hostile_page.serve(container_of(pilot, workspace))
    with chromium(tmp_path / "home", only=pilot.url) as browser:
        for viewer, other, session, rights in (
            ("dev", found["admin"], member_session(pilot), []),
            ("admin", found["dev"], "", hostile_page.RIGHTS),
        ):
            context = browser.new_context()
            sign_in(pilot, context, session)
            page = context.new_page()
            page.goto(f"{pilot.url}/@{viewer}/page.main/apps/code-server/")
            ways = hostile_page.ways_to_coder(
                page, coder=pilot.url, viewer=viewer, owner=viewer, workspace="page",
                agent=agent_of(found[viewer])["id"],
            )  # fmt: skip
            assert (viewer, len(ways)) == (viewer, 10)
            assert hostile_page.beyond(
                page, coder=pilot.url, workspace=other["id"], agent=agent_of(other)["id"]
            ) == list(rights)
            # Coder shows no administrator the path apps of others, whose pages would have all his rights.
            page.goto(f"{pilot.url}/@{other['owner_name']}/page.main/apps/code-server/")
            assert hostile_page.MARK not in page.content()
