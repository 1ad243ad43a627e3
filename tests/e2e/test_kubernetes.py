"""One pilot runs workspaces on this machine and on a real cluster of two nodes: what happens to one leaves the other
alone, and a home on the cluster outlives everything but its workspace's deletion."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from stack.jobs import names
from tests.e2e.browser_fixture import chromium
from tests.e2e.claude_fixture import open_tile
from tests.e2e.cluster_fixture import HOST, STORAGE_CLASS
from tests.e2e.kubernetes_fixture import NAMESPACE, Both, pilot_with_cluster
from tests.e2e.pilot_fixture import CHECKOUT, Pilot, docker, eventually
from tests.e2e.retirement_fixture import command, sql
from tests.e2e.workspace_fixture import (
    build_log,
    editor_answers,
    new_workspace,
    open_editor,
    until_the_editor,
)
from tests.e2e.world_fixture import edit_template, variables_of
from tests.processor_time import BUSY

pytestmark = [
    pytest.mark.built_here,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="a node is made of namespaces, which root alone may make"),
]
ON_CLUSTER, ON_BOX = names.KUBERNETES_TEMPLATE, names.TEMPLATE
AWAY_TIMEOUT_S = 180
# As in test_idle_rule.py: Coder looks once a minute, then the pod has to end.
STOP_DELAY_S = 180
AT_WORK = f"(exec -a claude bash -c '{BUSY}') &>/dev/null &"


@pytest.fixture(scope="module")
def both(make_pilot: Callable[..., Pilot], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with pilot_with_cluster(make_pilot, tmp_path_factory.mktemp("kubernetes")) as found:
        yield found


@pytest.fixture(scope="module")
def there(both: Both, figures: Callable[[str, object], None]) -> dict[str, Any]:
    """A workspace on the cluster, with a file in its home."""
    pilot = both.pilot
    pilot.call("GET", "/api/v2/users/me")
    created_s, made = until_the_editor(pilot, lambda: new_workspace(pilot, "there", ON_CLUSTER))
    figures("a workspace on a cluster, from create to the editor's 200", f"{created_s:.1f} s")
    ready = pilot.wait_workspace(made["id"])
    (both.home(ready) / "kept").write_text("kept")
    return ready


@pytest.fixture(scope="module")
def here(both: Both) -> dict[str, Any]:
    """One on this machine."""
    return both.pilot.wait_workspace(new_workspace(both.pilot, "here", ON_BOX)["id"])


@pytest.fixture(scope="module")
def workspaces(there: dict[str, Any], here: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"there": there, "here": here}


def template(pilot: Pilot, name: str = ON_CLUSTER) -> dict[str, Any]:
    (found,) = [each for each in pilot.call("GET", "/api/v2/templates") if each["name"] == name]
    return dict(found)


def test_the_account_of_the_documentation_may_do_what_is_needed_and_no_more(both: Both) -> None:
    for words in (
        ("get", "nodes"), ("get", "secrets", "-n", "kube-system"), ("get", "pod/any", "-n", NAMESPACE),
        ("create", "namespace", "other"), ("exec", "-n", NAMESPACE, "any", "--", "id"),
    ):  # fmt: skip
        assert "forbidden" in both.as_pilot(*words).lower(), words


@pytest.mark.drill
def test_one_make_up_publishes_coder_for_the_nodes_once_it_has_an_account(both: Both) -> None:
    assert f"{HOST}:{both.pilot.config['port']}" in docker("port", f"{both.pilot.name}-server")
    assert variables_of(both.pilot, template(both.pilot))["agent_url"] == f"http://{HOST}:{both.pilot.config['port']}"
    both.pilot.up("--expect-no-changes")


FIELDS = ("name", "display_name", "description", "icon", "default_ttl_ms", "activity_bump_ms", "deprecated")


def _changed(pilot: Pilot) -> None:
    wanted = {"name": "mine", "display_name": "Mine", "default_ttl_ms": 0, "activity_bump_ms": 0}
    pilot.call("PATCH", f"/api/v2/templates/{template(pilot)['id']}", wanted)


def _deprecated(pilot: Pilot) -> None:
    # An unlicensed server refuses it; a licence that ended leaves it.
    sql(pilot, f"UPDATE templates SET deprecated = 'use the other one' WHERE name = '{ON_CLUSTER}'")  # noqa: S608


def _older_contents(pilot: Pilot) -> None:
    found = template(pilot)
    edit_template(pilot, found, variables_of(pilot, found), timeout_s=180)


def _deleted(pilot: Pilot) -> None:
    pilot.call("DELETE", f"/api/v2/templates/{template(pilot)['id']}")


@pytest.mark.drill
@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (_changed, f"the template {ON_CLUSTER} was changed in Coder (its name, its display name, autostop"),
        (_deprecated, f"the template {ON_CLUSTER} was changed in Coder (deprecation)"),
        (_older_contents, f"the template {ON_CLUSTER} was changed in Coder (the active version)"),
        (_deleted, f"Coder has no template {ON_CLUSTER} any more; it is made anew"),
    ],
)
def test_what_somebody_did_to_the_template_is_put_right_by_one_make_up(
    both: Both, happens: Callable[[Pilot], None], said: str
) -> None:
    pilot = both.pilot
    before, variables, other = template(pilot), variables_of(pilot, template(pilot)), template(pilot, ON_BOX)
    happens(pilot)
    assert "code-server-kubernetes" in command(pilot, "status")
    assert said in command(pilot, "up")
    after = template(pilot)
    assert {key: after.get(key) for key in FIELDS} == {key: before.get(key) for key in FIELDS}
    assert variables_of(pilot, after) == variables
    assert template(pilot, ON_BOX)["id"] == other["id"]
    assert "put right" not in command(pilot, "status")
    pilot.up("--expect-no-changes")


@pytest.mark.drill
def test_doctor_names_a_right_that_is_missing(both: Both) -> None:
    rule = "/rules/1/verbs"
    patch = f'[{{"op": "replace", "path": "{rule}", "value": ["get"]}}]'
    both.cluster.kubectl("patch", "role", "coder-pilot", "-n", NAMESPACE, "--type=json", "-p", patch)
    try:
        told = command(both.pilot, "doctor", check=False)
    finally:
        both.cluster.kubectl("apply", "-f", str(CHECKOUT / "docs" / "kubernetes.yaml"))
    assert "the account may not create, patch, update, delete deployments in coder-pilot" in told
    assert "with the rights that workspaces need" in command(both.pilot, "doctor")


@pytest.mark.drill
def test_both_run_side_by_side_and_status_has_both(both: Both, workspaces: dict[str, dict[str, Any]]) -> None:
    (pod,) = both.pods(workspaces["there"])
    spec = pod["spec"]
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "1Gi"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["hostname"] == "there"
    told = command(both.pilot, "status")
    (there,) = [line for line in told.splitlines() if "/there " in line]
    (here,) = [line for line in told.splitlines() if "/here " in line]
    assert "running" in there
    assert "on Kubernetes" in there
    assert "MiB" in here or "GiB" in here


def test_a_parked_one_keeps_its_home_and_starts_again(
    both: Both, there: dict[str, Any], figures: Callable[[str, object], None]
) -> None:
    pilot = both.pilot
    pilot.transition(there["id"], "stop")
    assert both.pods(there) == []
    assert not [each for each in both.cluster.objects("secrets", NAMESPACE) if there["id"] in each["metadata"]["name"]]
    assert both.claim(there)
    start = {"transition": "start"}
    started_s, _ = until_the_editor(
        pilot, lambda: pilot.call("POST", f"/api/v2/workspaces/{there['id']}/builds", start), there
    )
    figures("a parked workspace on a cluster, from start to the editor's 200", f"{started_s:.1f} s")
    assert (both.home(there) / "kept").read_text() == "kept"
    pilot.wait_workspace(there["id"])


@pytest.mark.drill
def test_an_up_without_changes_changes_nothing(both: Both, workspaces: dict[str, dict[str, Any]]) -> None:
    both.pilot.up("--expect-no-changes")


def _start(both: Both, workspace: dict[str, Any]) -> dict[str, Any]:
    both.pilot.transition(workspace["id"], "start")
    return both.pilot.wait_workspace(workspace["id"])


@pytest.mark.drill
def test_make_workspace_makes_one_there_and_starts_it_whatever_happened_to_it(both: Both) -> None:
    pilot = both.pilot
    told = command(pilot, "workspace", "--template", ON_CLUSTER, "made")
    (made,) = [each for each in pilot.call("GET", "/api/v2/workspaces")["workspaces"] if each["name"] == "made"]
    assert made["template_name"] == ON_CLUSTER
    assert f"http://code-server--made--dev.localhost:{pilot.config['port']}/" in told
    both.inside(made, "echo kept > ~/kept")
    refused = command(pilot, "workspace", "--template", ON_BOX, "made", check=False)
    assert f"made is of the template {ON_CLUSTER}" in refused
    refused = command(pilot, "workspace", "--template", "none", "other", check=False)
    assert f"this Coder has no template none, it has {ON_BOX}, {ON_CLUSTER}" in refused
    pilot.transition(made["id"], "stop")
    command(pilot, "workspace", "made")
    assert both.inside(made, "cat ~/kept").strip() == "kept"
    both.cluster.kubectl("delete", "deployment", f"coder-{made['id']}", "-n", NAMESPACE, "--wait")
    eventually(lambda: not both.pods(made), timeout_s=60, what="the end of the pod")
    assert "dev/made: its Deployment is gone -> `make workspace NAME=made" in command(pilot, "status")
    assert "made: its Deployment is gone: starting it" in command(pilot, "workspace", "made")
    assert both.inside(made, "cat ~/kept").strip() == "kept"
    pilot.transition(made["id"], "stop")
    both.cluster.kubectl("delete", "pvc", f"coder-{made['id']}-home", "-n", NAMESPACE, "--wait")
    refused = command(pilot, "workspace", "made", check=False)
    assert f"made: its home is gone, the claim coder-{made['id']}-home" in refused
    command(pilot, "workspace", "--new-home", "made")
    assert both.inside(made, "ls -A ~/kept 2>&1 || true").endswith("No such file or directory\n")
    pilot.transition(made["id"], "delete")


@pytest.mark.drill
def test_a_rename_and_an_update_keep_the_home_and_the_editor_opens_in_a_browser(
    both: Both, there: dict[str, Any], tmp_path: Path
) -> None:
    pilot, old = both.pilot, template(both.pilot)["active_version_id"]
    claim = both.claim(there)
    assert claim
    pilot.write_config(workspaceShm="128MiB")
    command(pilot, "up")
    active = template(pilot)["active_version_id"]
    assert active != old
    pilot.call("PATCH", f"/api/v2/workspaces/{there['id']}", {"name": "renamed"})
    pilot.transition(there["id"], "start", template_version_id=active)
    renamed = pilot.wait_workspace(there["id"])
    (pod,) = both.pods(renamed)
    assert pod["spec"]["hostname"] == "renamed"
    assert both.inside(renamed, "df --output=size --block-size=M /dev/shm | tail -n 1").strip() == "128M"
    assert both.inside(renamed, "cat ~/kept") == "kept"
    found = both.claim(renamed)
    assert found
    assert found["metadata"]["uid"] == claim["metadata"]["uid"]
    both.inside(renamed, "touch ~/project/there.txt")
    with chromium(tmp_path / "home", only=pilot.url) as browser:
        page = browser.new_page()
        open_editor(pilot, renamed, page)
        page.get_by_role("treeitem", name="there.txt").wait_for()
        open_tile(pilot, renamed, browser.new_page())
    pilot.transition(there["id"], "stop")
    assert (both.home(there) / "kept").read_text() == "kept"
    pilot.call("PATCH", f"/api/v2/workspaces/{there['id']}", {"name": "there"})
    _start(both, there)


@pytest.mark.drill
def test_the_verdict_has_hours_and_limits_of_both_and_says_what_is_unknown(
    both: Both, workspaces: dict[str, dict[str, Any]]
) -> None:
    told = json.loads(command(both.pilot, "verdict", "--json"))
    figures = {each["name"].partition("/")[2]: each for each in told["figures"]["workspaces"]}
    assert figures["there"]["on_cluster"]
    assert figures["there"]["limit_gib"] == figures["here"]["limit_gib"] == 1.0
    assert figures["there"]["peak_gib"] is None
    assert figures["here"]["peak_gib"] > 0
    assert {each["name"].partition("/")[2]: each["running_h"] > 0 for each in told["derived"]["hours"]}["there"]
    shown = command(both.pilot, "verdict")
    (line,) = [line for line in shown.splitlines() if "Of it on the cluster" in line]
    assert "use unknown" in line
    assert any("the cluster's metrics API: " in each for each in told["queries"])


@pytest.mark.drill
def test_an_import_into_the_cluster_says_the_way(both: Both, there: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    refused = command(both.pilot, "import", str(tmp_path / "project"), "admin/there", check=False)
    assert "there is on the cluster" in refused
    assert "rsync -a <folder> there.coder:" in refused


@pytest.mark.drill
def test_with_the_api_away_dockers_go_on_and_down_says_what_it_could_not_stop(
    both: Both, workspaces: dict[str, dict[str, Any]]
) -> None:
    pilot, there, here = both.pilot, workspaces["there"], workspaces["here"]
    both.cluster.stop_api()
    try:
        told = command(pilot, "doctor", check=True)
        assert "does not answer" in told
        build = pilot.call("POST", f"/api/v2/workspaces/{there['id']}/builds", {"transition": "stop"})
        failed = eventually(
            lambda: pilot.call("GET", f"/api/v2/workspacebuilds/{build['id']}")["job"]["status"] == "failed",
            timeout_s=AWAY_TIMEOUT_S, what="the stop that fails",
        )  # fmt: skip
        assert failed
        assert "connection refused" in build_log(pilot, build["id"])
        pilot.transition(here["id"], "stop")
        pilot.transition(here["id"], "start")
        told = command(pilot, "down")
        assert f"Coder could not stop {there['owner_name']}/there" in told
        assert "retired" in told
    finally:
        both.cluster.start_api()
    assert len(both.pods(there)) == 1
    command(pilot, "up")
    pilot.variables.pop("token")
    pilot.transition(there["id"], "stop")
    assert both.pods(there) == []
    assert (both.home(there) / "kept").read_text() == "kept"


@pytest.mark.drill
def test_down_parks_both(both: Both, workspaces: dict[str, dict[str, Any]]) -> None:
    pilot, there = both.pilot, workspaces["there"]
    pilot.transition(there["id"], "start")
    pilot.wait_workspace(there["id"])
    assert "could not" not in command(pilot, "down")
    assert both.pods(there) == []
    assert both.claim(there)
    command(pilot, "up")
    pilot.variables.pop("token")


@pytest.mark.drill
def test_the_idle_rule_parks_both_and_keeps_one_in_which_a_claude_works(
    both: Both, workspaces: dict[str, dict[str, Any]]
) -> None:
    pilot = both.pilot
    pilot.write_config(idleTtl="2m", idleBump="2m")
    command(pilot, "up")
    for each in workspaces.values():
        pilot.transition(each["id"], "start")
    busy = pilot.wait_workspace(new_workspace(pilot, "busy", ON_CLUSTER)["id"])
    idle = [pilot.wait_workspace(each["id"]) for each in workspaces.values()]
    both.inside(busy, AT_WORK)
    first_s = {each["id"]: _deadline_s(each) for each in [*idle, busy]}
    stopped_s: dict[str, float] = {}

    def parked() -> bool:
        for each in idle:
            build = pilot.workspace(each["id"])["latest_build"]
            if build["transition"] == "stop" and build["job"]["status"] == "succeeded":
                stopped_s.setdefault(each["id"], time.time())
        return len(stopped_s) == len(idle) and time.time() > first_s[busy["id"]] + STOP_DELAY_S

    eventually(parked, timeout_s=600, interval_s=2, what="the end of the idle ones")
    for each in idle:
        assert first_s[each["id"]] <= stopped_s[each["id"]] <= first_s[each["id"]] + STOP_DELAY_S
    assert both.pods(workspaces["there"]) == []
    assert docker("ps", "--quiet", "--filter", f"label=coder.workspace_id={workspaces['here']['id']}") == ""
    assert both.claim(workspaces["there"])
    assert pilot.workspace(busy["id"])["latest_build"]["transition"] == "start"
    assert _deadline_s(pilot.workspace(busy["id"])) > first_s[busy["id"]] + 60
    told = command(pilot, "status")
    (line,) = [line for line in told.splitlines() if "/busy " in line]
    assert line.endswith("working for some time")
    # The keeper looks at what it can measure, and has nothing against the rest.
    assert "Keeper: " in told
    assert not json.loads((pilot.data / "keeper.json").read_text())["problems"]
    taken = [json.loads(each) for each in (pilot.data / "samples.jsonl").read_text().splitlines()]
    assert any(each["claude"].get(busy["id"]) == "working for some time" for each in taken)
    assert not any(each["workspace_ram_mib"].get(busy["id"]) for each in taken)
    pilot.transition(busy["id"], "delete")
    pilot.write_config(idleTtl="2h", idleBump="1h")
    command(pilot, "up")


def _deadline_s(workspace: dict[str, Any]) -> float:
    moment: float = datetime.fromisoformat(workspace["latest_build"]["deadline"]).timestamp()
    return moment


@pytest.mark.drill
def test_a_second_pilot_in_the_namespace_and_the_first_leave_each_other_alone(
    both: Both, there: dict[str, Any], make_pilot: Callable[..., Pilot]
) -> None:
    second = make_pilot(
        coderImage=both.pilot.config["coderImage"], kubernetesKubeconfig=str(both.kubeconfig), agentAddress=HOST,
        kubernetesStorageClass=STORAGE_CLASS, workspaceMemory="1GiB", purgeOnDestroy="true",
    )  # fmt: skip
    command(second, "up")
    other = Both(pilot=second, cluster=both.cluster, kubeconfig=both.kubeconfig)
    # The name is free: it is another Coder's.
    theirs = second.wait_workspace(new_workspace(second, "there", ON_CLUSTER)["id"])
    _start(both, there)
    assert len(both.pods(there)) == len(other.pods(theirs)) == 1
    told = command(second, "down", check=False)
    assert f"workspace admin/there, claim coder-{theirs['id']}-home" in told
    assert there["id"] not in told
    command(second, "down", "--yes")
    eventually(lambda: other.claim(theirs) is None, timeout_s=60, what="the end of the second one's claim")
    assert len(both.pods(there)) == 1
    assert editor_answers(both.pilot, both.pilot.workspace(there["id"]))
    secrets = {each["metadata"]["name"] for each in both.cluster.objects("secrets", NAMESPACE)}
    assert f"{both.pilot.name}-workspaces" in secrets
    assert f"{second.name}-workspaces" not in secrets


@pytest.mark.drill
def test_another_namespace_is_refused_while_homes_are_in_the_one_of_before(
    both: Both, workspaces: dict[str, dict[str, Any]]
) -> None:
    pilot, there = both.pilot, workspaces["there"]
    version = template(pilot)["active_version_id"]
    pilot.write_config(kubernetesNamespace="elsewhere")
    said = command(pilot, "up", check=False)
    assert f"`pulumi config set kubernetesNamespace {NAMESPACE} --stack test`" in said
    assert template(pilot)["active_version_id"] == version
    pilot.write_config(kubernetesNamespace=NAMESPACE)
    command(pilot, "up")
    assert both.claim(there)


@pytest.mark.drill
def test_a_deletion_deletes_the_claim(both: Both, workspaces: dict[str, dict[str, Any]]) -> None:
    there = workspaces["there"]
    both.pilot.transition(there["id"], "delete")
    eventually(lambda: both.claim(there) is None, timeout_s=60, what="the claim is gone")


@pytest.mark.drill
def test_a_purge_deletes_on_the_cluster_what_it_listed_and_nothing_of_a_pilot_of_the_same_name(
    both: Both, here: dict[str, Any]
) -> None:
    pilot = both.pilot
    doomed = pilot.wait_workspace(new_workspace(pilot, "doomed", ON_CLUSTER)["id"])
    claim = both.claim(doomed)
    assert claim
    # As another box makes it, whose pilot is called the same.
    foreign = {
        **claim, "metadata": {**claim["metadata"], "name": f"coder-{uuid.uuid4()}-home"},
        "spec": {key: value for key, value in claim["spec"].items() if key != "volumeName"}, "status": {},
    }  # fmt: skip
    for key in ("uid", "resourceVersion", "creationTimestamp", "annotations", "managedFields", "finalizers"):
        foreign["metadata"].pop(key, None)
    both.cluster.kubectl("create", "-f", "-", stdin=json.dumps(foreign))
    pilot.write_config(purgeOnDestroy="true")
    line = f"workspace admin/doomed, claim coder-{doomed['id']}-home"
    assert line in command(pilot, "up")
    told = command(pilot, "down", check=False)
    assert line in told
    assert foreign["metadata"]["name"] not in told
    assert len(both.pods(doomed)) == 1, "nobody agreed"
    command(pilot, "down", "--yes")
    left = {each["metadata"]["name"] for each in both.cluster.objects("persistentvolumeclaims", NAMESPACE)}
    assert left == {foreign["metadata"]["name"]}
    assert both.cluster.objects("deployments", NAMESPACE) == []
    pilot.variables.pop("token")
    pilot.write_config(purgeOnDestroy="false")
    # A new pilot.
    command(pilot, "up")
    assert template(pilot)


@pytest.mark.drill
def test_without_the_setting_there_is_a_pilot_as_before(both: Both) -> None:
    pilot = both.pilot
    pilot.write_config(kubernetesKubeconfig="", agentAddress="")
    command(pilot, "up")
    assert not [name for name in pilot.resources() if name.startswith("kubernetes-")]
    shown = docker("port", f"{pilot.name}-server")
    assert HOST not in shown
    assert not [
        each for each in both.cluster.objects("secrets", NAMESPACE) if each["metadata"]["name"].endswith("-workspaces")
    ]
