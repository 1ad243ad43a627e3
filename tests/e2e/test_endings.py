"""The seed's endings lose nobody's work: its pilot becomes ours whole, its projects come over, and without Coder the
homes go on. docs/adoption.md and docs/endings.md."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stack.jobs import pilot_file
from tests.e2e.parts import POSTGRES_IMAGE
from tests.e2e.pilot_fixture import Pilot, docker, free_port
from tests.e2e.retirement_fixture import checksum, command, furnished, left_over
from tests.e2e.seed_fixture import TEMPLATE, Seed, compose_pilot
from tests.e2e.workspace_fixture import inside

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def adopting(make_pilot: Callable[..., Pilot], tmp_path: Path) -> Pilot:
    """A pilot of ours on the seed's data; nothing of it runs yet."""
    (tmp_path / "srv").mkdir()
    return make_pilot(dataDir=str(tmp_path / "srv"))


@pytest.fixture
def seed(adopting: Pilot) -> Iterator[Seed]:
    """The compose pilot, running."""
    found = Seed.started(compose_pilot(adopting.data, adopting.name, free_port()))
    try:
        yield found
    finally:
        found.compose.down()
        found.remove()


def update(pilot: Pilot, workspace: str) -> None:
    """What Update in the dashboard does, until the workspace is ready."""
    template = pilot.call("GET", f"/api/v2/templates/{pilot.workspace(workspace)['template_id']}")
    pilot.transition(workspace, "start", template_version_id=template["active_version_id"])
    pilot.wait_workspace(workspace)


@pytest.mark.drill
def test_the_old_pilot_is_adopted_whole_and_an_update_keeps_every_home(adopting: Pilot, seed: Seed) -> None:
    adopting.write_config(adminEmail="me@framework.local")
    template = seed.push()
    with ThreadPoolExecutor() as pool:
        parked, running = pool.map(lambda name: seed.workspace(template, name), ("parked", "running"))
    for name in ("parked", "running"):
        seed.furnish(name)
    seed.stop(parked)
    homes = seed.homes()
    looked = command(adopting, "adopt")
    for name, now in (("parked", "stopped"), ("running", "running")):
        assert f"me/{name}" in looked
        (line,) = [each for each in looked.splitlines() if each.startswith(f"me/{name}")]
        assert line.split() == [
            f"me/{name}", now, "docker_volume.home_volume", "docker_container.workspace", "nothing", "else",
        ]  # fmt: skip
    seed.compose.down()

    adopting.up()

    assert {(each["id"], each["name"]) for each in adopting.call("GET", "/api/v2/templates")} == {
        (template, "code-server")
    }
    for each in (parked, running):
        assert adopting.workspace(each)["ttl_ms"] == 2 * 3600 * 1000
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda each: update(adopting, each), (parked, running)))
    found = adopting.call("GET", "/api/v2/workspaces")["workspaces"]
    assert {each["id"] for each in found} == {parked, running}
    assert seed.homes() == homes
    for each in found:
        volume = f"coder-{each['id']}-home"
        (container,) = docker("ps", "--quiet", "--filter", f"label=coder.workspace_id={each['id']}").splitlines()
        assert docker("inspect", "--format", '{{index .Config.Labels "coder-pilot.stack"}}', container) == adopting.name
        assert volume in docker("inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}", container)
    # The owner was called `me`, of whom Coder opens no app.
    assert "//code-server--running--admin." in command(adopting, "workspace", "running")
    # Nobody creates from the old one any more, or goes back to it, which would destroy a home.
    adopting.up()
    assert len(adopting.call("GET", f"/api/v2/templates/{template}/versions")) == 1


VOLUME = 'resource "docker_volume" "home_volume" {'
MOUNT = "volume_name    = docker_volume.home_volume.name\n  }\n"
REFUSED = {
    "bound": (
        TEMPLATE.replace(MOUNT, f'{MOUNT}  volumes {{\n    container_path = "/opt"\n    host_path = "/opt"\n  }}\n'),
        "it mounts the host's /opt",
    ),
    "two": (
        f'{TEMPLATE}\nresource "docker_volume" "data" {{\n  name = "PREFIX-data"\n}}\n',
        "docker_volume.data would be destroyed",
    ),
    "indexed": (
        TEMPLATE.replace(VOLUME, f"{VOLUME}\n  count = 1").replace("home_volume.name", "home_volume[0].name"),
        "has an index",
    ),
    "named": (
        TEMPLATE.replace('"coder-${data.coder_workspace.me.id}-home"', '"PREFIX-named"'),
        "no Docker volume",
    ),
    "moved": (TEMPLATE.replace("home_volume", "elsewhere"), "docker_volume.elsewhere in me/moved"),
}  # fmt: skip


