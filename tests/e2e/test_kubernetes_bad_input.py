"""What a cluster refuses, lacks or loses is said with its reason where a person looks, the workspace's build log or
doctor; and a workspace on the box goes on all the while."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.jobs import names
from tests.e2e.kubernetes_fixture import NAMESPACE, Both, pilot_with_cluster
from tests.e2e.parts import WORKSPACE_IMAGE
from tests.e2e.pilot_fixture import Pilot, eventually
from tests.e2e.retirement_fixture import command
from tests.e2e.workspace_fixture import agent_of, build_log, editor_answers, new_workspace

ON_CLUSTER, ON_BOX = names.KUBERNETES_TEMPLATE, names.TEMPLATE
pytestmark = [pytest.mark.drill, pytest.mark.built_here, pytest.mark.timeout(1800)]
# The minute that pod.sh gives what was refused, and the rest of a build.
REFUSED_TIMEOUT_S = 240
ROLLED_BACK_TIMEOUT_S = 240
AWAY_TIMEOUT_S = 180
LOST = "kn2"
"""The node that the workspace is on, and that is lost: the other one has the control plane."""


@pytest.fixture(scope="module")
def both(make_pilot: Callable[..., Pilot], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with pilot_with_cluster(make_pilot, tmp_path_factory.mktemp("kubernetes")) as found:
        yield found


@pytest.fixture(scope="module")
def here(both: Both) -> dict[str, Any]:
    """A workspace on the box."""
    pilot = both.pilot
    pilot.call("GET", "/api/v2/users/me")
    made = new_workspace(pilot, "here", ON_BOX)
    return pilot.wait_workspace(made["id"])


@pytest.fixture(scope="module")
def there(both: Both, here: dict[str, Any]) -> dict[str, Any]:
    """A workspace on the cluster that was started once."""
    both.cluster.kubectl("cordon", "kn1")
    made = both.pilot.wait_workspace(new_workspace(both.pilot, "there", ON_CLUSTER)["id"])
    both.cluster.kubectl("uncordon", "kn1")
    return made


@pytest.fixture(autouse=True)
def _the_box_goes_on(both: Both, here: dict[str, Any]) -> Iterator[None]:
    def started() -> str:
        return str(agent_of(both.pilot.workspace(here["id"]))["started_at"])

    before = started()
    yield
    # After a moment, where Coder's container was replaced.
    eventually(lambda: editor_answers(both.pilot, here), timeout_s=60, what="the editor on the box")
    assert started() == before


def _build(pilot: Pilot, workspace: dict[str, Any], transition: str = "start") -> dict[str, Any]:
    made: dict[str, Any] = pilot.call(
        "POST", f"/api/v2/workspaces/{workspace['id']}/builds", {"transition": transition}
    )
    return made


def _failed(pilot: Pilot, build: dict[str, Any]) -> str:
    """The log of a build that has to fail."""

    def done() -> bool:
        status = pilot.call("GET", f"/api/v2/workspacebuilds/{build['id']}")["job"]["status"]
        assert status != "succeeded"
        return bool(status == "failed")

    eventually(done, timeout_s=REFUSED_TIMEOUT_S, what="the build that fails")
    return build_log(pilot, build["id"])


def _cancelled_when(pilot: Pilot, build: dict[str, Any], words: str) -> str:
    """The log of a build that waits, once it says `words`; then nobody waits any more."""
    log = eventually(
        lambda: (text := build_log(pilot, build["id"])) and words in text and text, timeout_s=60, what=words
    )  # fmt: skip
    pilot.call("PATCH", f"/api/v2/workspacebuilds/{build['id']}/cancel")
    eventually(
        lambda: pilot.call("GET", f"/api/v2/workspacebuilds/{build['id']}")["job"]["status"] in ("canceled", "failed"),
        timeout_s=60, what="the end of the build",
    )  # fmt: skip
    return str(log)


# First: with workspaces on the cluster another namespace is refused.
def test_a_namespace_that_is_not_there_is_named(both: Both) -> None:
    pilot = both.pilot
    pilot.write_config(kubernetesNamespace="nonesuch")
    pilot.up()
    try:
        assert "create, get, patch, update, delete persistentvolumeclaims in nonesuch" in command(
            pilot, "doctor", check=False
        )
        made = new_workspace(pilot, "nowhere", ON_CLUSTER)
        log = _failed(pilot, made["latest_build"])
        assert 'cannot create resource "persistentvolumeclaims" in API group "" in the namespace "nonesuch"' in log
        pilot.transition(made["id"], "delete")
    finally:
        pilot.write_config(kubernetesNamespace=NAMESPACE)
        pilot.up()


def test_the_build_log_says_what_the_pod_does(both: Both, there: dict[str, Any]) -> None:
    pilot = both.pilot
    log = build_log(pilot, pilot.workspace(there["id"])["latest_build"]["id"])
    assert f"the pod runs on {LOST}" in log
    pilot.transition(there["id"], "stop")
    assert f"the pod on {LOST} ends" in build_log(pilot, pilot.workspace(there["id"])["latest_build"]["id"])
    # Not only its Deployment: the next pod has the home for itself.
    assert both.pods(there) == []


def test_an_image_that_no_node_can_pull_fails_the_start_within_minutes(both: Both, there: dict[str, Any]) -> None:
    """It is parked; the image vanishes from the nodes, and nobody has it."""
    name = f"docker.io/{WORKSPACE_IMAGE}"
    for node in both.cluster.nodes.values():
        node.run("ctr", "--namespace", "k8s.io", "images", "tag", name, "localhost/kept:1")
        node.run("ctr", "--namespace", "k8s.io", "images", "rm", "--sync", name)
    try:
        log = _failed(both.pilot, _build(both.pilot, there))
        assert "ErrImagePull: failed to pull" in log or "ImagePullBackOff: Back-off pulling image" in log
        assert WORKSPACE_IMAGE in log
        assert "given up after 60 s" in log
    finally:
        for node in both.cluster.nodes.values():
            node.run("ctr", "--namespace", "k8s.io", "images", "tag", "localhost/kept:1", name)
    both.pilot.transition(there["id"], "start")
    both.pilot.wait_workspace(there["id"])
    both.pilot.transition(there["id"], "stop")


def test_a_quota_that_is_full_is_named_with_its_figures(both: Both, there: dict[str, Any]) -> None:
    pilot = both.pilot

    def limit(**hard: str) -> None:
        both.cluster.kubectl("patch", "quota", NAMESPACE, "-n", NAMESPACE, "-p", json.dumps({"spec": {"hard": hard}}))
        name = next(iter(hard))
        eventually(
            lambda: both.cluster.objects("quota", NAMESPACE)[0]["status"]["hard"][name] == hard[name],
            timeout_s=60, what="the quota",
        )  # fmt: skip

    limit(**{"requests.memory": "512Mi"})
    try:
        log = _failed(pilot, _build(pilot, there))
        assert "Kubernetes makes no pod" in log
        assert f"exceeded quota: {NAMESPACE}, requested: requests.memory=1Gi" in log
        assert "limited: requests.memory=512Mi" in log
    finally:
        limit(**{"requests.memory": "64Gi"})
    limit(persistentvolumeclaims="1")
    try:
        told = command(pilot, "doctor", check=False)
        assert "a home cannot be made" in told
        made = new_workspace(pilot, "onemore", ON_CLUSTER)
        assert f"is forbidden: exceeded quota: {NAMESPACE}" in _failed(pilot, made["latest_build"])
        pilot.transition(made["id"], "delete")
    finally:
        limit(persistentvolumeclaims="20")
    pilot.transition(there["id"], "stop")


def test_a_storage_class_that_is_not_there_is_named(both: Both) -> None:
    pilot = both.pilot
    before = pilot.config["kubernetesStorageClass"]
    pilot.write_config(kubernetesStorageClass="nonesuch")
    pilot.up()
    try:
        made = new_workspace(pilot, "nohome", ON_CLUSTER)
        log = _cancelled_when(pilot, made["latest_build"], "no node takes the pod yet")
        assert "nonesuch" in log
        pilot.transition(made["id"], "delete")
    finally:
        pilot.write_config(kubernetesStorageClass=before)
        pilot.up()


def test_a_token_that_has_ended_is_named(both: Both, there: dict[str, Any]) -> None:
    pilot, good = both.pilot, both.kubeconfig.read_text()
    ended = both.cluster.kubectl("create", "token", "default", "-n", "default").strip()
    bad = Path(both.kubeconfig.parent / "ended")
    (token,) = [line for line in good.splitlines() if "token:" in line]
    # Of nobody: its signature is another one's.
    bad.write_text(good.replace(token, f'users: [{{name: pilot, user: {{token: "{ended[:-8]}AAAAAAAA"}}}}]'))
    pilot.write_config(kubernetesKubeconfig=str(bad))
    told = pilot.up()
    try:
        assert "workspaces on the cluster get no new secrets" in told
        assert "does not know the kubeconfig's token" in told
        assert "does not know the kubeconfig's token" in command(pilot, "doctor", check=False)
        assert "Error: Unauthorized" in _failed(pilot, _build(pilot, there))
    finally:
        pilot.write_config(kubernetesKubeconfig=str(both.kubeconfig))
        pilot.up()


def test_an_administrators_kubeconfig_is_a_warning(both: Both) -> None:
    pilot = both.pilot
    pilot.write_config(kubernetesKubeconfig=str(both.cluster.kubeconfig))
    try:
        told = command(pilot, "doctor")
        assert "the account may everything in the cluster, which is more than the pilot needs" in told
    finally:
        pilot.write_config(kubernetesKubeconfig=str(both.kubeconfig))


def test_a_start_with_the_api_away_says_so_and_the_next_one_works(both: Both, there: dict[str, Any]) -> None:
    pilot = both.pilot
    both.cluster.stop_api()
    try:
        assert "connection refused" in _failed(pilot, _build(pilot, there))
    finally:
        both.cluster.start_api()
    pilot.transition(there["id"], "start", AWAY_TIMEOUT_S)
    pilot.wait_workspace(there["id"])


def test_a_workspace_comes_back_with_its_node(both: Both, there: dict[str, Any]) -> None:
    pilot = both.pilot
    if pilot.workspace(there["id"])["latest_build"]["transition"] != "start":
        pilot.transition(there["id"], "start")
        pilot.wait_workspace(there["id"])
    (both.home(there) / "kept").write_text("kept")
    both.cluster.nodes[LOST].cut_power()
    eventually(
        lambda: agent_of(pilot.workspace(there["id"]))["status"] == "disconnected",
        timeout_s=AWAY_TIMEOUT_S, what="Coder sees that it is away",
    )  # fmt: skip
    # A stop is not kept up by it.
    began_s = time.monotonic()
    build = _build(pilot, there, "stop")
    eventually(
        lambda: pilot.call("GET", f"/api/v2/workspacebuilds/{build['id']}")["job"]["status"] == "succeeded",
        timeout_s=AWAY_TIMEOUT_S, what="the stop",
    )  # fmt: skip
    assert time.monotonic() - began_s < 120
    assert "its node may be away" in build_log(pilot, build["id"])
    start = _build(pilot, there)
    eventually(lambda: "no node takes the pod" in build_log(pilot, start["id"]), timeout_s=120, what="the reason")
    both.cluster.bring_back(LOST)
    pilot.wait_workspace(there["id"], ROLLED_BACK_TIMEOUT_S)
    assert (both.home(there) / "kept").read_text() == "kept"
    (pod,) = [each for each in both.pods(there) if not each["metadata"].get("deletionTimestamp")]
    assert pod["spec"]["nodeName"] == LOST
