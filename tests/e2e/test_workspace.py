"""A workspace in a real Coder keeps its home, opens an editor with Claude Code, and starts fast."""

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
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import claude_api
from tests.e2e.browser_fixture import chromium
from tests.e2e.claude_fixture import answer_first_questions, open_tile, say
from tests.e2e.git_server import git_server, make_repository
from tests.e2e.parts import DEBIAN_IMAGE, WORKSPACE_IMAGE
from tests.e2e.pilot_fixture import CHECKOUT, NAME_PREFIX, Pilot, docker, eventually, free_port
from tests.e2e.ssh_host import ssh_host
from tests.e2e.workspace_fixture import (
    agent_log,
    agent_of,
    build_log,
    container_of,
    editor_answers,
    gateway_of,
    inside,
    new_workspace,
    tools_that_do_not_run,
    trust,
    until_the_editor,
    visit_editor,
)
from toolchain.pins import version

# Two more names of the workspace image: what is built from them is replaced by an image that cannot be a workspace.
REPLACED = {
    f"{NAME_PREFIX}/without-curl:1": f"FROM {DEBIAN_IMAGE}\n",
    f"{NAME_PREFIX}/without-bash:1": f"FROM {DEBIAN_IMAGE}\nRUN rm /bin/bash\n",
}
WITHOUT_CURL, WITHOUT_BASH = REPLACED
# One that is down. Git may ask the test's own hosts without it, by their addresses.
PROXY = {
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "NO_PROXY": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
}
MINIMAL_TEMPLATE = Path(__file__).parent / "minimal-template"
STARTS = 5
START_LIMIT_S = 6.0
START_LIMIT_RATIO = 1.1


@pytest.fixture(scope="module")
def bases() -> Iterator[str]:
    """What the setting `workspaceImages` names."""
    for name in REPLACED:
        docker("tag", WORKSPACE_IMAGE, name)
    yield ",".join((WORKSPACE_IMAGE, *REPLACED))
    docker("image", "rm", *REPLACED, check=False)


@pytest.fixture(scope="module")
def pilot(make_pilot: Callable[..., Pilot], bases: str) -> Pilot:
    """A pilot with a time zone and a proxy that nothing of ours may need; workspaces may have any of three images."""
    made = make_pilot(workspaceImages=bases, serviceEnvironment=json.dumps(PROXY), timezone="Asia/Tokyo")
    made.up()
    return made


@pytest.fixture(scope="module")
def demo(pilot: Pilot) -> dict[str, Any]:
    """A workspace that runs, called as in docs/use.md."""
    return pilot.create_workspace("demo")


def replace_image(pilot: Pilot, base: str, folder: Path) -> None:
    """Put another image in the place of what `up` built from `base`: it would have refused to build it."""
    labels = [f"coder-pilot.stack={pilot.name}", f"coder-pilot.base={base}"]
    filters = [each for label in labels for each in ("--filter", f"label={label}")]
    built = docker("image", "ls", *filters, "--format", "{{.Repository}}:{{.Tag}}")
    (folder / "Dockerfile").write_text(REPLACED[base])
    # With the labels, by which the pilot's images are removed in the end.
    options = [each for label in labels for each in ("--label", label)]
    docker("build", "--quiet", "--tag", built, *options, str(folder))


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

    # One of the person's own, and one that was started with sudo.
    for user in ("coder", "root"):
        ends = f"trap 'sleep 2; echo in order >/home/coder/project/{user}; exit' TERM; while :; do sleep 0.1; done"
        inside(pilot, workspace, ends, "--detach", "--user", user)
    taken = new_workspace(pilot, "taken")
    with pytest.raises(urllib.error.HTTPError) as refused:
        pilot.call("PATCH", f"/api/v2/workspaces/{workspace['id']}", {"name": "taken"})
    assert refused.value.code == 409
    assert 'Workspace \\"taken\\" already exists.' in refused.value.read().decode()
    # A running one too: its container follows at the next start.
    pilot.call("PATCH", f"/api/v2/workspaces/{workspace['id']}", {"name": "renamed"})
    pilot.transition(workspace["id"], "stop")
    pilot.transition(workspace["id"], "start")
    assert container_of(pilot, workspace) == f"{pilot.name}.admin.renamed"
    assert inside(pilot, workspace, "cat ~/file ~/project/*").splitlines() == ["precious", "in order", "in order"]
    pilot.transition(taken["id"], "delete")

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

