"""A piece of the toolchain is whole or not there: no failure, interruption or second builder leaves a half-made one."""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from toolchain import __main__ as command_line
from toolchain import builder as builder_module
from toolchain import debian, engine, pieces
from toolchain import progress as progress_module
from toolchain.builder import Builder, Job, Outcome, Piece, ToolchainError
from toolchain.pieces import DRILLS, PIECES
from toolchain.progress import Progress

CHECKOUT = Path(__file__).resolve().parents[2]
WAIT_S = 60


@dataclass(frozen=True, kw_only=True)
class Fake:
    """A recipe that runs `script` in a shell in the piece's folder."""

    script: str = "echo whole > file"
    source: str = ""
    needs_tool: str = "sh"

    def sources(self) -> Sequence[Path]:
        return [Path(self.source)] if self.source else []

    def tools(self) -> Sequence[str]:
        return [self.needs_tool]

    def make(self, job: Job) -> None:
        job.run(["sh", "-ec", self.script], cwd=job.out)

    def intact(self, directory: Path) -> bool:
        return not (directory / "gone").exists()


@dataclass(frozen=True, kw_only=True)
class FullDisk(Fake):
    """A recipe whose own writing meets a full disk."""

    def make(self, job: Job) -> None:
        (job.out / "half").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _builder(cache: Path, *recipes: Fake, version: str = "1") -> Builder:
    """Pieces a, b, …: each needs the one before it."""
    names = "abcdef"[: len(recipes)]
    pieces = {
        name: Piece(name=name, version=version, recipe=recipe, needs=tuple(names[i - 1 : i] if i else ()))
        for i, (name, recipe) in enumerate(zip(names, recipes, strict=True))
    }
    return Builder(pieces, cache=cache)


def _left(cache: Path) -> list[str]:
    """What lies in the cache beside logs and locks."""
    return [
        path.relative_to(cache).as_posix()
        for folder in ("pieces", "tmp")
        for path in (cache / folder).rglob("*")
        if not path.is_dir()
    ]


def _until(check: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not check():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.02)


def test_a_piece_is_built_once_after_what_it_needs(tmp_path: Path) -> None:
    log = tmp_path / "order"
    recipes = (Fake(script=f"echo a >> {log}"), Fake(script=f"echo b >> {log}; echo whole > file"))
    assert [each.state for each in _builder(tmp_path, *recipes).build(["b"])] == ["built", "built"]
    again = _builder(tmp_path, *recipes)
    assert [each.state for each in again.build(["b"])] == ["cached", "cached"]
    assert log.read_text() == "a\nb\n"
    assert (again.directory("b") / "file").read_text() == "whole\n"


def test_force_builds_what_is_cached(tmp_path: Path) -> None:
    _builder(tmp_path, Fake()).build(["a"])
    assert _builder(tmp_path, Fake()).build(["a"], force=True)[0].state == "built"


def test_a_change_of_version_recipe_or_need_makes_another_piece() -> None:
    def key(*recipes: Fake, version: str = "1") -> str:
        return _builder(Path("cache"), *recipes, version=version).key("b")

    keys = [key(Fake(), Fake()), key(Fake(), Fake(), version="2"), key(Fake(), Fake(script="true"))]
    keys.append(key(Fake(script="true"), Fake()))
    assert len(set(keys)) == len(keys)
    assert key(Fake(), Fake()) == keys[0]


def test_a_change_of_a_source_makes_another_piece(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builder_module, "TOOLCHAIN", tmp_path / "toolchain")
    source = tmp_path / "source"
    source.write_text("one")
    first = _builder(tmp_path, Fake(source=str(source))).key("a")
    source.write_text("two")
    assert _builder(tmp_path, Fake(source=str(source))).key("a") != first


def test_what_only_the_drills_need_is_built_by_its_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    class Recorder(Builder):
        def build(self, names: Sequence[str], *, force: bool = False) -> list[Outcome]:
            asked.append(names)
            return []

    monkeypatch.setattr(command_line, "Builder", Recorder)
    monkeypatch.setattr(command_line.debian, "ensure", lambda _: None)
    monkeypatch.setattr(command_line.engine, "start", lambda: "28")
    monkeypatch.setattr(command_line.environment, "lay", lambda _: "there")
    for words in ([], ["--program", *pieces.IMAGES], list(DRILLS)):
        monkeypatch.setattr(sys, "argv", ["toolchain", "build", *words])
        assert command_line.main() == 0
    everything, program, drills = asked
    assert set(everything) == PIECES.keys() - set(DRILLS)
    assert program == [*pieces.PROGRAM, *pieces.IMAGES]
    assert drills == list(DRILLS)


def test_an_unknown_piece_is_refused_with_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "toolchain", "build", "nonesuch"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=WAIT_S,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"error: unknown piece: nonesuch; there are {', '.join(PIECES)}\n"


def _damage_content(file: Path) -> None:
    file.write_text("WHOLE\n")


