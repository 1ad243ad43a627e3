"""What becomes of a pod is in the build's log, in words of Kubernetes: a start ends when it runs, and fails soon where
it never will; a stop ends when it is gone, and is not kept up by a node that is away."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from stack.jobs import kubernetes
from tests.http_server import QuietHandler, serving
from toolchain.paths import CHECKOUT

SCRIPT = CHECKOUT / "terraform-template-kubernetes" / "scripts" / "pod.sh"
TOKEN = "the-token-of-the-account"
PODS = "/api/v1/namespaces/coder-pilot/pods"
DEPLOYMENT = "/apis/apps/v1/namespaces/coder-pilot/deployments/coder-w"
SELECTOR = "coder.workspace_id=w,coder-pilot.start=1"
NO_POD: list[dict[str, Any]] = []
Answers = dict[str, list[tuple[int, Any]]]
Run = Callable[..., subprocess.CompletedProcess[str]]


def _pod(state: dict[str, Any] | None = None, *conditions: dict[str, str], node: str = "kn2") -> list[dict[str, Any]]:
    """The list of one pod, in the order in which the API writes it."""
    statuses = [{"name": "workspace", "state": state, "lastState": {}, "ready": False}] if state else []
    return [
        {
            "metadata": {"name": "coder-w-1", "labels": {"coder.workspace_id": "w"}},
            "spec": {
                "containers": [{"name": "workspace", "command": ["bash", '"running": {']}],
                **({"nodeName": node} if node else {}),
            },
            "status": {"phase": "Pending", "conditions": list(conditions), "containerStatuses": statuses},
        }
    ]


def _waiting(reason: str, message: str = "") -> list[dict[str, Any]]:
    return _pod({"waiting": {"reason": reason, **({"message": message} if message else {})}})


RUNNING = _pod({"running": {"startedAt": "2026-11-26T17:00:00Z"}})


@pytest.fixture
def api() -> Iterator[tuple[str, Answers, list[str]]]:
    """An API's address, what it answers by path, the last for ever, and what it was asked."""
    answers: Answers = {}
    asked: list[str] = []

    class Handler(QuietHandler):
        def do_PATCH(self) -> None:  # noqa: N802  http.server's name
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked.append(f"{self.headers['Content-Type']} {body}")
            self.do_GET()

        def do_GET(self) -> None:  # noqa: N802
            url = urllib.parse.urlsplit(self.path)
            asked.append(f"{self.headers['Authorization']} {urllib.parse.unquote(url.query)}")
            rest = answers[url.path]
            status, found = rest.pop(0) if len(rest) > 1 else rest[0]
            document = {"kind": "PodList", "items": found} if isinstance(found, list) else found
            self.reply(status, json.dumps(document, indent=2).encode())

    with serving(Handler) as url:
        yield url, answers, asked


@pytest.fixture
def run(api: tuple[str, Answers, list[str]], tmp_path: Path) -> Run:
    """Runs pod.sh, with limits of no time but that for a pod that is coming."""
    url, answers, _ = api

    def pod(
        mode: str, *pods: Sequence[dict[str, Any]], limit_s: int = 20, **others: Any
    ) -> subprocess.CompletedProcess[str]:
        answers.setdefault(PODS, [(200, each) for each in pods])
        answers.setdefault(DEPLOYMENT, [(200, others.get("deployment", {"status": {}}))])
        kubeconfig = tmp_path / "config"
        kubeconfig.write_text(
            kubernetes.kubeconfig(kubernetes.Cluster(server=others.get("server", url), authority="", token=TOKEN))
        )
        text = SCRIPT.read_text()
        for line, limit in (("NODE_LIMIT_S=300", 0), ("REFUSED_LIMIT_S=60", others.get("refused_limit_s", 0))):
            assert line in text
            text = text.replace(line, f"{line.split('=')[0]}={limit}")
        (tmp_path / "pod.sh").write_text(text)
        return subprocess.run(
            ["bash", tmp_path / "pod.sh", mode],
            env={
                "PATH": os.environ["PATH"], "KUBECONFIG": str(kubeconfig), "NAMESPACE": "coder-pilot",
                "DEPLOYMENT": "coder-w", "LIMIT_S": str(limit_s), "STORAGE_CLASS": "nonesuch", "SELECTOR": SELECTOR,
            },
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return pod


def test_a_start_says_each_step_once_and_ends_when_the_pod_runs(run: Run, api: tuple[str, Answers, list[str]]) -> None:
    scheduled = {"type": "PodScheduled", "status": "True"}
    done = run("started", NO_POD, _pod(node=""), _pod(None, scheduled), _waiting("ContainerCreating"), RUNNING)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Kubernetes makes the pod", "Kubernetes looks for a node", "the node kn2 gets the image and the home ready",
        "the pod runs on kn2",
    ]  # fmt: skip
    assert f"Bearer {TOKEN} pretty=true&labelSelector={SELECTOR}" in api[2]