# What runs by itself in a folder that is trusted.
HOSTILE = {
    ".vscode/settings.json": json.dumps({"task.allowAutomaticTasks": "on"}),
    ".vscode/tasks.json": json.dumps(
        {
            "version": "2.0.0",
            "tasks": [
                {
                    "label": "hostile", "type": "shell", "command": "touch ~/ran",
                    "runOptions": {"runOn": "folderOpen"}, "presentation": {"reveal": "never"},
                }
            ],
        }
    ),
}  # fmt: skip


@pytest.mark.drill
def test_the_editor_opens_the_clone_with_claude_code_active(pilot: Pilot, tmp_path: Path, artifacts: Path) -> None:
    module = make_repository(tmp_path / "module.git", {"file": "Hello from the submodule.\n"})
    with git_server(tmp_path, gateway_of(pilot)) as server:
        make_repository(
            tmp_path / "demo.git",
            {"hello.txt": "Hello from the repository.\n", **HOSTILE},
            submodules={"module": (f"{server}/module.git", module)},
        )
        workspace = pilot.create_workspace("seen", {"git_repository": f"{server}/demo.git#main"})
        eventually(lambda: inside(pilot, workspace, "cat ~/demo/module/file || true"), timeout_s=30, what="the clone")
    assert inside(pilot, workspace, "ls ~/demo") == "hello.txt\nmodule"
    commit = "cd ~/demo && git commit --quiet --allow-empty --message x && git log -1 --format='%an <%ae>'"
    assert inside(pilot, workspace, commit) == "admin <admin@framework.local>"
    own = "git config --global user.name Own && git config --global user.email own@example.com"
    assert inside(pilot, workspace, f"{own} && {commit}") == "Own <own@example.com>"
    # What the agent gives to everything that it starts.
    names = "'^(no_proxy|NO_PROXY|GIT_AUTHOR.*|GIT_CONFIG_SYSTEM)='"
    given = inside(pilot, workspace, f"tr '\\0' '\\n' </proc/$(pgrep -of code-server)/environ | grep -E {names} | sort")
    direct = f"{PROXY['NO_PROXY']},localhost,127.0.0.1,::1,host.docker.internal,coder"
    assert given.splitlines() == [
        "GIT_CONFIG_SYSTEM=/tmp/coder-pilot/gitconfig", f"NO_PROXY={direct}", f"no_proxy={direct}",
    ]  # fmt: skip
    assert inside(pilot, workspace, "claude --version") == f"{version('claude-code')} (Claude Code)"
    # A first start asks for these.
    answered = {"hasCompletedOnboarding": True, "projects": {"/home/coder/demo": {"hasTrustDialogAccepted": True}}}
    inside(pilot, workspace, f"cat >~/.claude.json <<'JSON'\n{json.dumps(answered)}\nJSON")
    with chromium(tmp_path / "home", only=pilot.url) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        visit_editor(pilot, workspace, page)
        page.get_by_text("Do you trust the authors of the files in this folder?").wait_for(timeout=60_000)
        assert inside(pilot, workspace, "ls ~/ran || true") == ""
        page.screenshot(path=artifacts / "trust.png")
        trust(page)
        page.get_by_role("treeitem", name="hello.txt").dblclick(timeout=60_000)
        # The button is there only after the extension's start found `claude` on its PATH.
        run = page.get_by_role("button", name="Run Claude Code")
        run.wait_for(timeout=60_000)
        assert "Hello from the repository." in page.locator(".view-lines").inner_text().replace("\xa0", " ")
        page.screenshot(path=artifacts / "editor-with-claude-code.png")
        assert page.get_by_text("Do you trust the authors").count() == 0
        # No walk-through and no welcome page beside it.
        assert page.locator(".tabs-container").get_by_role("tab").count() == 1
        run.click()
        terminal = page.locator(".xterm-rows")
        terminal.get_by_text(f"Claude Code v{version('claude-code')}").wait_for(timeout=60_000)

        def claude_is_told_what_is_selected() -> bool:
            page.locator(".view-lines").click()
            page.keyboard.press("Control+A")
            return terminal.get_by_text("selected").is_visible()

        # By the extension, as soon as they found each other.
        eventually(claude_is_told_what_is_selected, timeout_s=30, interval_s=1, what="the selection in Claude's prompt")
        page.screenshot(path=artifacts / "claude-code-in-the-editor.png")
    started = inside(pilot, workspace, "cat ~/.local/share/code-server/logs/*/exthost*/remoteexthost.log")
    assert "_doActivateExtension Anthropic.claude-code" in started
    metadata = eventually(lambda: _shown_metadata(pilot, workspace), timeout_s=60, what="the agent's metadata")
    # The watcher looks once a minute.
    assert metadata["Claude"].startswith(("idle for ", "not started"))
    assert "/4 GiB" in metadata["Memory"]
    assert "/2 cores" in metadata["CPU"]
    assert "GiB" in metadata["Host memory"]
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