@pytest.mark.parametrize(
    ("damage", "what"),
    [(_damage_content, "does not have the digest it was stored with"), (Path.unlink, "is missing")],
)
def test_a_damaged_cache_is_told_with_the_command_that_mends_it(
    tmp_path: Path, damage: Callable[[Path], None], what: str
) -> None:
    builder = _builder(tmp_path, Fake())
    builder.build(["a"])
    damage(builder.directory("a") / "file")
    with pytest.raises(ToolchainError, match=what) as refused:
        builder.build(["a"])
    assert "run `python3 -m toolchain clean a`" in str(refused.value)
    builder.clean(["a"])
    assert builder.build(["a"])[0].state == "built"


def test_a_file_that_was_touched_and_not_changed_is_no_damage(tmp_path: Path) -> None:
    builder = _builder(tmp_path, Fake())
    builder.build(["a"])
    os.utime(builder.directory("a") / "file", (1, 1))
    assert builder.build(["a"])[0].state == "cached"


def test_damage_that_keeps_size_and_time_is_found_by_a_thorough_look(tmp_path: Path) -> None:
    builder = _builder(tmp_path, Fake())
    builder.build(["a"])
    file = builder.directory("a") / "file"
    stat = file.stat()
    _damage_content(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert builder.cached("a")
    with pytest.raises(ToolchainError, match="digest"):
        builder.cached("a", thorough=True)


def test_a_piece_whose_image_is_gone_is_built_anew(tmp_path: Path) -> None:
    builder = _builder(tmp_path, Fake())
    builder.build(["a"])
    (builder.directory("a") / "gone").touch()
    assert builder.build(["a"])[0].state == "built"


def test_a_failing_step_shows_the_end_of_its_log_and_leaves_nothing(tmp_path: Path) -> None:
    builder = _builder(tmp_path, Fake(script="echo half > file; seq 100; echo the reason >&2; exit 7"))
    with pytest.raises(ToolchainError) as refused:
        builder.build(["a"])
    lines = str(refused.value).splitlines()
    assert lines[0].startswith("piece a: `sh -ec ")
    assert lines[0].endswith(f"ended with 7; log: {tmp_path}/logs/a.log")
    assert lines[-1] == "  | the reason"
    assert "  | 100" in lines
    assert "  | 50" not in lines
    assert _left(tmp_path) == []


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("dial tcp: lookup proxy.example: no such host", "check network and proxy"),
        ("write /x: no space left on device", "free some space (`df -h`)"),
        ("Cannot connect to the Docker daemon at unix:///x", "python3 -m toolchain engine --start"),
    ],
)
def test_a_known_failure_comes_with_advice(tmp_path: Path, said: str, advice: str) -> None:
    with pytest.raises(ToolchainError, match="ended with 1") as refused:
        _builder(tmp_path, Fake(script=f"echo '{said}' >&2; exit 1")).build(["a"])
    assert advice in str(refused.value).splitlines()[-1]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="the disk is full: free some space"):
        _builder(tmp_path, FullDisk()).build(["a"])
    assert _left(tmp_path) == []
    # A real one, as a step meets it.
    with pytest.raises(ToolchainError, match="the disk is full: free some space"):
        _builder(tmp_path, Fake(script="echo half > file; cat /proc/version > /dev/full")).build(["a"])
    assert _left(tmp_path) == []


def test_a_missing_tool_is_told_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match="piece a: `go` is not on PATH; install Go"):
        _builder(tmp_path, Fake(needs_tool="go")).build(["a"])
    assert not (tmp_path / "logs" / "a.log").exists()


def test_a_step_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder_module, "STEP_TIMEOUT_S", 1)
    pid_file = tmp_path / "pid"
    with pytest.raises(ToolchainError, match="did not end within"):
        _builder(tmp_path, Fake(script=f"echo half > file; echo $$ > {pid_file}; sleep 600")).build(["a"])
    assert _left(tmp_path) == []
    _until(lambda: not Path(f"/proc/{int(pid_file.read_text())}").exists())


def test_what_is_whole_stays_whole_when_the_next_piece_fails(tmp_path: Path) -> None:
    builder = _builder(tmp_path, Fake(), Fake(script="exit 1"))
    with pytest.raises(ToolchainError, match="piece b"):
        builder.build(["b"])
    assert builder.cached("a")


PROGRAM = """
import signal, sys
from pathlib import Path
from toolchain.builder import Builder, Piece
from tests.unit.test_toolchain import Fake

signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
cache, script = Path(sys.argv[1]), sys.argv[2]
print(Builder({"a": Piece(name="a", version="1", recipe=Fake(script=script))}, cache=cache).build(["a"])[0].state)
"""


