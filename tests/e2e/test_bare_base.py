"""On a base image without an editor or tools a workspace has all after `up`; a start needs nothing from outside."""

from __future__ import annotations

import contextlib
import functools
import json
import statistics
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.browser_fixture import chromium
from tests.e2e.pilot_fixture import NAME_PREFIX, Pilot, docker
from tests.e2e.release_site import EXTENSION, ReleaseSite, running
from tests.e2e.workspace_fixture import (
    inside,
    new_workspace,
    open_editor,
    tools_that_do_not_run,
    until_the_editor,
)
from toolchain.builder import Builder
from toolchain.pieces import DEBIAN_IMAGE, PIECES
from toolchain.pins import version

pytestmark = pytest.mark.built_here

# As a person would prepare a Debian for it: curl and a user with a home, who cannot become root. This toolchain's
# code-server needs the library, the release does not.
RECIPE = """
RUN apt-get update && apt-get install --yes --no-install-recommends curl libgssapi-krb5-2
RUN useradd --uid 1000 --user-group --create-home --shell /bin/bash coder
USER coder
"""
RELEASE_SCRIPT = """#!/bin/sh
root=$(dirname "$(dirname "$(readlink -f "$0")")")
exec "$root/lib/node" "$root/out/node/entry.js" "$@"
"""
STARTS = 5
START_LIMIT_S = 3.0


def _release(directory: Path) -> Path:
    """The toolchain's code-server in the layout of a release archive, without the extension that it has bundled."""
    builder = Builder(PIECES)
    modules = builder.directory("code-server") / "node_modules"
    script = directory / "code-server"
    script.write_text(RELEASE_SCRIPT)
    script.chmod(0o755)

    def without_claude(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        parts = Path(member.name).parts
        return (
            None
            if EXTENSION in parts or "@anthropic-ai" in parts or parts[1:3] == ("node_modules", "code-server")
            else member
        )

    archive = directory / "code-server.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=0) as tar:
        tar.add(script, "release/bin/code-server")
        tar.add(builder.directory("node") / "bin" / "node", "release/lib/node")
        for name in ("out", "lib/vscode", "package.json"):
            tar.add(modules / "code-server" / name, f"release/{name}", filter=without_claude)
        tar.add(modules, "release/node_modules", filter=without_claude)
    return archive


def _node(directory: Path) -> Path:
    """The toolchain's Node.js in the layout of a release archive."""
    archive = directory / "node.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=0) as tar:
        for name in ("bin", "lib"):
            tar.add(Builder(PIECES).directory("node") / name, f"release/{name}")
    return archive


def _extension(directory: Path) -> Path:
    """The bundled extension as the market has it."""
    source = Builder(PIECES).directory("code-server") / "node_modules/code-server/lib/vscode/extensions" / EXTENSION
    packed = directory / "extension.vsix"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as vsix:
        for file in source.rglob("*"):
            vsix.write(file, f"extension/{file.relative_to(source)}")
    return packed


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleaseSite]:
    directory = tmp_path_factory.mktemp("site")
    parts = ReleaseSite(
        directory=directory, archive=_release(directory), extension=_extension(directory),
        claude=Builder(PIECES).directory("code-server") / "bin" / "claude", node=_node(directory),
    )  # fmt: skip
    with running(parts) as found:
        yield found


@pytest.fixture(scope="module")
def pilot(
    make_pilot: Callable[..., Pilot], site: ReleaseSite, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pilot]:
    """A pilot whose one base is a Debian without an editor, and whose site is not asked any more."""
    tag = f"{NAME_PREFIX}/bare-debian:1"
    variables = "".join(f"ENV {name}={json.dumps(value)}\n" for name, value in site.environment().items())
    folder = tmp_path_factory.mktemp("base")
    (folder / "Dockerfile").write_text(f"FROM {DEBIAN_IMAGE}{RECIPE}{variables}")
    docker("build", "--quiet", "--tag", tag, str(folder))
    made = make_pilot(workspaceImages=tag)
    made.up()
    yield made
    docker("image", "rm", tag, check=False)


@contextlib.contextmanager
def cut_off(pilot: Pilot) -> Iterator[None]:
    """Nothing leaves the workspaces' network unasked, not even to this machine; Coder, which is in it, may answer."""
    subnet = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", f"{pilot.name}-workspaces")
    new = ["-s", subnet, "-m", "conntrack", "--ctstate", "NEW", "-j", "DROP"]
    rules = [["DOCKER-USER", "!", "-d", subnet, *new], ["INPUT", *new]]

    def iptables(action: str) -> None:
        for rule in rules:
            subprocess.run(["iptables", "--wait", action, *rule], check=True, timeout=30)

    iptables("-I")
    try:
        yield
    finally:
        iptables("-D")


@pytest.mark.drill
def test_a_first_start_downloads_nothing_and_the_home_holds_no_editor(
    pilot: Pilot, site: ReleaseSite, tmp_path: Path
) -> None:
    asked = len(site.asked)
    with cut_off(pilot):
        workspace = pilot.create_workspace("first")
        assert inside(pilot, workspace, "timeout 3 curl --silent http://1.1.1.1 || echo cut off") == "cut off"
        assert inside(pilot, workspace, "claude --version").startswith(version("claude-code"))
        with chromium(tmp_path / "home", only=pilot.url) as browser:
            page = browser.new_page()
            open_editor(pilot, workspace, page)
        assert tools_that_do_not_run(pilot, workspace) == ""
        assert EXTENSION in inside(pilot, workspace, "ls /opt/code-server/lib/vscode/extensions").split()
    assert len(site.asked) == asked
    # Some settings and caches, and not half a gigabyte of editor.
    assert int(inside(pilot, workspace, "du -sm ~ | cut -f1")) < 20


@pytest.mark.drill
def test_the_market_s_newest_is_taken_and_named_where_it_lacks_the_pinned_version(pilot: Pilot) -> None:
    (log,) = (pilot.directory / ".build").glob("workspace-image-*.log")
    said = log.read_text()
    assert f"Installing {EXTENSION}@2.1.332 from the extension market." in said
    assert f"'{EXTENSION}' v1.0.60 was successfully installed" in said


@pytest.mark.speed
def test_a_start_from_a_bare_base_without_a_network_takes_three_seconds(
    pilot: Pilot, figures: Callable[[str, object], None]
) -> None:
    pilot.call("GET", "/api/v2/users/me")
    create_s: list[float] = []
    start_s: list[float] = []

    with cut_off(pilot):
        for number in range(STARTS):
            took_s, workspace = until_the_editor(pilot, functools.partial(new_workspace, pilot, f"speed-{number}"))
            create_s.append(took_s)
            pilot.transition(workspace["id"], "stop")
            build = f"/api/v2/workspaces/{workspace['id']}/builds"
            took_s, _ = until_the_editor(
                pilot, functools.partial(pilot.call, "POST", build, {"transition": "start"}), workspace
            )
            start_s.append(took_s)
            pilot.wait_workspace(workspace["id"])
            pilot.transition(workspace["id"], "delete")
    figures("create to 200 from a bare base", create_s)
    figures("start to 200 from a bare base", start_s)
    assert statistics.median(create_s) <= START_LIMIT_S
    assert statistics.median(start_s) <= START_LIMIT_S