@pytest.mark.drill
def test_a_template_that_cannot_become_ours_stays_beside_it_and_its_workspaces_go_on(
    adopting: Pilot, seed: Seed
) -> None:
    template = seed.push()
    workspace = seed.workspace(template, "plain")
    seed.furnish("plain")
    for name, (text, _) in REFUSED.items():
        seed.push(text, template)
        seed.workspace(template, name)
    seed.push(TEMPLATE.replace("IMAGE", "localhost/is-not-there:1"), template)
    seed.workspace(template, "failed", succeeds=False)
    seed.push(TEMPLATE, template)
    spoiled = seed.workspace(template, "spoiled")
    homes = seed.homes()
    users = {each["id"] for each in seed.call("GET", "/api/v2/users")["users"]}
    database = docker("ps", "--quiet", "--filter", f"name={adopting.name}-compose.database")
    spoil = f"UPDATE workspace_builds SET provisioner_state = 'x' WHERE workspace_id = '{spoiled}'"  # noqa: S608
    docker("exec", database, "psql", "--username", "coder", "--command", spoil)

    assert "a second server would spoil it; nothing was touched" in adopting.up(check=False)
    seed.compose.down()
    said = adopting.up(check=False)
    assert "`make adopt STACK=test` says whether its workspaces can become ours" in said
    looked = command(adopting, "adopt")
    for name, (_, why) in REFUSED.items():
        assert why in looked, looked
        assert name == "moved" or re.search(rf"me/{name} +running +not offered", looked)
    assert "me/spoiled: its Terraform state cannot be read" in looked
    assert re.search(r"me/failed +start failed +docker_volume.home_volume", looked)
    assert "Coder opens no app of a user of that name: `up` renames him to admin" in looked
    assert "`pulumi config set adminEmail me@framework.local --stack test`" in looked
    assert Path(re.findall(r"dumped to (.*)", looked)[0]).stat().st_size
    said = adopting.up(check=False)
    assert "its owners are me (me@framework.local): run `pulumi config set adminEmail me@framework.local" in said
    adopting.write_config(adminEmail="me@framework.local")
    adopting.up()

    found = {each["name"]: each["id"] for each in adopting.call("GET", "/api/v2/templates")}
    assert set(found) == {"code-server", "project"}
    assert found["code-server"] == template
    assert (made := pilot_file.member(str(adopting.data)))
    assert {each["id"] for each in adopting.call("GET", "/api/v2/users")["users"]} == {*users, made.id}
    assert "admin/plain" in command(adopting, "doctor")
    adopting.transition(workspace, "stop")
    adopting.transition(workspace, "start")
    assert seed.homes() == homes
    adopting.up("--expect-no-changes")
    command(adopting, "down")


class Script:
    """`workspace` in a folder and with a home of its own, as after the checkout was deleted."""

    def __init__(self, pilot: Pilot, home: Path) -> None:
        self.file, self.home = home / "workspace", home
        self.file.write_bytes((pilot.data / "workspace").read_bytes())

    def __call__(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [sys.executable, "-I", self.file, *words], cwd=self.home, env={**os.environ, "HOME": str(self.home)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=200,
        )  # fmt: skip
        assert (done.returncode == 0) == check, done.stdout
        return done.stdout


def editor(said: str) -> tuple[int, Path]:
    """The port of the editor and the file with its password, from what `up` said."""
    told = dict(line.split(maxsplit=1) for line in said.splitlines())
    return urllib.parse.urlsplit(told["editor"]).port or 0, Path(told["password"].split()[-1])


def signs_in(port: int, password: str) -> bool:
    """Whether the editor takes the password, and asks for one at all."""
    plain = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with plain.open(f"http://127.0.0.1:{port}/", timeout=10) as page:
        assert page.url.split("?")[0].endswith("/login")
    form = urllib.parse.urlencode({"password": password}).encode()

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay).open(
            f"http://127.0.0.1:{port}/login", form, timeout=10
        ):
            return False
    except urllib.error.HTTPError as answer:
        return answer.code == 302 and "code-server-session" in answer.headers["Set-Cookie"]


def lay_project(folder: Path) -> Path:
    """A repository of Git with what a copy may spoil."""
    folder.mkdir(parents=True)
    for words in (
        ("init", "--quiet"), ("config", "user.name", "x"), ("config", "user.email", "x@example.com"),
        ("commit", "--quiet", "--allow-empty", "--message", "first"),
    ):  # fmt: skip
        subprocess.run(["git", *words], cwd=folder, check=True, timeout=60)
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o750)
    os.utime(folder / "run", (1_600_000_000, 1_600_000_000))
    (folder / "secret").write_text("for root alone")
    (folder / "secret").chmod(0)
    (folder / "link").symlink_to("run")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
    return folder


