"""A workspace in a real Coder keeps its home, opens an editor with Claude Code, starts fast, and is stopped when idle.

The idle rule runs in minutes where the owner has hours; Coder looks for due deadlines once a minute.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import signal
import statistics
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests import claude_api
from tests.e2e.browser_fixture import chromium
from tests.e2e.pilot_fixture import NAME_PREFIX, Pilot, docker, eventually
from toolchain.pieces import DEBIAN_IMAGE, WORKSPACE_IMAGE

WITHOUT_CURL = f"{NAME_PREFIX}/without-curl:1"
WITHOUT_BASH = f"{NAME_PREFIX}/without-bash:1"
MINIMAL_TEMPLATE = Path(__file__).parent / "minimal-template"
STARTS = 5
START_LIMIT_S = 6.0
START_LIMIT_RATIO = 1.1
# Coder looks once a minute and cuts the moment at which it looks to the minute, then the container has to end.
STOP_DELAY_S = 150


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two images that cannot be a workspace."""
    recipes = {WITHOUT_CURL: "", WITHOUT_BASH: "RUN rm /bin/bash\n"}
    for tag, lines in recipes.items():
        folder = tmp_path_factory.mktemp("image")
        (folder / "Dockerfile").write_text(f"FROM {DEBIAN_IMAGE}\nLABEL test={tag}\n{lines}")
        docker("build", "--quiet", "--tag", tag, str(folder))
    yield
    docker("image", "rm", *recipes, check=False)


@pytest.fixture(scope="module")
def pilot(make_pilot: Callable[..., Pilot], images: None) -> Pilot:
    """A pilot whose workspaces may have any of three images."""
    made = make_pilot(workspaceImages=f"{WORKSPACE_IMAGE},{WITHOUT_CURL},{WITHOUT_BASH}")
    made.up()
    return made


def container_of(pilot: Pilot, workspace: Mapping[str, Any]) -> str:
    """The container's name, "" for none."""
    return docker("ps", "--all", "--filter", f"label=coder.workspace_id={workspace['id']}", "--format", "{{.Names}}")


def inside(pilot: Pilot, workspace: Mapping[str, Any], command: str, *options: str) -> str:
    """What a command prints in the workspace."""
    return docker("exec", *options, container_of(pilot, workspace), "bash", "-c", command)


def agent_of(workspace: Mapping[str, Any]) -> dict[str, Any]:
    (agent,) = [agent for each in workspace["latest_build"]["resources"] for agent in each.get("agents") or []]
    found: dict[str, Any] = agent
    return found


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


def editor_path(workspace: Mapping[str, Any]) -> str:
    return f"/@{workspace['owner_name']}/{workspace['name']}.main/apps/code-server/"


def editor_answers(pilot: Pilot, workspace: Mapping[str, Any]) -> bool:
    """Whether code-server answers 200 through Coder's path proxy."""
    asked = urllib.request.Request(f"{pilot.url}{editor_path(workspace)}healthz")  # noqa: S310  http on loopback
    asked.add_header("Coder-Session-Token", pilot.variables["token"])
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=10) as answer:
            # A sign-in page would answer 200 as well.
            return answer.status == 200 and "healthz" in answer.url
    except (urllib.error.URLError, TimeoutError):
        return False


def open_editor(pilot: Pilot, workspace: Mapping[str, Any], page: Page) -> None:
    """Open the editor as the owner and wait until it is drawn."""
    pilot.call("GET", "/api/v2/users/me")
    page.context.add_cookies(
        [{"name": "coder_session_token", "value": pilot.variables["token"], "url": pilot.url}]
    )
    page.goto(f"{pilot.url}{editor_path(workspace)}", timeout=60_000)
    page.wait_for_selector(".monaco-workbench .explorer-folders-view", timeout=60_000)


def gateway_of(pilot: Pilot) -> str:
    """The host's address on the workspaces' network."""
    return docker(
        "network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", f"{pilot.name}-workspaces"
    )


