"""A person with a browser gets from what `make up` prints to Claude in a project, and finds their work the next day."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Page

from tests.e2e import hostile_page
from tests.e2e.browser_fixture import chromium
from tests.e2e.clone_fixture import Clone, cloned
from tests.e2e.git_server import git_server, make_repository
from tests.e2e.parts import WORKSPACE_IMAGE
from tests.e2e.pilot_fixture import NAME_PREFIX, docker, request
from tests.e2e.workspace_fixture import agent_of, drawn, go_to_editor, trust, unanswered
from toolchain.pins import version

EMAIL = "dev@framework.local"
ADMIN = "admin@framework.local"
TIMEOUT_MS = 120_000
# A picture for the README is taken at the size at which it is shown.
VIEWPORT = {"width": 1280, "height": 800}

# The image that a project with a database would name. Built once: from then on the engine's cache has it.
IMAGE = f"{NAME_PREFIX}/workspace-with-redis:1"
DOCKERFILE = f"""
FROM {WORKSPACE_IMAGE}
RUN sudo apt-get update && sudo apt-get install --yes --no-install-recommends redis-server
"""
# Shows what the submodule has, what Git LFS and what the database.
DEV_SERVER = """
import http.server, pathlib, subprocess

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        stored = subprocess.run(["redis-cli", "get", "word"], capture_output=True, text=True).stdout
        text = pathlib.Path("module/file").read_text() + pathlib.Path("picture").read_text() + stored
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

server = http.server.HTTPServer(("127.0.0.1", 8000), Page)
print("Open http://127.0.0.1:8000", flush=True)
server.serve_forever()
"""
# It writes its data when it is told to end, and loses the newest when it is killed.
START_DATABASE = "mkdir -p ~/data && redis-server --dir ~/data --daemonize yes >/dev/null && echo begun"
SHOWN = "From the submodule.\nFrom Git LFS.\nkept\n"

# What the console may say, by a pattern of the address or of the text, and why. Nothing else.
EXPECTED = {
    r"/api/v2/users/me(/appearance)?$": "401, before somebody signed in",
    r"/api/v2/deployment/stats$": "403, for administrators",
    r"/api/v2/(appearance|entitlements)$": "404, a part of Coder that needs a licence",
    r"/settings/workspace-sharing$": "404, the same",
    r"/workspaces/[0-9a-f-]+/acl$": "403, the same",
    r"/workspaceagents/[0-9a-f-]+/containers\?": "403, dev containers are switched off",
    r"/node_modules/vsda/": "404, a part of VS Code that code-server may not ship",
    "authentication provider 'github'": "VS Code's own sign-in, which code-server does not have",
    "CloseEvent": "an editor that is still open when its workspace stops",
    "is already registered": "VS Code, on a busy machine, when a project is trusted while its extensions still start",
    r"open-vsx\.org": "no way to the extension market on a machine without the internet",
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    docker("build", "--tag", IMAGE, "-", stdin=DOCKERFILE)
    with cloned(tmp_path_factory.mktemp("door"), "browser", IMAGE) as made:
        yield made


@pytest.fixture(scope="module")
def printed(clone: Clone) -> dict[str, str]:
    """The lines of the box that `make up` prints, by their first words."""
    lines = clone.make("up").stdout.splitlines()
    rows = (re.split(r"\s{2,}", line.strip("│ "), maxsplit=1) for line in lines if line.startswith("│"))
    return {row[0]: row[1] for row in rows if len(row) == 2}


@pytest.fixture
def said() -> list[str]:
    """Errors in the console that nobody expects."""
    return []


@pytest.fixture
def visit(printed: dict[str, str], tmp_path: Path, said: list[str]) -> Iterator[Callable[[], Page]]:
    """An empty page of somebody who has not been here before: without a session or anything else that is kept."""

    def note(message: ConsoleMessage) -> None:
        address = message.location.get("url", "")
        known = any(re.search(pattern, each) for pattern in EXPECTED for each in (address, message.text))
        if message.type == "error" and not known:
            said.append(f"{message.text} ({address})")

    def watch(page: Page) -> None:
        page.on("console", note)
        page.on("pageerror", lambda error: said.append(str(error)))

    with chromium(tmp_path / "browser", only=printed["Coder"]) as browser:

        def visit() -> Page:
            context = browser.new_context(viewport=VIEWPORT)
            context.set_default_timeout(TIMEOUT_MS)
            context.on("page", watch)
            return context.new_page()

        yield visit


def sign_in(page: Page, password: str, email: str = EMAIL) -> None:
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign In").click()


def status(page: Page, name: str) -> None:
    """Wait until the workspace's page says that it is `name`."""
    page.get_by_text(re.compile(rf"{name}$")).first.wait_for()