def test_what_alternates_is_said_once_and_may_yet_come_right(run: Run) -> None:
    refused, waits = _waiting("ErrImagePull", "no such host"), _waiting("ImagePullBackOff", "waits")
    done = run("started", refused, waits, refused, waits, RUNNING, refused_limit_s=60)
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["ErrImagePull: no such host", "ImagePullBackOff: waits", "the pod runs on kn2"]


REFUSED = 'failed to pull and unpack image "example.test/nonesuch:1": failed to resolve reference: 404 Not Found'


@pytest.mark.parametrize(
    ("pods", "told"),
    [
        (_waiting("ErrImagePull", REFUSED), f"ErrImagePull: {REFUSED}"),
        (_waiting("CreateContainerError", 'secret "x" not found'), 'CreateContainerError: secret "x" not found'),
        (
            _pod(None, {"type": "Ready", "status": "False"}, {
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/2 nodes are available: 2 Insufficient memory.",
            }, node=""),
            "no node takes the pod yet: 0/2 nodes are available: 2 Insufficient memory.",
        ),
        (
            _pod(None, {
                "type": "PodScheduled", "status": "False", "message": "unbound PersistentVolumeClaims. not found",
            }, node=""),
            "no node takes the pod yet: unbound PersistentVolumeClaims. not found; the home's storage class is "
            "nonesuch",
        ),
    ],
)  # fmt: skip
def test_a_pod_that_cannot_run_fails_the_start_with_the_reason(run: Run, pods: list[dict[str, Any]], told: str) -> None:
    done = run("started", pods)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [told]
    assert done.stderr == f"given up after 0 s: {told}\n"


def test_a_quota_that_is_full_fails_the_start_with_the_reason(run: Run) -> None:
    message = 'pods "coder-w-1" is forbidden: exceeded quota: coder-pilot, requested: requests.memory=4Gi, used: <none>'
    status = {
        "conditions": [
            {"type": "Progressing", "status": "True", "message": "Created new replica set"},
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message},
        ]
    }
    done = run("started", NO_POD, deployment={"status": status})
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f"Kubernetes makes no pod: {message}"]


@pytest.mark.parametrize("mode", ["started", "ended"])
def test_an_api_that_is_away_or_refuses_is_told_of_without_the_token(
    run: Run, api: tuple[str, Answers, list[str]], mode: str
) -> None:
    away = run(mode, NO_POD, server="http://127.0.0.1:1", limit_s=1)
    assert "Kubernetes does not say" in away.stdout
    assert "curl: (7) Failed to connect to 127.0.0.1 port 1" in away.stdout
    assert away.returncode == (1 if mode == "started" else 0)
    # To wait would not help; the agent shows whether the pod runs.
    api[1][PODS] = [(403, {"message": "pods is forbidden"})]
    refused = run(mode, limit_s=600)
    assert refused.returncode == 0
    assert "pods is forbidden (403)" in refused.stdout
    assert TOKEN not in away.stdout + away.stderr + refused.stdout + refused.stderr


def test_a_stop_scales_to_none_and_ends_when_the_pod_is_gone(run: Run, api: tuple[str, Answers, list[str]]) -> None:
    done = run("ended", RUNNING, RUNNING, NO_POD)
    assert (done.returncode, done.stdout) == (0, "the pod on kn2 ends\n")
    assert api[2][0] == 'application/merge-patch+json {"spec": {"replicas": 0}}'
    assert "pretty=true" in api[2][2]


def test_a_node_that_is_away_does_not_keep_a_workspace_from_being_stopped(run: Run) -> None:
    done = run("ended", RUNNING, limit_s=1)
    assert done.returncode == 0
    assert done.stdout.endswith("the pod has not ended after 1 s: its node may be away\n")


def test_no_argument_of_a_program_has_the_token(run: Run, tmp_path: Path) -> None:
    """Whoever is on the machine sees those."""
    seen = tmp_path / "seen"
    wrapper = tmp_path / "curl"
    wrapper.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{seen}\nexec /usr/bin/curl "$@"\n')
    wrapper.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{tmp_path}:{before}"
    try:
        assert run("started", RUNNING).returncode == 0
    finally:
        os.environ["PATH"] = before
    assert "labelSelector" in seen.read_text()
    assert TOKEN not in seen.read_text()
