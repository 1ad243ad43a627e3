"""A Kubernetes of two nodes, on this machine alone: each node is a box, and a third box has the bridge between them.

The control plane is in the first node. All of it ends with the first processes of the boxes. What then is left on this
machine are four empty folders below /var, where the nodes have theirs.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.box_fixture import Box
from tests.e2e.pilot_fixture import docker, eventually
from toolchain.builder import Builder
from toolchain.pieces import PIECES

HOST = "10.99.0.1"
"""This machine on the nodes' network."""
NODES = {"kn1": "10.99.0.11", "kn2": "10.99.0.12"}
API = f"https://{NODES['kn1']}:6443"
PAUSE_IMAGE = "localhost/coder-pilot-pause:1"
STORAGE_CLASS = "on-the-node"
HOMES_PER_NODE = 4
READY_TIMEOUT_S = 240
COMMAND_TIMEOUT_S = 240
LOAD_TIMEOUT_S = 400
SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")

# Beside what a box has: the kubelet mounts into pods' folders, which the node's own containerd must see.
PREPARE = """
set -eu
mount --make-rshared /
for folder in /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers; do
  mkdir -p "$folder" "$0$folder"
  mount --bind "$0$folder" "$folder"
done
"""

CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""


def _kubelet(node: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        # Where this machine has control groups of version 1.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        # Two kubelets on one hierarchy would clear up each other's pods.
        "cgroupRoot": f"/kube-{node}",
        "failSwapOn": False,
        # Without CAP_SYS_RESOURCE it cannot be lowered.
        "oomScoreAdj": 0,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%",
        },
    }  # fmt: skip


def _network(number: int) -> dict[str, Any]:
    subnet = f"10.244.{number}.0/24"
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "pods", "isGateway": True, "ipMasq": True,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]},
            }
        ],
    }  # fmt: skip


