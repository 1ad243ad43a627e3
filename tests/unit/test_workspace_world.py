"""What Coder says of workspaces is held against what the engine has, and each trouble has a command."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilot import configuration, workspace, world
from pilot.configuration import PROJECT, PilotError
from stack.jobs import engine, names, retire, workspace_world
from stack.jobs.coder import Api, ApiError
from stack.jobs.kubernetes import Cluster, ClusterError
from stack.jobs.workspace_world import Container, Trouble, Version, Workspace, World
from stack.settings import Settings, parse

ID = "11111111-2222-3333-4444-555555555555"
OLD = Version(
    id="old", network="was-workspaces", agent_url="http://coder:7080", bases=("base:1",), built={"base:1": "ours:1"}
)
NEW = dataclasses.replace(OLD, id="new", network="coder-workspaces", built={"base:1": "ours:2"})
SAME_NETWORK = dataclasses.replace(OLD, network=NEW.network)

RUNS = Workspace(
    id=ID, owner="admin", name="demo", build="b", transition="start", status="succeeded", completed_s=1000.0,
    own=NEW, active=NEW, image="base:1", has_started=True, connected=True,
)  # fmt: skip
PARKED = dataclasses.replace(RUNS, transition="stop", connected=False)
CONTAINER = Container(
    name="coder-admin-demo", workspace=ID, stack="coder", state="running",
    networks=frozenset({"coder-workspaces"}), created_s=999.0,
)  # fmt: skip
ALL = frozenset({names.home_volume(ID), "ours:1", "ours:2"})


def _world(coder: Workspace, container: Container | None, present: frozenset[str] = ALL) -> World:
    return World(workspaces=[coder], containers={ID: container} if container else {}, present=present)


def _trouble(coder: Workspace, container: Container | None, present: frozenset[str] = ALL) -> Trouble | None:
    found = workspace_world.troubles(_world(coder, container, present))
    return found[0] if found else None


def _text(coder: Workspace, container: Container | None, present: frozenset[str] = ALL) -> str:
    return str(_trouble(coder, container, present) or "")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, ""),
        ({"state": "restarting"}, ""),
        ({"state": "exited"}, "its container is stopped"),
        ({"state": "created"}, "its container is stopped"),
        ({"state": "dead"}, "its container is stopped"),
        ({"state": "paused"}, "its container is paused"),
        ({"networks": frozenset({""})}, "its container is cut off from the workspaces' network"),
    ],
)
def test_a_workspace_that_runs_in_coder_is_asked_of_the_engine(changed: dict[str, Any], told: str) -> None:
    assert _text(RUNS, dataclasses.replace(CONTAINER, **changed)) == told


def test_a_container_that_is_gone_is_seen_and_its_home_is_no_trouble_while_it_is_there() -> None:
    assert _text(RUNS, None) == "its container is gone"


@pytest.mark.parametrize("coder", [RUNS, PARKED], ids=["running", "parked"])
def test_a_home_that_is_gone_is_named(coder: Workspace) -> None:
    assert f"its home is gone, the volume coder-{ID}-home" in _text(coder, None, ALL - {names.home_volume(ID)})


def test_a_workspace_that_never_started_has_no_home_to_miss() -> None:
    failed = dataclasses.replace(RUNS, status="failed", has_started=False)
    assert _trouble(failed, None, ALL - {names.home_volume(ID)}) is None


@pytest.mark.parametrize("status", ["pending", "running", "canceling"])
def test_nothing_is_said_while_something_is_built(status: str) -> None:
    assert _trouble(dataclasses.replace(RUNS, status=status), None, frozenset()) is None


def test_nothing_is_said_of_a_template_that_is_none_of_ours() -> None:
    assert _trouble(dataclasses.replace(RUNS, own=None), None, frozenset()) is None


@pytest.mark.parametrize(
    ("own", "present", "told"),
    [
        (OLD, ALL, "it names the network was-workspaces"),
        (dataclasses.replace(SAME_NETWORK, agent_url="http://x:1"), ALL, "it names Coder as http://x:1"),
        (SAME_NETWORK, ALL - {"ours:1"}, "its image ours:1 is gone"),
        (SAME_NETWORK, ALL, ""),
    ],
)
def test_a_parked_workspace_whose_version_cannot_start_needs_the_active_one(
    own: Version, present: frozenset[str], told: str
) -> None:
    trouble = _trouble(dataclasses.replace(PARKED, own=own), None, present)
    assert (trouble.version if trouble else "") == told
    assert trouble is None or not trouble.no_image


@pytest.mark.parametrize(
    "own", [NEW, dataclasses.replace(SAME_NETWORK, built=NEW.built)], ids=["active", "older, the same image"]
)
def test_an_image_that_the_active_version_needs_too_is_for_up_to_build(own: Version) -> None:
    trouble = _trouble(dataclasses.replace(PARKED, own=own), None, ALL - {"ours:2"})
    assert trouble is not None
    assert (trouble.no_image, trouble.version) == ("ours:2", "")


@pytest.mark.parametrize(("state", "told"), [("running", ""), ("paused", "its container is paused")])
def test_a_container_that_lives_does_not_need_its_image(state: str, told: str) -> None:
    coder = dataclasses.replace(RUNS, own=SAME_NETWORK, connected=False)
    assert _text(coder, dataclasses.replace(CONTAINER, state=state), ALL - {"ours:1", "ours:2"}) == told


def test_an_old_version_is_no_trouble_while_its_agent_is_connected() -> None:
    on_old = dataclasses.replace(CONTAINER, networks=frozenset({OLD.network}))
    assert _trouble(dataclasses.replace(RUNS, own=OLD), on_old) is None
    lost = _trouble(dataclasses.replace(RUNS, own=OLD, connected=False), on_old)
    assert lost is not None
    assert lost.version == "it names the network was-workspaces"
    assert lost.container is None


def test_a_workspace_whose_version_knows_another_address_of_the_apps_works_and_starts_with_the_active_one() -> None:
    moved = dataclasses.replace(NEW, id="newer", apps_domain="localhost:7080")
    runs, parked = (dataclasses.replace(each, active=moved) for each in (RUNS, PARKED))
    for coder, container, works in ((runs, CONTAINER, True), (parked, None, False)):
        trouble = _trouble(coder, container)
        assert trouble is not None
        assert str(trouble) == "its apps and ports are at another address from its next start on"
        assert (trouble.works, trouble.updates) == (works, True)
    stopped = _trouble(runs, dataclasses.replace(CONTAINER, state="exited"))
    assert stopped is not None
    assert not stopped.works


def test_a_container_of_a_build_that_the_database_does_not_have_is_not_taken_for_the_workspaces_own() -> None:
    later = dataclasses.replace(CONTAINER, created_s=2000.0)
    assert _text(PARKED, CONTAINER) == "Coder does not know its container coder-admin-demo"
    assert _text(dataclasses.replace(RUNS, connected=False), later).startswith("Coder does not know")
    assert _trouble(RUNS, later) is None


ON_CLUSTER = dataclasses.replace(NEW, network="", namespace="coder-pilot", agent_url="http://10.99.0.1:7080", built={})
THERE = dataclasses.replace(RUNS, own=ON_CLUSTER, active=ON_CLUSTER)
DEPLOYMENT = f"/apis/apps/v1/namespaces/coder-pilot/deployments/coder-{ID}"
CLAIM = f"/api/v1/namespaces/coder-pilot/persistentvolumeclaims/coder-{ID}-home"


@pytest.mark.parametrize(
    ("coder", "absent", "told"),
    [
        (THERE, (), ""),
        (THERE, (DEPLOYMENT,), "its Deployment is gone"),
        (THERE, (CLAIM,), f"its home is gone, the claim coder-{ID}-home"),
        (dataclasses.replace(THERE, transition="stop", connected=False), (DEPLOYMENT,), ""),
        (dataclasses.replace(THERE, has_started=False, status="failed"), (DEPLOYMENT, CLAIM), ""),
    ],
)
def test_a_workspace_on_a_cluster_is_asked_of_the_cluster_and_not_of_the_engine(
    coder: Workspace, absent: tuple[str, ...], told: str
) -> None:
    found = World(workspaces=[coder], containers={}, present=frozenset(), absent=frozenset(absent))
    assert [str(each) for each in workspace_world.troubles(found)] == ([told] if told else [])


def test_a_parked_workspace_on_a_cluster_starts_with_the_active_version_where_coders_address_is_another(
    asked: list[tuple[str, ...]],
) -> None:
    moved = dataclasses.replace(ON_CLUSTER, id="newer", agent_url="http://10.99.0.2:7080")
    parked = dataclasses.replace(THERE, transition="stop", connected=False, active=moved)
    assert _start_again(parked, None) == [{"transition": "start", "template_version_id": "newer"}]
    assert _trouble(dataclasses.replace(parked, active=ON_CLUSTER), None) is None
    assert _trouble(dataclasses.replace(parked, transition="start", connected=True), None) is None


def test_of_a_cluster_that_does_not_answer_nothing_is_known_and_it_is_asked_once_for_all() -> None:
    asked: list[str] = []

    class Away(Cluster):
        def call(self, method: str, path: str, body: object = None, *, content: str = "") -> Any:
            asked.append(path)
            raise ClusterError(404 if path == CLAIM and self.server else 0, "away")

    many = [THERE, *(dataclasses.replace(THERE, id=f"{number}") for number in range(100))]
    assert workspace_world._absent(Away(server="", authority="", token=""), many) == frozenset()
    assert len(asked) <= workspace_world.ASKED_AT_ONCE
    found = workspace_world._absent(Away(server="https://x", authority="", token=""), many[:1])
    assert found <= {CLAIM}


def test_a_stranger_is_a_workspace_container_of_this_stack_that_coder_does_not_know() -> None:
    containers = {each.workspace: each for each in (
        CONTAINER,
        dataclasses.replace(CONTAINER, workspace="unknown", name="coder-admin-late"),
        dataclasses.replace(CONTAINER, workspace="theirs", name="other-admin-x", stack="other"),
    )}  # fmt: skip
    found = World(workspaces=[RUNS], containers=containers, present=ALL)
    assert workspace_world.strangers(found, "coder") == ["coder-admin-late"]
    (line,) = world.lines(found, _settings())
    assert line.endswith("`docker rm --force coder-admin-late` ends it, its home stays")


def _settings() -> Settings:
    return parse(configuration.values("local"), PROJECT)


@pytest.mark.parametrize(
    ("owner", "coder", "container", "present", "fix"),
    [
        ("dev", RUNS, None, ALL, "`make workspace NAME=demo`"),
        ("admin", RUNS, None, ALL, "`make workspace NAME=demo`"),
        ("admin", PARKED, None, ALL - {"ours:2"}, "`make up` builds it"),
        ("bob", RUNS, None, ALL, "restart it in the dashboard"),
        ("bob", dataclasses.replace(PARKED, own=OLD), None, ALL, "choose Update in the dashboard"),
    ],
)
def test_each_trouble_comes_with_what_fixes_it(
    owner: str, coder: Workspace, container: Container | None, present: frozenset[str], fix: str
) -> None:
    found = _world(dataclasses.replace(coder, owner=owner), container, present)
    ((told, advice),) = world.findings(found, _settings())
    assert told.startswith(f"{owner}/demo: ")
    assert advice == fix


def test_of_two_workspaces_of_a_name_make_workspace_finds_that_of_every_day() -> None:
    both = [dataclasses.replace(RUNS, id=owner, owner=owner) for owner in ("dev", "admin")]
    found = World(workspaces=both, containers={}, present=ALL | {names.home_volume(each.id) for each in both})
    assert [fix for _, fix in world.findings(found, _settings())] == [
        "`make workspace NAME=demo`", "restart it in the dashboard",
    ]  # fmt: skip


class _Finds(Api):
    """A Coder whose user has a workspace of that name, or none."""

    def __init__(self, name: str = "") -> None:
        super().__init__(url="")
        object.__setattr__(self, "name", name)

    def call(self, method: str, path: str, body: object = None) -> object:
        if path != f"/api/v2/users/me/workspace/{self.name}":  # type: ignore[attr-defined]
            raise ApiError(404, "none")
        return {}


HAS, HAS_NONE = _Finds("demo"), _Finds()


@pytest.mark.parametrize(
    ("own", "of_admin", "found"),
    [
        (_Finds("demo"), HAS, "own"),
        (HAS, HAS_NONE, "own"),
        (HAS_NONE, HAS, "admin"),
        # A pilot on which no `up` made the second account yet.
        (None, HAS, "admin"),
        (None, HAS_NONE, ""),
        (HAS_NONE, HAS_NONE, ""),
    ],
)
def test_make_workspace_finds_ones_own_and_else_that_of_the_administrator(
    own: Api | None, of_admin: Api, found: str
) -> None:
    api, workspace_ = workspace._find(own, of_admin, "demo")
    assert (workspace_ is not None) == bool(found)
    assert api is (of_admin if found == "admin" or own is None else own)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What the engine is told."""
    calls: list[tuple[str, ...]] = []

    def docker(*arguments: str, **_: object) -> str:
        calls.append(arguments)
        return ""

    monkeypatch.setattr(engine, "docker", docker)
    return calls


