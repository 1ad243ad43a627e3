"""What the cluster of the settings lets its account do, held against what workspaces there need."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pilot import configuration
from stack import settings
from stack.jobs import kubernetes
from stack.jobs.engine import JobError
from stack.jobs.kubernetes import Cluster, ClusterError

VERBS = ("create", "get", "patch", "update", "delete")
NEEDED = (
    ("", "persistentvolumeclaims", VERBS),
    ("", "secrets", VERBS),
    ("apps", "deployments", VERBS),
    # For what a build's log says.
    ("", "pods", ("list",)),
)
"""As docs/kubernetes.yaml grants them: the group, the kind and the verbs."""
REVIEWS = "/apis/authorization.k8s.io/v1"

Told = tuple[bool, str, str]
"""Whether a workspace could not be made, what was found, and what fixes it."""
EXTRA = "an account of its own, which docs/kubernetes.yaml makes, may do what is needed and no more"


def cluster_of(kubeconfig: str) -> Cluster:
    """The cluster of the file.

    Raises:
        JobError: it cannot be read or used.
    """
    # For its words, where it cannot be read.
    kubernetes.read(kubeconfig)
    try:
        return kubernetes.of(configuration.document(Path(kubeconfig)))
    except configuration.PilotError:
        raise JobError(kubernetes.no_yaml(kubeconfig)) from None


def known(config: settings.Kubernetes) -> Cluster | None:
    """That of the settings; None without one, and where its kubeconfig cannot be used, of which doctor tells."""
    with contextlib.suppress(JobError):
        return cluster_of(config.kubeconfig) if config.kubeconfig else None
    return None


def examine(config: settings.Kubernetes) -> Iterator[Told]:
    """What is missing for a workspace, and what the account may do that it should not; nothing for a good one.

    Raises:
        JobError: the kubeconfig or its cluster cannot be used at all.
    """
    cluster = cluster_of(config.kubeconfig or "")
    if (end_s := kubernetes.token_end_s(cluster.token)) is not None:
        end = time.strftime("%Y-%m-%d %H:%M", time.localtime(end_s))
        yield False, f"the kubeconfig's token ends at {end}", "docs/kubernetes.md makes one that does not"
    missing = list(_missing(_rules(cluster, config.namespace)))
    for each in missing:
        fix = f"grant it in the namespace {config.namespace}, as docs/kubernetes.yaml does"
        yield True, f"the account may not {each} in {config.namespace}", fix
    if not missing:
        try:
            path = f"/api/v1/namespaces/{config.namespace}/persistentvolumeclaims?dryRun=All"
            cluster.call("POST", path, _home(config))
        except ClusterError as error:
            yield True, f"a home cannot be made: {error}", "docs/kubernetes.md says what a cluster needs"
    for attributes, what in (
        ({"verb": "*", "group": "*", "resource": "*"}, "everything in the cluster"),
        ({"verb": "get", "resource": "secrets"}, "read the Secrets of all namespaces"),
        (
            {"verb": "create", "resource": "pods", "subresource": "exec", "namespace": config.namespace},
            f"run commands in the pods of {config.namespace}",
        ),
    ):
        if _allowed(cluster, attributes):
            yield False, f"the account may {what}, which is more than the pilot needs", EXTRA
            # Whoever may everything may the rest too.
            return


def _missing(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for group, resource, needed in NEEDED:
        verbs = [verb for verb in needed if not any(_grants(rule, group, resource, verb) for rule in rules)]
        if verbs:
            yield f"{', '.join(verbs)} {resource}"


def _grants(rule: Mapping[str, Any], group: str, resource: str, verb: str) -> bool:
    wanted = (("apiGroups", group), ("resources", resource), ("verbs", verb))
    # With names it is for some objects alone.
    return not rule.get("resourceNames") and all({"*", value} & set(rule.get(key) or ()) for key, value in wanted)


def _rules(cluster: Cluster, namespace: str) -> list[Mapping[str, Any]]:
    answer = cluster.call("POST", f"{REVIEWS}/selfsubjectrulesreviews", _review("Rules", {"namespace": namespace}))
    return list(answer["status"].get("resourceRules") or ())


def _allowed(cluster: Cluster, attributes: Mapping[str, str]) -> bool:
    review = _review("Access", {"resourceAttributes": attributes})
    answer = cluster.call("POST", f"{REVIEWS}/selfsubjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def _review(kind: str, spec: Mapping[str, object]) -> Mapping[str, object]:
    return {"apiVersion": "authorization.k8s.io/v1", "kind": f"SelfSubject{kind}Review", "spec": spec}


def _home(config: settings.Kubernetes) -> Mapping[str, object]:
    """A claim as the template makes it."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"generateName": "coder-pilot-doctor-"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "20Gi"}},
            **({"storageClassName": config.storage_class} if config.storage_class else {}),
        },
    }