@dataclass(kw_only=True)
class Node(Box):
    """One node; its disk is in `directory`."""

    name: str
    cluster: Path
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.directory / "log"

    @property
    def process(self) -> int:
        """The id of a process in the node's network."""
        return self._first_process.pid

    def homes(self) -> Path:
        """Where volumes of this node are."""
        return self.directory / "homes"

    def switch_on(self) -> None:
        """Boot the node and join it to the bridge; nothing of Kubernetes runs yet."""
        super().switch_on()
        self.log.mkdir(parents=True, exist_ok=True)
        self.run("bash", "-c", PREPARE, str(self.directory))
        for root in _hierarchies():
            group = root / f"kube-{self.name}"
            group.mkdir(exist_ok=True)
            if root.name == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (group / file).write_text((root / file).read_text())

    def run(self, *command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """What a command prints that runs on the node."""
        done = subprocess.run(
            self._inside(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{command[0]}: {done.stderr}"
        return done.stdout

    def launch(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a server on the node; it ends with the node at the latest."""
        program = str(self.cluster / "bin" / name) if name in SERVERS else name
        with (self.log / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                self._inside([program, *options]), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def start(self) -> None:
        """Start containerd with the images that are here, and the kubelet."""
        number = list(NODES).index(self.name) + 1
        (self.directory / "cni").mkdir(exist_ok=True)
        (self.directory / "cni" / "pods.conflist").write_text(json.dumps(_network(number)))
        (self.directory / "containerd.toml").write_text(CONTAINERD.format(folder=self.directory, pause=PAUSE_IMAGE))
        (self.directory / "kubelet.json").write_text(json.dumps(_kubelet(self.name)))
        self.launch("containerd", "--config", str(self.directory / "containerd.toml"))
        eventually(lambda: self.run("ctr", "version"), timeout_s=60, what=f"containerd of {self.name}")
        self.launch(
            "kubelet", f"--config={self.directory}/kubelet.json", f"--kubeconfig={self.cluster}/admin.json",
            f"--hostname-override={self.name}", f"--node-ip={NODES[self.name]}", f"--cert-dir={self.directory}/kubelet",
        )  # fmt: skip

    def load(self, images: Sequence[str]) -> None:
        """Take over the images of archives."""
        for archive in images:
            self.run("ctr", "--namespace", "k8s.io", "images", "import", archive, timeout_s=LOAD_TIMEOUT_S)

    def cut_power(self) -> None:
        """As with any box; the kubelet's control groups go too."""
        super().cut_power()
        for root in _hierarchies():
            for group, _, _ in os.walk(root / f"kube-{self.name}", topdown=False):
                with contextlib.suppress(OSError):
                    Path(group).rmdir()


def _hierarchies() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return [each for each in root.iterdir() if (each / "cgroup.procs").exists() and not each.is_symlink()]


@dataclass(kw_only=True)
class Cluster:
    """The whole of it."""

    directory: Path
    nodes: dict[str, Node] = field(default_factory=dict)
    bridge: Node = field(init=False)
    servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.directory / "admin.json"

    def kubectl(self, *words: str, check: bool = True, stdin: str = "") -> str:
        """What `kubectl` prints for the administrator."""
        done = subprocess.run(
            [self.directory / "bin" / "kubectl", f"--kubeconfig={self.kubeconfig}", *words],
            input=stdin, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done.stdout if check else done.stdout + done.stderr

    def objects(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """What the namespace has of a kind."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-n", namespace, "-o", "json"))["items"]
        return found

    def start_api(self) -> None:
        """Start the API server and wait until it is ready."""
        files, accounts = self.directory, self.directory / "accounts.key"
        self.servers["kube-apiserver"] = self.nodes["kn1"].launch(
            "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", f"--advertise-address={NODES['kn1']}",
            f"--tls-cert-file={files}/server.pem", f"--tls-private-key-file={files}/server.key",
            f"--token-auth-file={files}/tokens.csv", "--authorization-mode=RBAC", "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={accounts}", f"--service-account-signing-key-file={accounts}",
            "--service-cluster-ip-range=10.96.0.0/16", f"--cert-dir={files}",
            # No name server here knows the nodes' names.
            "--kubelet-preferred-address-types=InternalIP",
        )  # fmt: skip
        eventually(lambda: self.kubectl("get", "--raw", "/readyz"), timeout_s=READY_TIMEOUT_S, what="the API server")

    def bring_back(self, name: str) -> None:
        """Boot a node whose power was cut, and start what runs on it."""
        self.nodes[name].switch_on()
        _plug_in(self.bridge, self.nodes[name])
        self.nodes[name].start()

    def stop_api(self) -> None:
        """End the API server, as a crash does."""
        self.nodes["kn1"].run("pkill", "-KILL", "-x", "kube-apiserver")
        self.servers["kube-apiserver"].wait(60)


def certificates(folder: Path) -> None:
    """What servers and clients of the API show and believe; the server is kn1, and this machine's loopback."""
    name = f"subjectAltName=IP:{NODES['kn1']},IP:10.96.0.1,IP:127.0.0.1,DNS:kubernetes"
    for words in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=drill -keyout authority.key -out authority.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=kube-apiserver -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names "
        "-out server.pem",
        "genrsa -out accounts.key 2048",
    ):
        (folder / "names").write_text(name)
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True, timeout=60)


def administrator(folder: Path, server: str) -> None:
    """A kubeconfig of an account that may everything."""
    token = "token-of-the-drills-administrator"
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    (folder / "admin.json").write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "admin",
                "contexts": [{"name": "admin", "context": {"cluster": "drill", "user": "admin"}}],
                "clusters": [
                    {"name": "drill", "cluster": {"server": server, "certificate-authority-data": _authority(folder)}}
                ],
                "users": [{"name": "admin", "user": {"token": token}}],
            }
        )
    )


def _authority(folder: Path) -> str:
    return base64.b64encode((folder / "authority.pem").read_bytes()).decode()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=60)


def _cable(bridge: Node, number: int, other: int | None) -> str:
    """A cable from the bridge to a network namespace, None for this machine's; the name of its other end."""
    end = f"cp-kube{number}"
    _ip("link", "add", end, "type", "veth", "peer", "name", f"port{number}", "netns", str(bridge.process))
    bridge.run("ip", "link", "set", f"port{number}", "master", "nodes", "up")
    if other is not None:
        _ip("link", "set", end, "netns", str(other))
    return end


def _wire(bridge: Node, nodes: Sequence[Node]) -> None:
    bridge.run("ip", "link", "add", "nodes", "type", "bridge")
    bridge.run("ip", "link", "set", "nodes", "up")
    end = _cable(bridge, 0, None)
    _ip("address", "add", f"{HOST}/24", "dev", end)
    _ip("link", "set", end, "up")
    for node in nodes:
        _plug_in(bridge, node)