PARAMETERS = [
    {
        "name": "image", "display_name": "Image", "type": "string", "default_value": "base:2",
        "options": [{"value": "base:2"}, {"value": "base:3"}],
    },
    {
        "name": "memory_mb", "display_name": "Memory (MiB)", "type": "number", "default_value": "1024", "options": [],
        "validation_min": 512, "validation_max": 2048,
    },
    {"name": "git_repository", "display_name": "Git", "type": "string", "default_value": "", "options": []},
]  # fmt: skip
"""As the active version has them."""


class _Coder(Api):
    def __init__(self, before: dict[str, str]) -> None:
        super().__init__(url="")
        object.__setattr__(self, "builds", [])
        object.__setattr__(self, "before", before)

    def call(self, method: str, path: str, body: object = None) -> object:
        if method == "POST":
            self.builds.append(body)  # type: ignore[attr-defined]
            return {}
        if path.startswith("/api/v2/templateversions/new") and path.endswith("/rich-parameters"):
            return PARAMETERS
        assert path == "/api/v2/workspacebuilds/b/parameters"
        return [{"name": name, "value": value} for name, value in self.before.items()]  # type: ignore[attr-defined]


def _start_again(
    coder: Workspace, container: Container | None, present: frozenset[str] = ALL,
    before: dict[str, str] | None = None, **options: Any,
) -> Any:  # fmt: skip
    trouble, api = _trouble(coder, container, present), _Coder(before or {})
    assert trouble is not None
    workspace._start_again(api, trouble, **{"new_home": False, **options})
    return api.builds  # type: ignore[attr-defined]


