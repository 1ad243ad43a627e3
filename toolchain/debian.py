"""Debian packages that pieces and tests need on the machine itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from toolchain.builder import ToolchainError

APT_TIMEOUT_S = 15 * 60

# A linter, Git LFS, the browser of the test suite with what gives it a network of its own, an SSH client, and an SSH
# server that nothing starts by itself.
TEST_PACKAGES = (
    "chromium", "dropbear-bin", "git-lfs", "iproute2", "libnss3-tools", "openssh-client", "shellcheck", "socat",
)  # fmt: skip


def missing(packages: Sequence[str]) -> list[str]:
    """Those of `packages` that dpkg does not have installed; none where there is no dpkg to ask."""
    if shutil.which("dpkg-query") is None:
        return []
    shown = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *packages],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    installed = {line.split()[0] for line in shown.stdout.splitlines() if line.endswith(" installed")}
    return [package for package in packages if package not in installed]


def ensure(packages: Sequence[str]) -> None:
    """Install what is missing of `packages`, as root on a Debian-like machine.

    Raises:
        ToolchainError: something is missing and cannot be installed here; names the command that does.
    """
    absent = missing(packages)
    if not absent:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *absent]
    if os.geteuid() != 0:
        raise ToolchainError(f"Debian packages are missing: run `sudo {' '.join(command)}`")
    print(f"installing Debian packages: {' '.join(absent)}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update"], command):
        done = subprocess.run(
            step, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=APT_TIMEOUT_S,
        )  # fmt: skip
        if done.returncode != 0:
            tail = "\n".join(f"  | {line}" for line in (done.stdout + done.stderr).splitlines()[-10:])
            raise ToolchainError(f"`{' '.join(step)}` ended with {done.returncode}:\n{tail}")
