"""A tailnet on loopback: the real tailscaled twice, the test control server, and a certificate that a browser verifies.

`framework` is the box, `laptop` its owner's other machine. Nothing here knows of Coder: any program may listen on
loopback and be served.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.pilot_fixture import eventually, free_port
from toolchain import environment
from toolchain.builder import Builder
from toolchain.pieces import PIECES

DOMAIN = "tailnet.test"
SYSTEM_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
ENVIRONMENT = {**os.environ, **environment.variables(Builder(PIECES))}
READY_TIMEOUT_S = 60


@dataclass(frozen=True, kw_only=True)
class Node:
    name: str
    directory: Path

    @property
    def host(self) -> str:
        return f"{self.name}.{DOMAIN}"

    @property
    def socket(self) -> Path:
        return self.directory / "s"  # short: a Unix socket's path ends at 107 bytes

    def tailscale(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["tailscale", f"--socket={self.socket}", *args],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=check,
        )

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.tailscale("status", "--json").stdout))

    def serve_status(self) -> dict[str, Any]:
        return json.loads(self.tailscale("serve", "status", "--json").stdout) or {}


@dataclass(frozen=True, kw_only=True)
class Tailnet:
    """`ca` is the test CA's certificate; `socks` the laptop's way into the tailnet, as host:port."""

    framework: Node
    laptop: Node
    ca: Path
    socks: str


@contextlib.contextmanager
def running(
    command: list[str], log: Path, variables: Mapping[str, str] = ENVIRONMENT
) -> Iterator[subprocess.Popen[str]]:
    """A program of ours, ended with SIGTERM; its standard error in `log`, its standard output for us to read."""
    with (
        log.open("w") as sink,
        subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sink, text=True
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(15)


def openssl(*args: str | Path) -> None:
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, timeout=60)


def issue_certificate(directory: Path, host: str, certificate: Path, key: Path) -> Path:
    """Lay a new CA's leaf for `host` at `certificate` and `key`; return the CA's certificate."""
    ca, ca_key, request, extensions = (directory / f for f in ("ca.crt", "ca.key", "leaf.csr", "leaf.ext"))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *curve, "-days", "365", "-subj", "/CN=Coder pilot test CA", "-keyout", ca_key, "-out", ca)
    openssl("req", "-new", *curve, "-subj", f"/CN={host}", "-keyout", key, "-out", request)
    extensions.write_text(f"subjectAltName=DNS:{host}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:false\n")
    openssl(
        "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "90",
        "-extfile", extensions, "-out", certificate,
    )  # fmt: skip
    return ca


@contextlib.contextmanager
def node(name: str, directory: Path, login_server: str, *flags: str, trust: Path) -> Iterator[Node]:
    this = Node(name=name, directory=directory)
    daemon = [
        "tailscaled", "--tun=userspace-networking", "--port=0",
        f"--statedir={directory}", f"--socket={this.socket}", *flags,
    ]  # fmt: skip
    # tailscaled only hands out a certificate that it can verify itself, so it has to trust the test CA.
    variables = {**ENVIRONMENT, "TS_NO_LOGS_NO_SUPPORT": "true", "SSL_CERT_FILE": str(trust)}
    with running(daemon, directory / "tailscaled.log", variables):
        eventually(this.socket.exists, timeout_s=READY_TIMEOUT_S, what=f"tailscaled of {name} listens")
        this.tailscale("up", f"--login-server={login_server}", f"--hostname={name}", "--timeout=50s")
        yield this


@contextlib.contextmanager
def tailnet(directory: Path, *control_flags: str) -> Iterator[Tailnet]:
    """Both nodes up and seeing each other; all of it gone afterwards.

    Args:
        directory: an empty one with a short path.
        control_flags: of `testcontrol`, e.g. "-https=false" for a tailnet without certificates.
    """
    box, laptop_dir = directory / "framework", directory / "laptop"
    (box / "certs").mkdir(parents=True)
    laptop_dir.mkdir()
    host = f"framework.{DOMAIN}"
    ca = issue_certificate(directory, host, box / "certs" / f"{host}.crt", box / "certs" / f"{host}.key")
    trust = directory / "trust.pem"
    trust.write_text(SYSTEM_CA_BUNDLE.read_text() + ca.read_text())
    socks = f"127.0.0.1:{free_port()}"
    control = ["testcontrol", f"-domain={DOMAIN}", *control_flags]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(control, directory / "testcontrol.log"))
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), (directory / "testcontrol.log").read_text()
        framework = stack.enter_context(node("framework", box, url, trust=trust))
        laptop = stack.enter_context(node("laptop", laptop_dir, url, f"--socks5-server={socks}", trust=trust))
        eventually(
            lambda: laptop.tailscale("ping", "-c", "1", "--timeout=5s", "framework", check=False).returncode == 0,
            timeout_s=READY_TIMEOUT_S,
            what="the laptop sees framework",
        )
        yield Tailnet(framework=framework, laptop=laptop, ca=ca, socks=socks)
