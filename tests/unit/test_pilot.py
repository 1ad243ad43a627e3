"""The front door tells what is wrong and what fixes it, and never leaves `pulumi` half-way by its own doing."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pilot import (
    configuration,
    converge,
    doctor,
    down,
    drift,
    leave,
    new_state,
    password,
    preview,
    restore,
    server,
    session,
    state,
    status,
    up,
    workspace,
)
from pilot.configuration import PilotError
from pilot.doctor import Finding, Subject
from stack.jobs import backups, certificate, engine, workspace_world
from stack.jobs import port as ports
from stack.jobs import world as engine_world
from stack.jobs.coder import Api, ApiError
from stack.jobs.engine import JobError
from stack.settings import parse
from tests.certificates import self_signed

CHECKOUT = Path(__file__).resolve().parents[2]
NOW = datetime.datetime(2026, 1, 1, 12, 0, tzinfo=datetime.UTC)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with a stack `x` and nothing else."""
    for name in ("Pulumi.yaml", "Pulumi.local.yaml"):
        (tmp_path / name).write_text((CHECKOUT / name).read_text())
    (tmp_path / "Pulumi.x.yaml").write_text('config:\n  coder-pilot:port: "17001"\n  coder-pilot:dataDir: data\n')
    for module in (configuration, session, doctor, preview, new_state):
        monkeypatch.setattr(module, "PROJECT", tmp_path)
    for module in (session, doctor, new_state, state):
        monkeypatch.setattr(module, "STATE", tmp_path / ".pulumi-state")
    for module in (session, doctor, new_state):
        monkeypatch.setattr(module, "STACKS", tmp_path / ".pulumi-state" / ".pulumi" / "stacks" / "coder-pilot")
    for module in (session, doctor):
        monkeypatch.setattr(module, "PASSPHRASE", tmp_path / ".passphrase")
    for name in session.PASSPHRASE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def _subject(**settings: str) -> Subject:
    values = {**configuration.values("x"), **settings}
    return Subject(stack="x", settings=parse(values, session.PROJECT), published=False)


