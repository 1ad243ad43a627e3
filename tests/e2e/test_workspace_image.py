"""`up` builds an image from any base that can be a workspace, and refuses any other without touching what runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import box_fixture
from tests.e2e.parts import CODER_IMAGE, POSTGRES_IMAGE, WORKSPACE_IMAGE
from tests.e2e.pilot_fixture import CHECKOUT, NAME_PREFIX, Pilot, docker
from tests.e2e.release_site import ReleaseSite, running, small_parts
from tests.e2e.workspace_fixture import container_of, editor_answers

pytestmark = pytest.mark.built_here

# What the base has no more of the local one, beside code-server and Claude Code.
RECIPES = {
    "bare": "",
    "without-bash": "/bin/bash",
    "without-curl": "/usr/bin/curl",
    "without-home": "/home/coder",
    "without-apt": "/usr/bin/apt-get /usr/bin/tmux /usr/local/bin/npm",
}

DISK_MB = 7000
LEFT_MB = 150


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleaseSite]:
    with running(small_parts(tmp_path_factory.mktemp("site"))) as found:
        yield found


@pytest.fixture(scope="module")
def base(site: ReleaseSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Makes the base image of a recipe; its name."""
    made: list[str] = []

    def make(recipe: str) -> str:
        tag = f"{NAME_PREFIX}/{recipe}:1"
        variables = "".join(f"ENV {name}={json.dumps(value)}\n" for name, value in site.environment().items())
        folder = tmp_path_factory.mktemp("base")
        gone = f"/usr/local/bin/code-server /usr/local/bin/claude {RECIPES[recipe]}"
        lines = f"FROM {WORKSPACE_IMAGE}\nUSER root\nRUN rm -r {gone}\nUSER coder\n{variables}"
        (folder / "Dockerfile").write_text(lines)
        docker("build", "--quiet", "--tag", tag, str(folder))
        made.append(tag)
        return tag

    yield make
    docker("image", "rm", *made, check=False)


@pytest.fixture(scope="module")
def pilot(make_pilot: Callable[..., Pilot]) -> Pilot:
    """A pilot with a running workspace."""
    made = make_pilot()
    made.up()
    made.create_workspace("running")
    return made


def world(pilot: Pilot) -> dict[str, Any]:
    """What must not change: the workspace's container, the images of the stack, the template's version."""
    (template,) = pilot.call("GET", "/api/v2/templates")
    label = f"label=coder-pilot.stack={pilot.name}"
    return {
        "containers": docker("ps", "--no-trunc", "--filter", label, "--format", "{{.ID}} {{.Image}}"),
        "images": docker(
            "image", "ls", "--no-trunc", "--filter", label, "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"
        ),
        "version": template["active_version_id"],
    }


def built(pilot: Pilot) -> dict[str, str]:
    """From each base to its image, as the template was told."""
    version = pilot.resources()["template"]["inputs"]["versions"][0]
    (value,) = [each["value"] for each in version["tfVars"] if each["name"] == "built_images"]
    found: dict[str, str] = json.loads(value)
    return found


@pytest.mark.drill
@pytest.mark.parametrize(
    ("recipe", "fault", "reason", "step"),
    [
        ("bare", "code-server half", "code-server 4.143.1 could not be downloaded", "install.sh code-server"),
        ("without-bash", "", "it has no bash", "command -v bash"),
        ("without-curl", "", "it has no curl", "check.sh base"),
        ("without-home", "", "its user coder cannot write /home/coder", "check.sh base"),
        ("bare", "code-server missing", "code-server 4.143.1 could not be downloaded", "install.sh code-server"),
        ("bare", "code-server silent", "code-server 4.143.1 could not be downloaded", "install.sh code-server"),
        ("bare", "claude half", "Claude Code 2.1.332 could not be downloaded", "install.sh claude"),
    ],
)
def test_a_base_that_cannot_be_built_on_is_refused_and_what_runs_is_untouched(
    pilot: Pilot, site: ReleaseSite, base: Callable[[str], str], recipe: str, fault: str, reason: str, step: str
) -> None:
    name = base(recipe)
    before = world(pilot)
    site.fault = fault
    pilot.write_config(workspaceImages=f"{WORKSPACE_IMAGE},{name}")
    try:
        said = pilot.up(check=False)
    finally:
        site.fault = ""
        pilot.write_config(workspaceImages=WORKSPACE_IMAGE)
    (told,) = re.findall(r"error: (no workspace image could be built from .*)", said.partition("Diagnostics:")[2])
    assert told.startswith(f"no workspace image could be built from {name}: {reason}")
    # The end of the build's log, with the step.
    assert re.search(rf"\| #\d+ \[.*{re.escape(step)}", said), said
    assert world(pilot) == before