def _plug_in(bridge: Node, node: Node) -> None:
    end = _cable(bridge, list(NODES).index(node.name) + 1, node.process)
    node.run("ip", "address", "add", f"{NODES[node.name]}/24", "dev", end)
    node.run("ip", "link", "set", end, "up")
    node.run("ip", "route", "add", "default", "via", HOST)
    node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")


def _archive(folder: Path, images: Sequence[str], pause: Path) -> str:
    context = folder / "pause"
    context.mkdir()
    shutil.copy2(pause, context / "pause")
    (context / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n')
    docker("build", "--quiet", "--tag", PAUSE_IMAGE, str(context))
    archive = folder / "images.tar"
    subprocess.run(["docker", "save", "--output", archive, PAUSE_IMAGE, *images], check=True, timeout=LOAD_TIMEOUT_S)
    return str(archive)


def _storage(cluster: Cluster) -> None:
    """A class whose volumes are folders of the nodes, as each bare-metal cluster can have it."""
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": STORAGE_CLASS},
            "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
        }
    ]  # fmt: skip
    for node in cluster.nodes.values():
        for number in range(HOMES_PER_NODE):
            home = node.homes() / str(number)
            home.mkdir(parents=True)
            term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]}]}
            documents.append(
                {
                    "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{node.name}-{number}"},
                    "spec": {
                        "capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteOnce"],
                        "storageClassName": STORAGE_CLASS, "persistentVolumeReclaimPolicy": "Retain",
                        "local": {"path": str(home)}, "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
                    },
                }
            )  # fmt: skip
    cluster.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, documents)))


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One cluster at a time on this machine: its network and its control groups have fixed names."""
    with (Path(tempfile.gettempdir()) / "coder-pilot-cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def running(directory: Path, images: Sequence[str]) -> Iterator[Cluster]:
    """A cluster with both nodes ready, which have the images; nothing of it is left afterwards."""
    with _alone(), _running(directory, images) as cluster:
        yield cluster


@contextlib.contextmanager
def _running(directory: Path, images: Sequence[str]) -> Iterator[Cluster]:
    piece = Builder(PIECES).directory("kubernetes")
    assert piece.exists(), f"{piece} is missing: run `python3 -m toolchain build kubernetes`"
    cluster = Cluster(directory=directory)
    (directory / "bin").mkdir(parents=True)
    for name in SERVERS:
        (directory / "bin" / name).symlink_to(piece / "kubernetes")
    certificates(directory)
    administrator(directory, API)
    bridge = cluster.bridge = Node(directory=directory / "bridge", name="bridge", cluster=directory)
    nodes = [Node(directory=directory / name, name=name, cluster=directory) for name in NODES]
    cluster.nodes = {node.name: node for node in nodes}
    on: list[Node] = []
    try:
        for each in (bridge, *nodes):
            each.directory.mkdir()
            each.switch_on()
            on.append(each)
        _wire(bridge, nodes)
        first = cluster.nodes["kn1"]
        first.launch(
            "etcd", f"--data-dir={directory}/etcd", "--unsafe-no-fsync", "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380",
        )  # fmt: skip
        cluster.start_api()
        first.launch(
            "kube-controller-manager", f"--kubeconfig={cluster.kubeconfig}", "--leader-elect=false",
            f"--service-account-private-key-file={directory}/accounts.key", f"--root-ca-file={directory}/authority.pem",
            f"--cert-dir={directory}",
        )  # fmt: skip
        first.launch("kube-scheduler", f"--kubeconfig={cluster.kubeconfig}", "--leader-elect=false")
        archive = _archive(directory, images, piece / "pause")
        for node in nodes:
            node.start()
            node.load([archive])
        Path(archive).unlink()
        _storage(cluster)
        cluster.kubectl("wait", "--for=condition=Ready", "node", "--all", f"--timeout={READY_TIMEOUT_S}s")
        yield cluster
    finally:
        for each in reversed(on):
            each.cut_power()
        docker("image", "rm", "--force", PAUSE_IMAGE, check=False)
        shutil.rmtree(directory, ignore_errors=True)


def make_coder_image(folder: Path, name: str, base: str) -> None:
    """An image of Coder that has the provider too: its mirror is all that it asks, and no registry serves it."""
    mirror = Builder(PIECES).directory("terraform-mirror-kubernetes")
    assert mirror.exists(), f"{mirror} is missing: run `python3 -m toolchain build terraform-mirror-kubernetes`"
    shutil.copytree(mirror, folder / "mirror")
    (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY mirror /opt/terraform-mirror\n")
    docker("build", "--quiet", "--tag", name, str(folder))