def test_make_workspace_starts_what_is_gone_at_once(asked: list[tuple[str, ...]]) -> None:
    assert _start_again(RUNS, None) == [{"transition": "start"}]
    assert asked == []


def test_make_workspace_takes_the_active_version_where_the_own_one_cannot_work(
    asked: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    active = dataclasses.replace(NEW, bases=("base:2",), built={"base:2": "ours:2"})
    (build,) = _start_again(dataclasses.replace(PARKED, own=OLD, active=active), None)
    assert build == {"transition": "start", "template_version_id": "new"}
    assert "it names the network was-workspaces: starting it with the active version" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "changed", "said"),
    [
        ({"image": "base:1"}, {"image": "base:2"}, "Image: base:1 is no longer allowed, it is base:2 now"),
        ({"memory_mb": "4096"}, {"memory_mb": "2048"}, "Memory (MiB): 4096 is no longer allowed, it is 2048 now"),
        ({"memory_mb": "64"}, {"memory_mb": "512"}, "it is 512 now"),
        ({"image": "base:3", "memory_mb": "2048", "git_repository": "https://h/r", "gone": "x"}, {}, ""),
    ],
)
def test_what_the_active_version_refuses_of_a_workspace_is_changed_to_what_it_takes(
    asked: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str], before: dict[str, str], changed: dict[str, str],
    said: str,
) -> None:  # fmt: skip
    (build,) = _start_again(dataclasses.replace(PARKED, own=OLD), None, before=before)
    assert {each["name"]: each["value"] for each in build.get("rich_parameter_values", [])} == changed
    assert said in capsys.readouterr().err