@pytest.mark.drill
def test_a_base_that_does_not_exist_is_refused_by_its_name(pilot: Pilot) -> None:
    before = world(pilot)
    pilot.write_config(workspaceImages=f"{WORKSPACE_IMAGE},localhost/no/such-base:1")
    try:
        said = pilot.up(check=False)
    finally:
        pilot.write_config(workspaceImages=WORKSPACE_IMAGE)
    assert "the base image localhost/no/such-base:1 of the setting workspaceImages cannot be pulled" in said
    assert world(pilot) == before


@pytest.mark.drill
def test_a_market_that_is_down_costs_the_extension_alone_until_the_next_up(
    pilot: Pilot, site: ReleaseSite, base: Callable[[str], str]
) -> None:
    name = base("bare")
    pilot.write_config(workspaceImages=f"{WORKSPACE_IMAGE},{name}")
    site.fault = "market down"
    said = pilot.up()
    assert f"the workspace image of {name} has no Claude Code extension" in said
    image = built(pilot)[name]

    def has_extension() -> bool:
        listed = docker("run", "--rm", "--entrypoint", "ls", image, "/opt/code-server/lib/vscode/extensions")
        return "anthropic.claude-code" in listed.split()

    assert not has_extension()
    assert "has no Claude Code extension" in pilot.up(), "the next `up` has to try again, and to say so again"

    site.fault = ""
    assert "has no Claude Code extension" not in pilot.up()
    assert has_extension()
    # The same name: a parked workspace starts with the better image without an update.
    assert built(pilot)[name] == image
    pilot.up("--expect-no-changes")


@pytest.mark.drill
def test_tools_that_a_base_lacks_are_named_and_a_download_that_failed_is_tried_again(
    pilot: Pilot, site: ReleaseSite, base: Callable[[str], str]
) -> None:
    name = base("without-apt")
    pilot.write_config(workspaceImages=f"{WORKSPACE_IMAGE},{name}")
    site.fault = "node half"
    said = re.search(rf"image of {name} lacks these tools: tmux, node. (\S+) says why; the next `up` tries", pilot.up())
    assert said
    assert "the release 24.19.0 of Node.js could not be installed" in (pilot.directory / said[1]).read_text()

    site.fault = ""
    told = f"image of {name} lacks these tools: tmux. There is no package of them for it"
    assert told in pilot.up()
    assert docker("run", "--rm", "--entrypoint", "npm", built(pilot)[name], "--version") == "0.0.0"
    assert told in pilot.up("--expect-no-changes")


def test_tools_that_apt_cannot_get_are_left_for_the_next_up() -> None:
    script = (CHECKOUT / "workspace-image" / "tools.sh").read_text()
    left = docker(
        "run", "--rm", "--interactive", "--network", "none", "--user", "root", "--entrypoint", "bash", WORKSPACE_IMAGE,
        "-c", "rm /usr/bin/tmux; cat >/tools.sh; bash /tools.sh install >&2; ls /usr/local/share/coder-pilot",
        stdin=script,
    )  # fmt: skip
    assert left == "without-tools"


# As `setcap cap_net_raw+ep` does, which the image lacks.
MARK = """import os, struct
os.setxattr("/usr/local/bin/ping", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))"""
MARKED = f"""
cat >/tools.sh
cp /bin/true /usr/local/bin/ping
python3 -c '{MARK}'
ping 2>/dev/null || echo refused
bash /tools.sh install >&2
ping && echo runs
"""


def test_a_ping_that_asks_for_raw_sockets_runs_without_them() -> None:
    script = (CHECKOUT / "workspace-image" / "tools.sh").read_text()
    said = docker(
        "run", "--rm", "--interactive", "--network", "none", "--user", "root", "--cap-drop", "NET_RAW",
        "--entrypoint", "bash", WORKSPACE_IMAGE,
        "-c", MARKED,
        stdin=script,
    )  # fmt: skip
    assert said.splitlines() == ["refused", "runs"]