def open_tile(page: Page) -> None:
    """Open the editor by its tile on the workspace's page, in the same tab, and wait until it is drawn."""
    # The agent is connected when it has told the memory, and code-server answers when its icon has taken the spinner's
    # place. Before that the page draws the tile anew now and then, and a click is lost.
    page.get_by_text("/2 GiB").wait_for()
    tile = page.get_by_role("link", name="code-server")
    tile.locator("img").wait_for()
    waits_for = unanswered(page)
    tile.click()
    page.wait_for_url(re.compile("^http://code-server--"), wait_until="commit")
    drawn(page, waits_for)


def in_terminal(editor: Page, command: str, answer: str) -> None:
    """Type a command into the editor's terminal and wait for its answer there."""
    rows = editor.locator(".terminal-wrapper.active .xterm-rows")
    if rows.count() == 0:
        editor.keyboard.press("Control+Backquote")
    rows.get_by_text("$").first.wait_for()
    # The first: one more is above long output, with the command that it is of.
    editor.locator(".terminal-wrapper.active .xterm-helper-textarea").first.focus()
    editor.keyboard.type(f"{command}\n")
    # A line of its own: the command itself is shown as well.
    rows.locator("div").filter(has_text=re.compile(rf"^\s*{re.escape(answer)}\s*$")).first.wait_for()


def see_the_dev_server(editor: Page, port: int) -> None:
    """Start the dev server in the terminal and open it by its address in docs/use.md."""
    in_terminal(editor, "python3 serve.py", "Open http://127.0.0.1:8000")
    page = editor.context.new_page()
    page.goto(f"http://8000--main--first--dev.localhost:{port}/")
    assert page.text_content("body") == SHOWN
    page.close()


def test_a_person_gets_from_the_printed_url_to_claude_in_a_project_and_finds_it_again_after_a_stop(
    clone: Clone, printed: dict[str, str], visit: Callable[[], Page], tmp_path: Path, said: list[str], artifacts: Path
) -> None:
    password = clone.make("password").stdout.strip()
    assert printed["sign in as"] == EMAIL
    module = make_repository(tmp_path / "module.git", {"file": "From the submodule.\n"})
    network = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", f"{clone.name}-workspaces")
    page = visit()
    page.goto(printed["Coder"])
    sign_in(page, password)

    page.get_by_role("button", name="New workspace").click()
    # The menu's; the page has the same as long as there is no workspace.
    page.locator("a[href='/templates/code-server/workspace']").last.click()
    page.get_by_label("Workspace name").fill("first")
    with git_server(tmp_path, network) as server:
        make_repository(
            tmp_path / "demo.git",
            {"hello.py": "print('Hello from the repository.')\n", "serve.py": DEV_SERVER},
            submodules={"module": (f"{server}/module.git", module)},
            lfs={"picture": "From Git LFS.\n"},
        )
        page.get_by_label("Git repository").fill(f"{server}/demo.git")
        page.get_by_label("Memory (MiB)").fill("2048")
        page.get_by_role("button", name="Create workspace").click()
        page.wait_for_url("**/@dev/first")
        status(page, "Running")
        open_tile(page)
        trust(page)
        page.get_by_role("treeitem", name="hello.py").dblclick()
    # The button is there only after the extension's start found `claude` on its PATH.
    page.get_by_role("button", name="Run Claude Code").wait_for()
    in_terminal(page, "claude --version", f"{version('claude-code')} (Claude Code)")
    in_terminal(page, "echo kept >note.txt; cat note.txt", "kept")
    page.screenshot(path=artifacts / "editor.png")
    in_terminal(
        page, "git config --global user.name Ann && git config --global user.email ann@example.com; echo $?", "0"
    )
    in_terminal(
        page, "git add note.txt && git commit --quiet --message 'Keep' && git log -1 --format='%an: %s'", "Ann: Keep"
    )
    in_terminal(page, "git status", "nothing to commit, working tree clean")
    in_terminal(page, START_DATABASE, "begun")
    in_terminal(page, "redis-cli set word kept", "OK")
    see_the_dev_server(page, clone.port)
    dashboard = page.context.new_page()
    assert said == []
    dashboard.goto(f"{printed['Coder']}/@dev/first")
    dashboard.get_by_text("/2 GiB").wait_for()
    dashboard.screenshot(path=artifacts / "dashboard.png")
    dashboard.get_by_role("button", name="Stop", exact=True).click()
    status(dashboard, "Stopped")
    # An editor complains when its workspace stops, and when it is closed.
    page.close()
    said.clear()

    page = visit()
    page.goto(f"{printed['Coder']}/@dev/first")
    sign_in(page, password)
    page.get_by_role("button", name="Start", exact=True).click()
    status(page, "Running")
    open_tile(page)
    trust(page)
    page.get_by_role("treeitem", name="note.txt").dblclick()
    # Extensions that start replace a terminal that was opened before, with what is typed there.
    page.get_by_role("button", name="Run Claude Code").wait_for()
    in_terminal(page, "cat note.txt", "kept")
    in_terminal(page, "git log -1 --format='%an: %s'", "Ann: Keep")
    in_terminal(page, START_DATABASE, "begun")
    see_the_dev_server(page, clone.port)
    assert said == []