@contextlib.contextmanager
def git_server(folder: Path, address: str) -> Iterator[str]:
    """Serves git repositories in `folder` over plain HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_repository(folder: Path, files: Mapping[str, str]) -> None:
    """A bare repository that plain HTTP can serve."""
    work = folder.with_suffix(".work")
    work.mkdir()
    for name, content in files.items():
        (work / name).write_text(content)
        (work / name).chmod(0o755)
    author = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in (
        ["git", "init", "--quiet", "."],
        ["git", "add", "."],
        ["git", "commit", "--quiet", "--message", "First"],
        ["git", "clone", "--quiet", "--bare", ".", str(folder)],
        ["git", f"--git-dir={folder}", "update-server-info"],
    ):
        subprocess.run(command, cwd=work, env={**os.environ, **author}, check=True, capture_output=True, timeout=60)


# --- the home


def test_a_file_in_home_survives_stop_start_rename_and_a_template_update(pilot: Pilot) -> None:
    workspace = pilot.create_workspace("keeper")
    inside(pilot, workspace, "echo precious >~/file")
    volume = f"coder-{workspace['id']}-home"
    made = functools.partial(docker, "volume", "inspect", "--format", '{{.CreatedAt}} {{index .Labels "coder.owner"}}')
    created = made(volume)
    assert created.endswith(" admin")

    pilot.transition(workspace["id"], "stop")
    assert container_of(pilot, workspace) == ""
    pilot.transition(workspace["id"], "start")
    assert inside(pilot, workspace, "cat ~/file") == "precious"

    pilot.transition(workspace["id"], "stop")
    # Coder refuses a rename unless its operator allows it, for the sake of templates that lose the home by it.
    rename = f"UPDATE workspaces SET name = 'renamed' WHERE id = '{workspace['id']}'"  # noqa: S608  an id of Coder's own
    docker("exec", f"{pilot.name}-postgres", "psql", "--username", "coder", "--command", rename, "coder")
    pilot.transition(workspace["id"], "start")
    assert container_of(pilot, workspace) == f"{pilot.name}-admin-renamed"
    assert inside(pilot, workspace, "cat ~/file") == "precious"

    readme = pilot.directory / "terraform-template" / "README.md"
    readme.write_text(readme.read_text() + "\nOne more line.\n")
    pilot.up()
    template = pilot.call("GET", f"/api/v2/templates/{workspace['template_id']}")
    pilot.call(
        "POST", f"/api/v2/workspaces/{workspace['id']}/builds",
        {"transition": "start", "template_version_id": template["active_version_id"]},
    )  # fmt: skip
    eventually(
        lambda: pilot.workspace(workspace["id"])["latest_build"]["job"]["status"] == "succeeded",
        timeout_s=120, what="the update of the workspace",
    )  # fmt: skip
    assert inside(pilot, workspace, "cat ~/file") == "precious"
    assert made(volume) == created

    pilot.transition(workspace["id"], "delete")
    assert docker("volume", "ls", "--quiet", "--filter", f"name={volume}") == ""


# --- what a person sees


def test_the_editor_opens_the_clone_with_claude_code_active(
    pilot: Pilot, tmp_path: Path, artifacts: Path
) -> None:
    make_repository(tmp_path / "demo.git", {"hello.txt": "Hello from the repository.\n"})
    with git_server(tmp_path, gateway_of(pilot)) as server:
        workspace = pilot.create_workspace("seen", {"git_repository": f"{server}/demo.git"})
        eventually(lambda: inside(pilot, workspace, "ls ~/demo") == "hello.txt", timeout_s=30, what="the clone")
    assert inside(pilot, workspace, "claude --version").startswith("1.0.60")
    with chromium(tmp_path / "home") as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        open_editor(pilot, workspace, page)
        page.get_by_role("treeitem", name="hello.txt").dblclick(timeout=60_000)
        # The button is there only after the extension's start found `claude` on its PATH.
        page.get_by_role("button", name="Run Claude Code").wait_for(timeout=60_000)
        assert "Hello from the repository." in page.locator(".view-lines").inner_text().replace("\xa0", " ")
        page.screenshot(path=artifacts / "editor-with-claude-code.png")
        assert page.get_by_text("Do you trust the authors").count() == 0
        # No walk-through and no welcome page beside it.
        assert page.locator(".tabs-container").get_by_role("tab").count() == 1
    started = inside(
        pilot, workspace, "cat ~/.local/share/code-server/logs/*/exthost*/remoteexthost.log"
    )
    assert "_doActivateExtension Anthropic.claude-code" in started
    metadata = eventually(lambda: _shown_metadata(pilot, workspace), timeout_s=60, what="the agent's metadata")
    assert metadata["Claude"] == "idle"
    assert "/4 GiB" in metadata["Memory"]
    assert "/2 cores" in metadata["CPU"]
    assert "GiB" in metadata["Home disk"]
    pilot.transition(workspace["id"], "delete")


def _shown_metadata(pilot: Pilot, workspace: Mapping[str, Any]) -> dict[str, str] | None:
    """The first of the agent's metadata that the dashboard is sent, once all of it is there."""
    agent = agent_of(pilot.workspace(workspace["id"]))
    asked = urllib.request.Request(  # noqa: S310  http on loopback
        f"{pilot.url}/api/v2/workspaceagents/{agent['id']}/watch-metadata",
        headers={"Coder-Session-Token": pilot.variables["token"]},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=10) as stream:
        for line in stream:
            if line.startswith(b"data: ["):
                entries = json.loads(line.removeprefix(b"data: "))
                shown = {each["description"]["display_name"]: each["result"]["value"].strip() for each in entries}
                return shown if all(shown.values()) else None
    return None


