"""`make verdict` has an answer for every history and every failure, only reads, and keeps the token to itself."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pilot import configuration, verdict
from pilot.session import Session
from pilot.verdict import __main__ as program
from pilot.verdict import collect, report, terminal
from pilot.verdict.builds import Start
from pilot.verdict.figures import Figures, compute
from pilot.verdict.memory import Bounds
from pilot.verdict.runs import Runs
from stack.jobs.coder import Api
from tests.unit.verdict_history import TOKEN, Server, Workspace, at, raw, serve

CHECKOUT = Path(__file__).resolve().parents[2]
BUILDS = 1000
LIMIT_S = 5.0

Run = Callable[..., "Done"]


@dataclass(frozen=True)
class Done:
    """How it ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the program against a server, with an engine that does not answer."""
    monkeypatch.setattr(configuration, "PROJECT", tmp_path)
    monkeypatch.setenv("CODER_PILOT_PROJECT", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STACK", "box")
    # What the program sets is taken back.
    monkeypatch.setenv("DOCKER_HOST", "")

    def call(url: str, *words: str, token: str = TOKEN, **settings: str) -> Done:
        verdict_keys = ("verdictMinDays", "verdictMinNetGibHPerDay", "verdictMaxFailedPercent", "verdictMaxStoppedRuns")
        settings = {**dict.fromkeys(verdict_keys, "5"), "port": url.rpartition(":")[2], "dataDir": "data", **settings}
        _project(tmp_path, **settings)
        monkeypatch.setenv("CODER_TOKEN", token)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = program.main(words)
            except SystemExit as end:
                code = int(str(end.code))
        return Done(code, out.getvalue(), err.getvalue())

    return call


def _project(folder: Path, **settings: str) -> None:
    """A project whose stack "box" has an engine that does not answer."""
    shutil.copy(CHECKOUT / "Pulumi.yaml", folder)
    values = {"dockerHost": "unix:///nonexistent/docker.sock", **settings}
    lines = [f"  coder-pilot:{key}: {json.dumps(value)}\n" for key, value in values.items()]
    (folder / "Pulumi.box.yaml").write_text("config:\n" + "".join(lines))


def _process(module: str, words: list[str], variables: dict[str, str], *flags: str) -> Done:
    done = subprocess.run(
        [sys.executable, *flags, "-m", module, *words], cwd=CHECKOUT, stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], **variables}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def _ago(hours: float) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


def _good(done: Done) -> str:
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def _refused(done: Done) -> str:
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def _week() -> Workspace:
    return Workspace("demo").start(_ago(160)).autostop(_ago(150)).start(_ago(20)).stop(_ago(10))


def test_without_a_workspace_it_is_too_early_and_says_what_makes_one(run: Run) -> None:
    with serve() as server:
        shown = _good(run(server.url))
    assert "too early: there was no workspace in this time" in shown
    assert "make workspace NAME=demo" in shown
    assert "Start to ready" in shown
    assert "median unknown, worst unknown" in shown


def test_a_server_that_is_down_is_named_with_what_starts_it(run: Run) -> None:
    said = _refused(run("http://127.0.0.1:9"))
    assert "Coder at http://127.0.0.1:9 does not answer" in said
    assert "make up" in said


def test_a_revoked_token_is_reported_and_not_shown(run: Run) -> None:
    with serve(_week()) as server:
        said = _refused(run(server.url, token="an-old-token"))
    assert "does not accept the token: run `make up STACK=box`" in said
    assert "an-old-token" not in said


def test_a_clock_jump_is_a_warning_in_every_output(run: Run, tmp_path: Path) -> None:
    made = Workspace("demo").start(_ago(30)).stop(_ago(20)).start(_ago(28)).stop(_ago(5))
    page = tmp_path / "page.html"
    with serve(made) as server:
        shown = _good(run(server.url, "--html", str(page)))
        figures = json.loads(_good(run(server.url, "--json")))["figures"]
    for text in (shown, page.read_text(), *figures["warnings"]):
        assert "admin/demo, build 3: its time is 8.0 h before" in text


def test_a_build_that_still_runs_is_shown_as_that(run: Run) -> None:
    made = _week().start(_ago(0.01), status="running", ready_s=None)
    with serve(made) as server:
        shown = _good(run(server.url, "--sources"))
    assert "admin/demo (start running)" in shown
    assert "of 2 starts, 1 unknown" in shown


def test_without_an_engine_its_figures_are_unknown_and_never_zero(run: Run) -> None:
    with serve(_week()) as server:
        shown = _good(run(server.url, "--sources"))
        document = json.loads(_good(run(server.url, "--json")))
    for name in ("Coder, RAM", "Postgres, RAM", "Disk, database", "Disk, images", "Disk, home volumes", "Dumps"):
        (line,) = (each for each in shown.splitlines() if each.strip().startswith(name))
        assert "unknown" in line, line
        assert " 0" not in line, line
    assert set(document["figures"]["disk"].values()) == {None, ""}
    assert document["derived"]["net_gib_h"] is None
    assert any("does not answer" in each for each in document["queries"])


def test_without_samples_it_says_only_now(run: Run) -> None:
    with serve(_week()) as server:
        shown = _good(run(server.url))
    assert "RAM and CPU of this moment only" in shown
    assert "unknown, at most" in shown
    assert "at least 0" not in shown
    assert "unknown, no samples" in shown


def test_a_deleted_workspace_is_found_by_its_builds(run: Run) -> None:
    gone = Workspace("gone", deleted=True).start(_ago(30)).build("delete", _ago(20), seconds=0)
    long_gone = Workspace("long-gone", deleted=True).start(_ago(900)).build("delete", _ago(800))
    with serve(_week(), gone, long_gone) as server:
        shown = _good(run(server.url, "--sources"))
    assert "admin/gone (deleted)" in shown
    assert "long-gone" not in shown
    assert not any("long-gone" in path for _, path in server.requests)


def test_a_deleted_workspace_is_found_however_many_builds_there_were_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "JOBS", 2)
    gone = Workspace("gone", deleted=True).start(_ago(30)).build("delete", _ago(20), seconds=0)
    busy = Workspace("busy")
    for hours in range(19, 1, -2):
        busy = busy.start(_ago(hours)).build("stop", _ago(hours - 1))
    with serve(busy, gone) as server:
        asking = collect.Asking(Api(url=server.url, token=TOKEN))
        found = collect._deleted(asking, ["o"], {"id-busy"}, _ago(48))
    assert [each["name"] for each in found] == ["gone"]


def test_every_question_is_a_get_and_is_listed(run: Run) -> None:
    with serve(_week()) as server:
        document = json.loads(_good(run(server.url, "--json")))
    assert {method for method, _ in server.requests} == {"GET"}
    listed = [each.split(" ")[1] for each in document["queries"] if each.startswith("GET ")]
    assert sorted(listed) == sorted(path for _, path in server.requests)


def _processor_s() -> float:
    """Seconds that the processor gave to ended child processes: other programs on the machine do not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_thousand_builds_take_less_than_five_seconds(run: Run) -> None:
    made = [_busy(name, BUILDS // 4) for name in ("a", "b", "c", "d")]
    with serve(*made) as server:
        # Sets the environment for the process below, whose start counts too.
        document = json.loads(_good(run(server.url, "--json")))
        before_s = _processor_s()
        shown = _good(_process("pilot.verdict", [], dict(os.environ)))
        took_s = _processor_s() - before_s
    assert document["figures"]["builds"] == BUILDS
    assert f"0 of {BUILDS}, 0 cancelled" in shown
    assert took_s < LIMIT_S


def test_a_long_history_is_paged_and_read_no_further_back_than_the_period(run: Run) -> None:
    made = Workspace("demo")
    for hours in range(2000, 0, -2):
        made.start(_ago(hours)).stop(_ago(hours - 1))
    with serve(made) as server:
        document = json.loads(_good(run(server.url, "--json")))
    asked = [path for _, path in server.requests if path.endswith("/builds?limit=250&offset=0")]
    assert len(asked) == 1
    assert len([path for _, path in server.requests if "/builds?" in path]) == 1
    assert document["derived"]["sessions"] == 84


def test_the_terminal_begins_with_the_verdict_and_the_rule_and_names_no_source(run: Run) -> None:
    with serve(_week()) as server:
        shown = _good(run(server.url))
        document = json.loads(_good(run(server.url, "--json")))
    assert " ".join(shown.split()).startswith(document["verdict"]["line"])
    assert 0 < shown.index("The rule: all of these") < shown.index("Key figures")
    assert not any(row["source"] in " ".join(shown.split()) for row in _rows(document))


def test_every_figure_has_its_source_in_the_json_with_sources_and_on_the_page(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with serve(_week(), Workspace("other").start(_ago(30), status="failed", error="no image")) as server:
        shown = _good(run(server.url, "--sources", "--html", str(page)))
        document = json.loads(_good(run(server.url, "--json")))
    rows = _rows(document)
    assert len(rows) > 25
    for row in rows:
        assert row["source"]
        assert any({row["name"], row["value"], row["source"]} <= {"", *re.split(r"  +", line.strip())}
                   for line in shown.splitlines()), row  # fmt: skip
        assert f"<td>{escape(row['value'])}</td><td>{escape(row['source'])}</td>" in page.read_text()


def _rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for section in document["sections"] for row in section["rows"]]


def _key_figures(figures: Figures) -> list[str]:
    """The lines between the title and what follows them."""
    stream = io.StringIO()
    terminal.key_figures(terminal.console(stream, sources=False), figures, "framework")
    title, *lines = stream.getvalue().strip().splitlines()
    assert title.strip() == "Key figures"
    return lines[: lines.index("")]


def test_the_key_figures_are_ten_lines_of_at_most_100_columns_whatever_the_history() -> None:
    empty = compute(raw())
    runs = Runs(total=9999, saved=9999, untold_sessions=9999, stopped_by_autostop=999, stopped_by_hand=999,
                stopped_past_limit=999)  # fmt: skip
    vast = Bounds(low=1_234_567.8, high=12_345_678.9)
    start = Start(time=at(1), workspace="admin/demo", seconds=99_999.9, status="succeeded")
    crowded = dataclasses.replace(
        empty, runs=runs, builds=99_999, cancelled=9999, watched_h=8784.0, down_h=8784.0,
        starts=(start,) * 9999 + (dataclasses.replace(start, seconds=None),) * 9999,
        by_peak=dataclasses.replace(empty.by_peak, given_back=vast),
    )  # fmt: skip
    names = [row.name for section in report.sections(empty) for row in section.rows if row.key]
    for figures in (empty, compute(raw(Workspace("demo").start(at(3)).stop(at(2)))), crowded):
        lines = _key_figures(figures)
        assert len(lines) == 10
        assert max(map(len, lines)) <= 100
        assert all(line.startswith(name) for line, name in zip(lines, names, strict=True))


def _busy(name: str, builds: int) -> Workspace:
    made = Workspace(name)
    step = 160 / builds
    for place in range(0, builds, 2):
        hours = 160 - place * step
        reports = [(_ago(hours - step * part / 12), "working", "Claude is working") for part in range(1, 10)]
        made.start(_ago(hours), seconds=1, reports=reports).autostop(_ago(hours - step), seconds=1)
    return made


class _Page(HTMLParser):
    """The addresses, tags and ids of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")


def test_the_page_holds_four_plots_and_needs_nothing_else(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with serve(_week(), Workspace("other").start(_ago(30), status="failed", error="no image")) as server:
        _good(run(server.url, "--html", str(page)))
    parsed = _Page()
    parsed.feed(page.read_text())
    assert parsed.tags.count("svg") == 4
    assert not {"script", "img", "iframe"} & set(parsed.tags)
    assert all(each.startswith("#") or each == "data:," for each in parsed.addresses)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert "newest: start of admin/other" in page.read_text()


def test_failures_with_one_reason_are_one_row(run: Run) -> None:
    made = Workspace("demo")
    for hours in (50, 40, 30):
        made.start(_ago(hours), status="failed", error="Error: no such image", ready_s=None)
    made.start(_ago(20), status="failed", error="Error: no space left", ready_s=None)
    with serve(made) as server:
        shown = _good(run(server.url, "--sources"))
    assert shown.index("Error: no space left") < shown.index("3 times: Error: no such image")


def test_the_reason_of_a_failure_is_the_first_error_in_its_log(run: Run) -> None:
    log = [("info", "Planning"), ("error", ""), ("error", "Error: the name is taken"), ("error", "with a container")]
    made = Workspace("demo", log=log)
    made.start(_ago(50), status="failed", error="terraform apply: exit status 1", ready_s=None)
    with serve(made) as server:
        shown = _good(run(server.url, "--sources"))
    assert "Error: the name is taken" in shown
    assert "exit status" not in shown


def test_other_peoples_text_is_text_on_the_page_and_on_the_terminal(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    error = "<script>alert(1)</script> [red]$x_1$[/red]"
    with serve(Workspace("demo").start(_ago(30), status="failed", error=error)) as server:
        shown = _good(run(server.url, "--sources", "--html", str(page)))
    assert error in " ".join(shown.split())
    assert "<script>" not in page.read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; [red]$x_1$[/red]" in page.read_text()


def test_the_page_of_an_empty_pilot_reads_too(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with serve() as server:
        _good(run(server.url, "--html", str(page)))
    assert "make workspace NAME=demo" in page.read_text()


def test_a_page_that_cannot_be_written_is_named(run: Run, tmp_path: Path) -> None:
    with serve() as server:
        assert "the page cannot be written" in _refused(run(server.url, "--html", str(tmp_path / "no" / "page.html")))


@pytest.mark.parametrize("days", ["0", "many", "1.5", "-1", "999"])
def test_days_that_are_not_a_number_in_range_are_refused(run: Run, days: str) -> None:
    done = run("http://127.0.0.1:9", "--days", days)
    assert done.returncode == 2
    assert "is not a whole number from 1 to 366" in done.stderr or "expected one argument" in done.stderr


def test_a_missing_variable_and_a_bad_threshold_are_named(run: Run) -> None:
    assert "pulumi config set verdictMinDays" in _refused(run("http://127.0.0.1:9", verdictMinDays="soon"))
    assert "CODER_TOKEN" in _refused(_process("pilot.verdict", ["--stack", "local"], {}))


def test_the_servers_requests_are_seen_by_the_test(run: Run) -> None:
    """The lists of requests above prove nothing if they stay empty."""
    server: Server
    with serve() as server:
        _good(run(server.url))
    assert ("GET", "/api/v2/users/me") in server.requests


def test_the_front_door_hands_the_token_over_in_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []

    def start(command: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append((list(map(str, command)), env))
        return subprocess.CompletedProcess(command, 0)

    opened = Session(
        stack="local", settings=configuration.settings("local"), environment={}, config_file=Path(), published=False
    )
    monkeypatch.setattr(verdict, "open_session", lambda stack: opened)
    monkeypatch.setattr(verdict, "admin", lambda session: contextlib.nullcontext(Api(url="", token=TOKEN)))
    monkeypatch.setattr(verdict.subprocess, "run", start)
    arguments = argparse.Namespace(stack="local", days=3, html=Path("page.html"), sources=True, json=False)
    assert verdict.run(arguments) == 0
    ((command, environment),) = started
    assert TOKEN not in " ".join(command)
    assert environment["CODER_TOKEN"] == TOKEN
    words = ["--stack", "local", "--days", "3", "--sources", "--html", str(Path("page.html").absolute())]
    assert command[1:] == ["-m", "pilot.verdict", *words]


def test_a_verdict_that_does_not_come_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[Any], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, verdict.VERDICT_TIMEOUT_S)

    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setattr(verdict, "CHECKOUT", tmp_path)
    opened = Session(stack="local", settings=None, environment={}, config_file=tmp_path, published=True)  # type: ignore[arg-type]
    monkeypatch.setattr(verdict, "open_session", lambda stack: opened)
    monkeypatch.setattr(verdict, "admin", lambda session: contextlib.nullcontext(Api(url="", token=TOKEN)))
    monkeypatch.setattr(verdict.subprocess, "run", hang)
    with pytest.raises(configuration.PilotError, match="no verdict within 15 minutes"):
        verdict.run(argparse.Namespace(stack="local", days=7, sources=False, json=False, html=None))