def test_the_url_of_make_workspace_leads_through_the_log_in_to_the_editor(
    clone: Clone, visit: Callable[[], Page], said: list[str]
) -> None:
    url = clone.make("workspace", "NAME=second").stdout.strip()
    password = clone.make("password").stdout.strip()
    page = visit()
    waits_for = unanswered(page)
    page.goto(url)
    sign_in(page, password)
    drawn(page, waits_for)
    assert urlsplit(page.url).netloc == urlsplit(url).netloc == f"code-server--second--dev.localhost:{clone.port}"
    # Signed in already, it leads there at once.
    again = page.context.new_page()
    go_to_editor(again, url)
    # A quiet first visit: nothing beside the explorer, no chat that asks for an account elsewhere.
    assert page.get_by_text("Build with Agent").count() == 0
    assert page.locator(".auxiliarybar").is_hidden()
    assert said == []


def test_a_page_of_a_workspace_has_no_way_to_coder(clone: Clone, visit: Callable[[], Page]) -> None:
    """Neither as its owner sees it nor as the administrator; seen to have all of them where apps are paths."""
    editor = clone.make("workspace", "NAME=second").stdout.strip()
    port = editor.replace("code-server--", f"{hostile_page.PORT}--main--")
    hostile_page.serve(f"{clone.name}.dev.second")
    for viewer, email, words in (("dev", EMAIL, ()), ("admin", ADMIN, ("WHO=admin",))):
        password = clone.make("password", *words).stdout.strip()
        credentials = {"email": email, "password": password}
        session = request(clone.url, "POST", "/api/v2/users/login", credentials)["session_token"]
        workspaces = request(clone.url, "GET", "/api/v2/workspaces?q=name:second", token=session)["workspaces"]
        page = visit()
        page.goto(clone.url)
        sign_in(page, password, email)
        page.get_by_role("button", name="New workspace").wait_for()
        for url in (editor, port):
            page.goto(url)
            found = hostile_page.ways_to_coder(
                page, coder=clone.url, viewer=viewer, owner="dev", workspace="second",
                agent=agent_of(workspaces[0])["id"],
            )  # fmt: skip
            assert (viewer, url, found) == (viewer, url, [])
            # Nor does it show the log-in page as its own; what Coder answers to anybody it may.
            assert [hostile_page.frames(page, f"{clone.url}{path}") for path in ("/healthz", "/login")] == [True, False]
        # The door itself is where it was, and the session too.
        page.goto(f"{clone.url}/api/v2/users/me")
        assert f'"username":"{viewer}"' in page.content().replace(" ", "")
