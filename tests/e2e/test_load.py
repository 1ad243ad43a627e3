"""What a workspace costs Coder, Postgres, the keeper and our commands does not grow with the number of workspaces.

Simulated: the rows of a workspace of ours with its history (load_rows.sql), its agent (load_agents/), its home, and of
some of them the container, which only sleeps. Real: everything that is measured, and the workspace that is created and
started among them. docs/scaling.md has the figures and says what they are worth.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from keeper import census
from keeper.coder import Coder
from keeper.engine import Engine
from keeper.samples import Sampler
from stack.jobs import names
from tests.e2e.parts import POSTGRES_IMAGE
from tests.e2e.pilot_fixture import CHECKOUT, Pilot, docker, eventually, request
from tests.e2e.retirement_fixture import command, sql
from tests.e2e.workspace_fixture import editor_answers, member_session, new_workspace
from toolchain.recipes import GO_ENVIRONMENT

pytestmark = [pytest.mark.speed, pytest.mark.built_here, pytest.mark.timeout(3600)]

NUMBERS = (0, 50, 200, 500)
ROUNDS = 7
"""Of start, stop and start for each workspace, twice a day."""
CONTAINERS_MAX = 50
"""The agents of the others are somewhere else, as those of a cluster."""
AT_ONCE = 4
REST_S = 60
"""In which the keeper takes one sample, and each agent all its turns."""
START_TIMEOUT_S = 300
GROWTH_MAX = 2
"""So many times the cost of one of the first workspaces is that of one of the last."""
NOISE = {"%": 10.0, "MiB": 60.0, "s": 3.0}

SERVERS = {"coder": names.coder_container, "postgres": names.postgres_container, "keeper": names.keeper_container}
SLEEPER = "mkdir -p /tmp/coder-pilot && echo 'idle for 3 min' >/tmp/coder-pilot/status && exec sleep infinity"
CONNECTED = "SELECT count(*) FROM workspace_agents WHERE last_connected_at > now() - interval '40 seconds'"
SIMULATED = """
SELECT workspaces.id || ' ' || agent.auth_token || ' ' || workspaces.name FROM workspaces
JOIN LATERAL (
    SELECT job_id FROM workspace_builds WHERE workspace_id = workspaces.id ORDER BY build_number DESC LIMIT 1
) AS latest ON true
JOIN workspace_resources AS of ON of.job_id = latest.job_id
JOIN workspace_agents AS agent ON agent.resource_id = of.id
WHERE workspaces.name LIKE 'load-%' ORDER BY split_part(workspaces.name, '-', 2)::int
"""


@dataclass(kw_only=True)
class Load:
    """A pilot with more and more workspaces."""

    pilot: Pilot
    engine: Engine
    agents: subprocess.Popen[str]
    administrator: str
    number: int = 0
    rest: dict[str, float] = field(default_factory=dict)
    """The share of a core that each server uses at rest."""
    table: dict[str, dict[int, float]] = field(default_factory=dict)
    """By what was measured, with its unit as its last word, and by the number of workspaces."""

    def grow(self, number: int) -> None:
        """Add workspaces that run, until there are so many."""
        if number == self.number:
            return
        rows = Path(__file__).with_name("load_rows.sql").read_text()
        _psql(self.pilot, rows.format(first=self.number + 1, last=number, rounds=ROUNDS))
        found = [row.split() for row in sql(self.pilot, SIMULATED)][self.number :]
        _homes(self.pilot, [workspace for workspace, _, _ in found])
        with ThreadPoolExecutor(AT_ONCE) as pool:
            here = found[: max(0, CONTAINERS_MAX - self.number)]
            list(pool.map(lambda each: _container(self.pilot, each[0], each[2]), here))
        assert self.agents.stdin is not None and self.agents.stdout is not None  # noqa: PT018  as made
        self.agents.stdin.write("".join(f"{token}\n" for _, token, _ in found) + "\n")
        self.agents.stdin.flush()
        assert self.agents.stdout.readline().strip() == str(number)
        self.number = number
        eventually(lambda: int(sql(self.pilot, CONNECTED)[0]) > number, timeout_s=120, what="all agents connected")

    def used_s(self) -> dict[str, float]:
        """The processor time of each server since its start."""
        part = {container(self.pilot.name): name for name, container in SERVERS.items()}
        return {part[each]: counters.cpu_ns / 1e9 for each, counters in self.engine.counters(part)}

    def note(self, what: str, value: float) -> None:
        self.table.setdefault(what, {})[self.number] = round(value, 2)

    def measure(self, what: str, work: Callable[[], object]) -> None:
        """Note what `work` takes beside what the servers use at rest."""
        before, own_s, began_s = self.used_s(), _own_s(), time.monotonic()
        work()
        took_s, own_s, after = time.monotonic() - began_s, _own_s() - own_s, self.used_s()
        for name in ("coder", "postgres"):
            self.note(f"{what}: {name}, s", after[name] - before[name] - self.rest[name] * took_s)
        self.note(f"{what}: own, s", own_s)
        self.note(f"{what}: by the clock", took_s)

    def measure_rest(self) -> None:
        """Note the less of two rounds: so many new rows and connections keep both busy for a while."""
        rounds = [self._round() for _ in range(2)]
        self.rest = {name: min(each[name] for each in rounds) for name in SERVERS}
        for name, share in self.rest.items():
            self.note(f"{name} at rest, %", 100 * share)
        part = {container(self.pilot.name): name for name, container in SERVERS.items()}
        for each, counters in self.engine.counters(part):
            self.note(f"{part[each]}, MiB", counters.ram_mib)

    def _round(self) -> dict[str, float]:
        before, began_s = self.used_s(), time.monotonic()
        time.sleep(REST_S)
        passed_s, after = time.monotonic() - began_s, self.used_s()
        return {name: (after[name] - before[name]) / passed_s for name in SERVERS}


def _own_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _psql(pilot: Pilot, text: str) -> None:
    docker(
        "exec", "--interactive", names.postgres_container(pilot.name), "psql", "--quiet", "--output", "/dev/null",
        "--set", "ON_ERROR_STOP=1", "--single-transaction", "--username", "coder", "--dbname", "coder", stdin=text,
        timeout_s=600,
    )  # fmt: skip


def _homes(pilot: Pilot, workspaces: list[str]) -> None:
    """The volumes, all in one call."""
    mounts = [
        f"type=volume,source=coder-{each}-home,target=/{each},volume-label=coder-pilot.stack={pilot.name}"
        for each in workspaces
    ]
    container = docker("create", *(word for mount in mounts for word in ("--mount", mount)), POSTGRES_IMAGE)
    docker("rm", "--force", container)


def _container(pilot: Pilot, workspace: str, name: str) -> None:
    """What a running workspace is to the engine."""
    docker(
        "run", "--detach", "--name", f"{pilot.name}-{name}", "--network", f"{pilot.name}-workspaces",
        "--label", f"coder-pilot.stack={pilot.name}", "--label", f"coder.workspace_id={workspace}",
        "--volume", f"coder-{workspace}-home:/home/coder", "--tmpfs", "/var/lib/postgresql/data",
        "--tmpfs", "/var/lib/postgresql", "--memory", "32m", "--entrypoint", "sh", POSTGRES_IMAGE, "-c", SLEEPER,
    )  # fmt: skip


@pytest.fixture
def load(make_pilot: Callable[..., Pilot], tmp_path: Path) -> Iterator[Load]:
    # With the server's own go.mod, so that all of it is compiled already.
    for file in (CHECKOUT / "toolchain" / "go" / "coder").glob("go.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "main.go").write_bytes((Path(__file__).parent / "load_agents" / "main.go").read_bytes())
    subprocess.run(["go", "build", "-o", "agents", "."], cwd=tmp_path, env={**os.environ, **GO_ENVIRONMENT}, check=True)
    pilot = make_pilot()
    pilot.up()
    pilot.call("GET", "/api/v2/users/me")
    administrator, pilot.variables["token"] = pilot.variables["token"], member_session(pilot)
    model = new_workspace(pilot, "model")
    pilot.wait_workspace(model["id"], START_TIMEOUT_S)
    for transition in ("stop", "start"):
        pilot.transition(model["id"], transition)
    pilot.wait_workspace(model["id"], START_TIMEOUT_S)
    with subprocess.Popen(
        [tmp_path / "agents", pilot.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as agents:
        engine = Engine(host="unix:///var/run/docker.sock")
        try:
            yield Load(pilot=pilot, engine=engine, agents=agents, administrator=administrator)
        finally:
            agents.kill()


def test_a_workspace_costs_no_more_among_hundreds(load: Load, figures: Callable[[str, object], None]) -> None:
    for number in NUMBERS:
        load.grow(number)
        load.measure_rest()
        load.note("database, MiB", float(sql(load.pilot, "SELECT pg_database_size('coder') / 1048576.0")[0]))
        for what in ("up", "status", "verdict", "doctor"):
            load.measure(f"make {what}", lambda what=what: command(load.pilot, what))
        _measure_the_keeper(load)
        _measure_a_start(load)
        figures(f"load of {number}", {what: values[number] for what, values in load.table.items()})
    wrong = {what: values for what, values in load.table.items() if _grows_too_fast(what, values)}
    assert not wrong


def _grows_too_fast(what: str, values: dict[int, float]) -> bool:
    noise = NOISE.get(what.rpartition(" ")[2])
    if noise is None:
        return False
    none, _, many, most = (values[number] for number in NUMBERS)
    share = (NUMBERS[3] - NUMBERS[2]) / (NUMBERS[2] - NUMBERS[0])
    return most - many > GROWTH_MAX * share * max(0.0, many - none) + noise


def _measure_the_keeper(load: Load) -> None:
    own = Coder(url=load.pilot.url, token=load.administrator, timeout_s=60)
    sampler = Sampler(engine=load.engine, stack=load.pilot.name, standalone="", answers=lambda: own.check()[0])
    load.measure("the keeper's sample", sampler.take)
    load.measure(
        "the keeper's look for whom to stop",
        lambda: census.workspaces(load.engine, load.pilot.name, own.running()),
    )
    for limit in (25, 0):
        path = f"/api/v2/workspaces?limit={limit}"
        load.measure(f"GET {path}", lambda path=path: request(own.url, "GET", path, token=own.token))


def _measure_a_start(load: Load) -> None:
    pilot, real = load.pilot, dict[str, Any]()

    def until_the_editor(begin: Callable[[], Any]) -> None:
        real.update(begin())
        eventually(lambda: editor_answers(pilot, real), timeout_s=START_TIMEOUT_S, what="the editor's answer")

    def start() -> dict[str, Any]:
        pilot.call("POST", f"/api/v2/workspaces/{real['id']}/builds", {"transition": "start"})
        return {}

    load.measure("a new workspace to its editor", lambda: until_the_editor(lambda: new_workspace(pilot, "real")))
    load.measure("its stop", lambda: pilot.transition(real["id"], "stop", START_TIMEOUT_S))
    load.measure("its start to the editor", lambda: until_the_editor(start))
    pilot.transition(real["id"], "delete", START_TIMEOUT_S)