def test_a_restore_looks_at_its_file_before_anything_else(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "open_session", lambda _: pytest.fail("the session was opened"))
    (tmp_path / "nonsense.dump").write_text("nonsense")
    for name, told in {"nonsense.dump": "is no dump", "absent.dump": "there is no dump"}.items():
        with pytest.raises(PilotError, match=told):
            restore.run(argparse.Namespace(stack="x", file=tmp_path / name))

    def closed(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(backups, "looks_like_dump", closed)
    with pytest.raises(PilotError, match="cannot be read: Permission denied; nothing was touched"):
        restore.run(argparse.Namespace(stack="x", file=tmp_path / "nonsense.dump"))


def test_the_oldest_dump_is_restored_though_each_up_and_the_keeper_remove_the_oldest_until_it_is_read(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project / "data" / backups.FOLDER
    folder.mkdir(parents=True)
    oldest, newer = (folder / f"2026010{day}T000000.000Z.dump" for day in (1, 2))
    for each in (oldest, newer):
        each.write_bytes(b"PGDMP")
    read: list[Path] = []

    def dump(*_: object) -> int:
        (folder / f"{backups.timestamp()}.dump").touch()
        backups.prune(str(folder.parent), 1)
        return 0

    def restored(*words: Any) -> None:
        read.append(words[-1])
        if len(read) == 1:
            raise KeyboardInterrupt

    site = SimpleNamespace(data_dir=str(folder.parent), coder_container="c", postgres_container="p")
    opened = SimpleNamespace(settings=SimpleNamespace(site=site))
    monkeypatch.setattr(restore, "open_session", lambda _: opened)
    for name in ("refuse_other_owner", "recover", "ask", "say_words"):
        monkeypatch.setattr(restore.converge, name, lambda *_: None)
    monkeypatch.setattr(restore.converge, "templates", lambda _: ())
    monkeypatch.setattr(restore.converge, "converge", dump)
    monkeypatch.setattr(restore.converge, "up", dump)
    monkeypatch.setattr(restore.state, "forget_template", lambda _: None)
    monkeypatch.setattr(restore.world, "report", contextlib.nullcontext)
    monkeypatch.setattr(engine, "state", lambda _: None)
    monkeypatch.setattr(engine, "docker", lambda *_, **__: "")
    monkeypatch.setattr(backups, "check", lambda _, file: file.read_bytes())
    monkeypatch.setattr(backups, "dump", lambda *_, **__: folder / "before.dump")
    monkeypatch.setattr(backups, "restore", restored)
    with pytest.raises(KeyboardInterrupt):
        restore.run(argparse.Namespace(stack="x", file=oldest))
    assert (oldest.exists(), newer.exists()) == (True, False)
    assert restore.run(argparse.Namespace(stack="x", file=oldest)) == 0
    assert read == [oldest, oldest]
    assert not oldest.exists()


@pytest.mark.parametrize("problem", [KeyboardInterrupt, JobError])
def test_coder_is_started_again_after_a_restore_that_failed_or_was_interrupted(
    monkeypatch: pytest.MonkeyPatch, problem: type[BaseException]
) -> None:
    done: list[str] = []

    def cut_short(*_: object) -> None:
        raise problem

    monkeypatch.setattr(engine, "docker", lambda *words, **_: done.append(f"{words[0]} {words[-1]}") or "")
    monkeypatch.setattr(backups, "restore", cut_short)
    site = SimpleNamespace(coder_container="coder-server", postgres_container="coder-postgres")
    opened: Any = SimpleNamespace(settings=SimpleNamespace(site=site))
    with pytest.raises(problem):
        restore.restore(opened, Path("x.dump"))
    assert done == ["stop coder-server", "start coder-server"]


def test_a_passphrase_is_made_once_and_for_the_owner_alone(project: Path) -> None:
    first = session.passphrase()
    file = Path(first["PULUMI_CONFIG_PASSPHRASE_FILE"])
    text = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(text) > 32
    assert session.passphrase() == first
    assert file.read_text() == text


@pytest.mark.parametrize("name", session.PASSPHRASE_VARIABLES)
def test_a_passphrase_that_is_set_is_used(project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    assert session.passphrase() == {}
    assert not (project / ".passphrase").exists()


def test_a_stack_without_settings_is_refused_with_those_there_are(project: Path) -> None:
    with pytest.raises(PilotError, match=r"there is no Pulumi\.nope\.yaml; stacks here: local, x"):
        session.open_session("nope")


@pytest.mark.parametrize(
    ("stack", "published", "steps"),
    [
        ("local", False, ["toolchain build --program image-debian image-postgres image-workspace image-coder"]),
        ("framework", False, ["toolchain build --program"]),
        ("local", True, ["pulumi install", "toolchain build image-debian image-postgres image-workspace image-coder"]),
        ("framework", True, ["pulumi install"]),
    ],
)
def test_only_what_is_not_published_is_built_and_one_line_says_which(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stack: str,
    published: bool,
    steps: list[str],
) -> None:
    taken: list[str] = []
    monkeypatch.setattr(session, "_step", lambda command: taken.append(" ".join(command)))
    monkeypatch.setattr(session, "PASSPHRASE", tmp_path / "passphrase")
    # This checkout may have a state, and a published Pulumi that was installed.
    monkeypatch.setattr(session, "STATE", tmp_path / "state")
    monkeypatch.setattr(session, "STACKS", tmp_path / "state" / "stacks")
    monkeypatch.setattr(session, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(session, "CODERD_SDK", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PULUMI_HOME", raising=False)
    if published:
        (tmp_path / "pulumi").write_text("#!/bin/sh\n")
        (tmp_path / "pulumi").chmod(0o755)
    variables, found = session.prepare(stack)
    assert [each.removeprefix(f"{sys.executable} -m ") for each in taken] == steps
    assert found is published
    assert ("PULUMI_HOME" in variables) is not published
    said = capsys.readouterr().err.splitlines()[0]
    plugins, images = ("published" if published else "built here"), ("built here" if stack == "local" else "published")
    assert said == f"pulumi and its plugins: {plugins}; images: {images}"


def test_pulumi_install_runs_again_exactly_when_what_it_reads_has_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkout, sdk = tmp_path / "checkout", tmp_path / "checkout" / "sdks"
    sdk.mkdir(parents=True)
    program = tmp_path / "bin" / "pulumi"
    program.parent.mkdir()
    read = [program, *(checkout / name for name in ("Pulumi.yaml", "pyproject.toml", "requirements.lock"))]
    for each in read:
        each.write_text("before")
    program.chmod(0o755)
    taken: list[list[str]] = []
    monkeypatch.setattr(session, "_step", taken.append)
    monkeypatch.setattr(session, "CHECKOUT", checkout)
    monkeypatch.setattr(session, "CODERD_SDK", sdk)
    monkeypatch.setenv("PATH", str(program.parent))

    def runs() -> bool:
        taken.clear()
        session._install(tmp_path / "stamp", session.installed_from())
        return taken == [["pulumi", "install"]]

    assert [runs(), runs()] == [True, False]
    for each in read:
        each.write_text("after it")
        assert [runs(), runs()] == [True, False]
    sdk.rmdir()
    assert runs()
    # One that failed is not taken for done.
    monkeypatch.setattr(session, "_step", lambda _: (_ for _ in ()).throw(PilotError("no network")))
    with pytest.raises(PilotError):
        runs()
    assert not (tmp_path / "stamp").exists()


def test_the_toolchains_own_pulumi_is_not_taken_for_a_published_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CODER_PILOT_CACHE", str(tmp_path))
    program = tmp_path / "pieces" / "pulumi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert session.published_pulumi() is None


def test_a_full_disk_leaves_no_passphrase_and_an_empty_one_is_none(project: Path) -> None:
    file, partial = project / ".passphrase", project / f".passphrase.{os.getpid()}"
    partial.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        session.passphrase()
    assert not any(project.glob(".passphrase*"))
    file.touch(0o600)
    assert not session.has_passphrase()
    session.passphrase()
    assert len(file.read_text()) > 32
    file.write_text("")
    _state(project)
    with pytest.raises(PilotError, match="passphrase is missing"):
        session.passphrase()


def test_no_passphrase_is_made_beside_a_state_that_has_another(project: Path) -> None:
    _state(project)
    with pytest.raises(PilotError, match=r"passphrase is missing: .* state of x has one\..* `make up NEW_STATE=yes`"):
        session.passphrase()
    assert not (project / ".passphrase").exists()


def test_the_state_is_put_aside_whole_and_no_other_stacks(project: Path) -> None:
    _state(project)
    own = project / ".pulumi-state"
    stacks = own / ".pulumi" / "stacks" / "coder-pilot"
    for name in ("x.json.bak", "y.json"):
        (stacks / name).write_text("{}")
    for name in ("x.salt", "Pulumi.x.yaml", "y.salt"):
        (own / name).write_text("")
    for folder in ("history", "backups"):
        (own / ".pulumi" / folder / "coder-pilot" / "x").mkdir(parents=True)
    committed = project / "Pulumi.x.yaml"
    before = committed.read_text()
    committed.write_text(f"encryptionsalt: v1:abc\n{before}")
    new_state.begin("x")
    (aside,) = (own / "aside").iterdir()
    assert committed.read_text() == before
    left = {each.relative_to(own).as_posix() for each in own.rglob("*") if each.is_file() and aside not in each.parents}
    assert left == {".pulumi/stacks/coder-pilot/y.json", "y.salt", "x.take-over"}
    kept = {each.relative_to(aside).as_posix() for each in aside.rglob("*") if each.is_file()}
    assert kept == {
        "Pulumi.x.yaml", "committed/Pulumi.x.yaml", "x.salt", ".pulumi/stacks/coder-pilot/x.json",
        ".pulumi/stacks/coder-pilot/x.json.bak",
    }  # fmt: skip
    assert (project / ".passphrase").exists()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("encrypted", "anthropicApiKey"),
        ("locked", "on another works on x"),
        ("good", "nothing is lost: run `make up`"),
        ("a wrong setting", "pulumi config set port"),
    ],
)
def test_a_state_is_left_alone_that_is_good_or_in_use_or_cannot_be_made_anew(
    project: Path, monkeypatch: pytest.MonkeyPatch, spoil: str, told: str
) -> None:
    _state(project)
    if spoil == "encrypted":
        with (project / "Pulumi.x.yaml").open("a") as file:
            file.write("  coder-pilot:anthropicApiKey:\n    secure: v1:abc\n")
    elif spoil == "locked":
        _lock(project, pid=os.getpid(), hostname="another", timestamp="now")
    elif spoil == "good":
        (project / ".passphrase").write_text("right")
        monkeypatch.setattr(new_state, "programs", lambda: (os.environ, True))
        monkeypatch.setattr(new_state, "passphrase_fits", lambda *_: True)
        monkeypatch.setattr(new_state.shutil, "which", lambda *_, **__: "pulumi")
    else:
        with (project / "Pulumi.x.yaml").open("a") as file:
            file.write("  port: none\n")
    with pytest.raises((PilotError, JobError), match=told):
        new_state.begin("x")
    assert not (project / ".pulumi-state" / "aside").exists()
    assert not (project / ".pulumi-state" / "x.take-over").exists()
    assert (project / ".passphrase").exists() == (spoil == "good")


CTRL_C = """
import os, sys
from pathlib import Path
from pilot import configuration
from pilot.session import Session
settings = configuration.settings("local")
s = Session(stack="x", settings=settings, environment=os.environ, config_file=Path("x"), published=True)
try:
    s.pulumi("version")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_lets_pulumi_end_in_order_and_is_no_failure_to_repair(tmp_path: Path) -> None:
    program, ready, ended = tmp_path / "pulumi", tmp_path / "ready", tmp_path / "ended"
    program.write_text(
        f"#!{sys.executable}\nimport signal, time\nfrom pathlib import Path\n"
        f"def end(*_):\n time.sleep(1)\n Path({str(ended)!r}).touch()\n raise SystemExit(7)\n"
        f"signal.signal(signal.SIGINT, end)\nPath({str(ready)!r}).touch()\ntime.sleep(60)\n"
    )
    program.chmod(0o755)
    variables = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(
        [sys.executable, "-c", CTRL_C], cwd=CHECKOUT, env=variables, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            deadline_s = time.monotonic() + 20
            while not ready.exists():
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            # As a terminal does: to everything in the foreground.
            os.killpg(process.pid, signal.SIGINT)
            shown, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert ended.exists()
    # Whatever code it ended with: nothing is repaired after it, and every command says the same.
    assert shown.strip() == "interrupted"


@pytest.mark.parametrize(
    ("stamp", "told"),
    [
        ("2026-01-01T13:59:59Z", "in 1 h 59 min"),
        ("2026-01-01T13:00:00Z", "in 1 h 00 min"),
        ("2026-01-01T12:05:00Z", "in 5 min"),
        ("2026-01-01T11:59:00Z", "now"),
        (None, ""),
    ],
)
def test_a_deadline_is_told_as_the_time_that_is_left(stamp: str | None, told: str) -> None:
    assert status.deadline({"deadline": stamp, "transition": "start"}, NOW) == told
    assert status.deadline({"deadline": stamp, "transition": "stop"}, NOW) == ""


def test_a_table_is_as_wide_as_its_widest_entries() -> None:
    assert status.table(["A", "B"], [["long", "x"], ["s", ""]]) == "A     B\nlong  x\ns"


def test_a_box_has_straight_edges() -> None:
    assert up.box(["ab", "a"]).splitlines() == ["┌────┐", "│ ab │", "│ a  │", "└────┘"]


class Answers(Api):
    """A Coder that answers what it was given, by path."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__(url="http://127.0.0.1:1")
        object.__setattr__(self, "answers", answers)

    def call(self, method: str, path: str, body: object = None, host: str = "") -> object:
        answer: object = self.answers[path]  # type: ignore[attr-defined]
        if isinstance(answer, ApiError):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("status_code", "told"),
    [
        (
            401,
            "the password of me@example.org was changed there, .* `make up` makes a new one, and sets the "
            "password back .* to keep your own, first `PULUMI_CONFIG_PASSPHRASE_FILE=.passphrase pulumi config set "
            "--secret adminPassword`",
        ),
        (503, "Coder at http://127.0.0.1:17001: down"),
    ],
)
def test_a_password_that_coder_no_longer_takes_is_named_with_both_ways_out(
    project: Path, monkeypatch: pytest.MonkeyPatch, status_code: int, told: str
) -> None:
    outputs = {"adminEmail": "me@example.org", "apiToken": "s3cret"}
    monkeypatch.setattr(session.Session, "outputs", lambda *_, **__: outputs)
    opened = session.Session(
        stack="x", settings=configuration.settings("x"), environment={}, config_file=project, published=True
    )

    def refuse(*_: object) -> object:
        raise ApiError(status_code, "down")

    monkeypatch.setattr(Api, "call", refuse)
    with pytest.raises(PilotError, match=told) as refused, server.admin(opened) as api:
        api.call("GET", "/api/v2/workspaces")
    assert "s3cret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def _workspace(job: str, agent: str = "connected", health: str = "healthy") -> dict[str, Any]:
    app = {"slug": "code-server", "health": health}
    agents = [{"name": "main", "status": agent, "apps": [app]}]
    build = {"id": "b", "job": {"status": job, "error": "exit status 1"}, "resources": [{"agents": agents}]}
    return {"name": "demo", "owner_name": "ann", "latest_build": build}


@pytest.mark.parametrize(
    ("record", "editor", "step"),
    [
        (_workspace("running"), None, "building the container"),
        (_workspace("succeeded", agent="connecting"), None, "waiting for the agent"),
        (_workspace("succeeded", health="initializing"), None, "waiting for code-server"),
        (_workspace("succeeded"), ApiError(502, "down"), "waiting for code-server"),
        (_workspace("succeeded"), {"status": "alive"}, "ready"),
    ],
)
def test_the_steps_of_a_workspace_are_told(record: dict[str, Any], editor: object, step: str) -> None:
    editors = {"/@ann/demo.main/apps/code-server/healthz": editor, "/api/v2/applications/host": {"host": ""}}
    answers = Answers(editors if editor else {})
    assert workspace._step(answers, record) == step


def test_a_failed_build_is_told_with_the_end_of_its_log() -> None:
    logs = [{"output": f"line {number}"} for number in range(30)]
    with pytest.raises(PilotError, match="the build of demo failed: exit status 1") as refused:
        workspace._step(Answers({"/api/v2/workspacebuilds/b/logs": logs}), _workspace("failed"))
    assert str(refused.value).splitlines()[1:] == [f"  | line {number}" for number in range(15, 30)]


@pytest.mark.parametrize("address", ["https://me:secret@example.com/repo", "https://example.com/some repo"])
def test_a_repository_that_breaks_the_templates_rule_is_refused_and_not_repeated(address: str) -> None:
    rule = {"name": "git_repository", "validation_regex": r"^https://[^\s@]+$", "validation_error": "Give an address."}
    answers = Answers({"/api/v2/templateversions/v/rich-parameters": [rule]})
    workspace._check_repository(answers, "v", "https://example.com/repo")
    with pytest.raises(PilotError) as refused:
        workspace._check_repository(answers, "v", address)
    assert str(refused.value) == "REPO: Give an address."


def _state(project: Path, **latest: Any) -> None:
    file = project / ".pulumi-state" / ".pulumi" / "stacks" / "coder-pilot" / "x.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"checkpoint": {"latest": latest}}))


def _lock(project: Path, **holder: Any) -> None:
    folder = project / ".pulumi-state" / ".pulumi" / "locks" / "organization" / "coder-pilot" / "x"
    folder.mkdir(parents=True)
    (folder / "1.json").write_text(json.dumps({"hostname": socket.gethostname(), "username": "me", **holder}))


def _dead() -> int:
    with subprocess.Popen(["true"]) as process:
        return process.pid


def _lost_passphrase(project: Path) -> None:
    _state(project)


def _empty_passphrase(project: Path) -> None:
    _state(project)
    (project / ".passphrase").touch()


def _cut_short(project: Path) -> None:
    _state(project)
    file = doctor.STACKS / "x.json"
    file.write_text(file.read_text()[:-9])


def _readable_passphrase(project: Path) -> None:
    (project / ".passphrase").write_text("x")
    (project / ".passphrase").chmod(0o644)


def _interrupted(project: Path) -> None:
    _state(project, pending_operations=[{}])


def _stale_lock(project: Path) -> None:
    _state(project)
    _lock(project, pid=_dead())


def _held_lock(project: Path) -> None:
    _state(project)
    _lock(project, pid=os.getpid())


Check = Callable[[str], Iterator[Finding]]


@pytest.mark.parametrize(
    ("spoil", "check", "level", "found", "fix"),
    [
        (_lost_passphrase, doctor._passphrase, "problem", "is missing", "mode 0600"),
        (_empty_passphrase, doctor._passphrase, "problem", "missing or empty", "mode 0600"),
        (_readable_passphrase, doctor._passphrase, "warning", "read by others", "chmod 600"),
        (_interrupted, doctor._stack, "warning", "1 interrupted in the middle", "make up"),
        (_cut_short, doctor._stack, "problem", "was cut short", "make up"),
        (_stale_lock, doctor._stack, "problem", "which is gone", "make up"),
        (_held_lock, doctor._stack, "problem", "is at work", "wait"),
    ],
)
def test_doctor_finds_what_is_wrong_with_state_and_passphrase(
    project: Path, spoil: Callable[[Path], None], check: Check, level: str, found: str, fix: str
) -> None:
    assert [each.level for each in check("x")] == ["ok"]
    spoil(project)
    (bad,) = [each for each in check("x") if each.level != "ok"]
    assert bad.level == level
    assert found in bad.found
    assert fix in bad.fix


def test_doctor_tells_of_a_port_that_it_is_free_and_leaves_a_taken_one_to_what_up_refuses(project: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        assert list(doctor._ports(_subject(port=str(number)))) == []
        assert ports.is_taken(number)
        assert ports.taken(number, "unix:///none").endswith(f", process {os.getpid()}")
    (good,) = doctor._ports(_subject(port=str(number)))
    assert good.level == "ok"
    assert not ports.is_taken(number)


@pytest.mark.parametrize(
    ("days", "names", "trusted", "level", "found", "fix"),
    [
        ("90", ("c.example", "*.c.example"), True, "ok", "for c.example and all names below it, until ", ""),
        ("90", ("c.example", "*.c.example"), False, "warning", "no CA of this machine leads to it", "whole chain"),
        ("90", ("c.example",), True, "problem", "not for *.c.example", "get one for c.example and *.c.example"),
    ],
)
def test_doctor_says_what_a_certificate_is_for_and_until_when(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: str, names: tuple[str, ...], trusted: bool,
    level: str, found: str, fix: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(certificate, "is_trusted", lambda *_: trusted)
    paths = self_signed(tmp_path, "own", *names, more=("-days", days))
    domain = {"tailnet": "true", "domain": "c.example", "tlsCertificate": paths[0], "tlsKey": paths[1]}
    (told,) = doctor._certificate(_subject(**domain))
    assert told.level == level
    assert found in told.found
    assert fix in told.fix


@pytest.mark.parametrize(("tailnet", "told"), [("true", ["warning"]), ("false", [])])
def test_doctor_says_what_path_apps_mean_and_what_ends_it(project: Path, tailnet: str, told: list[str]) -> None:
    found = list(doctor._origins(_subject(tailnet=tailnet)))
    assert [each.level for each in found] == told
    assert all("a page that a workspace serves" in each.found and "docs/domain.md" in each.fix for each in found)


def test_doctor_warns_of_a_certificate_that_should_have_been_renewed() -> None:
    now = datetime.datetime.now(datetime.UTC)
    for left, late in ((17, True), (19, False)):
        begins, ends = now - datetime.timedelta(days=90 - left), now + datetime.timedelta(days=left)
        assert certificate.Certificate(certificate="", key="", begins=begins, ends=ends).is_late is late


@pytest.mark.parametrize(("free_gb", "level"), [(1, "problem"), (5, "warning"), (50, "ok")])
def test_doctor_knows_how_much_disk_is_enough(
    project: Path, monkeypatch: pytest.MonkeyPatch, free_gb: int, level: str
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free_gb * 2**30})())
    assert next(iter(doctor._disk(_subject()))).level == level


@pytest.mark.parametrize(
    ("instances", "watches", "level", "wanted"),
    [
        (512, 524288, "ok", ""),
        (511, 524288, "warning", "max_user_instances = 512\\nfs.inotify.max_user_watches = 524288\\n"),
        # What is more than enough stays.
        (8192, 8192, "warning", "max_user_instances = 8192\\nfs.inotify.max_user_watches = 524288\\n"),
    ],
)
def test_doctor_warns_of_too_few_watches_of_files(
    project: Path, monkeypatch: pytest.MonkeyPatch, instances: int, watches: int, level: str, wanted: str
) -> None:
    monkeypatch.setattr(doctor, "INOTIFY", project)
    (project / "max_user_instances").write_text(f"{instances}\n")
    (project / "max_user_watches").write_text(f"{watches}\n")
    (told,) = doctor._inotify("x")
    assert told.level == level
    assert wanted in told.fix


def _answers(monkeypatch: pytest.MonkeyPatch, **answers: str) -> None:
    """Let the engine answer by the words after the dot of the format."""
    monkeypatch.setattr(
        doctor.Subject, "docker", lambda _, *words: answers.get(words[-1].strip("{}").rpartition(".")[2])
    )


@pytest.mark.parametrize(
    ("free_gb", "docker_gb", "told"),
    [
        (50, 50, {"disk": "ok"}),
        (9, 50, {"disk": "warning"}),
        (1, 50, {"disk": "problem"}),
        (50, 9, {"disk": "ok", "docker disk": "warning"}),
        (50, 0, {"disk": "ok", "docker disk": "problem"}),
    ],
)
def test_doctor_tells_the_disk_of_the_data_and_dockers_own(
    project: Path, monkeypatch: pytest.MonkeyPatch, free_gb: int, docker_gb: int, told: dict[str, str]
) -> None:
    elsewhere = next(each for each in ("/proc", "/sys") if Path(each).stat().st_dev != project.stat().st_dev)
    _answers(monkeypatch, DockerRootDir=elsewhere)
    monkeypatch.setattr(doctor, "_free_gb", lambda folder: docker_gb if str(folder) == elsewhere else free_gb)
    monkeypatch.setattr(doctor.disk, "full", lambda _: None if docker_gb else "full")
    found = list(doctor._disk(_subject(dataDir=str(project))))
    assert {each.check: each.level for each in found} == told
    assert all(each.fix.endswith(f"see `df -h {elsewhere if each.check == 'docker disk' else project}`")
               for each in found if each.level != "ok")  # fmt: skip


@pytest.mark.parametrize(
    ("options", "file", "warns"),
    [
        ("[name=seccomp,profile=default]", None, False),
        ("[name=seccomp,profile=default name=no-new-privileges]", None, True),
        ("[]", '{"no-new-privileges": true}', True),
        ("[]", '{"no-new-privileges": false}', False),
        ("[]", "[]", False),
    ],
)
def test_doctor_warns_of_an_engine_that_forbids_sudo(
    project: Path, monkeypatch: pytest.MonkeyPatch, options: str, file: str | None, warns: bool
) -> None:
    monkeypatch.setattr(doctor, "DAEMON", project / "daemon.json")
    if file is not None:
        (project / "daemon.json").write_text(file)
    _answers(monkeypatch, SecurityOptions=options)
    assert [each.level for each in doctor._sudo(_subject())] == ["warning"] * warns


@pytest.mark.parametrize(
    ("client", "file", "fix"),
    [
        ("27.5.1", None, 'add "pruneFilters": ["label!=coder-pilot.stack"] to '),
        ("20.10.24+dfsg1", '{"pruneFilters": ["label!=other"]}', "add "),
        ("20.10.24+dfsg1", "nonsense", "add "),
        ("20.10.24+dfsg1", '{"pruneFilters": ["label!=coder-pilot.stack"]}', None),
        ("28.2.2", '{"pruneFilters": ["label!=coder-pilot.stack"]}', "prune with `--filter label!=coder-pilot.stack`"),
    ],
)
def test_doctor_says_how_homes_live_through_a_prune_unless_they_do(
    project: Path, monkeypatch: pytest.MonkeyPatch, client: str, file: str | None, fix: str | None
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(project))
    if file is not None:
        (project / "config.json").write_text(file)
    _answers(monkeypatch, Version=client)
    found = list(doctor._prune(_subject()))
    assert [each.level for each in found] == (["ok"] if fix else [])
    assert not fix or found[0].fix.startswith(fix)


def test_doctor_names_the_homes_that_no_filter_keeps_from_a_prune(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(project))
    (project / "config.json").write_text('{"pruneFilters": ["label!=coder-pilot.stack"]}')
    homes = [f"coder-{letter * 8}-{letter * 4}-{letter * 4}-{letter * 4}-{letter * 12}-home" for letter in "abc"]
    labels = ("", "coder.owner=ann b,coder-pilot.stack=coder", "coder.owner=ann b")
    lines = [*(f"{home} {label}" for home, label in zip(homes, labels, strict=True)), "other ", "coder-data "]
    _answers(monkeypatch, Version="20.10.24", Labels="\n".join(lines))
    (found,) = doctor._prune(_subject())
    assert found.found.startswith(f"no label is on {homes[0]}, {homes[2]}, taken over")


def test_a_published_pulumi_without_uv_is_a_problem(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = doctor.version("pulumi")
    monkeypatch.setattr(doctor, "_call", lambda _: subprocess.CompletedProcess([], 0, f"v{wanted}\n", ""))
    subject = dataclasses.replace(_subject(), published=True)
    monkeypatch.setenv("PATH", str(project))
    assert [(each.check, each.level) for each in doctor._programs(subject)] == [("pulumi", "ok"), ("uv", "problem")]
    (project / "uv").touch(0o755)
    assert [(each.check, each.level) for each in doctor._programs(subject)] == [("pulumi", "ok")]


@pytest.mark.parametrize("command", [down, leave])
def test_a_state_that_was_cut_short_is_mended_before_it_is_read(
    project: Path, monkeypatch: pytest.MonkeyPatch, command: ModuleType
) -> None:
    _state(project)
    file = session.STACKS / "x.json"
    whole = file.read_text()
    file.with_name("x.json.bak").write_text(whole)
    file.write_text(whole[:-9])
    opened = session.Session(
        stack="x", settings=configuration.settings("x"), environment={}, config_file=project, published=True
    )
    monkeypatch.setattr(command, "open_session", lambda _: opened)
    monkeypatch.setattr(state, "STACKS", session.STACKS)

    def stop(_: object) -> None:
        raise PilotError("far enough")

    monkeypatch.setattr(converge, "refuse_other_owner", stop)
    with pytest.raises(PilotError, match="far enough"):
        command.run(argparse.Namespace(stack="x", yes=False, without_dump=False))
    assert file.read_text() == whole


@pytest.mark.parametrize(
    ("could_begin", "full", "words", "repaired", "told"),
    [
        (True, None, [], False, None),
        (False, None, [], True, None),
        (False, "the disk is full", [], False, "the disk is full. Then run `make down` again, or `make down WITHOUT"),
        (False, "the disk is full", ["--without-dump"], True, None),
    ],
)
def test_a_destroy_that_could_not_dump_is_not_repaired(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    could_begin: bool,
    full: str | None,
    words: list[str],
    repaired: bool,
    told: str | None,
) -> None:
    did: list[str] = []
    opened = session.Session(
        stack="x", settings=_subject().settings, environment={}, config_file=project / "x", published=False
    )
    monkeypatch.setattr(down, "open_session", lambda _: opened)
    monkeypatch.setattr(down.state, "clear_lock", lambda _: None)
    # Whatever else is on this machine's engine.
    monkeypatch.setattr(down.converge, "refuse_other_owner", lambda _: None)
    monkeypatch.setattr(down.converge, "recover", lambda _: None)
    monkeypatch.setattr(down.converge, "converge", lambda _: did.append("repaired") or 1)
    monkeypatch.setattr(down.state, "resources", lambda _: [{"urn": "a::retire", "inputs": {"environment": {}}}])
    monkeypatch.setattr(down.state, "forget_template", lambda _: None)
    monkeypatch.setattr(down.disk, "full", lambda _: full)
    monkeypatch.setattr(down, "_could_begin", lambda _: could_begin)
    said: list[str | None] = []
    monkeypatch.setattr(
        session.Session, "pulumi", lambda self, *_: said.append(self.environment.get("CODER_PILOT_WITHOUT_DUMP")) or 255
    )
    parser = argparse.ArgumentParser()
    down.configure(parser)
    if told:
        with pytest.raises(PilotError, match=told):
            down.run(parser.parse_args(["--stack", "x", *words]))
    else:
        assert down.run(parser.parse_args(["--stack", "x", *words])) == 255
    assert did == ["repaired"] * repaired
    assert set(said) == {"yes" if words else None}


def test_doctor_tells_a_missing_engine(project: Path, tmp_path: Path) -> None:
    subject = _subject(dockerHost=f"unix://{tmp_path}/none.sock", dockerSocket=f"{tmp_path}/none.sock")
    (bad,) = doctor._engine(subject)
    assert (bad.level, bad.fix) == ("problem", "python3 -m toolchain engine --start")


def test_doctor_tells_images_that_are_missing_and_what_brings_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An engine's own answer: `make check` runs where there is none, and the end-to-end tests ask the real one.
    monkeypatch.setattr(doctor.Subject, "docker", lambda *_: "coder-pilot/some:1 coder-pilot/some@<none>")
    subject = _subject(coderImage="example.org/none:1", postgresImage="coder-pilot/none:1", workspaceImages="a/none:1")
    assert [each.fix for each in doctor._images(subject)] == [
        "docker pull example.org/none:1, or `make up`",
        "`make up` builds it",
        "docker pull a/none:1, or `make up`",
    ]


def test_doctor_asks_the_tailnet_as_up_does(project: Path, tmp_path: Path) -> None:
    (off,) = doctor._tailnet(_subject(tailnet="false"))
    (bad,) = doctor._tailnet(_subject(tailnet="true", tailscaleSocket=f"{tmp_path}/none.sock"))
    assert (off.level, bad.level) == ("ok", "problem")
    assert bad.fix


@pytest.mark.parametrize(
    ("problem", "found", "fix"),
    [
        (
            "there is no `tailscale` on PATH: install it (https://example.com) and log in, or run `x`",
            "there is no `tailscale` on PATH", "install it (https://example.com) and log in, or run `x`",
        ),
        ("tailscaled does not answer: run `sudo x`", "tailscaled does not answer", "sudo x"),
    ],
)  # fmt: skip
def test_doctor_splits_what_is_wrong_with_the_tailnet_from_what_fixes_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, problem: str, found: str, fix: str
) -> None:
    answer = subprocess.CompletedProcess([], 1, stdout=json.dumps({"problem": problem}))
    monkeypatch.setattr(doctor, "_call", lambda *_: answer)
    (bad,) = doctor._tailnet(_subject(tailnet="true"))
    assert (bad.found, bad.fix) == (found, fix)


def test_settings_with_problems_are_all_told_beside_what_can_be_seen_without_them(project: Path) -> None:
    (project / "Pulumi.x.yaml").write_text("config:\n  coder-pilot:port: none\n  coder-pilot:idleTTL: 2h\n")
    found = doctor.examine("x")
    told = [each for each in found if each.check == "settings"]
    assert {each.level for each in told} == {"problem"}
    assert {each.fix for each in told} == {
        "pulumi config set port <value> --stack x", "pulumi config rm idleTTL --stack x",
    }  # fmt: skip
    assert {each.check for each in found} >= {"python", "memory", "passphrase", "stack"}


def test_a_file_that_is_not_yaml_is_told(project: Path) -> None:
    (project / "Pulumi.x.yaml").write_text("config: [\n")
    (told,) = [each for each in doctor.examine("x") if each.check == "settings"]
    assert (told.level, told.fix) == ("problem", "edit it")
    assert "Pulumi.x.yaml is not YAML" in told.found


def test_doctors_exit_code_is_whether_up_would_work(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*levels: doctor.Level) -> int:
        findings = [Finding(check="a", level=level, found="b", fix="c") for level in levels]
        monkeypatch.setattr(doctor, "examine", lambda _: findings)
        return doctor.run(argparse.Namespace(stack="x", json=False))

    assert run("ok", "warning") == 0
    assert "would work" in capsys.readouterr().out
    assert run("ok", "problem") == 1
    assert "-> c" in capsys.readouterr().out


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the looks at engine and Coder find."""

    def find(refused: str | None, different: dict[str, list[str]], coder: dict[str, object]) -> None:
        monkeypatch.setattr(engine_world, "refusal", lambda _: refused)
        monkeypatch.setattr(engine_world, "live", lambda _: {})
        monkeypatch.setattr(engine_world, "compare", lambda *_: different)
        monkeypatch.setattr(drift, "coder", lambda *_: coder)

    return find


SOUND = {"differences": [], "problem": None}


def test_doctor_tells_what_up_refuses_of_the_accounts(
    project: Path, looked: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked(None, {}, SOUND)
    refused = "email is a@x.y, but the address of dev is b@x.y: run `pulumi config set email b@x.y`"
    monkeypatch.setattr(doctor.account_check, "refusal", lambda _: refused)
    (found,) = doctor._declared(_subject())
    assert (found.level, found.fix) == ("problem", "pulumi config set email b@x.y")


def _of_world(name: str, *, suspended: bool = False, owner: str = "ann") -> workspace_world.Workspace:
    return workspace_world.Workspace(
        id=name, owner=owner, name=name, build="", transition="start", status="succeeded", completed_s=None, own=None,
        active=None, image=None, has_started=True, connected=True, of_suspended=suspended,
    )  # fmt: skip


@pytest.mark.parametrize(("owner", "fix"), [("ann", "activate it in the dashboard"), ("dev", "make up")])
def test_doctor_tells_that_coder_stops_the_workspaces_of_a_suspended_account(
    project: Path, monkeypatch: pytest.MonkeyPatch, owner: str, fix: str
) -> None:
    found = [_of_world("a", owner=owner, suspended=True), _of_world("b", owner=owner, suspended=True)]
    seen = workspace_world.World(workspaces=[*found, _of_world("c", owner="bob")], containers={}, present=frozenset())
    monkeypatch.setattr(workspace_world, "look", lambda *_: seen)
    (told,) = doctor._workspaces(_subject())
    assert told.found == f"the account {owner} is suspended in Coder, which stops its workspaces and starts none: a, b"
    assert told.fix.startswith(fix)


def test_doctor_tells_of_a_keep_alive_that_coder_refuses_though_the_database_is_away(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> workspace_world.World:
        raise JobError("the database does not answer")

    monkeypatch.setattr(workspace_world, "look", away)
    monkeypatch.setattr(doctor.census, "running", lambda *_: [])
    monkeypatch.setattr(doctor.census, "claude", lambda *_: {"a": doctor.KEEP_ALIVE_REFUSED})
    checks = [check for check in doctor._CHECKS_OF_SETTINGS if check in (doctor._workspaces, doctor._keep_alive)]
    assert [each.check for check in checks for each in check(_subject())] == ["keep-alive"]


def test_a_reserve_that_the_machine_does_not_have_is_a_problem_and_refused_by_up(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (project / "Pulumi.x.yaml").open("a") as file:
        file.write("  coder-pilot:memoryReserve: 100000GiB\n")
    (told,) = doctor._keeper(_subject())
    assert (told.level, told.fix) == ("problem", "pulumi config set memoryReserve 10%")
    opened = SimpleNamespace(settings=configuration.settings("x"))
    monkeypatch.setattr(up, "open_session", lambda *_, **__: opened)
    monkeypatch.setattr(up.leave, "take_back", lambda _: pytest.fail("something was touched"))
    with pytest.raises(PilotError, match=r"memoryReserve is .*run `pulumi config set memoryReserve 10%`"):
        up.run(argparse.Namespace(stack="x", take_over=False, new_database=False, new_state=False))


def test_after_down_pulumis_own_advice_is_explained(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = session.Session(
        stack="x", settings=configuration.settings("x"), environment={}, config_file=project, published=True
    )
    monkeypatch.setattr(session.Session, "pulumi", lambda *_: 0)
    monkeypatch.setattr(down, "purges", lambda _: False)
    assert down._destroy(opened) == 0
    assert "Leave out Pulumi's `pulumi stack rm` above: it deletes Pulumi.x.yaml" in capsys.readouterr().out


def test_a_container_that_ends_while_memory_is_measured_costs_the_figures_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(*_: object) -> Any:
        raise PilotError("`docker stats` failed: EOF")

    monkeypatch.setattr(status, "_docker", gone)
    assert status._memory(["a", "b"]) == {}


@pytest.mark.parametrize(("who", "printed"), [("", "p1"), ("dev", "p1"), ("admin", "p2")])
def test_a_password_is_ones_own_or_the_administrators(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], who: str, printed: str
) -> None:
    outputs = {"username": "dev", "email": "d@x.y", "password": "p1", "adminEmail": "a@x.y", "adminPassword": "p2"}
    monkeypatch.setattr(password, "open_session", lambda _: SimpleNamespace(outputs=lambda **_: outputs))
    password.run(argparse.Namespace(stack="x", who=who))
    assert capsys.readouterr().out.strip() == printed
    with pytest.raises(PilotError, match="WHO=bob is no account of `up`"):
        password.run(argparse.Namespace(stack="x", who="bob"))


@pytest.mark.parametrize(
    ("refused", "different", "coder", "told"),
    [
        (None, {}, SOUND, []),
        (
            None, {"coder": ["coder-server is gone"]}, {**SOUND, "differences": ["the template was changed in Coder"]},
            [
                ("warning", "coder-server is gone", "make up"),
                ("warning", "the template was changed in Coder", "make up"),
            ],
        ),
        (
            None, {}, {**SOUND, "problem": "the template project was deleted in Coder"},
            [("warning", "the template project was deleted in Coder", "make up")],
        ),
        (
            "this pilot belongs to the stack y in /z; nothing was touched. Work there", {"coder": ["is gone"]}, SOUND,
            [("problem", "this pilot belongs to the stack y in /z", "Work there")],
        ),
    ],
)  # fmt: skip
def test_doctor_tells_what_the_next_up_will_put_right_or_refuse(
    project: Path, looked: Callable[..., None], refused: str | None, different: dict[str, list[str]],
    coder: dict[str, object], told: list[tuple[str, str, str]],
) -> None:  # fmt: skip
    looked(refused, different, coder)
    assert [(each.level, each.found, each.fix) for each in doctor._declared(_subject())] == told


def test_status_goes_on_where_the_engine_refuses_to_say_which_postgres_runs(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> str:
        raise JobError("`docker exec` failed: container is paused")

    container = {"ID": "1", "Names": "coder-server", "State": "running", "Status": "Up", "Labels": ""}
    monkeypatch.setattr(status, "_docker", lambda command, *_, **__: [container] if command == "ps" else [])
    monkeypatch.setattr(session.Session, "outputs", lambda *_, **__: {"adminEmail": "me@example.org", "apiToken": "t"})
    monkeypatch.setattr(status.coder, "workspaces", lambda _: [])
    monkeypatch.setattr(status.health, "troubles", lambda _: [])
    monkeypatch.setattr(status.census, "claude", lambda *_: {})
    monkeypatch.setattr(status.proof, "coder_version", lambda _: "2.38.8")
    monkeypatch.setattr(status.proof, "postgres_version", refuse)
    monkeypatch.setattr(status.drift, "differences", lambda *_: ["coder-postgres is paused"])
    opened = session.Session(
        stack="x", settings=configuration.settings("x"), environment={}, config_file=project, published=True
    )
    assert status._show(opened, lambda: None, homes=False) == 0
    said = capsys.readouterr().out
    assert "whether this is proved cannot be told: `docker exec` failed: container is paused" in said
    assert "run `make up`, which puts right:\n  coder-postgres is paused" in said
