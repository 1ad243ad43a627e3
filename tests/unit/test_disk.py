"""A full disk is named as such, with its folder and what to free; whatever else fails is told as it is."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilot import __main__ as front_door
from pilot import configuration, server
from pilot.configuration import PilotError
from stack.jobs import backups, data_directory, disk, engine, program
from stack.jobs.coder import Api, ApiError

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")
PG_DUMP = "`pg_dump` failed: write /dev/stdout: no space left on device"


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Sets how many MB are free for the data, which are in `tmp_path`, and for Docker's own data, elsewhere."""
    root = tmp_path.parent / "docker-root"

    def run(data_mb: int, docker_mb: int = 10_000) -> None:
        monkeypatch.setattr(disk, "docker_root", lambda: str(root))
        monkeypatch.setattr(disk, "free_mb", lambda folder: docker_mb if str(folder) == str(root) else data_mb)

    run(10_000)
    return run


def test_the_free_space_is_that_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    assert disk.free_mb(tmp_path / "a" / "b") == pytest.approx(disk.free_mb(tmp_path), rel=0.1)


@pytest.mark.parametrize(
    ("error", "data_mb", "docker_mb", "named"),
    [
        ("the container keeps ending", 63, 10_000, "data"),
        ("the container keeps ending", 64, 10_000, None),
        # Without the dump that filled it up there is space again.
        (PG_DUMP, 500, 10_000, "data"),
        ("FATAL: could not write init file: No space left on device", 500, 10_000, "data"),
        ("mkdir: disk quota exceeded", 500, 10_000, "data"),
        ("docker: no space left on device", 500, 3, "docker-root"),
    ],
)
def test_the_disk_stands_before_the_error_where_it_is_full(
    free: Callable[..., None], tmp_path: Path, error: str, data_mb: int, docker_mb: int, named: str | None
) -> None:
    free(data_mb, docker_mb)
    data = tmp_path / "data"
    told = disk.explained(error, data)
    if named is None:
        assert told == error
        return
    folder = data if named == "data" else tmp_path.parent / named
    left_mb = data_mb if named == "data" else docker_mb
    assert told.startswith(f"the disk of {folder} ran out of space, {left_mb} MB are free now: ")
    assert told.endswith(f"see `df -h {folder}`. {error}")
    assert disk.explained(told, data) == told


def test_only_what_is_nobodys_work_is_advised_and_only_where_it_helps(tmp_path: Path) -> None:
    elsewhere = next(path for path in (Path("/proc"), Path("/sys")) if path.stat().st_dev != tmp_path.stat().st_dev)
    assert disk.advice(tmp_path, elsewhere) == f"see `df -h {tmp_path}`"
    (tmp_path / "backups").mkdir()
    assert disk.advice(tmp_path, tmp_path) == (
        f"remove old dumps in {tmp_path}/backups, run `docker builder prune`, see `df -h {tmp_path}`"
    )


@pytest.mark.parametrize(
    ("number", "told", "not_told"),
    [(errno.ENOSPC, "ran out of space", "sudo install"), (errno.EACCES, "sudo install -d -o", "space")],
)
def test_a_data_directory_that_cannot_be_made_says_whether_space_or_a_right_is_missing(
    free: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, told: str, not_told: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, errno.errorcode[number] if number == errno.EACCES else "No space left on device")

    monkeypatch.setenv("DATA_DIRECTORY", str(tmp_path / "data"))
    monkeypatch.setenv("POSTGRES_IMAGE", "postgres:17")
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(engine.JobError) as refused:
        data_directory.main()
    assert told in str(refused.value)
    assert not_told not in str(refused.value)


def test_a_dump_that_fills_the_disk_names_it(
    free: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'write /dev/stdout: no space left on device' >&2\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(engine.JobError) as refused:
        backups.dump("c", "coder", "coder", str(tmp_path), name="x")
    assert str(refused.value).startswith(f"the disk of {tmp_path} ran out of space")
    assert str(refused.value).endswith(PG_DUMP)


def test_a_job_that_meets_a_full_disk_ends_with_one_message(
    free: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_DIRECTORY", str(tmp_path))

    def main(error: Exception) -> Callable[[], None]:
        def run() -> None:
            raise error

        return run

    with pytest.raises(SystemExit):
        program.run(main(NO_SPACE))
    assert capsys.readouterr().err.startswith(f"error: the disk of {tmp_path} ran out of space")
    with pytest.raises(FileNotFoundError):
        program.run(main(FileNotFoundError("gone")))
    free(1)
    with pytest.raises(SystemExit):
        program.run(main(engine.JobError("Coder does not answer")))
    assert capsys.readouterr().err.startswith(f"error: the disk of {tmp_path} ran out of space")


def test_a_command_that_meets_a_full_disk_ends_with_one_message(
    free: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = iter([NO_SPACE, engine.JobError(PG_DUMP)])

    def run(_: object) -> int:
        raise next(errors)

    site = SimpleNamespace(data_dir=str(tmp_path))
    monkeypatch.setattr(configuration, "settings", lambda _: SimpleNamespace(site=site))
    monkeypatch.setattr("pilot.password.run", run)
    for _ in range(2):
        assert front_door.main(["password"]) == 1
        assert capsys.readouterr().err.startswith(f"error: the disk of {tmp_path} ran out of space")


def test_a_coder_that_answers_with_an_error_is_told_with_the_disk_that_its_database_lacks(
    free: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> object:
        raise ApiError(500, "POST /api/v2/users/login: 500 Internal error.")

    free(1)
    monkeypatch.setattr(Api, "call", refuse)
    session: Any = SimpleNamespace(
        stack="x", outputs=lambda **_: {"apiToken": "t", "adminEmail": "e"},
        settings=SimpleNamespace(site=SimpleNamespace(coder_url="http://127.0.0.1:1", data_dir=str(tmp_path))),
    )  # fmt: skip
    with (
        pytest.raises(PilotError, match=rf"the disk of {tmp_path} ran out of space.*500 Internal error"),
        server.admin(session) as api,
    ):
        api.call("GET", "/api/v2/workspaces")