@pytest.mark.drill
def test_the_tile_goes_on_while_the_browser_is_closed_and_after_a_stop_with_the_same_conversation(
    pilot: Pilot, tmp_path: Path, artifacts: Path
) -> None:
    workspace = pilot.create_workspace("tile")
    work = "bash -c 'touch ~/begun; until [ -e ~/finish ]; do sleep 0.2; done'"
    with (
        claude_api.serve(work, commands=1, address=gateway_of(pilot)) as api,
        chromium(tmp_path / "home", only=pilot.url) as browser,
    ):
        answer_first_questions(pilot, workspace, api)
        page = browser.new_page()
        open_tile(pilot, workspace, page)
        say(page, "First words")
        eventually(lambda: inside(pilot, workspace, "ls ~/begun"), timeout_s=60, what="the command")
        page.close()
        inside(pilot, workspace, "touch ~/finish")
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        lines = open_tile(pilot, workspace, page)
        lines.get_by_text("Done.").wait_for()
        page.screenshot(path=artifacts / "claude-tile.png")
        page.close()
        pilot.transition(workspace["id"], "stop")
        pilot.transition(workspace["id"], "start")
        pilot.wait_workspace(workspace["id"])
        page = browser.new_page()
        lines = open_tile(pilot, workspace, page)
        lines.get_by_text("Done.").first.wait_for()
        say(page, "More words")
        lines.get_by_text("More words").first.wait_for()
        lines.get_by_text("Done.").nth(1).wait_for()
    pilot.transition(workspace["id"], "delete")


# --- the terminal


def test_the_tools_that_people_reach_for_first_run(pilot: Pilot, demo: Mapping[str, Any]) -> None:
    assert tools_that_do_not_run(pilot, demo) == ""


def test_the_lines_of_docs_use_md_work_with_the_program_that_coder_serves(
    pilot: Pilot, demo: Mapping[str, Any], tmp_path: Path
) -> None:
    pilot.call("GET", "/api/v2/users/me")
    page = (CHECKOUT / "docs" / "use.md").read_text()
    port = free_port()
    lines = page.partition("```sh\n")[2].partition("\n```")[0]
    lines = lines.replace("https://framework.example.ts.net", pilot.url).replace("--tcp 5173:", f"--tcp {port}:")
    install, login, shell, forward, configure = lines.splitlines()
    own = {"HOME": str(tmp_path), "PATH": f"{tmp_path}/.local/bin:{os.environ['PATH']}"}

    def run(line: str, stdin: str = "", **variables: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], env={**own, **variables}, cwd=tmp_path, input=stdin, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    run(install)
    assert run("command -v coder") == f"{tmp_path}/.local/bin/coder"
    run(login, CODER_SESSION_TOKEN=pilot.variables["token"])
    assert "/home/coder/project" in run(shell, "pwd; exit\n")
    assert run(f"{shell} -- date +%Z") == "JST"

    served = "mkdir /tmp/served && cd /tmp/served && echo Served. >page && exec python3 -m http.server 5173"
    inside(pilot, demo, served, "--detach")
    with subprocess.Popen(["bash", "-c", f"exec {forward}"], env=own, stdout=subprocess.DEVNULL) as forwarding:
        try:
            eventually(
                lambda: run(f"curl --silent --fail --max-time 5 http://127.0.0.1:{port}/page") == "Served.",
                timeout_s=30, what="the forwarded port",
            )  # fmt: skip
        finally:
            forwarding.terminate()

    run(configure)
    # By name, as OpenSSH finds its configuration in the home that the user's entry in passwd names.
    assert run(f"ssh -F {tmp_path}/.ssh/config demo.coder -- pwd") == "/home/coder/project"


