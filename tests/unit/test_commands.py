"""Every command in a message is for the stack that the message is about, and one that names it already stays."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pilot import __main__ as front_door
from pilot.configuration import PilotError
from stack.jobs import commands
from tests.unit.program import LOCAL, declare
from toolchain.paths import CHECKOUT

ARGUMENT = re.compile(r"`[^`\n]*(?:STACK=\{|--stack \{)")


@pytest.mark.parametrize(
    ("text", "local", "framework"),
    [
        ("run `make up`, then", "run `make up`, then", "run `make up STACK=framework`, then"),
        ("`make up TAKE_OVER=yes`", "`make up TAKE_OVER=yes`", "`make up TAKE_OVER=yes STACK=framework`"),
        (
            "`pulumi config set port 1` and `make up`", "`pulumi config set port 1 --stack local` and `make up`",
            "`pulumi config set port 1 --stack framework` and `make up STACK=framework`",
        ),
        ("`A=b pulumi up`", "`A=b pulumi up --stack local`", "`A=b pulumi up --stack framework`"),
        # One that is all of a text, as the doctor shows it.
        ("make up", "make up", "make up STACK=framework"),
        ("pulumi config rm x", "pulumi config rm x --stack local", "pulumi config rm x --stack framework"),
        # What names its stack, and what has none.
        *((same, same, same) for same in (
            "`make up STACK=y`", "`pulumi cancel --stack y`", "`pulumi stack rm y --force`", "`pulumi install`",
            "`make test`", "`make docs`", "`docker compose down`", "make it so", "the `makeshift` make up",
        )),
    ],
)  # fmt: skip
def test_a_command_names_its_stack_where_that_is_needed(text: str, local: str, framework: str) -> None:
    assert commands.for_stack(text, "local") == local
    assert commands.for_stack(text, "framework") == framework


@pytest.mark.parametrize("command", [name for name in front_door.COMMANDS if name != "verdict"])
def test_each_command_of_the_front_door_speaks_of_its_own_stack(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        print("`make down`")
        raise PilotError("run `pulumi config set port 1`")

    module = __import__(f"pilot.{command.replace('-', '_')}", fromlist=["run"])
    monkeypatch.setattr(module, "configure", lambda parser: parser.add_argument("--stack"))
    monkeypatch.setattr(module, "run", fail)
    monkeypatch.setattr("stack.jobs.processes.end_left_behind", lambda _: None)
    assert front_door.main([command, "--stack", "framework"]) == 1
    said = capsys.readouterr()
    assert said.out == "`make down STACK=framework`\n"
    assert said.err == "error: run `pulumi config set port 1 --stack framework`\n"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("up", "interrupted; the same command again goes on"),
        *(
            (each, "interrupted; the same command again goes on, `make up STACK=framework` goes back")
            for each in ("down", "leave")
        ),
    ],
)
def test_ctrl_c_says_how_to_go_on(
    command: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"pilot.{command}.run", interrupted)
    monkeypatch.setattr("stack.jobs.processes.end_left_behind", lambda _: None)
    assert front_door.main([command, "--stack", "framework"]) == 130
    assert capsys.readouterr().err == f"{told}\n"


def test_the_commands_of_the_front_door_are_those_that_are_about_a_stack() -> None:
    assert set(commands.TARGETS) == set(front_door.COMMANDS)


def test_a_job_speaks_of_the_stack_that_runs_it() -> None:
    code = (
        "from stack.jobs import engine, program\n"
        "def main(): raise engine.JobError('run `make up`')\n"
        "program.run(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, env={commands.VARIABLE: "framework"}, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == "error: run `make up STACK=framework`\n"


def test_each_job_and_the_retirement_know_their_stack() -> None:
    jobs = [each for each in declare(LOCAL).resources if each.type == "command:local:Command"]
    assert len(jobs) >= 10
    assert {each.inputs["environment"][commands.VARIABLE] for each in jobs} == {"test"}


def test_the_program_speaks_of_the_stack_that_it_declares() -> None:
    with pytest.raises(Exception, match="run `pulumi config set port <value> --stack test`"):
        declare({**LOCAL, "port": "none"})


def test_no_message_names_a_stack_by_itself() -> None:
    files = [*CHECKOUT.glob("pilot/**/*.py"), *CHECKOUT.glob("stack/**/*.py"), *CHECKOUT.glob("keeper/*.py")]
    assert len(files) > 50
    assert [file.name for file in files if ARGUMENT.search(file.read_text())] == []


def test_nothing_of_the_stream_is_lost(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, contextlib.redirect_stdout(commands.speaker(file, "framework")):
        print("a", "`make up`", sep="\n", flush=True)
        assert not sys.stdout.isatty()
        assert sys.stdout.fileno() == file.fileno()
    assert (tmp_path / "file").read_text() == "a\n`make up STACK=framework`\n"
    assert commands.speaker(io.StringIO(), "x").write("`make up`") == len("`make up STACK=x`")
