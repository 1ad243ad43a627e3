"""A box of a test's own, which may be rebooted: Linux namespaces with a real Docker Engine in them.

Processes, mounts, network and firewall of a box are its own, so that no other engine on this machine meets them, and
they are gone with its first process: as when a host loses its power, the kernel ends all others at once, in no order.
Only the disk stays, as it does there: Docker's data under `directory`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolchain import engine

SWITCH_OFF_TIMEOUT_S = 60
STOP_TIMEOUT_S = 120
LOAD_TIMEOUT_S = 400
CLONE_NEWNET = 0x40000000  # linux/sched.h

# The first process. It ends when its standard input does, so a box never outlives the test's process.
INIT = """
set -eu
# The mounts of other engines were copied with the namespace; here they would outlive the containers they belong to.
awk '$2 != "/" && ($3 == "overlay" || $3 == "nsfs") { print $2 }' /proc/mounts |
  xargs --no-run-if-empty umount --lazy 2>/dev/null || true
# What a boot finds empty: the engine's pid file, its sockets, its containers' state.
mount -t tmpfs tmpfs /run
ip link set lo up
echo booted
read -r _ || true
"""


@dataclass(kw_only=True)
class Box:
    """One box; `running` gives one that is on.

    Its dockerd is the first of `path`, and is started with `options`.
    """

    directory: Path
    path: str = field(default_factory=lambda: os.environ["PATH"])
    options: Sequence[str] = ()
    _first_process: subprocess.Popen[bytes] = field(init=False)
    _dockerd: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """The engine's, on the disk: it is bound into containers, and seen from outside too."""
        return self.directory / "docker.sock"

    @property
    def docker_host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def _cgroup(self) -> str:
        return f"box-{os.getpid()}-{self.directory.name}"

    def switch_on(self) -> None:
        """Boot the box; its engine is not started yet."""
        self._first_process = subprocess.Popen(
            ["unshare", "--fork", "--pid", "--mount", "--net", "--mount-proc", "bash", "-c", INIT],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._first_process.stdout is not None
        assert self._first_process.stdout.readline() == b"booted\n"

    def start_engine(self, *options: str) -> None:
        """Start dockerd as it is started on any host, but for where it keeps its data and is talked to."""
        command = [
            "env", f"PATH={self.path}",
            "dockerd", "--host", self.docker_host, "--data-root", str(self.directory / "docker"),
            # So that what is left of cgroups is found, for they have no namespace here.
            "--cgroup-parent", f"/{self._cgroup}", "--exec-opt", "native.cgroupdriver=cgroupfs",
            *self.options, *options,
        ]  # fmt: skip
        self._dockerd = engine.launch(self._inside(command), self.directory / "dockerd.log", self.docker_host)

    def restart_engine(self, *options: str) -> None:
        """Stop dockerd as its service is stopped, with SIGTERM, and start it again, with `options`."""
        assert self._dockerd is not None
        stop = self._inside(["sh", "-c", "kill -TERM $(cat /run/docker.pid)"])
        subprocess.run(stop, check=True, timeout=SWITCH_OFF_TIMEOUT_S)
        self._dockerd.wait(STOP_TIMEOUT_S)
        self.start_engine(*options)

    def cut_power(self) -> None:
        """End every process of the box with SIGKILL, at once; what is not on its disk is gone when this returns."""
        assert self._first_process.stdin is not None
        self._first_process.stdin.close()
        # The kernel lets the first process end last.
        self._first_process.wait(SWITCH_OFF_TIMEOUT_S)
        if self._dockerd is not None:
            self._dockerd.wait(SWITCH_OFF_TIMEOUT_S)
        self.socket.unlink(missing_ok=True)
        for root in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
            for group, _, _ in os.walk(root / self._cgroup, topdown=False):
                Path(group).rmdir()

    def reboot(self) -> None:
        """Cut the power, switch it on again and start the engine."""
        self.cut_power()
        self.switch_on()
        self.start_engine()

    def load(self, images: Sequence[str]) -> None:
        """Copy images from this machine's engine."""
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saved:
            subprocess.run(
                ["docker", "--host", self.docker_host, "load"], stdin=saved.stdout, stdout=subprocess.DEVNULL,
                check=True, timeout=LOAD_TIMEOUT_S,
            )  # fmt: skip

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread, and the programs that it starts, use the box's network and engine.

        Not across a reboot: the network ends only when nobody uses it any more.
        """
        before = os.environ.get("DOCKER_HOST")
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        inside = os.open(f"/proc/{self._first_process.pid}/ns/net", os.O_RDONLY)
        try:
            _use_network(inside)
            os.environ["DOCKER_HOST"] = self.docker_host
            yield
        finally:
            _use_network(outside)
            os.close(inside)
            os.close(outside)
            os.environ.pop("DOCKER_HOST")
            if before is not None:
                os.environ["DOCKER_HOST"] = before

    def _inside(self, command: Sequence[str]) -> list[str]:
        of = f"/proc/{self._first_process.pid}/ns"
        return ["nsenter", f"--pid={of}/pid_for_children", f"--mount={of}/mnt", f"--net={of}/net", "--", *command]


@contextlib.contextmanager
def running(directory: Path, *options: str, path: str = "") -> Iterator[Box]:
    """A box that is on, with its disk in `directory`; nothing of it is left afterwards."""
    box = Box(directory=directory, path=path or os.environ["PATH"], options=options)
    box.switch_on()
    try:
        box.start_engine()
        yield box
    finally:
        box.cut_power()
        shutil.rmtree(directory)


def _use_network(namespace: int) -> None:
    # `os.setns` came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
