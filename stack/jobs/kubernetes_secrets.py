"""Write the secrets of the settings into the Secret that every workspace on the cluster reads at its start; `remove`
takes it away. As in workspace_secrets.py: no variable of the template has them, and no state of a workspace.

Another pilot of our name may be in the namespace: its Secret is left alone, and told of. A cluster that is away or
refuses is no failure, for this machine's own workspaces need none: what it said is printed, and the next `up` tries
again.
"""

from __future__ import annotations

import base64
import hashlib
import http
import json
import socket
import sys
from pathlib import Path

from stack.jobs import kubernetes, pilot_file, program
from stack.jobs.engine import JobError
from stack.jobs.kubernetes import Cluster, ClusterError
from stack.jobs.workspace_secrets import FILE, text

PILOT = "coder-pilot.data"
"""The annotation that says whose it is."""
MACHINE = Path("/etc/machine-id")


def main() -> None:
    cluster, directory = kubernetes.of_environment(), program.variable("DATA_DIRECTORY")
    namespace, name = program.variable("NAMESPACE"), program.variable("NAME")
    path, ours = f"/api/v1/namespaces/{namespace}/secrets/{name}", mark(directory)
    if sys.argv[1:] == ["remove"]:
        try:
            if _whose(cluster, path) == ours:
                cluster.call("DELETE", path)
        except ClusterError as error:
            # Nothing that is left needs it: a pilot can end without its cluster.
            print(f"warning: the Secret {name} stays in {namespace}: {error}", file=sys.stderr)
        return
    contents = text(json.loads(program.variable("SECRETS")))
    wanted = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "annotations": {PILOT: ours}},
        "data": {FILE: base64.b64encode(contents.encode()).decode()},
    }
    try:
        if _whose(cluster, path) not in ("", ours):
            raise JobError(
                f"the namespace {namespace} has the Secret {name} of another pilot: give one of the two another `name` "
                f"or kubernetesNamespace; where that pilot is gone, or this one was moved, `kubectl -n {namespace} "
                f"delete secret {name}`"
            )
        cluster.apply(path, wanted)
    except ClusterError as error:
        print(f"workspaces on the cluster get no new secrets, the next `make up` tries again: {error}")
        pilot_file.update(directory, kubernetes_attempts=pilot_file.kubernetes_attempts(directory) + 1)


def mark(data_directory: str) -> str:
    """What distinguishes this pilot from every other one: its machine and its data."""
    machine = MACHINE.read_text().strip() if MACHINE.exists() else socket.gethostname()
    return hashlib.sha256(f"{machine}:{Path(data_directory).resolve()}".encode()).hexdigest()[:12]


def _whose(cluster: Cluster, path: str) -> str:
    """The mark of the Secret; "" where there is none.

    Raises:
        ClusterError: the cluster refused or did not answer.
    """
    try:
        found = cluster.call("GET", path)
    except ClusterError as error:
        if error.status == http.HTTPStatus.NOT_FOUND:
            return ""
        raise
    return str((found["metadata"].get("annotations") or {}).get(PILOT, ""))


if __name__ == "__main__":
    program.run(main)
