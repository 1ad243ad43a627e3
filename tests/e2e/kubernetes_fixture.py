"""A pilot with a cluster of its own, prepared as docs/kubernetes.md says."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import cluster_fixture
from tests.e2e.cluster_fixture import HOST, STORAGE_CLASS, Cluster
from tests.e2e.parts import CODER_IMAGE, WORKSPACE_IMAGE
from tests.e2e.pilot_fixture import CHECKOUT, NAME_PREFIX, Pilot, docker, eventually
from tests.e2e.retirement_fixture import command

NAMESPACE = "coder-pilot"


@dataclass(frozen=True, kw_only=True)
class Both:
    """The pilot, its cluster, and the account that docs/kubernetes.md makes."""

    pilot: Pilot
    cluster: Cluster
    kubeconfig: Path

    def as_pilot(self, *words: str) -> str:
        """What `kubectl` says to the pilot's account, refusals too."""
        return self.cluster.kubectl(f"--kubeconfig={self.kubeconfig}", *words, check=False)

    def inside(self, workspace: Mapping[str, Any], script: str) -> str:
        """What a script prints in the workspace; its administrator may, the pilot's account may not."""
        (pod,) = self.pods(workspace)
        words = ("exec", "-n", NAMESPACE, pod["metadata"]["name"], "--", "bash", "-c", script)
        return self.cluster.kubectl(*words)

    def claim(self, workspace: Mapping[str, Any]) -> dict[str, Any] | None:
        found = self.cluster.objects("persistentvolumeclaims", NAMESPACE)
        return next((each for each in found if each["metadata"]["name"] == f"coder-{workspace['id']}-home"), None)

    def pods(self, workspace: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = self.cluster.objects("pods", NAMESPACE)
        return [each for each in found if each["metadata"]["labels"].get("coder.workspace_id") == workspace["id"]]

    def home(self, workspace: Mapping[str, Any]) -> Path:
        """The folder on its node's disk."""
        claim = self.claim(workspace)
        assert claim is not None
        node, _, number = claim["spec"]["volumeName"].rpartition("-")
        return self.cluster.nodes[node].homes() / number


def _follow_the_documentation(cluster: Cluster, folder: Path) -> Path:
    """Run what docs/kubernetes.md says, word for word, as the cluster's administrator; the kubeconfig that it makes."""
    text = (CHECKOUT / "docs" / "kubernetes.md").read_text().partition("## Tell the pilot")[0]
    (folder / "docs").symlink_to(CHECKOUT / "docs")
    variables = {
        **os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PATH": f"{cluster.directory}/bin:{os.environ['PATH']}",
    }  # fmt: skip
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        # The token of a Secret comes some moments after it.
        eventually(
            lambda block=block: subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=variables, check=True, timeout=60
            ),
            timeout_s=60, what=block,
        )  # fmt: skip
    return folder / "kubeconfig.pilot"


@contextlib.contextmanager
def pilot_with_cluster(make_pilot: Callable[..., Pilot], folder: Path) -> Iterator[Both]:
    """A pilot that is up, by one `make up`, with a cluster of two nodes."""
    image = f"{NAME_PREFIX}-kubernetes/coder:v{CODER_IMAGE.rpartition(':v')[2]}"
    (folder / "image").mkdir()
    cluster_fixture.make_coder_image(folder / "image", image, CODER_IMAGE)
    try:
        with cluster_fixture.running(folder / "cluster", [WORKSPACE_IMAGE]) as cluster:
            (folder / "account").mkdir()
            kubeconfig = _follow_the_documentation(cluster, folder / "account")
            pilot = make_pilot(
                coderImage=image, kubernetesKubeconfig=str(kubeconfig), agentAddress=HOST,
                kubernetesStorageClass=STORAGE_CLASS, workspaceMemory="1GiB",
            )  # fmt: skip
            command(pilot, "up")
            yield Both(pilot=pilot, cluster=cluster, kubeconfig=kubeconfig)
            pilot.remove()
    finally:
        docker("image", "rm", "--force", image, check=False)
