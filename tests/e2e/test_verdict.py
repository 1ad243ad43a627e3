"""The verdict on a real pilot is what its database says, computed there anew, and its page reads in a browser.

The history is real where it is about Coder's behaviour: a start, a stop by hand, one by autostop, a failure, a report
of the watcher. A week of it is made from those by copying their rows, as nobody waits for a week.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from stack.verdict.judge import KEYS
from stack.verdict.samples import CLAUDE_STATUS
from tests.e2e.browser_fixture import chromium
from tests.e2e.pilot_fixture import CHECKOUT, STACK_LABEL, Pilot, docker, eventually, request
from toolchain.pieces import WORKSPACE_IMAGE

OLD_WORKSPACES = 4
OLD_BUILDS = 1000
LIMIT_S = 5.0
# Coder's executor looks once a minute.
AUTOSTOP_TIMEOUT_S = 130
PAST_DEADLINE = "UPDATE workspace_builds SET deadline = now() - interval '1 minute' WHERE workspace_id = '{workspace}';"

WEEK = Path(__file__).with_name("verdict_week.sql")
FIGURES = Path(__file__).with_name("verdict_figures.sql")


def _sql(pilot: Pilot, text: str) -> str:
    done = subprocess.run(
        ["docker", "exec", "--interactive", f"{pilot.name}-postgres", "psql", "--quiet", "--tuples-only", "--no-align",
         "--set", "ON_ERROR_STOP=1", "--username", "coder", "--dbname", "coder"],
        input=text, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _front_door(pilot: Pilot, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pilot", words[0], "--stack", pilot.stack, *words[1:]], cwd=CHECKOUT,
        env={**os.environ, **pilot.variables, "CODER_PILOT_PROJECT": str(pilot.directory)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def _directly(pilot: Pilot, token: str, *words: str) -> subprocess.CompletedProcess[str]:
    variables = {
        "STACK": pilot.name, "CODER_URL": pilot.url, "CODER_TOKEN": token, "DATA_DIRECTORY": str(pilot.data),
        "DOCKER_HOST": "unix:///var/run/docker.sock", "PURGE": "false",
        "SETTINGS": json.dumps(dict.fromkeys(KEYS, "5")),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "stack.verdict", *words], cwd=CHECKOUT, env={"PATH": os.environ["PATH"], **variables},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def _ask_for(pilot: Pilot, name: str) -> str:
    (template,) = pilot.call("GET", "/api/v2/templates")
    made = pilot.call(
        "POST", f"/api/v2/organizations/{template['organization_id']}/members/me/workspaces",
        {"name": name, "template_id": template["id"], "rich_parameter_values": []},
    )  # fmt: skip
    return str(made["id"])


def _report_work(pilot: Pilot, workspace: str) -> None:
    """As the template's watcher does, with the agent's own token."""
    container = docker("ps", "--quiet", "--filter", f"label=coder.workspace_id={workspace}")
    shown = docker("inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", container)
    token = dict(line.partition("=")[::2] for line in shown.splitlines())["CODER_AGENT_TOKEN"]
    body = {"app_slug": "code-server", "state": "working", "message": "Claude is working", "uri": ""}
    request(pilot.url, "PATCH", "/api/v2/workspaceagents/me/app-status", body, token)
    docker("exec", container, "sh", "-c", f"echo 'working for 3 min' >{CLAUDE_STATUS}")


@pytest.fixture(scope="module")
def history(pilot: Pilot) -> Pilot:
    """A pilot with a past: what Coder did by itself, and copies of it over a week."""
    # Whoever holds the container's name makes the start fail.
    label = f"{STACK_LABEL}={pilot.name}"
    docker("create", "--name", f"{pilot.name}-admin-broken", "--label", label, WORKSPACE_IMAGE, "true")
    parked, worker, broken = (_ask_for(pilot, name) for name in ("parked", "worker", "broken"))
    gone = _ask_for(pilot, "gone")
    pilot.variables["broken"] = broken
    pilot.wait_workspace(parked)
    # Its time is over: Coder's executor stops it by itself.
    _sql(pilot, PAST_DEADLINE.format(workspace=parked))

    pilot.wait_workspace(worker)
    _report_work(pilot, worker)
    assert _front_door(pilot, "sample").returncode == 0
    pilot.transition(worker, "stop")
    pilot.transition(worker, "start")
    pilot.wait_workspace(worker)

    pilot.wait_workspace(gone)
    pilot.transition(gone, "delete")

    def state(workspace: str, *wanted: str) -> Callable[[], bool]:
        return lambda: pilot.workspace(workspace)["latest_build"]["status"] in wanted

    eventually(state(broken, "failed"), timeout_s=60, what="the failed start")
    eventually(state(parked, "stopped"), timeout_s=AUTOSTOP_TIMEOUT_S, what="the autostop", interval_s=0.5)
    assert pilot.workspace(parked)["latest_build"]["reason"] == "autostop"
    assert _front_door(pilot, "sample").returncode == 0
    assert _front_door(pilot, "backup").returncode == 0
    pairs = OLD_BUILDS // OLD_WORKSPACES // 2
    _sql(pilot, WEEK.read_text().replace("{pairs}", str(pairs)).replace("{workspaces}", str(OLD_WORKSPACES)))
    return pilot


@dataclasses.dataclass(frozen=True)
class Told:
    """What `make verdict` said of the history, and what the database says of the same time."""

    document: dict[str, Any]
    database: dict[str, Any]
    terminal: str

    @property
    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document["figures"]
        return found

    @property
    def workspaces(self) -> dict[str, dict[str, Any]]:
        return {each["name"].removeprefix("admin/"): each for each in self.figures["workspaces"]}


@pytest.fixture(scope="module")
def told(history: Pilot) -> Told:
    done = _front_door(history, "verdict", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    edges = {key: document["figures"][key] for key in ("since", "until")}
    shown = _sql(history, FIGURES.read_text().format(**edges))
    terminal = _front_door(history, "verdict")
    assert terminal.returncode == 0, terminal.stderr
    return Told(document, json.loads(shown), terminal.stdout)


def test_hours_running_parked_and_unclear_are_those_of_the_database(told: Told) -> None:
    for state in ("running", "parked", "unclear"):
        found = {each["name"].removeprefix("admin/"): each[f"{state}_h"] for each in told.document["derived"]["hours"]}
        expected = {**dict.fromkeys(found, 0.0), **(told.database[state] or {})}
        assert found == pytest.approx(expected, abs=1e-3), state
    assert told.database["parked"]["parked"] > 0
    assert told.database["unclear"]["broken"] > 0


def test_sessions_stops_and_builds_are_those_of_the_database(told: Told) -> None:
    database, figures = told.database, told.figures
    assert told.document["derived"]["sessions"] == database["sessions"]
    assert sum(each["autostops"] for each in figures["workspaces"]) == database["autostops"]
    assert sum(each["hand_stops"] for each in figures["workspaces"]) == database["hand_stops"]
    assert figures["builds"] == database["builds"] > OLD_BUILDS * 0.9
    assert len(figures["failures"]) == database["failed"] > 1
    assert told.document["derived"]["failed_percent"] == pytest.approx(100 * database["failed"] / database["builds"])
    assert told.workspaces["parked"]["autostops"] == 1
    assert told.workspaces["worker"]["hand_stops"] == 1
    assert told.workspaces["gone"]["deleted"]
    assert (told.workspaces["worker"]["sessions"], told.workspaces["broken"]["sessions"]) == (2, 0)


def test_a_failed_build_is_told_with_coders_own_reason(told: Told, history: Pilot) -> None:
    (failure,) = (each for each in told.figures["failures"] if each["workspace"] == "admin/broken")
    build = history.workspace(history.variables["broken"])["latest_build"]["id"]
    log = [each["output"] for each in history.call("GET", f"/api/v2/workspacebuilds/{build}/logs")]
    assert any(failure["reason"] in line for line in log), log
    assert failure["reason"][:40] in told.terminal


def test_the_times_to_ready_are_those_of_the_database(told: Told) -> None:
    assert told.document["derived"]["median_ready_s"] == pytest.approx(told.database["median_s"], abs=1e-3)
    known = [each["seconds"] for each in told.figures["starts"] if each["seconds"] is not None]
    assert max(known) == pytest.approx(told.database["worst_s"], abs=1e-3)


def test_runs_and_those_that_were_stopped_are_those_of_the_database(told: Told) -> None:
    runs, stopped = told.figures["runs"], told.database["stopped_working"]
    assert runs["total"] == told.database["reports"] > 2
    assert runs["stopped_by_autostop"] == stopped.get("autostop", 0) > 0
    assert runs["stopped_by_hand"] == stopped.get("initiator", 0) > 0


def test_ram_by_limit_is_that_of_the_database(told: Told) -> None:
    by, database = told.figures["by_limit"], told.database
    assert by["given_back"]["low"] == pytest.approx(database["given_back_gib_h"], rel=1e-5)
    assert by["always_on"]["low"] == pytest.approx(database["given_back_gib_h"] + database["held_gib_h"], rel=1e-5)
    assert by["bare"]["low"] == pytest.approx(database["held_gib_h"] + database["autoparked_gib_h"], rel=1e-5)
    control = told.document["derived"]["control_plane_gib_h"]
    assert by["pilot"]["low"] == pytest.approx(database["held_gib_h"] + control, rel=1e-5)


def test_ram_by_peak_and_the_control_plane_are_those_of_the_samples(told: Told, history: Pilot) -> None:
    lines = [json.loads(line) for line in (history.data / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == len(told.figures["samples"]) == 2
    assert all(each["answers"] for each in lines)
    mean_mib = sum(fmean(each["ram_mib"][name] for each in lines) for name in ("coder", "postgres"))
    hours = (_time(told.figures["until"]) - _time(told.figures["since"])).total_seconds() / 3600
    assert told.document["derived"]["control_plane_gib_h"] == pytest.approx(mean_mib / 1024 * hours)

    peaks = {name: each["peak_gib"] for name, each in told.workspaces.items()}
    assert peaks["old-1"] is None
    identifiers = {each["name"]: each["id"] for each in history.call("GET", "/api/v2/workspaces?limit=0")["workspaces"]}
    sampled = max(each["workspace_ram_mib"].get(identifiers["worker"], 0) for each in lines)
    assert peaks["worker"] * 1024 >= sampled > 20
    given = sum((told.database["parked"].get(name) or 0) * (peak or 0) for name, peak in peaks.items())
    assert told.figures["by_peak"]["given_back"]["low"] == pytest.approx(given, abs=1e-3)
    net = told.document["derived"]["net_gib_h"]
    assert net["low"] == pytest.approx(given - mean_mib / 1024 * hours, abs=1e-3)
    assert net["high"] > net["low"]


def test_what_is_used_now_is_what_docker_says(told: Told, history: Pilot) -> None:
    for part in ("server", "postgres"):
        shown = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", f"{history.name}-{part}")
        amount = float(shown.split("MiB")[0])
        now = told.figures["parts"]["coder" if part == "server" else part]["ram_now_gib"] * 1024
        assert now == pytest.approx(amount, rel=0.5)


def test_disk_and_dumps_are_what_is_there(told: Told, history: Pilot) -> None:
    disk = told.figures["disk"]
    used = int(docker("exec", f"{history.name}-postgres", "du", "-sb", "/var/lib/postgresql/data").split()[0])
    assert disk["data"] * 1024**3 == pytest.approx(used, rel=0.25)
    (dump,) = (history.data / "backups").glob("*.dump")
    assert (disk["dumps_count"], disk["newest_dump"]) == (1, dump.name)
    assert disk["dumps"] * 1024**3 == pytest.approx(dump.stat().st_size)
    images = {history.config[key] for key in ("coderImage", "postgresImage", "workspaceImages")}
    sizes = {line.split()[0]: int(line.split()[1]) for line in docker(
        "image", "inspect", "--format", "{{.Id}} {{.Size}}", *images).splitlines()}  # fmt: skip
    assert disk["images"] * 1024**3 == pytest.approx(sum(sizes.values()))
    assert disk["volumes"] is not None


def test_what_retiring_removes_and_keeps_is_what_docker_has(told: Told, history: Pilot) -> None:
    label = f"label={STACK_LABEL}={history.name}"
    containers = docker("ps", "--all", "--filter", label, "--format", "container {{.Names}}").splitlines()
    networks = docker("network", "ls", "--filter", label, "--format", "network {{.Name}}").splitlines()
    volumes = docker("volume", "ls", "--filter", label, "--format", "volume {{.Name}}").splitlines()
    assert set(told.figures["removed"]) == {*containers, *networks}
    assert {each.partition(" (")[0] for each in told.figures["kept"]} == set(volumes)
    assert len(volumes) >= 2


def test_the_verdict_is_one_line_and_the_terminal_ends_with_it(told: Told) -> None:
    line = told.document["verdict"]["line"]
    assert told.document["verdict"]["outcome"] in ("keep", "retire", "too early")
    words = " ".join(told.terminal.split())
    assert words.endswith(line[line.rindex(", asked") :])
    for name in ("Benefit", "Cost", "The alternatives", "Retiring would remove", "The rule"):
        assert name in told.terminal
    assert "Traceback" not in told.terminal


def test_a_thousand_builds_of_the_real_server_take_less_than_five_seconds(history: Pilot) -> None:
    took_s = []
    # The best of three: other programs of the machine are not the question.
    while len(took_s) < 3 and min(took_s, default=LIMIT_S) >= LIMIT_S:
        begin_s = time.monotonic()
        done = _directly(history, history.variables["token"])
        took_s.append(time.monotonic() - begin_s)
        assert done.returncode == 0, done.stderr
    assert min(took_s) < LIMIT_S


def test_the_verdict_changes_nothing(history: Pilot) -> None:
    count = "SELECT (SELECT count(*) FROM workspace_builds) || ' ' || (SELECT count(*) FROM api_keys)"
    before, files = _sql(history, count), sorted(history.data.rglob("*.jsonl"))
    assert _front_door(history, "verdict").returncode == 0
    assert (_sql(history, count), sorted(history.data.rglob("*.jsonl"))) == (before, files)


def test_the_page_shows_its_plots_in_chromium_and_asks_nobody(
    history: Pilot, artifacts: Path, tmp_path: Path
) -> None:
    page_file = tmp_path / "verdict.html"
    done = _front_door(history, "verdict", "--html", str(page_file))
    assert done.returncode == 0, done.stderr
    requests: list[str] = []
    problems: list[str] = []
    with chromium(tmp_path / "home") as browser:
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.on("request", lambda each: requests.append(each.url))
        page.on("console", lambda each: problems.append(each.text))
        page.on("pageerror", lambda each: problems.append(str(each)))
        page.goto(page_file.as_uri())
        boxes = [each.bounding_box() for each in page.locator("svg").all()]
        assert len(boxes) == 4
        assert all(each is not None and each["width"] > 600 and each["height"] > 100 for each in boxes)
        for name in ("admin/parked", "admin/worker", "running", "parked", "seconds to ready", "always on"):
            assert page.locator("svg text", has_text=name).first.is_visible(), name
        assert page.locator(".verdict").inner_text().startswith(("keep:", "retire:", "too early:"))
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.screenshot(path=artifacts / "verdict.png", full_page=True)
    assert [each for each in requests if not each.startswith(("file:", "data:"))] == []
    assert problems == []


def test_a_revoked_token_and_a_server_that_is_down_are_told(history: Pilot) -> None:
    wanted = {"token_name": "for-the-verdict", "lifetime": 3600 * 10**9}
    made = history.call("POST", "/api/v2/users/me/keys/tokens", wanted)
    assert _directly(history, made["key"]).returncode == 0
    history.call("DELETE", f"/api/v2/users/me/keys/{made['key'].partition('-')[0]}")
    refused = _directly(history, made["key"])
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "does not accept the token: run `make up`" in refused.stderr
    assert made["key"] not in refused.stderr

    docker("stop", f"{history.name}-server")
    for down in (_directly(history, made["key"]), _front_door(history, "verdict")):
        assert down.returncode == 1
        assert f"Coder at {history.url}" in down.stderr
        assert "run `make up" in down.stderr
        assert "Traceback" not in down.stderr
    assert _front_door(history, "sample").returncode == 0
    last = json.loads((history.data / "samples.jsonl").read_text().splitlines()[-1])
    assert (last["answers"], set(last["ram_mib"])) == (False, {"postgres"})


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