def test_make_workspace_asks_before_it_makes_an_empty_home(asked: list[tuple[str, ...]]) -> None:
    without = ALL - {names.home_volume(ID)}
    with pytest.raises(PilotError, match=r"home is gone.*make workspace NAME=demo NEW_HOME=yes"):
        _start_again(PARKED, None, without)
    assert _start_again(PARKED, None, without, new_home=True) == [{"transition": "start"}]


def test_make_workspace_does_not_start_what_only_up_can_build(asked: list[tuple[str, ...]]) -> None:
    with pytest.raises(PilotError, match="the image ours:2 is gone: run `make up`"):
        _start_again(PARKED, None, ALL - {"ours:2"})


def test_make_workspace_removes_a_container_whose_name_would_be_in_the_way(asked: list[tuple[str, ...]]) -> None:
    assert _start_again(PARKED, CONTAINER) == [{"transition": "start"}]
    assert asked == [("stop", "coder-admin-demo"), ("rm", "--force", "coder-admin-demo")]


@pytest.mark.parametrize(
    ("changed", "call"),
    [
        ({"state": "paused"}, ("unpause", "coder-admin-demo")),
        ({"networks": frozenset({""})}, ("network", "connect", "coder-workspaces", "coder-admin-demo")),
        ({"state": "exited"}, None),
    ],
)
def test_what_still_runs_in_a_workspace_goes_on(
    asked: list[tuple[str, ...]], changed: dict[str, Any], call: tuple[str, ...] | None
) -> None:
    trouble = _trouble(RUNS, dataclasses.replace(CONTAINER, **changed))
    assert trouble is not None
    assert workspace._repaired(trouble) == (call is not None)
    assert asked == ([call] if call else [])