# --- limits


def test_the_container_is_held_to_its_limits_and_comes_back_by_itself(pilot: Pilot) -> None:
    workspace = pilot.create_workspace("small", {"memory_mb": "512", "cpus": "1"})
    name = container_of(pilot, workspace)
    allowed = json.loads(docker("inspect", "--format", "{{json .HostConfig}}", name))
    assert (allowed["Memory"], allowed["MemorySwap"]) == (512 * 1024**2, 512 * 1024**2)
    assert allowed["NanoCpus"] == 1_000_000_000
    assert allowed["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert inside(pilot, workspace, "ulimit -Hu") == "8192"
    greedy = "node -e 'const kept = []; for (;;) kept.push(Buffer.alloc(64 * 1024 ** 2, 1))'; echo $?"
    assert inside(pilot, workspace, greedy) == "137"

    # As after a reboot of the host: the process is gone, and nobody but Docker starts it again.
    os.kill(int(docker("inspect", "--format", "{{.State.Pid}}", name)), signal.SIGKILL)
    eventually(
        lambda: docker("inspect", "--format", "{{.RestartCount}} {{.State.Running}}", name) == "1 true",
        timeout_s=60, what="the restart of the container",
    )  # fmt: skip
    eventually(lambda: editor_answers(pilot, workspace), timeout_s=90, what="the editor after the restart")
    pilot.transition(workspace["id"], "delete")


# --- bad input


@pytest.mark.parametrize(
    ("parameter", "value", "reason"),
    [
        ("memory_mb", "16385", "Memory must be between 512 and 16384 MiB"),
        ("keep_alive_hours", "13", "The keep-alive limit must be between 0 and 12 hours"),
        ("git_repository", "https://me:password@example.com/repo", "without a password in it"),
    ],
)
def test_a_parameter_beyond_its_bounds_is_refused_at_once(
    pilot: Pilot, parameter: str, value: str, reason: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        new_workspace(pilot, "refused", **{parameter: value})
    assert refused.value.code == 400
    assert reason in refused.value.read().decode()


def test_an_unreachable_repository_and_failing_dotfiles_are_in_the_log_of_a_workspace_that_works(
    pilot: Pilot, tmp_path: Path
) -> None:
    make_repository(tmp_path / "dotfiles.git", {"install.sh": "#!/bin/sh\necho 'no such theme' >&2\nexit 7\n"})
    with git_server(tmp_path, gateway_of(pilot)) as server:
        workspace = pilot.create_workspace(
            "hampered",
            {"git_repository": f"{server}/missing.git", "dotfiles_repository": f"{server}/dotfiles.git"},
        )
        eventually(
            lambda: "dotfiles.git were not applied" in agent_log(pilot, workspace), timeout_s=60, what="the agent's log"
        )
    log = agent_log(pilot, workspace)
    assert "/missing.git could not be cloned" in log
    assert "no such theme" in log
    assert editor_answers(pilot, workspace)
    pilot.transition(workspace["id"], "delete")


def test_an_image_without_curl_says_so_in_the_agents_log(pilot: Pilot) -> None:
    workspace = new_workspace(pilot, "curlless", image=WITHOUT_CURL)
    eventually(
        lambda: "it has no curl" in agent_log(pilot, workspace), timeout_s=60, what="the reason in the agent's log"
    )
    pilot.transition(workspace["id"], "delete")


def test_an_image_without_bash_says_so_in_the_builds_log(pilot: Pilot) -> None:
    workspace = new_workspace(pilot, "bashless", image=WITHOUT_BASH)
    build = workspace["latest_build"]["id"]
    eventually(
        lambda: pilot.call("GET", f"/api/v2/workspacebuilds/{build}")["job"]["status"] == "failed",
        timeout_s=60, what="the failure of the build",
    )  # fmt: skip
    assert '"bash": executable file not found' in build_log(pilot, build)
    pilot.transition(workspace["id"], "delete")


# --- the idle rule


@dataclass
class Watched:
    """One workspace of the idle rule: when its deadline was first, and when it was found stopped (time.time())."""

    workspace: dict[str, Any]
    first_deadline_s: float
    stopped_s: float = 0.0


def deadline_s(workspace: Mapping[str, Any]) -> float:
    moment: float = datetime.fromisoformat(workspace["latest_build"]["deadline"].replace("Z", "+00:00")).timestamp()
    return moment


@pytest.fixture(scope="module")
def evening(make_pilot: Callable[..., Pilot], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Watched]:
    """Four workspaces, left to themselves until well past their first deadlines.

    Nobody is connected to any but `tab`, which is open in a browser. In `working` the real Claude Code is in a long
    turn that uses no CPU. In `parked` a Claude waits for its user. In `capped` one works on past its keep-alive limit.
    """
    pilot = make_pilot(idleTtl="2m", idleBump="2m")
    pilot.up()
    seen = {}
    for name in ("parked", "capped", "working", "tab"):
        workspace = pilot.create_workspace(name)
        seen[name] = Watched(workspace, deadline_s(workspace))
    with contextlib.ExitStack() as open_things:
        browser = open_things.enter_context(chromium(tmp_path_factory.mktemp("browser") / "home"))
        open_editor(pilot, seen["tab"].workspace, browser.new_page())
        api = open_things.enter_context(claude_api.serve("sleep 30", commands=1000, address=gateway_of(pilot)))
        inside(
            pilot, seen["working"].workspace, "cd ~/project && exec claude -p Work --allowedTools Bash",
            "--detach", "--env", f"ANTHROPIC_BASE_URL={api}", "--env", "ANTHROPIC_API_KEY=sk-test",
        )  # fmt: skip
        inside(pilot, seen["parked"].workspace, "exec -a claude sleep 3600", "--detach")
        busy = "while :; do for _ in {1..300000}; do :; done; sleep 0.1; done"
        inside(pilot, seen["capped"].workspace, f"exec -a claude bash -c '{busy}'", "--detach")
        inside(pilot, seen["capped"].workspace, "pkill -f 'keep-alive.sh watch'")
        inside(
            pilot, seen["capped"].workspace, "exec /opt/coder-pilot/keep-alive.sh watch",
            "--detach", "--env", "CODER_PILOT_KEEP_ALIVE_INTERVAL_S=10", "--env", "CODER_PILOT_KEEP_ALIVE_CAP_S=45",
        )  # fmt: skip

        def stopped(name: str) -> bool:
            watched = seen[name]
            watched.workspace = pilot.workspace(watched.workspace["id"])
            build = watched.workspace["latest_build"]
            if not watched.stopped_s and build["transition"] == "stop" and build["job"]["status"] == "succeeded":
                watched.stopped_s = time.time()
            return bool(watched.stopped_s)

        last_s = max(watched.first_deadline_s for watched in seen.values()) + STOP_DELAY_S
        # `capped` has its first deadline moved by its short run, to 45 s and the bump of 2 min after it.
        eventually(
            lambda: stopped("parked") & stopped("capped") and time.time() > last_s,
            timeout_s=480, interval_s=2, what="the end of the idle workspaces",
        )  # fmt: skip
        for name in ("working", "tab"):
            stopped(name)
    return seen


def test_an_idle_workspace_with_a_parked_claude_is_stopped_at_its_deadline(evening: dict[str, Watched]) -> None:
    watched = evening["parked"]
    assert watched.first_deadline_s <= watched.stopped_s <= watched.first_deadline_s + STOP_DELAY_S
    assert docker("ps", "--all", "--quiet", "--filter", f"label=coder.workspace_id={watched.workspace['id']}") == ""
    assert docker("volume", "ls", "--quiet", "--filter", f"name=coder-{watched.workspace['id']}-home") != ""


def test_a_working_claude_keeps_its_workspace_past_the_deadline(evening: dict[str, Watched]) -> None:
    watched = evening["working"]
    assert watched.stopped_s == 0
    assert deadline_s(watched.workspace) > watched.first_deadline_s + 60


def test_an_open_tab_keeps_its_workspace_past_the_deadline(evening: dict[str, Watched]) -> None:
    watched = evening["tab"]
    assert watched.stopped_s == 0
    assert deadline_s(watched.workspace) > watched.first_deadline_s + 60


def test_a_claude_that_works_on_past_its_cap_keeps_its_workspace_no_longer(evening: dict[str, Watched]) -> None:
    watched = evening["capped"]
    assert watched.stopped_s > watched.first_deadline_s, "it was not kept at all"
    assert watched.stopped_s <= watched.first_deadline_s + 45 + 120 + STOP_DELAY_S


# --- speed


def push_minimal_template(pilot: Pilot) -> None:
    """The yardstick, straight through Coder's API."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(MINIMAL_TEMPLATE / "main.tf", "main.tf")
    sent = urllib.request.Request(  # noqa: S310  http on loopback
        f"{pilot.url}/api/v2/files", method="POST", data=archive.getvalue(),
        headers={"Content-Type": "application/x-tar", "Coder-Session-Token": pilot.variables["token"]},
    )  # fmt: skip
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sent, timeout=30) as answer:
        file = json.loads(answer.read())["hash"]
    organization = pilot.call("GET", "/api/v2/users/me")["organization_ids"][0]
    values = {"image": WORKSPACE_IMAGE, "network": f"{pilot.name}-workspaces", "name_prefix": pilot.name}
    version = pilot.call(
        "POST", f"/api/v2/organizations/{organization}/templateversions",
        {
            "storage_method": "file", "file_id": file, "provisioner": "terraform",
            "user_variable_values": [{"name": key, "value": value} for key, value in values.items()],
        },
    )  # fmt: skip
    eventually(
        lambda: pilot.call("GET", f"/api/v2/templateversions/{version['id']}")["job"]["status"] == "succeeded",
        timeout_s=60, what="the import of the minimal template",
    )  # fmt: skip
    pilot.call(
        "POST", f"/api/v2/organizations/{organization}/templates",
        {"name": "minimal", "template_version_id": version["id"]},
    )  # fmt: skip


@pytest.mark.speed
def test_a_start_is_fast_and_hardly_slower_than_the_minimal_templates(pilot: Pilot) -> None:
    pilot.call("GET", "/api/v2/users/me")
    push_minimal_template(pilot)
    (ours,) = [each["name"] for each in pilot.call("GET", "/api/v2/templates") if each["name"] != "minimal"]
    create_s: dict[str, list[float]] = {ours: [], "minimal": []}
    start_s: dict[str, list[float]] = {ours: [], "minimal": []}

    def timed(begin: Callable[[], Any], workspace: Mapping[str, Any] | None = None) -> tuple[float, Any]:
        began_s = time.monotonic()
        begun = begin()
        eventually(
            lambda: editor_answers(pilot, workspace or begun), timeout_s=60, interval_s=0.05, what="the editor's answer"
        )
        return time.monotonic() - began_s, begun

    for number in range(STARTS):
        for template in (ours, "minimal"):
            name = f"speed-{template[:4]}-{number}"
            took_s, workspace = timed(functools.partial(new_workspace, pilot, name, template))
            create_s[template].append(took_s)
            pilot.transition(workspace["id"], "stop")
            start = {"transition": "start"}
            build = f"/api/v2/workspaces/{workspace['id']}/builds"
            took_s, _ = timed(functools.partial(pilot.call, "POST", build, start), workspace)
            start_s[template].append(took_s)
            eventually(
                lambda: pilot.workspace(workspace["id"])["latest_build"]["job"]["status"] == "succeeded",  # noqa: B023
                timeout_s=60, what="the end of the build",
            )  # fmt: skip
            pilot.transition(workspace["id"], "delete")

    created, started = ({name: statistics.median(each) for name, each in of.items()} for of in (create_s, start_s))
    print(f"create to 200: {create_s}, start to 200: {start_s}")
    assert created[ours] <= START_LIMIT_S
    assert created[ours] <= START_LIMIT_RATIO * created["minimal"]
    assert started[ours] <= START_LIMIT_RATIO * max(created[ours], started["minimal"])
