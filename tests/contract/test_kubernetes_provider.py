"""The stand-in for hashicorp/kubernetes does what the template for a cluster relies on in the published provider 3.2.1,
its faults included: it is driven by the real OpenTofu, on a real API server with its controllers.

What is expected was read in the published provider's sources and documentation. It knows only the fields that the
template sets, and some that the API fills in; it checks no values by itself, so a wrong one is the API's to refuse.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kubernetes_fixture import Terraform

from tests.certificates import self_signed
from tests.e2e.pilot_fixture import eventually, free_port

# A minute in all; what they hold changes with the version of the provider alone.
pytestmark = [pytest.mark.drill, pytest.mark.built_here]

CLAIM, SECRET, DEPLOYMENT = "kubernetes_persistent_volume_claim_v1", "kubernetes_secret_v1", "kubernetes_deployment_v1"
TEXT, TOLD, MAP, MADE = "string optional", "computed", "map(string) optional", "string optional computed"
METADATA = {
    "": "block 1..1", "name": MADE, "namespace": TEXT, "labels": MAP, "annotations": MAP,
    "generation": f"number {TOLD}", "resource_version": f"string {TOLD}", "uid": f"string {TOLD}",
}  # fmt: skip
POD, CONTAINER = "spec.template.spec", "spec.template.spec.container"


def _below(path: str, names: Mapping[str, str]) -> dict[str, str]:
    return {f"{path}.{name}".rstrip("."): what for name, what in names.items()}


PUBLISHED: dict[str, dict[str, str]] = {
    CLAIM: {
        "id": MADE, "wait_until_bound": "bool optional", "timeouts": "block single", "timeouts.create": TEXT,
        **_below("metadata", METADATA),
        **_below("spec", {
            "": "block 1..1", "access_modes": "set(string) required", "storage_class_name": MADE, "volume_name": MADE,
            "resources": "block 1..1", "resources.requests": MAP, "resources.limits": MAP,
        }),
    },
    SECRET: {
        "id": MADE, "data": "map(string) optional computed sensitive", "type": TEXT,
        "timeouts": "block single", "timeouts.create": TEXT,
        **_below("metadata", METADATA),
    },
    DEPLOYMENT: {
        "id": MADE, "wait_for_rollout": "bool optional",
        **_below("timeouts", {"": "block single", "create": TEXT, "update": TEXT, "delete": TEXT}),
        **_below("metadata", METADATA),
        **_below("spec", {
            "": "block 1..1", "replicas": MADE, "min_ready_seconds": "number optional",
            "progress_deadline_seconds": "number optional", "revision_history_limit": "number optional",
            "strategy": "block 0..1", "strategy.type": TEXT,
            "selector": "block 0..1", "selector.match_labels": MAP,
            "template": "block 1..1",
        }),
        **_below("spec.template.metadata", METADATA),
        **_below(POD, {
            "": "block 1..1", "hostname": MADE, "automount_service_account_token": "bool optional",
            "enable_service_links": "bool optional", "termination_grace_period_seconds": "number optional",
            "security_context": "block 0..1", "security_context.fs_group": TEXT,
            "security_context.fs_group_change_policy": TEXT, "security_context.run_as_non_root": "bool optional",
            "volume": "block 0..", "volume.name": TEXT,
            "volume.persistent_volume_claim": "block 0..1", "volume.persistent_volume_claim.claim_name": TEXT,
            "volume.persistent_volume_claim.read_only": "bool optional",
            "volume.secret": "block 0..1", "volume.secret.secret_name": TEXT, "volume.secret.default_mode": TEXT,
            "volume.secret.optional": "bool optional",
            "volume.empty_dir": "block 0..1", "volume.empty_dir.medium": TEXT, "volume.empty_dir.size_limit": TEXT,
        }),
        **_below(CONTAINER, {
            "": "block 0..", "name": "string required", "image": TEXT, "image_pull_policy": MADE,
            "command": "list(string) optional", "args": "list(string) optional",
            "env_from": "block 0..", "env_from.secret_ref": "block 0..1",
            "env_from.secret_ref.name": "string required", "env_from.secret_ref.optional": "bool optional",
            "resources": "block 0..1", "resources.limits": f"{MAP} computed", "resources.requests": f"{MAP} computed",
            "security_context": "block 0..1", "security_context.allow_privilege_escalation": "bool optional",
            "security_context.privileged": "bool optional",
            "security_context.read_only_root_filesystem": "bool optional",
            "security_context.run_as_non_root": "bool optional",
            "security_context.capabilities": "block 0..1",
            "security_context.capabilities.add": "list(string) optional",
            "security_context.capabilities.drop": "list(string) optional",
            "volume_mount": "block 0..", "volume_mount.name": "string required",
            "volume_mount.mount_path": "string required", "volume_mount.sub_path": TEXT,
            "volume_mount.read_only": "bool optional",
        }),
    },
}  # fmt: skip


def _described(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for name, what in (schema.get("attributes") or {}).items():
        kind = what["type"]
        words = [kind if isinstance(kind, str) else f"{kind[0]}({kind[1]})"]
        words += [word for word in ("required", "optional", "computed", "sensitive") if what.get(word)]
        yield f"{path}{name}", " ".join(words)
    for name, what in (schema.get("block_types") or {}).items():
        most = what.get("max_items") or ""
        bounds = "single" if what["nesting_mode"] == "single" else f"{what.get('min_items', 0)}..{most}"
        yield f"{path}{name}", f"block {bounds}"
        yield from _described(what["block"], f"{path}{name}.")


def _claim(terraform: Terraform, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "home", "namespace": terraform.namespace, "labels": {"owner": "ann"}},
        "spec": {"access_modes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}, **spec},
        "wait_until_bound": False,
    }


def _secret(terraform: Terraform, **data: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "start", "namespace": terraform.namespace},
        "data": data or {"TOKEN": "a-secret-token"},
    }


def _deployment(terraform: Terraform) -> dict[str, Any]:
    labels = {"app": "workspace"}
    return {
        "metadata": {"name": "workspace", "namespace": terraform.namespace, "labels": labels},
        "wait_for_rollout": False,
        "spec": {
            "replicas": "1",
            "strategy": {"type": "Recreate"},
            "selector": {"match_labels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"coder-pilot.start": "1"}},
                "spec": {
                    "hostname": "there",
                    "automount_service_account_token": False,
                    "enable_service_links": False,
                    "termination_grace_period_seconds": 20,
                    "security_context": {"fs_group": 1000, "fs_group_change_policy": "OnRootMismatch"},
                    "container": [
                        {
                            "name": "workspace",
                            "image": "example.test/workspace:1",
                            "image_pull_policy": "IfNotPresent",
                            "command": ["bash", "-c"],
                            "args": ["true"],
                            "env_from": [{"secret_ref": {"name": "start"}}],
                            "resources": {
                                "limits": {"memory": "4096Mi", "cpu": "2"},
                                "requests": {"memory": "4096Mi", "cpu": "100m"},
                            },
                            "security_context": {"capabilities": {"drop": ["NET_RAW", "MKNOD"]}},
                            "volume_mount": [
                                {"name": "home", "mount_path": "/home/coder"},
                                {"name": "secrets", "mount_path": "/run/secrets", "read_only": True},
                            ],
                        }
                    ],
                    "volume": [
                        {"name": "home", "persistent_volume_claim": {"claim_name": "home"}},
                        {"name": "secrets", "secret": {"secret_name": "shared", "optional": True}},
                        {"name": "shm", "empty_dir": {"medium": "Memory", "size_limit": "64Mi"}},
                    ],
                },
            },
        },
    }


def _live(terraform: Terraform, kind: str) -> dict[str, Any]:
    name = {CLAIM: "pvc/home", SECRET: "secret/start", DEPLOYMENT: "deployment/workspace"}[kind]
    return terraform.api.object(name, "-n", terraform.namespace)


def _by_hand(terraform: Terraform, *words: str) -> None:
    terraform.api.kubectl(*words, "-n", terraform.namespace)


def _pods(terraform: Terraform) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        terraform.api.kubectl("get", "pods", "-n", terraform.namespace, "-o", "json")
    )["items"]
    return found


def _make_ready(terraform: Terraform) -> None:
    """Say of the pod what a kubelet says."""
    (pod,) = eventually(lambda: _pods(terraform), timeout_s=60, what="a pod")
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    _by_hand(
        terraform, "patch", "pod", pod["metadata"]["name"], "--subresource=status", "-p", json.dumps({"status": status})
    )


@pytest.fixture
def all_three(terraform: Terraform) -> Terraform:
    """All that the template has, applied; one of them cannot be without the others, so they are one."""
    terraform.resources = {
        CLAIM: _claim(terraform), SECRET: _secret(terraform), DEPLOYMENT: _deployment(terraform)
    }  # fmt: skip
    terraform.apply()
    return terraform


# The schema


def test_names_blocks_and_kinds_are_the_published_ones(terraform: Terraform) -> None:
    schema = terraform.schema()
    ours = {name: dict(_described(of["block"])) for name, of in schema["resource_schemas"].items()}
    assert ours == PUBLISHED
    assert dict(_described(schema["provider"]["block"])) == {"config_path": TEXT}


# What the API is told


def test_the_api_gets_what_is_declared_and_the_next_plan_is_empty(all_three: Terraform) -> None:
    claim = _live(all_three, CLAIM)
    assert claim["metadata"]["labels"] == {"owner": "ann"}
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["spec"]["resources"] == {"requests": {"storage": "20Gi"}}
    secret = _live(all_three, SECRET)
    assert secret["type"] == "Opaque"
    assert base64.b64decode(secret["data"]["TOKEN"]) == b"a-secret-token"
    spec = _live(all_three, DEPLOYMENT)["spec"]
    assert (spec["replicas"], spec["strategy"], spec["progressDeadlineSeconds"]) == (1, {"type": "Recreate"}, 600)
    assert spec["selector"] == {"matchLabels": {"app": "workspace"}}
    assert spec["template"]["metadata"]["annotations"] == {"coder-pilot.start": "1"}
    pod = spec["template"]["spec"]
    said = {"hostname", "automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds"}
    assert {name: pod[name] for name in said} == {
        "hostname": "there", "automountServiceAccountToken": False, "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 20,
    }  # fmt: skip
    assert pod["securityContext"] == {"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch", "runAsNonRoot": False}
    assert pod["volumes"] == [
        {"name": "home", "persistentVolumeClaim": {"claimName": "home"}},
        {"name": "secrets", "secret": {"secretName": "shared", "optional": True, "defaultMode": 0o644}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
    ]
    (container,) = pod["containers"]
    assert container["command"] == ["bash", "-c"]
    assert container["envFrom"] == [{"secretRef": {"name": "start", "optional": False}}]
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "4Gi"}
    assert container["securityContext"] == {
        "capabilities": {"drop": ["NET_RAW", "MKNOD"]},
        "allowPrivilegeEscalation": True, "privileged": False, "readOnlyRootFilesystem": False, "runAsNonRoot": False,
    }  # fmt: skip
    # Also where the API writes a quantity in another way: 4096Mi became 4Gi.
    assert "No changes." in all_three.plan()


def test_a_number_of_zero_is_not_the_default(all_three: Terraform) -> None:
    all_three.resources[DEPLOYMENT]["spec"]["template"]["spec"]["termination_grace_period_seconds"] = 0
    all_three.apply()
    assert _live(all_three, DEPLOYMENT)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 0


def test_no_secret_is_shown(all_three: Terraform) -> None:
    all_three.resources[SECRET] = _secret(all_three, TOKEN="another-secret-token")
    shown = all_three.plan()
    assert "(sensitive value)" in shown
    assert "secret-token" not in shown


def test_the_account_of_the_documentation_may_do_all_that_is_needed(all_three: Terraform) -> None:
    """An update is a patch, and no event, pod or namespace is asked for."""
    rights = {
        "rules": [
            {"apiGroups": ["", "apps"], "resources": ["persistentvolumeclaims", "secrets", "deployments"],
             "verbs": ["create", "get", "patch", "delete"]}
        ]
    }  # fmt: skip
    _by_hand(all_three, "patch", "role", all_three.namespace, "--type=merge", "-p", json.dumps(rights))
    all_three.resources[SECRET] = _secret(all_three, TOKEN="another")
    all_three.resources[CLAIM]["metadata"]["labels"] = {"owner": "bob"}
    all_three.resources[DEPLOYMENT]["spec"]["template"]["metadata"]["annotations"] = {"coder-pilot.start": "2"}
    assert "0 added, 3 changed, 0 destroyed" in all_three.apply()
    assert _live(all_three, CLAIM)["metadata"]["labels"] == {"owner": "bob"}
    assert base64.b64decode(_live(all_three, SECRET)["data"]["TOKEN"]) == b"another"
    assert "3 destroyed" in all_three.destroy()


# What waits


def test_a_claim_waits_until_it_is_bound_unless_it_is_told_not_to(terraform: Terraform) -> None:
    terraform.resources = {CLAIM: {**_claim(terraform), "timeouts": {"create": "2s"}}}
    del terraform.resources[CLAIM]["wait_until_bound"]
    # Terraform's own time for it ends a moment before the provider's, whose words would say more.
    assert "context deadline exceeded" in terraform.apply(fails=True)
    terraform.resources[CLAIM]["wait_until_bound"] = False
    # It was made, and what waits in vain is made anew.
    assert "is tainted, so it must be replaced" in terraform.plan()
    assert "1 added, 0 changed, 1 destroyed" in terraform.apply()
    assert _live(terraform, CLAIM)["status"]["phase"] == "Pending"


def test_a_deployment_waits_until_its_pod_is_ready(terraform: Terraform) -> None:
    terraform.resources = {DEPLOYMENT: _deployment(terraform)}
    del terraform.resources[DEPLOYMENT]["wait_for_rollout"]
    running = terraform.begin("apply", "-auto-approve")
    _make_ready(terraform)
    assert "1 added" in terraform.end(running)
    # The same pod again: nothing to wait for.
    assert "No changes." in terraform.plan()


def test_a_rollout_that_does_not_end_says_how_far_it_came_and_not_why(terraform: Terraform) -> None:
    terraform.resources = {DEPLOYMENT: {**_deployment(terraform), "timeouts": {"create": "3s"}}}
    del terraform.resources[DEPLOYMENT]["wait_for_rollout"]
    told = terraform.apply(fails=True)
    assert "Error: Waiting for rollout to finish: 1 replicas wanted; 0 replicas Ready" in told
    terraform.resources[DEPLOYMENT]["wait_for_rollout"] = False
    assert "is tainted, so it must be replaced" in terraform.plan()


def test_a_rollout_past_its_deadline_says_so(terraform: Terraform) -> None:
    terraform.resources = {DEPLOYMENT: _deployment(terraform)}
    terraform.resources[DEPLOYMENT]["wait_for_rollout"] = True
    terraform.resources[DEPLOYMENT]["spec"]["progress_deadline_seconds"] = 2
    assert "Error: Deployment exceeded its progress deadline" in terraform.apply(fails=True)


def test_a_deletion_of_a_deployment_does_not_wait_for_its_pods(all_three: Terraform) -> None:
    (pod,) = eventually(lambda: _pods(all_three), timeout_s=60, what="a pod")
    held = '{"metadata": {"finalizers": ["coder-pilot.test/held"]}}'
    _by_hand(all_three, "patch", "pod", pod["metadata"]["name"], "-p", held)
    del all_three.resources[DEPLOYMENT]
    assert "1 destroyed" in all_three.apply()
    assert [each["metadata"]["name"] for each in _pods(all_three)] == [pod["metadata"]["name"]]
    _by_hand(all_three, "patch", "pod", pod["metadata"]["name"], "-p", '{"metadata": {"finalizers": null}}')


def test_a_deletion_of_a_claim_waits_until_nobody_uses_it_and_one_of_a_secret_does_not(all_three: Terraform) -> None:
    for kind in ("pvc/home", "secret/start"):
        _by_hand(all_three, "patch", kind, "-p", '{"metadata": {"finalizers": ["coder-pilot.test/held"]}}')
    del all_three.resources[SECRET]
    assert "1 destroyed" in all_three.apply()
    assert _live(all_three, SECRET)["metadata"]["deletionTimestamp"]
    _by_hand(all_three, "patch", "secret/start", "-p", '{"metadata": {"finalizers": null}}')
    running = all_three.begin("destroy", "-auto-approve")
    eventually(
        lambda: _live(all_three, CLAIM)["metadata"].get("deletionTimestamp"), timeout_s=60, what="the claim's deletion"
    )
    assert running.poll() is None
    _by_hand(all_three, "patch", "pvc/home", "-p", '{"metadata": {"finalizers": null}}')
    assert "2 destroyed" in all_three.end(running)


# What is there already, gone or changed


def test_what_is_there_already_is_refused_in_the_api_s_words(all_three: Terraform) -> None:
    (all_three.directory / "terraform.tfstate").unlink()
    told = all_three.apply(fails=True)
    for words in (
        'Error: persistentvolumeclaims "home" already exists',
        'Error: secrets "start" already exists',
        'Error: Failed to create deployment: deployments.apps "workspace" already exists',
    ):
        assert words in told


def test_what_is_gone_is_made_anew(all_three: Terraform) -> None:
    _by_hand(all_three, "delete", "deployment/workspace", "secret/start", "--cascade=foreground")
    assert "2 added, 0 changed, 0 destroyed" in all_three.apply()
    assert _live(all_three, SECRET)
    _by_hand(all_three, "delete", "deployment/workspace")
    # Gone already is no error.
    assert "destroyed" in all_three.destroy()


def test_what_was_changed_by_hand_is_put_back(all_three: Terraform) -> None:
    _by_hand(all_three, "set", "image", "deployment/workspace", "workspace=example.test/other:2")
    _by_hand(all_three, "scale", "deployment/workspace", "--replicas=2")
    _by_hand(all_three, "label", "pvc/home", "owner=bob", "team=red", "--overwrite")
    _by_hand(all_three, "patch", "secret/start", "-p", '{"stringData": {"TOKEN": "x", "MORE": "y"}}')
    assert "0 to add, 3 to change, 0 to destroy" in all_three.plan()
    all_three.apply()
    spec = _live(all_three, DEPLOYMENT)["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (1, "example.test/workspace:1")
    # Labels of others too.
    assert _live(all_three, CLAIM)["metadata"]["labels"] == {"owner": "ann"}
    assert _live(all_three, SECRET)["data"].keys() == {"TOKEN"}
    assert "No changes." in all_three.plan()


def test_what_kubernetes_writes_for_itself_is_no_change(all_three: Terraform) -> None:
    eventually(
        lambda: "deployment.kubernetes.io/revision" in _live(all_three, DEPLOYMENT)["metadata"]["annotations"],
        timeout_s=60, what="the controller's own annotation",
    )  # fmt: skip
    _by_hand(all_three, "annotate", "pvc/home", "pv.kubernetes.io/bind-completed=yes")
    _by_hand(all_three, "rollout", "restart", "deployment/workspace")
    assert "No changes." in all_three.plan()


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        (CLAIM, ("metadata", "name"), "other"),
        (CLAIM, ("spec", "storage_class_name"), "fast"),
        (CLAIM, ("spec", "access_modes"), ["ReadWriteMany"]),
        (SECRET, ("type",), "example.test/other"),
        (DEPLOYMENT, ("metadata", "namespace"), "default"),
        (DEPLOYMENT, ("spec", "selector"), {"match_labels": {"app": "other"}}),
    ],
)
def test_what_cannot_be_changed_is_replaced(all_three: Terraform, kind: str, path: tuple[str, ...], value: Any) -> None:
    body = all_three.resources[kind]
    for name in path[:-1]:
        body = body[name]
    body[path[-1]] = value
    planned = all_three.plan()
    assert f"{kind}.it must be replaced" in planned
    assert "1 to add, 0 to change, 1 to destroy" in planned


# Import


def _filled(value: Any) -> Any:
    """Without what is empty: Terraform tells none from nothing."""
    if isinstance(value, dict):
        return {key: _filled(each) for key, each in value.items() if each not in (None, "", {}, [])}
    return [_filled(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("kind", "name"), [(CLAIM, "home"), (SECRET, "start"), (DEPLOYMENT, "workspace")])
def test_an_import_by_namespace_and_name_reads_all_of_it(all_three: Terraform, kind: str, name: str) -> None:
    before = all_three.state()[kind]["attributes"]
    (all_three.directory / "terraform.tfstate").unlink()
    all_three.run("import", f"{kind}.it", f"{all_three.namespace}/{name}")
    attributes = all_three.state()[kind]["attributes"]
    for waits in ("wait_until_bound", "wait_for_rollout", "timeouts"):
        before.pop(waits, None)
    # Controllers write meanwhile.
    for each in (before, attributes):
        del each["metadata"][0]["resource_version"]
    assert _filled({name: attributes[name] for name in before}) == _filled(before)
    # Whether it waits is no part of the object: a claim's import says that it does, a deployment's says nothing.
    assert attributes.get("wait_until_bound") is (True if kind == CLAIM else None)
    assert attributes.get("wait_for_rollout") is None


def test_an_import_says_what_an_id_is_and_that_there_is_nothing(terraform: Terraform) -> None:
    terraform.resources = {SECRET: _secret(terraform)}
    told = terraform.run("import", f"{SECRET}.it", "start", fails=True)
    assert 'Unexpected ID format ("start"), expected "namespace/name".' in told
    told = terraform.run("import", f"{SECRET}.it", f"{terraform.namespace}/start", fails=True)
    assert "Cannot import non-existent remote object" in told


# The API's own words


def test_what_the_api_refuses_comes_through(terraform: Terraform) -> None:
    body = _claim(terraform)
    terraform.resources = {CLAIM: body}
    quota = {"spec": {"hard": {"persistentvolumeclaims": "0"}}}
    _by_hand(terraform, "patch", "quota", terraform.namespace, "-p", json.dumps(quota))
    eventually(
        lambda: terraform.api.object("quota", terraform.namespace, "-n", terraform.namespace)["status"]["hard"][
            "persistentvolumeclaims"
        ] == "0",
        timeout_s=60, what="the quota",
    )  # fmt: skip
    told = terraform.apply(fails=True)
    assert f'persistentvolumeclaims "home" is forbidden: exceeded quota: {terraform.namespace}' in told
    assert (
        "requested: persistentvolumeclaims=1, used: persistentvolumeclaims=0, limited: persistentvolumeclaims=0" in told
    )
    body["metadata"]["namespace"] = "nonesuch"
    told = terraform.apply(fails=True)
    assert "persistentvolumeclaims is forbidden: User" in told
    assert 'cannot create resource "persistentvolumeclaims" in API group "" in the namespace "nonesuch"' in told
    terraform.provider = {"config_path": str(terraform.api.kubeconfig)}
    assert 'Error: namespaces "nonesuch" not found' in terraform.apply(fails=True)
    terraform.resources = {SECRET: {**_secret(terraform), "data": {"not/a key": "x"}}}
    assert 'Error: Secret "start" is invalid: data[not/a key]: Invalid value' in terraform.apply(fails=True)


def _changed(kubeconfig: Path, **changes: Mapping[str, str]) -> None:
    document = json.loads(kubeconfig.read_text())
    document["clusters"][0]["cluster"].update(changes.get("cluster", {}))
    document["users"][0]["user"].update(changes.get("user", {}))
    kubeconfig.write_text(json.dumps(document))


def test_a_token_that_has_ended_is_unauthorized(terraform: Terraform) -> None:
    terraform.resources = {CLAIM: _claim(terraform)}
    _changed(Path(terraform.provider["config_path"]), user={"token": "ended"})
    assert "Error: Unauthorized" in terraform.apply(fails=True)


def test_another_cluster_s_certificate_is_not_believed(terraform: Terraform) -> None:
    terraform.resources = {CLAIM: _claim(terraform)}
    other = Path(self_signed(terraform.directory, "other", "kubernetes")[0]).read_bytes()
    _changed(
        Path(terraform.provider["config_path"]),
        cluster={"certificate-authority-data": base64.b64encode(other).decode()},
    )
    told = terraform.apply(fails=True)
    assert "tls: failed to verify certificate: x509: certificate signed by unknown authority" in told


def test_an_api_that_is_away_fails_at_once_and_loses_nothing(all_three: Terraform) -> None:
    before = all_three.state()
    server = f"https://127.0.0.1:{free_port()}"
    _changed(Path(all_three.provider["config_path"]), cluster={"server": server})
    told = all_three.run("destroy", "-auto-approve", fails=True)
    assert "connect: connection refused" in told
    assert server in told
    assert all_three.state().keys() == before.keys()


def test_a_kubeconfig_that_is_not_there_shows_as_a_request_to_this_machine(terraform: Terraform) -> None:
    """The published provider's own fault: it says nothing of the file."""
    terraform.resources = {CLAIM: _claim(terraform)}
    terraform.provider = {"config_path": str(terraform.directory / "nonesuch")}
    told = terraform.apply(fails=True)
    assert 'Post "http://localhost/api/v1/namespaces/' in told
    assert "connect: connection refused" in told
    assert "nonesuch" not in told


def test_the_kubeconfig_may_come_from_the_environment_and_its_current_context_counts(terraform: Terraform) -> None:
    path = terraform.provider.pop("config_path")
    terraform.environment = {"KUBE_CONFIG_PATH": path}
    terraform.resources = {CLAIM: _claim(terraform)}
    assert "1 added" in terraform.apply()
    document = json.loads(Path(path).read_text())
    document["current-context"] = "other"
    Path(path).write_text(json.dumps(document))
    terraform.resources[CLAIM]["metadata"]["labels"] = {"owner": "bob"}
    assert 'Get "http://localhost/api/v1/namespaces/' in terraform.apply(fails=True)