def test_a_trouble_of_an_earlier_build_does_not_count() -> None:
    found = _world(RUNS, None)
    assert workspace._trouble(found, {"latest_build": {"id": "b"}}) is not None
    assert workspace._trouble(found, {"latest_build": {"id": "the next"}}) is None


@pytest.fixture
def fake_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a `docker` on PATH that is this shell script."""

    def make(script: str) -> None:
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "docker").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return make


def test_a_look_takes_one_query_and_three_calls_to_the_engine(
    fake_docker: Callable[[str], None], tmp_path: Path
) -> None:
    variables = {
        "workspace_network": "coder-workspaces", "agent_url": "http://coder:7080",
        "workspace_images": '["base:1"]', "built_images": '{"base:1": "ours:2"}',
    }  # fmt: skip
    row = {
        **{key: getattr(RUNS, key) for key in ("id", "owner", "name", "build", "transition", "status", "completed_s")},
        "version": "new", "variables": variables, "active": "new", "active_variables": variables, "image": "base:1",
        "has_started": True, "connected": True, "of_administrator": False, "of_suspended": False,
    }  # fmt: skip
    container = {
        "Names": "coder-admin-demo", "State": "running", "Networks": "coder-workspaces",
        "CreatedAt": "1970-01-01 01:16:39 +0100 CET",
        "Labels": f"coder-pilot.stack=coder,coder.workspace_id={ID},x=y",
    }  # fmt: skip
    inspected = [{"Name": names.home_volume(ID)}]
    for name, value in {"row": row, "inspected": inspected}.items():
        (tmp_path / name).write_text(json.dumps(value))
    # Somebody kept an old one under another name.
    kept = {**container, "Names": "kept", "State": "exited"}
    (tmp_path / "container").write_text("\n".join(map(json.dumps, (kept, container, kept))))
    fake_docker(
        f'echo "$1" >>{tmp_path}/calls; cd {tmp_path}\n'
        'case "$1" in exec) cat row;; ps) cat container;;\n'
        'inspect) cat inspected; echo "Error: No such object: ours:2" >&2; exit 1;; esac'
    )
    found = workspace_world.look("coder")
    assert found.workspaces == [RUNS]
    assert found.containers == {ID: dataclasses.replace(CONTAINER, created_s=999.0)}
    assert found.present == {names.home_volume(ID)}
    assert (tmp_path / "calls").read_text().split() == ["volume", "exec", "ps", "inspect"]


def test_an_engine_that_does_not_answer_is_not_taken_for_one_that_has_nothing(
    fake_docker: Callable[[str], None],
) -> None:
    fake_docker("echo 'Cannot connect to the Docker daemon' >&2; echo '[]'; exit 1")
    with pytest.raises(engine.JobError, match="Cannot connect"):
        workspace_world._present(["coder-x-home"])


WARNING = "WARNING: Error loading config file: open /home/me/.docker/config.json: permission denied"


@pytest.mark.parametrize(
    ("said", "code"), [([WARNING], 0), ([WARNING, "Error: No such object: ours:2"], 1), (["something new"], 0)]
)
def test_a_warning_of_the_client_is_no_failure(fake_docker: Callable[[str], None], said: list[str], code: int) -> None:
    lines = "".join(f"echo '{line}' >&2; " for line in said)
    fake_docker(f"""echo '[{{"Id": "1"}}]'; {lines}exit {code}""")
    assert engine.inspect("base:1", "ours:2") == [{"Id": "1"}]


@pytest.mark.parametrize("says", [f"echo '{WARNING}' >&2", "true"])
def test_a_failure_that_names_no_object_is_one(fake_docker: Callable[[str], None], says: str) -> None:
    fake_docker(f"echo '[]'; {says}; exit 1")
    with pytest.raises(engine.JobError, match="`docker inspect` failed"):
        engine.inspect("base:1")


def test_a_purge_lists_homes_of_every_name_that_the_pilot_had_and_nobody_elses(
    fake_docker: Callable[[str], None],
) -> None:
    fake_docker(
        'case "$1" in exec) echo "w1|f|f|admin/demo"; echo "w2|t|f|admin/deleted"; echo "w3|f|f|bob/empty";;\n'
        'volume) echo "coder-w1-home|was|w1"; echo "coder-w2-home|was|w2"; echo "more|coder|";\n'
        'echo "coder-w9-home|was|w9"; echo "theirs||";; esac'
    )
    found = retire.doomed("coder")
    assert list(found.volumes) == ["coder-w1-home", "coder-w2-home", "more"]
    assert found.lines() == [
        "workspace admin/demo, volume coder-w1-home",
        "workspace bob/empty, which has no home",
        "volume coder-w2-home",
        "volume more",
    ]


class _Claims(retire.Claims):
    """Those of a namespace that has homes of three workspaces, of which one is another pilot's."""

    def has(self, workspace: str) -> bool:
        if self.namespace == "away":
            raise ClusterError(0, "the cluster does not answer")
        return workspace in ("w1", "w2", "w9")