@pytest.mark.drill
def test_an_image_that_was_removed_by_hand_is_built_again(pilot: Pilot) -> None:
    """As `docker system prune --all` does while every workspace is parked."""
    (workspace,) = pilot.call("GET", "/api/v2/workspaces")["workspaces"]
    pilot.transition(workspace["id"], "stop")
    image = built(pilot)[WORKSPACE_IMAGE]
    docker("image", "rm", image)
    pilot.up()
    pilot.transition(workspace["id"], "start")
    assert docker("inspect", "--format", "{{.Config.Image}}", container_of(pilot, workspace)) == image


@pytest.mark.drill
def test_a_changed_script_builds_anew_and_the_old_image_goes_with_its_last_user(pilot: Pilot) -> None:
    (workspace,) = pilot.call("GET", "/api/v2/workspaces")["workspaces"]
    pilot.write_config(workspaceImages=WORKSPACE_IMAGE)
    pilot.up()
    old = built(pilot)[WORKSPACE_IMAGE]
    script = pilot.directory / "workspace-image" / "check.sh"
    script.write_text(f"{script.read_text()}\n# Changed.\n")
    pilot.up()
    new = built(pilot)[WORKSPACE_IMAGE]
    assert new != old

    def images() -> set[str]:
        label = f"label=coder-pilot.stack={pilot.name}"
        found = docker("image", "ls", "--filter", label, "--format", "{{.Repository}}:{{.Tag}}").splitlines()
        return {each for each in found if "-workspace:" in each}

    # A running workspace has the old one, and a parked one starts with it.
    pilot.up()
    assert images() >= {old, new}
    pilot.transition(workspace["id"], "stop")
    pilot.up()
    assert images() >= {old, new}
    pilot.transition(workspace["id"], "start")
    assert docker("inspect", "--format", "{{.Config.Image}}", container_of(pilot, workspace)) == old

    (template,) = pilot.call("GET", "/api/v2/templates")
    pilot.transition(workspace["id"], "stop")
    pilot.transition(workspace["id"], "start", template_version_id=template["active_version_id"])
    assert docker("inspect", "--format", "{{.Config.Image}}", container_of(pilot, workspace)) == new
    pilot.up()
    assert images() == {new}


@pytest.mark.drill
def test_the_image_keeps_the_bases_user_and_environment(pilot: Pilot, base: Callable[[str], str]) -> None:
    name = base("bare")
    pilot.write_config(workspaceImages=name)
    pilot.up()
    before, after = (
        json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))
        for image in (name, built(pilot)[name])
    )
    assert after["User"] == before["User"] == "coder"
    assert [after.get(key) for key in ("Entrypoint", "Cmd")] == [before.get(key) for key in ("Entrypoint", "Cmd")]
    assert set(after["Env"]) == set(before["Env"])


@pytest.mark.drill
def test_a_full_disk_is_named_and_what_runs_goes_on(
    make_pilot: Callable[..., Pilot], base: Callable[[str], str], tmp_path: Path
) -> None:
    """In a box whose disk has just room for a pilot."""
    bare = base("bare")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", disk], check=True, timeout=30)
    try:
        (disk / "box").mkdir()
        with box_fixture.running(disk / "box") as box:
            box.load([CODER_IMAGE, POSTGRES_IMAGE, WORKSPACE_IMAGE, bare])
            pilot = make_pilot(dockerHost=box.docker_host, dockerSocket=str(box.socket))
            with box.entered(), running(small_parts(tmp_path)) as site:
                # More than there is room for; what is in it does not matter any more.
                os.truncate(site.archive, 2 * LEFT_MB * 2**20)
                lines = "".join(f"ENV {name}={json.dumps(value)}\n" for name, value in site.environment().items())
                docker("build", "--quiet", "--tag", bare, "-", stdin=f"FROM {bare}\n{lines}")
                pilot.up()
                workspace = pilot.create_workspace("running")
                before = world(pilot)
                free = shutil.disk_usage(disk).free
                with (disk / "filler").open("wb") as filler:
                    os.posix_fallocate(filler.fileno(), 0, free - LEFT_MB * 2**20)
                pilot.write_config(workspaceImages=f"{WORKSPACE_IMAGE},{bare}")
                said = pilot.up(check=False)
                (disk / "filler").unlink()
                assert f"no workspace image could be built from {bare}: code-server" in said
                assert "free some space, for example with `docker builder prune`" in said
                assert world(pilot) == before
                assert editor_answers(pilot, workspace)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True, timeout=30)
