"""A Git host over SSH: a real server, with a host key and with users' keys that a test sets."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.pilot_fixture import eventually, free_port

CALL_TIMEOUT_S = 30


@dataclass(kw_only=True)
class SshHost:
    """Serves what lies in `home` to the user `git`; nobody may log in at first."""

    home: Path
    address: str
    port: int = field(default_factory=free_port)
    _server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the repositories are."""
        return f"ssh://git@{self.address}:{self.port}{self.home}"

    def authorize(self, public_key: str) -> None:
        """Let the owner of `public_key` in."""
        folder = self.home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "authorized_keys").write_text(public_key)

    def start(self, host_key: str) -> None:
        """Serve with the host key of that name, which is made where it is new; an earlier server ends."""
        self.stop()
        file = self.home / f"{host_key}.key"
        if not file.exists():
            subprocess.run(
                ["dropbearkey", "-t", "ed25519", "-f", file], check=True, capture_output=True, timeout=CALL_TIMEOUT_S
            )
        # The server looks users up in /etc/passwd: for it alone, and for what it starts, there is one called git.
        (self.home / "passwd").write_text(f"git:x:0:0::{self.home}:/bin/bash\n")
        server = f"dropbear -F -E -s -r {file} -p {self.address}:{self.port} -P {self.home}/pid"
        with (self.home / "log").open("ab") as log:
            self._server = subprocess.Popen(
                ["unshare", "--mount", "bash", "-c", f"mount --bind {self.home}/passwd /etc/passwd && exec {server}"],
                stderr=log,
            )
        eventually(lambda: (self.home / "pid").exists(), timeout_s=CALL_TIMEOUT_S, what="the SSH server")

    def stop(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait(timeout=CALL_TIMEOUT_S)
            (self.home / "pid").unlink(missing_ok=True)


@contextlib.contextmanager
def ssh_host(home: Path, address: str) -> Iterator[SshHost]:
    """A host on `address`; what it serves lies in `home`."""
    home.mkdir()
    host = SshHost(home=home, address=address)
    try:
        yield host
    finally:
        host.stop()
