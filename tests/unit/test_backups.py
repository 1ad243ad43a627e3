"""The newest backups stay, a restore is whole or not at all, no Coder is put on a database that a newer one moved, and
only what is ours is removed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

import pytest

from stack.jobs import backups, data_directory, engine, upgrade_guard


def _lay(folder: Path, names: list[str]) -> None:
    (folder / backups.FOLDER).mkdir()
    for name in names:
        (folder / backups.FOLDER / name).touch()


@pytest.mark.parametrize(("kept", "gone"), [(1, 5), (4, 2), (6, 0), (7, 0)])
def test_the_newest_stay_each_with_its_state_and_nothing_else_goes(tmp_path: Path, kept: int, gone: int) -> None:
    # In no order, as a directory lists them.
    days = ("20260103", "20260101", "20260106", "20251231", "20260105", "20260104")
    dumps = [f"{day}T000000.000Z.dump" for day in days]
    states = [name.replace(".dump", ".state.json") for name in dumps]
    _lay(tmp_path, [*dumps, *states, "notes.txt", "mine.dump", "1.dump"])
    removed = backups.prune(str(tmp_path), kept)
    assert removed == sorted(dumps)[:gone]
    left = {each.name for each in (tmp_path / backups.FOLDER).iterdir()}
    assert left == {"notes.txt", "mine.dump", "1.dump", *sorted(dumps)[gone:], *sorted(states)[gone:]}


def test_the_names_of_backups_order_as_time_does_in_every_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        moment: datetime

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            # As the owner's clock, which is not in UTC, tells it when nobody asks for UTC.
            return cls.moment.astimezone(tz or timezone(timedelta(hours=-5)))  # type: ignore[return-value]

    monkeypatch.setattr(backups, "datetime", Clock)
    expected = [
        "20260131T235959.999Z", "20260201T000000.000Z", "20260201T000000.001Z", "20260201T130000.000Z",
        "20261231T000000.000Z", "20270101T000000.000Z",
    ]  # fmt: skip
    names = []
    for each in expected:
        Clock.moment = datetime.strptime(each, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
        names.append(backups.timestamp())
    assert names == expected == sorted(expected)


def test_a_dump_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho half a dump\necho out of space >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(engine.JobError, match="`pg_dump` failed: out of space"):
        backups.dump("c", "coder", "coder", str(tmp_path), name="x")
    assert list((tmp_path / backups.FOLDER).iterdir()) == []


def test_a_dump_of_something_else_is_no_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "; Archive created"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(engine.JobError, match="is no backup of a Coder"):
        backups.dump("c", "coder", "coder", str(tmp_path), name="x")
    assert list((tmp_path / backups.FOLDER).iterdir()) == []


class Postgres:
    """Databases by name, each with the text that stands for its contents; ends itself at a command."""

    def __init__(self, ends_at: int) -> None:
        self.databases = {"coder": "old"}
        self._left = ends_at

    def __call__(self, _: str, command: Sequence[str], **__: Any) -> str:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        program, name = command[0], command[-1]
        if program == "dropdb":
            assert "--force" in command
            self.databases.pop(name, None)
        elif program == "createdb":
            assert name not in self.databases
            self.databases[name] = "empty"
        elif program == "pg_restore":
            self.databases[name] = "dump"
        else:
            # One command of psql is one transaction.
            assert program == "psql"
            now = dict(self.databases)
            for old, new in re.findall(r"ALTER DATABASE (\w+) RENAME TO (\w+)", name):
                assert new not in now
                now[new] = now.pop(old)
            self.databases = now
        return ""


@pytest.mark.parametrize("ends_at", range(8))
def test_a_restore_that_is_cut_short_leaves_a_whole_database_and_the_next_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_at: int
) -> None:
    (tmp_path / "x.dump").touch()
    postgres = Postgres(ends_at)
    monkeypatch.setattr(backups, "_in_container", postgres)
    with contextlib.suppress(KeyboardInterrupt):
        backups.restore("c", "coder", "coder", tmp_path / "x.dump")
    assert postgres.databases["coder"] in ("old", "dump")
    postgres._left = 100
    backups.restore("c", "coder", "coder", tmp_path / "x.dump")
    assert postgres.databases == {"coder": "dump"}


@pytest.mark.parametrize(
    ("shown", "version"),
    [
        ("Coder v2.30.0 Mon Jan  5 10:00:00 UTC 2026", (2, 30, 0)),
        ("v2.9.12+abc123", (2, 9, 12)),
        ("v2.30.0-devel+5f1", (2, 30, 0)),
        ("unknown", None),
    ],
)
def test_versions_are_read_as_coder_writes_them(shown: str, version: upgrade_guard.Version | None) -> None:
    assert upgrade_guard.parse(shown) == version


@pytest.mark.parametrize(
    ("wanted", "ran", "refused"),
    [
        ((2, 30, 0), [(2, 30, 0)], False),
        ((2, 31, 0), [(2, 30, 0)], False),
        ((2, 30, 0), [(2, 9, 9), (2, 30, 0)], False),
        ((2, 9, 9), [(2, 30, 0)], True),
        ((2, 30, 0), [(2, 30, 0), (2, 30, 1)], True),
        ((2, 30, 0), [(2, 30, 1), (2, 30, 0)], True),
        ((2, 30, 0), [(3, 0, 0)], True),
        (None, [(2, 30, 0)], False),
        ((2, 30, 0), [], False),
    ],
)
def test_a_coder_older_than_the_newest_that_ran_is_refused(
    wanted: upgrade_guard.Version | None, ran: list[upgrade_guard.Version], refused: bool
) -> None:
    problem = upgrade_guard.refusal(wanted, ran, "image")
    assert (problem is not None) == refused
    if problem:
        assert "pulumi config set coderImage" in problem


def test_a_directory_without_our_file_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(engine.JobError, match=r"has no pilot\.json, so it is not removed"):
        data_directory.remove(tmp_path, "postgres:17")
    assert (tmp_path / "postgres").is_dir()
    data_directory.remove(tmp_path / "absent", "postgres:17")
