"""A folder that is copied arrives whole or not at all: owner set, modes, times and links kept."""

from __future__ import annotations

import io
import json
import os
import tarfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pilot import archive
from pilot.configuration import PilotError

command = import_module("pilot.import")


def packed(folder: Path, *more: tarfile.TarInfo) -> bytes:
    """The folder as `docker cp FOLDER/. -` gives it."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(folder, "./")
        for member in more:
            tar.addfile(member)
    return sink.getvalue()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / ".git" / "objects").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / ".git" / "HEAD").chmod(0o444)
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o750)
    os.utime(folder / "run", (1_600_000_000, 1_600_000_000))
    (folder / "same").hardlink_to(folder / "run")
    (folder / "link").symlink_to("/nowhere")
    (folder / ("long-" * 30 + "ü")).write_text("x")
    return folder


@pytest.mark.parametrize(
    ("path", "copied"),
    [
        (".import-0123456789abcdef", False),
        (".import-0123456789abcdef/notes", False),
        (".import-notes", True),
        (".import-notes/0123456789abcdef", True),
        (".import-0123456789abcdef0", True),
        ("sub/.import-0123456789abcdef", True),
    ],
)
def test_only_a_copy_that_is_under_way_is_left_out_of_a_project(path: str, *, copied: bool) -> None:
    assert command._is_no_copy(path) == copied


def test_a_copy_has_the_same_checksum_and_everything_belongs_to_its_new_owner(project: Path) -> None:
    stream = packed(project)
    before = archive.read(io.BytesIO(stream))
    sink = io.BytesIO()
    sent = archive.rewrite(io.BytesIO(stream), sink, "staged", (1000, 1001))
    assert (sent.checksum, sent.files) == (before.checksum, 3)
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue())) as tar:
        members = {each.name: each for each in tar}
    assert {(each.uid, each.gid) for each in members.values()} == {(1000, 1001)}
    assert all(name == "staged" or name.startswith("staged/") for name in members)
    run = members["staged/run"]
    assert (run.mode, run.mtime) == (0o750, 1_600_000_000)
    assert members["staged/same"].linkname == "staged/run"
    assert members["staged/link"].linkname == "/nowhere"


@pytest.mark.parametrize("change", ["content", "mode", "time", "link", "more"])
def test_the_checksum_tells_every_difference(project: Path, change: str) -> None:
    before = archive.read(io.BytesIO(packed(project))).checksum
    if change == "content":
        (project / "run").write_text("#!/bin/sx\n")
        os.utime(project / "run", (1_600_000_000, 1_600_000_000))
    elif change == "mode":
        (project / "run").chmod(0o755)
    elif change == "time":
        os.utime(project / "run", (1_600_000_001, 1_600_000_001))
    elif change == "link":
        (project / "link").unlink()
        (project / "link").symlink_to("/elsewhere")
    else:
        (project / ".git" / "new").write_text("")
    assert archive.read(io.BytesIO(packed(project))).checksum != before


def test_devices_and_pipes_are_left_out_and_named(project: Path) -> None:
    os.mkfifo(project / "pipe")
    device = tarfile.TarInfo("./null")
    device.type = tarfile.CHRTYPE
    sink = io.BytesIO()
    sent = archive.rewrite(io.BytesIO(packed(project, device)), sink, "staged", (1, 1))
    assert sorted(sent.left_out) == ["null", "pipe"]
    assert b"null" not in sink.getvalue()


def test_a_path_that_leads_out_of_the_folder_is_refused(project: Path) -> None:
    evil = tarfile.TarInfo("../evil")
    with pytest.raises(PilotError, match="leads out of the folder"):
        archive.read(io.BytesIO(packed(project, evil)))


def test_a_stream_that_breaks_off_is_no_whole_folder(project: Path) -> None:
    stream = packed(project)
    with pytest.raises(PilotError, match="could not be read to its end"):
        archive.read(io.BytesIO(stream[: len(stream) // 2 - 100]))


@pytest.mark.parametrize("to", ["", "/", "..", "../x", "/etc", "a/../b"])
def test_a_target_outside_the_home_is_refused(to: str) -> None:
    with pytest.raises(PilotError, match="no folder in the home"):
        command._folder(to)


@pytest.mark.parametrize(
    ("to", "folder"), [("demo", "demo"), ("work/demo/", "work/demo"), ("/home/coder/demo", "demo")]
)
def test_a_target_in_the_home_is_taken(to: str, folder: str) -> None:
    assert command._folder(to) == folder


def entry(name: str) -> dict[str, Any]:
    return {"identifier": {"id": name}, "relativeLocation": f"{name}-1", "location": {"path": "/elsewhere"}}


def test_of_an_old_editor_comes_what_is_not_there_yet() -> None:
    files = {
        "extensions/a.new-1", "extensions/b.there-1", "User/settings.json", "User/keybindings.json", "User/snippets",
    }  # fmt: skip
    there = {"User/settings.json", "User/keybindings.json"}
    theirs = [entry("a.new"), entry("b.there"), entry("c.gone"), {**entry("d.evil"), "relativeLocation": "../evil"}]
    for untouched in (True, False):
        wanted = command._wanted(theirs, [entry("B.There")], there, files, untouched=untouched)
        assert wanted.folders == ["extensions/a.new-1"]
        settings = ["User/settings.json"] if untouched else []
        assert list(wanted.settings) == [*settings, "User/snippets"]
        assert "User/keybindings.json" in wanted.kept
        assert wanted.chosen("extensions/a.new-1/package.json")
        assert not wanted.chosen("extensions/a.new-10/package.json")
    assert command._location(entry("a.new"))["path"] == "/home/coder/.local/share/code-server/extensions/a.new-1"


def test_what_the_first_start_writes_into_the_settings_is_known() -> None:
    assert json.loads(command._first_settings())["telemetry.telemetryLevel"] == "off"
