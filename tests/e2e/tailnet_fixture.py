"""A tailnet on loopback: the real tailscaled twice, the test control server, and a certificate that a browser verifies.

`framework` is the box, `laptop` its owner's other machine. Nothing here knows of Coder: any program may listen on
loopback and be served.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import parts
from tests.e2e.pilot_fixture import eventually, free_port

DOMAIN = "tailnet.test"
SYSTEM_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
ENVIRONMENT = {**os.environ, **parts.variables()}
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


CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def make_ca(directory: Path) -> Path:
    """A new CA in `directory`; its certificate."""
    ca, key = directory / "ca.crt", directory / "ca.key"
    openssl("req", "-x509", *CURVE, "-days", "365", "-subj", "/CN=Coder pilot test CA", "-keyout", key, "-out", ca)
    return ca


def issue_certificate(ca: Path, certificate: Path, key: Path, *hosts: str) -> None:
    """Lay the CA's leaf for `hosts` at `certificate` and `key`."""
    request, extensions = certificate.with_suffix(".csr"), certificate.with_suffix(".ext")
    openssl("req", "-new", *CURVE, "-subj", f"/CN={hosts[0]}", "-keyout", key, "-out", request)
    names = ",".join(f"DNS:{host}" for host in hosts)
    extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:false\n")
    openssl(
        "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca.with_suffix(".key"), "-CAcreateserial", "-days", "90",
        "-extfile", extensions, "-out", certificate,
    )  # fmt: skip


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
    ca = make_ca(directory)
    issue_certificate(ca, box / "certs" / f"{host}.crt", box / "certs" / f"{host}.key", host)
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


@contextlib.contextmanager
def leading(domain: str, node: str, socks: str) -> Iterator[str]:
    """A SOCKS5 proxy in front of `socks` that takes the domain and all names below it for `node`; its host:port.

    In userspace mode tailscaled resolves nodes alone.
    """

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            def read(count: int, source: socket.socket = self.request) -> bytes:
                return source.recv(count, socket.MSG_WAITALL)

            # RFC 1928: no authentication, then CONNECT to a name.
            self.request.sendall(b"\x05\x00" if read(read(2)[1]) is not None else b"")
            head = read(5)
            name, port = read(head[4]).decode(), read(2)
            led = (node if f".{name}".endswith(f".{domain}") else name).encode()
            address, _, number = socks.partition(":")
            with socket.create_connection((address, int(number)), timeout=60) as onward:
                onward.sendall(b"\x05\x01\x00")
                read(2, onward)
                onward.sendall(b"\x05\x01\x00\x03" + bytes([len(led)]) + led + port)
                onward.settimeout(None)
                back = threading.Thread(target=_pour, args=(onward, self.request), daemon=True)
                back.start()
                _pour(self.request, onward)
                back.join(60)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