def copied(pilot: Pilot, source: str, *more: str, check: bool = True, name: str = "demo") -> str:
    return command(pilot, "import", *more, source, name, check=check)


@pytest.fixture(scope="module")
def demo(pilot: Pilot) -> dict[str, Any]:
    """A running workspace with files in its home, and one that the clean-up finds."""
    return furnished(pilot)


@pytest.mark.drill
def test_a_project_comes_whole_from_a_folder_a_volume_and_a_container(
    pilot: Pilot, demo: dict[str, Any], tmp_path: Path
) -> None:
    folder = lay_project(tmp_path / "old, project")
    volume, container, label = f"{pilot.name}-old", f"{pilot.name}-old-editor", f"coder-pilot.stack={pilot.name}"
    docker("volume", "create", "--label", label, volume)
    docker("create", "--name", container, "--label", label, "--volume", f"{volume}:/srv/work", POSTGRES_IMAGE)
    with subprocess.Popen(["tar", "--create", "--directory", folder, "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["docker", "cp", "-", f"{container}:/srv/work/"], stdin=tar.stdout, check=True, timeout=60)
    home = checksum(demo["id"])
    sums = set()
    for source, to in ((str(folder), "a"), (f"{volume}:/", "b"), (f"{container}:/srv/work", "deep/er/c")):
        dry = copied(pilot, source, "--to", to)
        assert "nothing was copied yet" in dry
        assert "left out, devices and pipes: pipe" in dry
        assert inside(pilot, demo, f"ls -d ~/{to} 2>&1 || true").endswith("No such file or directory")
        said = copied(pilot, source, "--to", to, "--yes")
        sums |= set(re.findall("checksum ([0-9a-f]{16})", dry + said))
        assert inside(pilot, demo, f"cd ~/{to} && git fsck --strict && git log --format=%s") == "first"
        shown = inside(
            pilot, demo, f"cd ~/{to} && stat -c '%n %a %Y' run && readlink link && ls -A && cat secret || id -un"
        )
        assert shown.splitlines()[:2] == ["run 750 1600000000", "run"]
        assert "pipe" not in shown
        assert "socket" not in shown
        assert inside(pilot, demo, f"find ~/{to.split('/')[0]} ! -user $(id -un) -o ! -group $(id -gn)") == ""
        assert "has files; nothing is overwritten" in copied(pilot, source, "--to", to, "--yes", check=False)
    # A volume's root has a time of its own, and all else is the same.
    assert len(sums) <= 2
    assert checksum(demo["id"]) == home
    assert inside(pilot, demo, "ls -A ~ | grep import || true") == ""
    copied(pilot, f"coder-{demo['id']}-home:/", "--to", "whole", "--yes")
    assert inside(pilot, demo, "diff -r ~/kept ~/whole/kept; ls -A ~/whole | grep import || true") == ""
    assert "is no folder" in copied(pilot, str(folder), "--to", "kept/marker", "--yes", check=False)
    assert "no container and no volume" in copied(pilot, "nothing:/x", "--yes", check=False)
    assert "there is no folder" in copied(pilot, str(tmp_path / "nothing"), "--yes", check=False)
    assert "there is no workspace other; there are: admin/demo" in copied(pilot, str(folder), check=False, name="other")
    docker("rename", container, volume)
    assert "both a container and a volume" in copied(pilot, f"{volume}:/srv/work", "--yes", check=False)
    docker("rm", volume)
    docker("volume", "rm", volume)


@pytest.mark.drill
def test_a_home_that_fills_up_in_the_middle_is_left_as_it_was(pilot: Pilot, tmp_path: Path) -> None:
    workspace = pilot.create_workspace("small")
    pilot.transition(workspace["id"], "stop")
    home = f"coder-{workspace['id']}-home"
    docker("volume", "rm", home)
    docker("volume", "create", "--label", f"coder-pilot.stack={pilot.name}", "--opt", "type=tmpfs", "--opt",
           "device=tmpfs", "--opt", "o=size=8m,nr_inodes=40,uid=1000,gid=1000", home)  # fmt: skip
    # Somebody who has it open: the last one to leave empties a tmpfs.
    holder = docker("run", "--detach", "--rm", "--volume", f"{home}:/h", "--entrypoint", "sleep", POSTGRES_IMAGE, "600")
    for number in range(100):
        (tmp_path / f"{number}").write_text("x")
    assert "no space left on device" in copied(pilot, str(tmp_path), "--to", "x", "--yes", check=False, name="small")
    assert docker("exec", holder, "ls", "-A", "/h") == ""
    (tmp_path / "large").write_bytes(bytes(20 << 20))
    assert "the disk of the homes has 8.0 MiB left" in copied(
        pilot, str(tmp_path), "--to", "x", check=False, name="small"
    )
    docker("rm", "--force", holder)
    pilot.transition(workspace["id"], "delete")


@pytest.mark.drill
def test_extensions_and_settings_of_the_old_editor_come_over(
    pilot: Pilot, demo: dict[str, Any], tmp_path: Path
) -> None:
    editor_folder = tmp_path / ".local" / "share" / "code-server"
    extension = editor_folder / "extensions" / "me.mine-1.0.0"
    extension.mkdir(parents=True)
    package = {"name": "mine", "publisher": "me", "version": "1.0.0", "engines": {"vscode": "*"}}
    (extension / "package.json").write_text(json.dumps(package))
    known = {"identifier": {"id": "me.mine"}, "version": "1.0.0", "relativeLocation": extension.name,
             "location": {"$mid": 1, "path": str(extension), "scheme": "file"}}  # fmt: skip
    (editor_folder / "extensions" / "extensions.json").write_text(json.dumps([known]))
    (editor_folder / "User").mkdir()
    (editor_folder / "User" / "settings.json").write_text('{"editor.fontSize": 17}')
    assert "runs, and its editor would write" in copied(pilot, str(tmp_path), "--editor", "--yes", check=False)
    pilot.transition(demo["id"], "stop")
    assert "extensions: me.mine\nsettings: User/settings.json" in copied(pilot, str(tmp_path), "--editor")
    copied(pilot, str(tmp_path), "--editor", "--yes")
    assert "extensions: none\nsettings: none" in copied(pilot, str(tmp_path), "--editor")
    pilot.transition(demo["id"], "start")
    pilot.wait_workspace(demo["id"])
    assert "me.mine" in inside(pilot, demo, "code-server --list-extensions")
    assert "17" in inside(pilot, demo, "cat ~/.local/share/code-server/User/settings.json")


@pytest.mark.drill
def test_without_coder_the_homes_go_on_and_an_up_takes_everything_back(
    pilot: Pilot, demo: dict[str, Any], tmp_path: Path
) -> None:
    workspace = demo
    home = checksum(workspace["id"])
    assert "wrote" in command(pilot, "leave")
    assert left_over(pilot) == []

    script = Script(pilot, tmp_path)
    assert len(script.file.read_text().splitlines()) <= 150
    assert script("ls").split() == ["demo", "parked"]
    port, password = editor(script("up", "demo"))
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    secret = password.read_text().strip().partition("=")[2]
    assert signs_in(port, secret)
    assert not signs_in(port, "another")
    assert editor(script("up", "demo")) == (port, password)
    (box,) = docker("ps", "--quiet", "--filter", f"label=coder.workspace_id={workspace['id']}").splitlines()
    host = ("Memory", "NanoCpus", "PidsLimit", "RestartPolicy.Name", "PortBindings")
    form = f"{' '.join(f'{{{{json .HostConfig.{each}}}}}' for each in host)} {{{{.Args}}}}"
    shown = docker("inspect", "--format", form, box)
    assert shown.startswith(f'{4096 << 20} 2000000000 8192 "unless-stopped" ')
    assert f'[{{"HostIp":"127.0.0.1","HostPort":"{port}"}}]' in shown
    assert secret not in shown
    assert checksum(workspace["id"]) == home
    docker("exec", box, "sh", "-c", "echo meanwhile >/home/coder/kept/meanwhile")
    assert "of no" in script("up", "no", check=False)
    assert "there already" in script("new", "Demo", check=False)
    script("new", "second")
    assert sorted(line.split()[0] for line in script("ls").splitlines()) == ["demo", "second"]
    assert "?folder=/home/coder/second" in script("up", "second")
    script("down", "second")

    command(pilot, "up")
    assert docker("ps", "--quiet", "--filter", "label=coder-pilot.script", "--filter", f"name=^{pilot.name}") == ""
    assert "Coder is there" in script("up", "demo", check=False)
    pilot.variables.pop("token", None)
    pilot.transition(workspace["id"], "start")
    assert "./meanwhile" in checksum(workspace["id"])


@pytest.mark.drill
def test_the_template_of_a_pilot_from_before_is_renamed_in_place(pilot: Pilot, demo: dict[str, Any]) -> None:
    def template() -> tuple[str, str]:
        (found,) = pilot.call("GET", "/api/v2/templates")
        return found["id"], found["name"]

    identifier, name = template()
    facts = pilot.directory / "stack" / "jobs" / "names.py"
    text = facts.read_text()
    facts.write_text(text.replace('TEMPLATE = "code-server"', 'TEMPLATE = "project"'))
    pilot.up()
    assert template() == (identifier, "project")
    facts.write_text(text)
    pilot.up()
    assert template() == (identifier, name) == (identifier, "code-server")
    assert pilot.workspace(demo["id"])["template_id"] == identifier
    pilot.up("--expect-no-changes")
