"""Chromium as a person has it: a home of its own, a CA it was told to trust, a proxy when the way leads through one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, sync_playwright

# No sandbox: tests may run as root. The rest keeps it from calling home, and from QUIC, which no SOCKS proxy carries.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A terminal then draws its text as text, which a test can read, and not into a canvas.
    "--disable-3d-apis",
)


@contextlib.contextmanager
def chromium(
    home: Path, *, only: str | None = None, trusted_ca: Path | None = None, socks: str | None = None
) -> Iterator[Browser]:
    """Debian's Chromium.

    Args:
        home: an empty folder for its HOME.
        only: a URL on 127.0.0.1. The browser then has a network of its own with nothing but that port: on the machine's
            it drops requests with ERR_NETWORK_CHANGED whenever a container comes or goes.
        trusted_ca: a CA certificate to trust besides the system's; nothing is ever trusted unverified.
        socks: host:port of a SOCKS5 proxy, which also resolves the names.
    """
    program = shutil.which("chromium")
    assert program, "chromium is missing: run `apt-get install chromium`"
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    _certutil("-N", "--empty-password", database=database)
    if trusted_ca:
        _certutil("-A", "-n", "test CA", "-t", "C,,", "-i", str(trusted_ca), database=database)
    environment = {**os.environ, "HOME": str(home)}
    with contextlib.ExitStack() as open_things:
        if only:
            program = str(Path(__file__).with_name("own_network.sh"))
            environment |= open_things.enter_context(_door(home / "door.sock", urlsplit(only).port))
        playwright = open_things.enter_context(sync_playwright())
        browser = playwright.chromium.launch(
            executable_path=program,
            args=list(FLAGS),
            env=environment,
            proxy={"server": f"socks5://{socks}"} if socks else None,
        )
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def _door(socket: Path, port: int | None) -> Iterator[dict[str, str]]:
    """Lead `socket` to a port of 127.0.0.1, and say both in the variables that own_network.sh reads."""
    relay = subprocess.Popen(["socat", f"UNIX-LISTEN:{socket},fork,backlog=128", f"TCP:127.0.0.1:{port}"])
    try:
        yield {"DOOR_SOCKET": str(socket), "DOOR_PORT": str(port)}
    finally:
        relay.terminate()
        relay.wait(timeout=10)


def _certutil(*arguments: str, database: Path) -> None:
    subprocess.run(
        ["certutil", "-d", f"sql:{database}", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    )
