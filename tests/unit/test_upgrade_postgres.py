"""An upgrade of Postgres may be cut short at any step, and again: nobody gets an empty Coder, and the same command ends
it."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilot import backup, converge, restore, upgrade_postgres
from stack.jobs import backups, data_directory, engine, pilot_file, postgres

OLD, NEW = 17, 18
STEPS = 30


class Box:
    """The data directory and what runs on it; ends the command at a step, as Ctrl-C or a kill does."""

    def __init__(self, folder: Path) -> None:
        self.data, self.image, self.left = folder / "data", OLD, STEPS
        self.running, self.coder_runs = True, True
        self.directory = self.data / "postgres"
        self._lay("full")
        (self.data / backups.FOLDER).mkdir()
        pilot_file.update(str(self.data), owner="me")
        site = SimpleNamespace(data_dir=str(self.data), coder_container="coder", postgres_container="postgres")
        self.session: Any = SimpleNamespace(
            settings=SimpleNamespace(site=site, database=SimpleNamespace(image="image")), stack="x"
        )

    def _lay(self, contents: str) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "PG_VERSION").write_text(str(self.image))
        (self.directory / "contents").write_text(contents)

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def docker(self, verb: str, *words: str, **_: object) -> str:
        self.step()
        if words[-1] == "postgres":
            self.running = verb == "start"
        else:
            self.coder_runs = verb == "start"
        self.step()
        return ""

    def start_and_wait(self, *_: object) -> None:
        if self.major() == OLD:
            self.running = True

    def back_up(self, _: object) -> Path:
        assert self.running
        self.step()
        file = self.data / backups.FOLDER / f"{backups.timestamp()}.dump"
        file.write_text((self.directory / "contents").read_text())
        backups.prune(str(self.data), 1)
        self.step()
        return file

    def up(self, _: object) -> int:
        self.step()
        assert self.major() in (None, self.image)
        if self.major() is None:
            self._lay("empty")
        self.running = self.coder_runs = True
        # As the keeper does, night after night.
        (self.data / backups.FOLDER / f"{backups.timestamp()}.dump").write_text("a later one")
        backups.prune(str(self.data), 1)
        self.step()
        return 0

    def restore(self, *words: Any) -> None:
        self.step()
        (self.directory / "contents").write_text(words[-1].read_text())
        self.step()

    def major(self) -> int | None:
        return data_directory.data_major(self.directory, "image")

    def upgrade(self, ends_at: int = STEPS, to: int = NEW) -> bool:
        """Run the command; whether it came to its end."""
        self.image, self.left = to, ends_at
        with contextlib.suppress(KeyboardInterrupt):
            return upgrade_postgres.run(argparse.Namespace(stack="x")) == 0
        return False

    def is_refused(self) -> bool:
        """Whether `make up` is."""
        return self.major() not in (None, self.image) or pilot_file.upgrade(str(self.data)) is not None

    def contents(self) -> str:
        return (self.directory / "contents").read_text()


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    made = Box(tmp_path)
    monkeypatch.setattr(upgrade_postgres, "open_session", lambda _: made.session)
    for name in ("say_words", "refuse_other_owner", "refuse_whatever_up_refuses", "recover", "ask"):
        monkeypatch.setattr(converge, name, lambda *_: None)
    monkeypatch.setattr(converge, "templates", lambda _: ())
    monkeypatch.setattr(converge, "converge", made.up)
    monkeypatch.setattr(converge, "up", made.up)
    monkeypatch.setattr(restore.state, "forget_template", lambda _: made.step())
    monkeypatch.setattr(backup, "back_up", made.back_up)
    monkeypatch.setattr(backups, "restore", made.restore)
    monkeypatch.setattr(engine, "docker", made.docker)
    monkeypatch.setattr(engine, "state", lambda _: "there")
    monkeypatch.setattr(engine, "start_and_wait", made.start_and_wait)
    monkeypatch.setattr(postgres, "ready", lambda *_: made.running)
    monkeypatch.setattr(data_directory, "image_major", lambda _: made.image)
    # Each in its own millisecond.
    times = itertools.count(1)
    monkeypatch.setattr(backups, "timestamp", lambda: f"20260101T000000.{next(times):03}Z")
    update = pilot_file.update

    def steps(*words: Any, **values: Any) -> None:
        made.step()
        update(*words, **values)
        made.step()

    monkeypatch.setattr(pilot_file, "update", steps)
    return made


@pytest.mark.parametrize("first", range(STEPS))
def test_an_upgrade_that_is_cut_short_at_any_step_goes_on_with_the_same_command(
    box: Box, tmp_path: Path, capsys: pytest.CaptureFixture[str], first: int
) -> None:
    if box.upgrade(ends_at=first):
        return  # it has fewer steps
    assert box.is_refused() or box.contents() == "full"
    shutil.copytree(box.data, tmp_path / "cut", symlinks=True)
    running = box.running, box.coder_runs
    for second in range(STEPS):
        shutil.rmtree(box.data)
        shutil.copytree(tmp_path / "cut", box.data)
        box.running, box.coder_runs = running
        done = box.upgrade(ends_at=second)
        assert box.is_refused() or box.contents() == "full"
        if not done:
            assert box.upgrade()
        if not box.coder_runs:
            assert "nothing to do" in capsys.readouterr().out
            box.left = STEPS
            box.up(None)
        assert (box.major(), box.contents(), box.coder_runs) == (NEW, "full", True)
        (kept,) = box.data.glob(f"postgres-{OLD}-*")
        assert (kept / "contents").read_text() == "full"
        assert not box.is_refused()
        if done:
            return
    pytest.fail("it did not come to its end")


@pytest.mark.parametrize("first", range(STEPS))
def test_an_upgrade_that_is_cut_short_goes_back_where_the_old_image_is_set_again(
    box: Box, tmp_path: Path, first: int
) -> None:
    if box.upgrade(ends_at=first) or pilot_file.upgrade(str(box.data)) is None:
        return  # too early, or too late
    shutil.copytree(box.data, tmp_path / "cut", symlinks=True)
    for second in range(STEPS):
        shutil.rmtree(box.data)
        shutil.copytree(tmp_path / "cut", box.data)
        done = box.upgrade(ends_at=second, to=OLD)
        assert box.is_refused() or box.contents() == "full"
        if not done and box.is_refused():
            assert box.upgrade(to=OLD)
        assert (box.major(), box.contents()) == (OLD, "full")
        if done:
            return
    pytest.fail("it did not come to its end")
