"""Plugins and providers that nobody holds any more are ended, and no others."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot import __main__ as front_door
from stack.jobs import processes

SLEEP_S = "60"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A program in the place of a plugin."""
    folder = tmp_path / "home" / "plugins" / "resource-x"
    folder.mkdir(parents=True)
    return Path(shutil.copy("/bin/sleep", folder / "pulumi-resource-x"))


@pytest.fixture
def started() -> Iterator[Callable[[Path, Path], subprocess.Popen[str]]]:
    """Lets a program, a copy of the shell, start another in the background and wait; it tells that one's process id."""
    running: list[subprocess.Popen[str]] = []

    def start(starter: Path, program: Path) -> subprocess.Popen[str]:
        starter.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/bash", starter)
        process = subprocess.Popen(
            [starter, "-c", f"{program} {SLEEP_S} & echo $!; wait"], stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield start
    for each in running:
        each.kill()
        each.wait(10)


def child_of(process: subprocess.Popen[str], name: str = "pulumi-resource-x") -> int:
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    deadline_s = time.monotonic() + 10
    # Between fork and exec it is still the shell.
    while name not in processes._exe(pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return pid


def test_what_a_dead_pulumi_left_is_ended(
    plugin: Path, started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    holder = started(tmp_path / "bin" / "pulumi", plugin)
    left = child_of(holder)
    holder.kill()
    holder.wait(10)
    assert left in processes.end_left_behind(tmp_path / "home")
    assert not processes._alive(left)


def test_what_ignores_the_request_to_end_is_killed(
    plugin: Path, started: Callable[..., subprocess.Popen[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE_S", 0.2)
    holder = started(tmp_path / "bin" / "pulumi", f"trap '' TERM; exec {plugin}")
    left = child_of(holder)
    holder.kill()
    holder.wait(10)
    assert left in processes.end_left_behind(tmp_path / "home")
    assert not processes._alive(left)


@pytest.mark.parametrize("name", ["pulumi", ".pulumi-wrapped", "pulumi-lsp"])
def test_what_a_living_pulumi_by_any_name_holds_stays(
    plugin: Path, started: Callable[..., subprocess.Popen[str]], tmp_path: Path, name: str
) -> None:
    held = child_of(started(tmp_path / "bin" / name, plugin))
    assert held not in processes.end_left_behind(tmp_path / "home")
    assert processes._alive(held)


def test_a_provider_below_a_plugin_stays_and_goes_with_it(
    plugin: Path, started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    bridge = Path(shutil.copy("/bin/bash", plugin.with_name("pulumi-resource-bridge")))
    holder = started(tmp_path / "bin" / "pulumi", f"{bridge} -c '{plugin} {SLEEP_S} & wait'")
    above = child_of(holder, bridge.name)
    deadline_s = time.monotonic() + 10
    while not (below := [pid for pid, exe in processes._processes() if exe == str(plugin)]):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    both = {above, *below}
    assert not both & set(processes.end_left_behind(tmp_path / "home"))
    assert all(map(processes._alive, both))
    holder.kill()
    holder.wait(10)
    assert both <= set(processes.end_left_behind(tmp_path / "home"))
    assert not any(map(processes._alive, both))


def test_what_a_replaced_pulumi_holds_stays(
    plugin: Path, started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    held = child_of(started(tmp_path / "bin" / "pulumi", plugin))
    # As an upgrade does while it runs.
    (tmp_path / "bin" / "pulumi").unlink()
    assert held not in processes.end_left_behind(tmp_path / "home")
    assert processes._alive(held)


def test_a_language_host_that_lost_its_pulumi_is_ended(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    host = tmp_path / "bin" / "pulumi-language-x"
    host.parent.mkdir()
    shutil.copy("/bin/sleep", host)
    holder = started(tmp_path / "bin" / "pulumi", host)
    left = child_of(holder, host.name)
    assert left not in processes.end_left_behind(tmp_path / "home")
    holder.kill()
    holder.wait(10)
    assert left in processes.end_left_behind(tmp_path / "home")
    assert not processes._alive(left)


def test_a_program_elsewhere_is_not_ours_to_end(
    plugin: Path, started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    holder = started(tmp_path / "bin" / "other", plugin)
    stranger = child_of(holder)
    assert stranger not in processes.end_left_behind(tmp_path / "another-home")
    assert processes._alive(stranger)


def test_a_command_ends_what_is_left_before_and_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    monkeypatch.setattr(processes, "end_left_behind", lambda home: happened.append(home.name))
    monkeypatch.setattr(processes, "home", lambda: Path("/pulumi-home"))
    monkeypatch.setattr("pilot.password.run", lambda _: happened.append("run") or 3)
    assert front_door.main(["password"]) == 3
    assert happened.count("run") == 1
    assert set(happened[: happened.index("run")]) == set(happened[happened.index("run") + 1 :])
    assert "pulumi-home" in happened[0] + happened[1]
