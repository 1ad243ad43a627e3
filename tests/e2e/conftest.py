"""Fixtures of the end-to-end tests: pilots on the real engine, gone when the test is over."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot.doctor import INOTIFY_GOOD
from tests.e2e import parts, pilot_fixture
from tests.e2e.pilot_fixture import Pilot

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if parts.PUBLISHED and item.get_closest_marker("built_here"):
            item.add_marker(pytest.mark.skip(reason="about a part that is built here"))


@pytest.fixture(scope="session", autouse=True)
def _no_orphans() -> None:
    pilot_fixture.sweep()


@pytest.fixture(scope="session", autouse=True)
def _enough_watchers() -> None:
    """As the README says of a box: the kernel's 128 are shared by all that run here, and an editor that gets none
    shows no file that is new."""
    for name, enough in INOTIFY_GOOD.items():
        limit = Path("/proc/sys/fs/inotify", name)
        # Who is not root has to do it before.
        with contextlib.suppress(OSError):
            if int(limit.read_text()) < enough:
                limit.write_text(str(enough))


@pytest.fixture(scope="module")
def make_pilot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Pilot]]:
    """Makes pilots; takes away each, and its data, when the module is over."""
    made: list[Pilot] = []

    def make(**config: str) -> Pilot:
        pilot = pilot_fixture.make_pilot(tmp_path_factory.mktemp("pilot") / "p", next(_numbers), **config)
        made.append(pilot)
        return pilot

    try:
        yield make
    finally:
        for pilot in made:
            pilot.remove()
            shutil.rmtree(pilot.directory, ignore_errors=True)


@pytest.fixture(scope="module")
def pilot(make_pilot: Callable[..., Pilot]) -> Pilot:
    """A pilot that is up."""
    made = make_pilot()
    made.up()
    return made


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots are kept; git does not."""
    folder = Path(__file__).parent / "artifacts"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def figures(artifacts: Path) -> Callable[[str, object], None]:
    """Keeps a measured figure in the artifacts, one line each: `figures("first up", "12 s")`."""

    def keep(what: str, value: object) -> None:
        with (artifacts / "figures.txt").open("a") as file:
            file.write(f"{what}: {value}\n")

    return keep
