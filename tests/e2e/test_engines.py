"""On a current Docker Engine a pilot is what it is on an old one, however that engine is set up.

The rest of the suite runs on the engine of this machine. Here it is Docker Engine 28 in a box, once with the containerd
image store and once without userland proxy.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.e2e import box_fixture
from tests.e2e.box_fixture import Box
from tests.e2e.parts import CODER_IMAGE, POSTGRES_IMAGE, WORKSPACE_IMAGE
from tests.e2e.pilot_fixture import Pilot, docker, free_port
from tests.e2e.retirement_fixture import belongings, checksum, command, left_over
from tests.e2e.workspace_fixture import until_the_editor
from tests.e2e.world_fixture import Lived, everything_gone, lived_in
from toolchain.builder import Builder
from toolchain.pieces import PIECES
from toolchain.pins import version

pytestmark = [pytest.mark.drill, pytest.mark.timeout(1800)]

ENGINES = {
    "containerd-image-store": "--feature=containerd-snapshotter",
    "no-userland-proxy": "--userland-proxy=false",
}
# By other names, images are nothing that this checkout's toolchain would look after.
IMAGES = {
    "coderImage": ("localhost/coder:1", CODER_IMAGE),
    "postgresImage": ("localhost/postgres:1", POSTGRES_IMAGE),
    "workspaceImages": ("localhost/workspace:1", WORKSPACE_IMAGE),
}


@pytest.fixture(scope="module", params=ENGINES)
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with such an engine, and the images on it."""
    path = os.pathsep.join([str(Builder(PIECES).directory("dockerd") / "bin"), os.environ["PATH"]])
    with box_fixture.running(tmp_path_factory.mktemp("box"), ENGINES[request.param], path=path) as made:
        assert docker("--host", made.docker_host, "version", "--format", "{{.Server.Version}}") == version("dockerd")
        _load(made)
        yield made


def _load(box: Box) -> None:
    box.load([image for _, image in IMAGES.values()])
    for name, image in IMAGES.values():
        docker("--host", box.docker_host, "tag", image, name)


@pytest.fixture(scope="module")
def lived(box: Box, make_pilot: Callable[..., Pilot]) -> Lived:
    made = make_pilot(
        dockerHost=box.docker_host, dockerSocket=str(box.socket), **{key: name for key, (name, _) in IMAGES.items()}
    )
    with box.entered():
        made.up()
        return lived_in(made)


@pytest.fixture
def pilot(box: Box, lived: Lived) -> Iterator[Pilot]:
    """The pilot, with this thread in its box."""
    with box.entered():
        yield lived.pilot


def test_a_second_up_changes_nothing(pilot: Pilot) -> None:
    pilot.up("--expect-no-changes")
    pilot.up("--refresh", "--expect-no-changes")
    assert "unchanged" in command(pilot, "up")


def test_a_workspace_stops_and_starts_with_its_files(pilot: Pilot, lived: Lived) -> None:
    workspace = lived.running
    before = checksum(workspace["id"])
    pilot.transition(workspace["id"], "stop")
    assert docker("ps", "--all", "--quiet", "--filter", f"label=coder.workspace_id={workspace['id']}") == ""
    until_the_editor(pilot, lambda: pilot.transition(workspace["id"], "start"), workspace)
    assert checksum(workspace["id"]) == before


def test_every_promise_is_kept(pilot: Pilot) -> None:
    found = json.loads(command(pilot, "prove", "--json").splitlines()[-1])
    assert [each for each in found["promises"] if each["kept"] is False] == []


def test_what_was_taken_away_is_there_again_after_an_up(pilot: Pilot, lived: Lived) -> None:
    everything_gone(lived)
    assert f"the network {pilot.name}-workspaces is gone" in pilot.pulumi("preview")
    command(pilot, "up")
    lived.assert_whole()


def test_a_taken_port_is_named_with_who_has_it(pilot: Pilot) -> None:
    kept = pilot.config["port"]
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", free_port()))
        holder.listen()
        port = holder.getsockname()[1]
        pilot.write_config(port=str(port))
        said = pilot.up(check=False)
    pilot.write_config(port=kept)
    command(pilot, "up")
    assert f"port {port} of 127.0.0.1 is taken by " in said
    assert f", process {os.getpid()}; nothing was touched. End that, or run `pulumi config" in said


def test_a_down_and_an_up_keep_everything(pilot: Pilot, lived: Lived) -> None:
    command(pilot, "down")
    assert left_over(pilot) == []
    command(pilot, "up")
    pilot.variables.pop("token", None)
    pilot.transition(lived.running["id"], "start")
    lived.assert_whole()


@pytest.mark.parametrize("box", ["no-userland-proxy"], indirect=True)
def test_an_engine_that_is_switched_to_the_containerd_image_store_has_everything_again_after_an_up(
    box: Box, lived: Lived
) -> None:
    box.restart_engine(ENGINES["containerd-image-store"])
    _load(box)
    with box.entered():
        assert docker("ps", "--all", "--quiet") == ""
        command(lived.pilot, "up")
        command(lived.pilot, "workspace", lived.running["name"])
        assert belongings(lived.pilot) == lived.owned
        lived.pilot.up("--expect-no-changes")
