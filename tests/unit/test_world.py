"""What runs is compared with what is declared: each difference is found, each refusal comes before anything is touched,
and what nobody declared counts for nothing."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stack import declared, settings
from stack.jobs import engine, pilot_file, port, world
from stack.jobs.world import Declared
from tests.unit.program import LOCAL, defaults

OWNER = "/home/me/coder-pilot:local"
RECORD = {
    "owner": OWNER,
    "docker_host": "unix:///var/run/docker.sock",
    "containers": {"coder-server": "c1", "coder-postgres": "p1", "coder-keeper": "k1"},
    "networks": {"coder-control": "n1", "coder-workspaces": "n2"},
}
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def wanted(tmp_path: Path) -> Declared:
    config = settings.parse({**defaults(), **LOCAL, "dataDir": str(tmp_path)}, tmp_path)
    return declared.of(config, OWNER, tmp_path, "local")


def _joined(**networks: list[str]) -> dict[str, Any]:
    ids = {"control": "n1", "workspaces": "n2"}
    return {f"coder-{name}": {"NetworkID": ids[name], "Aliases": aliases} for name, aliases in networks.items()}


@pytest.fixture
def live(tmp_path: Path) -> dict[str, Any]:
    """As the engine tells a pilot that is whole."""

    def container(name: str, identifier: str, memory_mb: int, cpus: int, networks: dict[str, Any]) -> dict[str, Any]:
        return {
            "Id": identifier,
            "Name": f"/{name}",
            "State": {"Paused": False, "Running": True, "StartedAt": "2026-01-01T12:00:00Z"},
            "Mounts": [],
            "Config": {"Labels": {"coder-pilot.stack": "coder", "coder-pilot.owner": OWNER}},
            "HostConfig": {
                "Memory": memory_mb << 20,
                "MemorySwap": memory_mb << 20,
                "NanoCpus": cpus * 10**9,
                "RestartPolicy": {"Name": "unless-stopped"},
                "PortBindings": {"7080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "7080"}]},
                # What the daemon adds by itself.
                "LogConfig": {"Config": {"labels": "of daemon.json"}},
            },
            "NetworkSettings": {"Networks": networks},
        }

    postgres = container("coder-postgres", "p1", 1024, 1, _joined(control=["postgres", "p1"]))
    postgres["Mounts"] = [{"Destination": "/var/lib/postgresql/data", "Source": f"{tmp_path}/postgres"}]
    labels = {"coder-pilot.stack": "coder"}
    return {
        "coder": container("coder-server", "c1", 2048, 2, _joined(control=["c1"], workspaces=["coder", "c1"])),
        "postgres": postgres,
        "keeper": container("coder-keeper", "k1", 256, 1, _joined(control=["k1"])),
        "control": {"Id": "n1", "Name": "coder-control", "Internal": True, "Labels": labels, "Containers": {}},
        "workspaces": {"Id": "n2", "Name": "coder-workspaces", "Internal": False, "Labels": labels, "Containers": {}},
        "coder-image": {},
        "postgres-image": {},
        "keeper-image": {},
    }


def test_a_pilot_of_before_the_keeper_lacks_nothing(wanted: Declared, live: dict[str, Any]) -> None:
    del live["keeper"], live["keeper-image"]
    before = {**RECORD, "containers": {"coder-server": "c1", "coder-postgres": "p1"}}
    assert world.compare(wanted, live, before) == {}


def test_a_pilot_that_is_whole_shows_no_difference(wanted: Declared, live: dict[str, Any]) -> None:
    assert world.compare(wanted, live, RECORD) == {}


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (lambda live: live.pop("coder"), {"coder": "coder-server is gone"}),
        (
            lambda live: (live.pop("coder"), live.pop("coder-image")),
            {"coder": "coder-server is gone", "coder-image": "its image example/coder:v1 is gone"},
        ),
        (lambda live: live.pop("coder-image"), {}),
        (lambda live: live["keeper"]["State"].update(Running=False), {"keeper": "coder-keeper is stopped"}),
        # What starts those is in alive.py.
        (lambda live: live["coder"]["State"].update(Running=False), {}),
        (
            lambda live: (live.pop("keeper"), live.pop("keeper-image")),
            {"keeper": "coder-keeper is gone", "keeper-image": "its image localhost/coder-keeper:latest is gone"},
        ),
        (lambda live: live["coder"].update(Id="c2"), {"coder": "coder-server was made by somebody else"}),
        (lambda live: live["coder"]["HostConfig"].update(Memory=1), {"coder": "coder-server has another memory limit"}),
        (
            lambda live: live["coder"]["HostConfig"].update(MemorySwap=-1),
            {"coder": "coder-server has another memory limit"},
        ),
        (
            lambda live: live["postgres"]["HostConfig"].update(NanoCpus=0),
            {"postgres": "coder-postgres has another CPU limit"},
        ),
        (
            lambda live: live["postgres"]["HostConfig"]["RestartPolicy"].update(Name="no"),
            {"postgres": "coder-postgres has another restart policy"},
        ),
        (
            lambda live: live["coder"]["NetworkSettings"]["Networks"].pop("coder-workspaces"),
            {"coder": "coder-server is cut off from the network coder-workspaces"},
        ),
        (
            lambda live: live["coder"]["NetworkSettings"]["Networks"]["coder-workspaces"].update(Aliases=None),
            {"coder": "coder-server is not called coder on the network coder-workspaces"},
        ),
        (
            lambda live: live["postgres"]["NetworkSettings"]["Networks"].update(bridge={}),
            {"postgres": "coder-postgres is on the network bridge as well"},
        ),
        (lambda live: live.pop("control"), {"control": "the network coder-control is gone"}),
        (
            lambda live: live["workspaces"].update(Id="n9"),
            {"workspaces": "the network coder-workspaces was made by somebody else"},
        ),
    ],
)
def test_every_change_behind_our_back_is_found_in_its_part_and_said(
    wanted: Declared, live: dict[str, Any], change: Change, differs: dict[str, str]
) -> None:
    change(live)
    assert world.compare(wanted, live, RECORD) == {part: [text] for part, text in differs.items()}


def test_a_pilot_that_was_never_up_or_is_retired_has_nothing_to_differ(wanted: Declared) -> None:
    assert world.compare(wanted, {}, {"owner": OWNER}) == {}


@pytest.fixture
def run(
    tmp_path: Path, wanted: Declared, live: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[dict[str, Any], list[str]]]:  # fmt: skip
    """Runs the job in a mode; what it printed, and what it had the engine do."""

    def job(
        mode: str = "ensure", homes: str = "", servers: str = "", change: Change = lambda _: None, taken: int = 0,
        **variables: str,
    ) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
        done: list[str] = []
        monkeypatch.setattr(port, "is_taken", lambda each: each == taken)
        monkeypatch.setattr(port, "holder", lambda *_: "nginx, process 7")

        def found(_: Declared) -> dict[str, Any]:
            seen = copy.deepcopy(live)
            change(seen)
            return seen

        def docker(*arguments: str, **_: object) -> str:
            if arguments[0] == "ps":
                return servers
            if arguments[:2] == ("volume", "ls"):
                return homes
            done.append(" ".join(arguments))
            return ""

        monkeypatch.setattr(engine, "docker", docker)
        monkeypatch.setattr(world, "live", found)
        monkeypatch.setattr("sys.argv", ["world", mode])
        for name in world.WORDS.values():
            monkeypatch.delenv(name, raising=False)
        for name, value in {"DECLARED": json.dumps(vars(wanted)), **variables}.items():
            monkeypatch.setenv(name, value)
        world.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer, done

    pilot_file.update(str(tmp_path), **RECORD)
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").touch()
    return job


def test_a_difference_raises_the_parts_generation_once_noted_by_an_up_and_not_by_a_preview(
    run: Callable[..., tuple[dict[str, Any], list[str]]], tmp_path: Path
) -> None:
    gone: Change = lambda live: live.pop("workspaces")  # noqa: E731
    assert run("look", change=gone)[0]["generations"] == {"workspaces": 1}
    assert run("ensure", change=gone)[0]["generations"] == {"workspaces": 1}
    assert run("look")[0] == {
        "generations": {"workspaces": 1}, "differences": [], "paused": [], "stopped": [],
        "coder_started_at": "2026-01-01T12:00:00Z", "joined": [], "to_do": False, "problem": None,
    }  # fmt: skip
    assert pilot_file.read(str(tmp_path))["generations"] == {"workspaces": 1}
    assert run("ensure", change=gone)[0]["generations"] == {"workspaces": 2}


@pytest.mark.parametrize(
    "change",
    [
        lambda live: live.pop("coder"),
        lambda live: (live.pop("coder"), live.pop("coder-image")),
        lambda live: live["coder"].update(Id="c2"),
    ],
)
def test_a_container_that_is_made_anew_has_its_image_looked_up_once_more(
    run: Callable[..., tuple[dict[str, Any], list[str]]], change: Change
) -> None:
    assert run("ensure", change=change)[0]["generations"] == {"coder": 1, "coder-image": 1}


def _foreign(live: dict[str, Any]) -> None:
    live["coder"]["Id"] = "c2"
    live["coder"]["State"]["Paused"] = True
    live["workspaces"]["Id"] = "n9"
    live["workspaces"]["Containers"] = {"w1": {"Name": "coder.admin.demo"}}


@pytest.mark.parametrize(
    ("change", "record", "to_do"),
    [
        (lambda _: None, {}, False),
        (lambda live: live.pop("coder"), {}, True),
        (lambda live: live["coder"]["State"].update(Paused=True), {}, True),
        (lambda _: None, {"containers": None}, True),
        (lambda _: None, {"owner": "/home/me/second:local"}, True),
    ],
)
def test_a_look_tells_whether_an_up_has_anything_to_note_or_to_remove(
    run: Callable[..., tuple[dict[str, Any], list[str]]], tmp_path: Path, change: Change, record: dict[str, Any],
    to_do: bool,
) -> None:  # fmt: skip
    pilot_file.update(str(tmp_path), **record)
    assert run("look", change=change, **{world.WORDS["TAKE_OVER"]: "yes"})[0]["to_do"] == to_do


def test_a_container_that_is_stopped_is_named_unless_it_is_made_anew(
    run: Callable[..., tuple[dict[str, Any], list[str]]],
) -> None:
    def stop(live: dict[str, Any]) -> None:
        for each in ("coder", "postgres", "keeper"):
            live[each]["State"].update(Running=False)
        live["postgres"]["HostConfig"]["NanoCpus"] += 1

    answer = run("look", change=stop)[0]
    assert (answer["stopped"], answer["paused"]) == (["coder-server"], [])
    assert [each.split()[0] for each in answer["differences"]] == ["coder-postgres", "coder-keeper"]


def test_what_stands_in_the_place_of_a_part_goes_and_nobody_on_a_network_is_stopped(
    run: Callable[..., tuple[dict[str, Any], list[str]]],
) -> None:
    assert run("look")[0]["paused"] == []
    answer, done = run("look", change=_foreign)
    assert (answer["joined"], answer["paused"], done) == ([], ["coder-server"], [])
    answer, done = run("ensure", change=_foreign)
    assert answer["joined"] == []
    assert done == [
        "unpause coder-server", "stop --time 60 coder-server", "rm --force coder-server",
        "network disconnect --force n9 w1", "network rm n9",
    ]  # fmt: skip


def test_the_file_of_secrets_is_missed_while_the_pilot_lives_and_not_once_it_is_retired(
    run: Callable[..., tuple[dict[str, Any], list[str]]], tmp_path: Path
) -> None:
    pilot_file.update(str(tmp_path), secrets=True)
    assert run("look")[0]["differences"] == ["the file with the secrets of workspaces is gone"]
    pilot_file.update(str(tmp_path), containers=None)
    assert run("look")[0]["differences"] == []


OTHER = "/home/me/second:local"
CUT_SHORT: dict[str, Any] = {"major": 17, "kept": "postgres-17-x", "dump": "x.dump"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"mark": OTHER}, "belongs to the stack local in /home/me/second"),
        ({"owner": OTHER}, "make up TAKE_OVER=yes"),
        ({"earlier": "old"}, "pulumi config set name old"),
        ({"docker_host": "unix:///other.sock"}, "pulumi config set dockerHost unix:///other.sock"),
        ({"mount": "/srv/old/postgres"}, "sudo mv -T /srv/old"),
        ({"empty": True, "homes": "coder-1-home\ncoder-2-home"}, "coder-1-home, coder-2-home"),
        ({"upgrade": CUT_SHORT}, "`make upgrade-postgres` goes on"),
        ({"upgrade": CUT_SHORT, "empty": True, "homes": "coder-1-home"}, "`make upgrade-postgres` goes on"),
        ({"stranger": "coder"}, "docker rename coder-server"),
    ],
)
@pytest.mark.parametrize("mode", ["look", "ensure"])
def test_what_would_leave_data_behind_or_is_anothers_is_refused_and_nothing_is_touched(
    run: Callable[..., tuple[dict[str, Any], list[str]]], tmp_path: Path, mode: str, wrong: dict[str, Any], told: str
) -> None:
    (tmp_path / CUT_SHORT["kept"]).mkdir()
    for key in wrong.keys() & {"owner", "docker_host", "upgrade"}:
        pilot_file.update(str(tmp_path), **{key: wrong[key]})
    if wrong.get("empty"):
        (tmp_path / "postgres" / "PG_VERSION").unlink()
    if "earlier" in wrong:
        pilot_file.update(str(tmp_path), containers={"old-server": "o1"})
    before = (tmp_path / pilot_file.NAME).read_text()

    def change(live: dict[str, Any]) -> None:
        # Something is to be made anew as well.
        live.pop("control")
        if "mount" in wrong:
            live["postgres"]["Mounts"][0]["Source"] = wrong["mount"]
        if "mark" in wrong:
            live["postgres"]["Config"]["Labels"]["coder-pilot.owner"] = wrong["mark"]
        if "earlier" in wrong:
            live["old-server"] = live.pop("coder")
            live["old-server"]["Config"]["Labels"]["coder-pilot.stack"] = wrong["earlier"]
        if "stranger" in wrong:
            live[wrong["stranger"]]["Config"]["Labels"] = None

    answer, done = run(mode, homes=wrong.get("homes", ""), change=change)
    assert told in answer["problem"]
    assert (answer["differences"], answer["generations"], done) == ([], {}, [])
    assert (tmp_path / pilot_file.NAME).read_text() == before


@pytest.mark.parametrize("ours", ["gone", "stopped"])
def test_a_second_server_on_the_database_is_refused_and_our_own_is_none(
    run: Callable[..., tuple[dict[str, Any], list[str]]], tmp_path: Path, ours: str
) -> None:
    def change(live: dict[str, Any]) -> None:
        live["postgres"]["State"]["Running"] = False
        if ours == "gone":
            del live["postgres"]

    told = f"coder-compose_database_1 runs on the database in {tmp_path}/postgres"
    answer, done = run(servers="coder-compose_database_1", change=change)
    assert told in answer["problem"]
    assert done == []
    assert run(servers="coder-postgres")[0]["problem"] is None
    assert run(servers="", change=change)[0]["problem"] is None


@pytest.mark.parametrize("mode", ["look", "ensure"])
@pytest.mark.parametrize(
    ("declared_ports", "taken", "change", "refused"),
    [
        ([7080], 7080, lambda _: None, False),
        ([8080], 8080, lambda _: None, True),
        ([8080], 7080, lambda _: None, False),
        ([7080, 7081], 7081, lambda _: None, True),
        # Its port is anybody's as long as it does not run.
        ([7080], 7080, lambda live: live["coder"]["State"].update(Running=False), True),
        ([7080], 7080, lambda live: live.pop("coder"), True),
        ([8080], 8080, lambda live: live["coder"]["HostConfig"].update(PortBindings=None), True),
    ],
)
def test_a_port_that_somebody_else_has_is_refused_and_nothing_is_touched(
    run: Callable[..., tuple[dict[str, Any], list[str]]], wanted: Declared, mode: str, declared_ports: list[int],
    taken: int, change: Change, refused: bool,
) -> None:  # fmt: skip
    containers = {**wanted.containers, "coder": {**wanted.containers["coder"], "ports": declared_ports}}
    wanted_now = json.dumps({**vars(wanted), "containers": containers})
    answer, done = run(mode, change=change, taken=taken, DECLARED=wanted_now)
    told = f"port {taken} of 127.0.0.1 is taken by nginx, process 7; nothing was touched. End that, or run `pulumi"
    assert (answer["problem"] or "").startswith(told) == refused
    assert done == []


def test_with_a_domain_coder_publishes_two_ports(tmp_path: Path) -> None:
    with_domain = {"tailnet": "true", "domain": "coder.example.com", "tlsCertificate": "/a", "tlsKey": "/b"}
    config = settings.parse({**defaults(), **LOCAL, **with_domain, "dataDir": str(tmp_path)}, tmp_path)
    assert declared.of(config, OWNER, tmp_path, "local").containers["coder"]["ports"] == [7080, 7081]


def test_the_owners_words_let_an_up_go_on(run: Callable[..., tuple[dict[str, Any], list[str]]], tmp_path: Path) -> None:
    (tmp_path / "postgres" / "PG_VERSION").unlink()
    pilot_file.update(str(tmp_path), owner=OTHER)
    words = dict.fromkeys(world.WORDS.values(), "yes")
    assert run(homes="coder-1-home", **words)[0]["problem"] is None
    # The other owner's token has the name of ours.
    assert pilot_file.token_generation(str(tmp_path)) == 1
    for name in words:
        pilot_file.update(str(tmp_path), owner=OTHER)
        assert run(homes="coder-1-home", **{**words, name: ""})[0]["problem"] is not None, name


def test_an_upgrade_of_postgres_may_go_on_itself_and_is_none_until_the_data_are_moved(
    run: Callable[..., tuple[dict[str, Any], list[str]]], tmp_path: Path
) -> None:
    pilot_file.update(str(tmp_path), upgrade=CUT_SHORT)
    assert run()[0]["problem"] is None
    (tmp_path / CUT_SHORT["kept"]).mkdir()
    assert run()[0]["problem"] is not None
    assert run(**{world.WORDS["NEW_DATABASE"]: "yes"})[0]["problem"] is None


def test_an_empty_directory_is_refused_where_the_last_one_has_the_database(
    run: Callable[..., tuple[dict[str, Any], list[str]]], tmp_path: Path, wanted: Declared
) -> None:
    (tmp_path / "postgres" / "PG_VERSION").unlink()
    assert run()[0]["problem"] is None
    last = tmp_path / "last"
    (last / "postgres" / "base").mkdir(parents=True)
    moved = {**vars(wanted), "last_data_directory": str(last)}
    assert f"`sudo mv -T {last} {tmp_path}`" in run(DECLARED=json.dumps(moved))[0]["problem"]


def test_who_is_on_the_workspaces_network_is_told_while_that_stays(
    run: Callable[..., tuple[dict[str, Any], list[str]]],
) -> None:
    def joined(live: dict[str, Any]) -> None:
        live["workspaces"]["Containers"] = {"a": {"Name": "coder-server"}, "b": {"Name": "coder.admin.demo"}}

    assert run(change=joined)[0]["joined"] == ["coder-server", "coder.admin.demo"]


@pytest.mark.parametrize(
    "change", [lambda live: live.pop("coder"), lambda live: live["coder"]["State"].update(Running=False)]
)
def test_a_coder_that_does_not_run_has_no_time_at_which_it_started(
    run: Callable[..., tuple[dict[str, Any], list[str]]], change: Change
) -> None:
    assert run(change=change)[0]["coder_started_at"] == ""


def test_containers_of_earlier_names_and_places_are_asked_for_in_the_one_call(
    wanted: Declared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = tmp_path / "last"
    last.mkdir()
    pilot_file.update(str(tmp_path), containers={"coder-server": "c1", "old-server": "o1"})
    pilot_file.update(str(last), containers={"older-server": "o2"})
    asked: list[tuple[str, ...]] = []

    def inspect(*names: str) -> list[dict[str, Any]]:
        asked.append(names)
        return [{"Name": "/old-server", "HostConfig": {}}]

    monkeypatch.setattr(engine, "inspect", inspect)
    found = world.live(dataclasses.replace(wanted, last_data_directory=str(last)))
    assert list(found) == ["old-server"]
    assert [{"coder-server", "old-server", "older-server"} - {*names} for names in asked] == [set()]


def test_a_part_that_no_up_made_yet_is_not_gone(wanted: Declared, live: dict[str, Any]) -> None:
    del live["coder"], live["coder-image"]
    assert world.compare(wanted, live, {**RECORD, "containers": {"coder-postgres": "p1"}}) == {}


def test_an_engine_that_does_not_answer_stops_an_up_and_no_preview(
    run: Callable[..., tuple[dict[str, Any], list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> None:
        raise engine.JobError("no engine")

    assert [run(mode, change=away)[0]["problem"] for mode in ("look", "ensure")] == [None, "no engine"]


def test_containers_that_nobody_noted_and_that_carry_our_mark_are_noted_by_an_up(
    run: Callable[..., tuple[dict[str, Any], list[str]]], tmp_path: Path
) -> None:
    pilot_file.update(str(tmp_path), containers=None, networks=None)
    strange: Change = lambda live: live["coder"]["Config"]["Labels"].pop("coder-pilot.owner")  # noqa: E731
    run("look")
    assert pilot_file.containers(str(tmp_path)) == {}
    run("ensure", change=strange)
    assert pilot_file.containers(str(tmp_path)) == {"coder-postgres": "p1", "coder-keeper": "k1"}
    pilot_file.update(str(tmp_path), containers=None)
    run("ensure")
    assert pilot_file.containers(str(tmp_path)) == RECORD["containers"]
    assert pilot_file.read(str(tmp_path))["networks"] == RECORD["networks"]


def test_a_pilot_that_is_retired_may_move_to_another_engine(
    run: Callable[..., tuple[dict[str, Any], list[str]]], tmp_path: Path
) -> None:
    pilot_file.update(str(tmp_path), containers=None, docker_host="unix:///other.sock")
    assert run("look")[0]["problem"] is None


def test_a_database_that_is_closed_to_us_is_one(
    run: Callable[..., tuple[dict[str, Any], list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", closed)
    assert run("look", homes="coder-1-home")[0]["problem"] is None


def test_a_checkout_that_borrows_the_state_of_another_works_on_that_ones_pilot(tmp_path: Path) -> None:
    pilots, runner = tmp_path / "pilot", tmp_path / "runner"
    (pilots / ".pulumi-state").mkdir(parents=True)
    runner.mkdir()
    assert declared.owner(runner, "x") == f"{runner}:x"
    (runner / ".pulumi-state").symlink_to(pilots / ".pulumi-state")
    assert declared.owner(runner, "x") == declared.owner(pilots, "x") == f"{pilots}:x"