def _start(cache: Path, script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(cache), script],
        cwd=CHECKOUT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing_that_passes_for_whole(tmp_path: Path, sent: signal.Signals) -> None:
    cache, pid_file = tmp_path / "cache", tmp_path / "pid"
    script = f"echo half > half; echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 600"
    with _start(cache, script) as process:
        _until(pid_file.exists)
        process.send_signal(sent)
        try:
            process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    assert process.returncode != 0
    step = int(pid_file.read_text())
    if sent is signal.SIGKILL:
        # Nobody was left to end the step; the next builder sweeps what it made.
        os.killpg(step, signal.SIGKILL)
    else:
        _until(lambda: not Path(f"/proc/{step}").exists())
        assert _left(cache) == []
    builder = _builder(cache, Fake(script="ls > file"))
    assert not builder.cached("a")
    builder.build(["a"])
    assert (builder.directory("a") / "file").read_text() == "file\n"
    assert _left(cache) == [f"pieces/a/{builder.key('a')}.json", f"pieces/a/{builder.key('a')}/file"]


def test_two_builders_wait_for_each_other_and_build_once(tmp_path: Path) -> None:
    cache, gate, began = tmp_path / "cache", tmp_path / "gate", tmp_path / "began"
    script = f"echo begun >> {began}; while [ ! -e {gate} ]; do sleep 0.05; done; echo whole > file"
    with _start(cache, script) as first:
        _until(began.exists)
        with _start(cache, script) as second:
            assert second.stderr is not None
            while "another builder has it; waiting" not in second.stderr.readline():
                assert second.poll() is None
            gate.touch()
            states = [process.communicate(timeout=WAIT_S)[0].strip() for process in (first, second)]
    assert states[0] == "built"
    assert second.returncode == 0
    assert began.read_text() == "begun\n"


def _said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return re.sub(r"\d+ s\b", "N s", capsys.readouterr().err).splitlines()


def test_the_lines_count_the_pieces_that_have_to_be_built_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builder = _builder(tmp_path, Fake(), Fake(), Fake())
    builder.build(["a"])
    assert _said(capsys) == ["[0/1] a: building", "[1/1] a: built in N s"]
    builder.build(["c"])
    assert _said(capsys) == [
        "[0/2] b: building", "[1/2] b: built in N s", "[1/2] c: building", "[2/2] c: built in N s"
    ]  # fmt: skip
    builder.build(["c"])
    assert _said(capsys) == []


def test_a_line_now_and_then_tells_what_is_in_work_and_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(["a", "b", "c", "d", "e", "f", "g"]) as progress:
        for name in "ab":
            progress.begin(name)
        capsys.readouterr()
        progress.tick()
        assert _said(capsys) == []
        monkeypatch.setattr(progress_module, "LINE_INTERVAL_S", 0)
        progress.tick()
        assert _said(capsys) == ["[0/7] a, N s, b, N s; left: c, d, e, f and 1 more"]


def test_in_the_order_of_the_table_of_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builder_module, "BUILDERS_AT_ONCE", 1)
    log = tmp_path / "order"
    pieces = {name: Piece(name=name, version="1", recipe=Fake(script=f"echo {name} >> {log}")) for name in "ab"}
    assert [each.name for each in Builder(pieces, cache=tmp_path).build(["b", "a"])] == ["b", "a"]
    assert log.read_text() == "a\nb\n"


def test_the_processor_time_of_a_piece_is_that_of_its_steps_and_their_children(tmp_path: Path) -> None:
    busy = "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done'"
    (built,) = _builder(tmp_path, Fake(script=f"{busy}; sleep 0.3")).build(["a"])
    assert 0.05 < built.cpu_s < built.seconds - 0.2
    (cached,) = _builder(tmp_path, Fake(script=f"{busy}; sleep 0.3")).build(["a"])
    assert cached.cpu_s == 0


def _on_a_terminal(cache: Path, script: str) -> str:
    """What a build shows on a terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(cache), script],
            cwd=CHECKOUT, env={**os.environ, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        try:
            # The terminal of a program that has ended answers with an error.
            with contextlib.suppress(OSError):
                while more := terminal.read(4096):
                    shown += more
        finally:
            process.kill()
            process.wait(WAIT_S)
    return shown.decode()


def test_a_terminal_shows_a_display_and_keeps_the_lines(tmp_path: Path) -> None:
    shown = _on_a_terminal(tmp_path, "sleep 1.5")
    assert "━━━" in shown
    assert "[0/1] a, 1 s" in shown
    assert "[1/1] a: built in " in shown


def _without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip._vendor.rich.console", None)


def _dumb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")


@pytest.mark.parametrize("lacking", [_without_rich, _dumb])
def test_a_terminal_that_cannot_have_the_display_gets_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lacking: Callable[[pytest.MonkeyPatch], None]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress_module, "LINE_INTERVAL_S", 0)
    lacking(monkeypatch)
    with Progress(["a"]) as progress:
        progress.begin("a")
        progress.tick()
    assert _said(capsys) == ["[0/1] a: building", "[0/1] a, N s"]


def test_without_an_engine_the_address_that_was_asked_for_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert engine.server_version() is None
    with pytest.raises(ToolchainError, match=r"none\.sock: start it there, or `unset DOCKER_HOST`"):
        engine.start()


def test_debian_packages_that_are_missing_are_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(debian, "missing", lambda packages: list(packages)[:1])
    with pytest.raises(ToolchainError, match="sudo apt-get install --yes --no-install-recommends one`"):
        debian.ensure(["one", "two"])