def _claims(namespace: str = "coder-pilot") -> retire.Claims:
    return _Claims(cluster=Cluster(server="https://x", authority="", token=""), namespace=namespace)


def test_a_purge_lists_claims_of_workspaces_that_the_database_has_and_nobody_elses(
    fake_docker: Callable[[str], None],
) -> None:
    fake_docker(
        'case "$1" in exec) echo "w1|f|t|dev/there"; echo "w2|t|t|dev/deleted"; echo "w3|f|t|dev/empty";'
        ' echo "w4|f|f|dev/here";; volume) echo "coder-w4-home|coder|w4";; esac'
    )
    assert retire.doomed("coder", _claims()).lines() == [
        "workspace dev/there, claim coder-w1-home",
        "workspace dev/empty, which has no home",
        "workspace dev/here, volume coder-w4-home",
        "claim coder-w2-home",
    ]
    away = retire.doomed("coder", _claims("away")).lines()
    assert away[0] == "workspace dev/there, claim coder-w1-home, if it is there: the cluster does not answer"


def test_a_purge_without_the_database_goes_by_labels(fake_docker: Callable[[str], None]) -> None:
    fake_docker('case "$1" in exec) exit 1;; volume) echo "coder-w1-home|coder|w1"; echo "coder-w2-home|was|w2";; esac')
    assert retire.doomed("coder").lines() == ["volume coder-w1-home"]


