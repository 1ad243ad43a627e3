"""The seed's endings lose nobody's work: its pilot becomes ours whole, its projects come over, and without Coder the
homes go on. docs/adoption.md and docs/endings.md."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.pilot_fixture import Pilot, docker, free_port
from tests.e2e.retirement_fixture import checksum, command, furnished, left_over
from tests.e2e.seed_fixture import Seed, compose_pilot


@pytest.fixture
def adopting(make_pilot: Callable[..., Pilot], tmp_path: Path) -> Pilot:
    """A pilot of ours on the seed's data; nothing of it runs yet."""
    (tmp_path / "srv").mkdir()
    return make_pilot(dataDir=str(tmp_path / "srv"), adminUsername="me", adminEmail="me@framework.local")


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


def test_the_old_pilot_is_adopted_whole_and_an_update_keeps_every_home(adopting: Pilot, seed: Seed) -> None:
    template = seed.push()
    parked, running = (seed.workspace(template, name) for name in ("parked", "running"))
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
        update(adopting, each)
    found = adopting.call("GET", "/api/v2/workspaces")["workspaces"]
    assert {each["id"] for each in found} == {parked, running}
    assert seed.homes() == homes
    for each in found:
        volume = f"coder-{each['id']}-home"
        (container,) = docker("ps", "--quiet", "--filter", f"label=coder.workspace_id={each['id']}").splitlines()
        assert docker("inspect", "--format", '{{index .Config.Labels "coder-pilot.stack"}}', container) == adopting.name
        assert volume in docker("inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}", container)
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


@pytest.mark.drill
def test_without_coder_the_homes_go_on_and_an_up_takes_everything_back(
    make_pilot: Callable[..., Pilot], tmp_path: Path
) -> None:
    pilot = make_pilot()
    pilot.up()
    workspace = furnished(pilot)
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
    shown = docker("inspect", "--format", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}"
                   " {{.HostConfig.RestartPolicy.Name}} {{json .HostConfig.PortBindings}} {{.Args}} {{.Path}}", box)  # fmt: skip
    assert shown.startswith(f"{4096 << 20} 2000000000 8192 unless-stopped ")
    assert f'[{{"HostIp":"127.0.0.1","HostPort":"{port}"}}]' in shown
    assert secret not in shown
    assert checksum(workspace["id"]) == home
    docker("exec", box, "sh", "-c", "echo meanwhile >/home/coder/kept/meanwhile")
    assert "of no" in script("up", "no", check=False)
    assert "there already" in script("new", "Demo", check=False)
    script("new", "second")
    assert sorted(line.split()[0] for line in script("ls").splitlines()) == ["demo", "second"]
    script("down", "second")

    command(pilot, "up")
    assert docker("ps", "--quiet", "--filter", "label=coder-pilot.script", "--filter", f"name=^{pilot.name}") == ""
    assert "Coder runs" in script("up", "demo", check=False)
    pilot.variables.pop("token", None)
    pilot.transition(workspace["id"], "start")
    assert "./meanwhile" in checksum(workspace["id"])