# --- limits


def test_the_container_is_held_to_its_limits_and_comes_back_by_itself(pilot: Pilot) -> None:
    workspace = pilot.create_workspace("small", {"memory_mb": "512", "cpus": "1"})
    name = container_of(pilot, workspace)
    allowed = json.loads(docker("inspect", "--format", "{{json .HostConfig}}", name))
    assert (allowed["Memory"], allowed["MemorySwap"]) == (512 * 1024**2, 512 * 1024**2)
    assert allowed["NanoCpus"] == 1_000_000_000
    assert allowed["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert allowed["ShmSize"] == 1024**3
    limit_of_processes = "cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max"
    assert inside(pilot, workspace, limit_of_processes) == "8192"
    # 10 s for the programs, and then the agent's, also when the engine itself stops.
    assert docker("inspect", "--format", "{{.Config.StopTimeout}}", name) == "20"
    greedy = "node -e 'const kept = []; for (;;) kept.push(Buffer.alloc(64 * 1024 ** 2, 1))'; echo $?"
    assert inside(pilot, workspace, greedy) == "137"

    inside(pilot, workspace, "kill -9 $(pgrep --full '[/]code-server/out/node/entry')")
    eventually(
        lambda: "code-server ended with exit code" in agent_log(pilot, workspace), timeout_s=30, what="the editor's end"
    )
    eventually(lambda: editor_answers(pilot, workspace), timeout_s=60, what="the editor, started again")

    # As after a reboot of the host: the process is gone, and nobody but Docker starts it again.
    os.kill(int(docker("inspect", "--format", "{{.State.Pid}}", name)), signal.SIGKILL)
    eventually(
        lambda: docker("inspect", "--format", "{{.RestartCount}} {{.State.Running}}", name) == "1 true",
        timeout_s=60, what="the restart of the container",
    )  # fmt: skip
    eventually(lambda: editor_answers(pilot, workspace), timeout_s=90, what="the editor after the restart")
    assert inside(pilot, workspace, limit_of_processes) == "8192"
    pilot.transition(workspace["id"], "delete")


# --- bad input


@pytest.mark.parametrize(
    ("parameter", "value", "reason"),
    [
        ("memory_mb", "16385", "Memory must be between 512 and 16384 MiB"),
        ("keep_alive_hours", "13", "The keep-alive limit must be between 0 and 12 hours"),
        ("git_repository", "https://me:password@example.com/repo", "no password or token"),
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


@pytest.mark.drill
def test_a_git_host_is_trusted_at_first_and_refused_when_its_key_changes(pilot: Pilot, tmp_path: Path) -> None:
    repositories = tmp_path / "host"
    with ssh_host(repositories, gateway_of(pilot)) as host:
        make_repository(repositories / "demo.git", {"hello.txt": "Hello over SSH.\n"})
        host.start("first")
        workspace = pilot.create_workspace("over-ssh", {"git_repository": f"{host.url}/demo.git"})

        def said_after_a_start(text: str) -> str:
            pilot.transition(workspace["id"], "stop")
            pilot.transition(workspace["id"], "start")
            eventually(lambda: text in agent_log(pilot, workspace), timeout_s=60, what=f"{text!r} in the agent's log")
            return agent_log(pilot, workspace)

        # The host is new and lets nobody in: the message shows what it has to be told.
        public_key = pilot.call("GET", "/api/v2/users/me/gitsshkey")["public_key"].strip()
        eventually(
            lambda: "demo.git could not be cloned" in agent_log(pilot, workspace), timeout_s=60, what="the agent's log"
        )
        assert public_key.split()[1] in "".join(agent_log(pilot, workspace).split())

        host.authorize(public_key)
        said_after_a_start("Cloning into")
        eventually(lambda: inside(pilot, workspace, "cat ~/demo/hello.txt || true"), timeout_s=30, what="the clone")
        known = inside(pilot, workspace, "cat ~/.ssh/known_hosts")
        # The names in it are hashed.
        assert inside(pilot, workspace, f"ssh-keygen -F '[{host.address}]:{host.port}'")

        host.start("other")
        inside(pilot, workspace, "rm -rf ~/demo")
        log = said_after_a_start("could not be cloned")
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in log
        assert f"[{host.address}]:{host.port}" in log
        assert inside(pilot, workspace, "cat ~/.ssh/known_hosts") == known

        # As before, the host that is remembered is cloned from.
        host.start("first")
        said_after_a_start("Cloning into")
        eventually(lambda: inside(pilot, workspace, "cat ~/demo/hello.txt || true"), timeout_s=30, what="the clone")
    pilot.transition(workspace["id"], "delete")


@pytest.mark.drill
def test_a_full_home_has_an_editor_and_says_that_it_is_full(pilot: Pilot, tmp_path: Path) -> None:
    workspace = pilot.create_workspace("full")
    pilot.transition(workspace["id"], "stop")
    volume = f"coder-{workspace['id']}-home"
    made: dict[str, Any] = json.loads(docker("volume", "inspect", volume))[0]
    docker("volume", "rm", volume)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=777", "tmpfs", tmp_path], check=True)
    try:
        (tmp_path / "big").touch()
        with contextlib.suppress(OSError), (tmp_path / "big").open("wb", buffering=0) as big:
            while big.write(b"x" * 4096) == 4096:
                pass
        labels = [each for pair in made["Labels"].items() for each in ("--label", "=".join(pair))]
        here = ["--opt", "type=none", "--opt", "o=bind", "--opt", f"device={tmp_path}"]
        docker("volume", "create", *here, *labels, volume)
        pilot.transition(workspace["id"], "start")
        eventually(lambda: editor_answers(pilot, workspace), timeout_s=60, what="the editor")
        assert "ERROR: your home is full: 2 of 2 MiB are used" in agent_log(pilot, workspace)
        shown = eventually(lambda: _shown_metadata(pilot, workspace), timeout_s=60, what="the agent's metadata")
        assert shown["Home disk"].startswith("full: ")
        pilot.transition(workspace["id"], "delete")
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.mark.drill
def test_an_image_without_curl_says_so_in_the_agents_log(pilot: Pilot, tmp_path: Path) -> None:
    replace_image(pilot, WITHOUT_CURL, tmp_path)
    workspace = new_workspace(pilot, "curlless", image=WITHOUT_CURL)
    eventually(
        lambda: "it has no curl" in agent_log(pilot, workspace), timeout_s=60, what="the reason in the agent's log"
    )
    pilot.transition(workspace["id"], "delete")


@pytest.mark.drill
def test_an_image_without_bash_says_so_in_the_builds_log(pilot: Pilot, tmp_path: Path) -> None:
    replace_image(pilot, WITHOUT_BASH, tmp_path)
    workspace = new_workspace(pilot, "bashless", image=WITHOUT_BASH)
    build = workspace["latest_build"]["id"]
    eventually(
        lambda: pilot.call("GET", f"/api/v2/workspacebuilds/{build}")["job"]["status"] == "failed",
        timeout_s=60, what="the failure of the build",
    )  # fmt: skip
    assert '"bash": executable file not found' in build_log(pilot, build)
    pilot.transition(workspace["id"], "delete")


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

    for number in range(STARTS):
        for template in (ours, "minimal"):
            name = f"speed-{template[:4]}-{number}"
            took_s, workspace = until_the_editor(pilot, functools.partial(new_workspace, pilot, name, template))
            create_s[template].append(took_s)
            pilot.transition(workspace["id"], "stop")
            start = {"transition": "start"}
            build = f"/api/v2/workspaces/{workspace['id']}/builds"
            took_s, _ = until_the_editor(pilot, functools.partial(pilot.call, "POST", build, start), workspace)
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