def test_a_home_of_no_workspace_is_named_with_what_copies_out_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    homes = {names.home_volume(ID): "admin/demo", "coder-lost-home": "dev/d3", "coder-deleted-home": "dev/d4"}

    def docker(*arguments: str, **_: object) -> str:
        assert arguments[0] in ("volume", "ps")
        return "\n".join(f"{name}\t{title}" for name, title in homes.items()) if arguments[0] == "volume" else ""

    monkeypatch.setattr(engine, "docker", docker)
    # One goes between the two questions.
    monkeypatch.setattr(engine, "inspect", lambda *wanted: [{"Name": each} for each in wanted if "deleted" not in each])
    monkeypatch.setattr(workspace_world.postgres, "query", lambda *_: ["{}"])
    monkeypatch.setattr(workspace_world, "_workspace", lambda _: RUNS)
    found = workspace_world.look("coder")
    assert found.strays == {"coder-lost-home": "dev/d3"}
    (line,) = [each for each in world.lines(found, _settings()) if "once the home of" in each]
    assert line.startswith("coder-lost-home, once the home of dev/d3, is of no workspace")
    assert "`make import FROM=coder-lost-home:<folder>" in line


def _agent(state: str) -> dict[str, Any]:
    agents = [{"id": "a", "lifecycle_state": state}]
    return {"id": ID, "name": "demo", "latest_build": {"resources": [{"agents": agents}]}}


@pytest.mark.parametrize(
    ("states", "told"),
    [(["starting", "ready"], []), (["starting", "start_error"], ["failed:", "fatal: x", "ERROR: y"])],
)
def test_a_clone_that_failed_is_told_with_its_reason_once_the_scripts_have_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], states: list[str], told: list[str]
) -> None:
    class Coder(Api):
        def call(self, method: str, path: str, body: object = None, **_: object) -> Any:
            if path == f"/api/v2/workspaces/{ID}":
                return _agent(states[-1])
            assert path == "/api/v2/workspaceagents/a/logs"
            lines = [("info", "cloning"), ("error", "fatal: x"), ("error", "ERROR: y")]
            return [{"level": level, "output": text} for level, text in lines]

    monkeypatch.setattr(workspace, "POLL_INTERVAL_S", 0)
    lines = workspace._failed_scripts(Coder(url=""), _agent(states[0]))
    assert len(lines) == len(told)
    assert all(line.endswith(each) for line, each in zip(lines, told, strict=True))
    assert "demo: waiting for its scripts" in capsys.readouterr().err


def test_a_clone_that_goes_on_keeps_nobody_from_the_editor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workspace, "SCRIPTS_TIMEOUT_S", -1)
    assert workspace._failed_scripts(Api(url=""), _agent("starting")) == []
    assert "its scripts still run" in capsys.readouterr().err
