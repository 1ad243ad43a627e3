"""The project's own environment in a checkout: virtual environment, PULUMI_HOME and the shell's PATH."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from toolchain.builder import Builder, ToolchainError
from toolchain.paths import CHECKOUT, CODERD_SDK, PULUMI_HOME, VENV

LOCK = CHECKOUT / "requirements.lock"
ON_PATH = ("pulumi-cli", "uv", "tofu", "tailscale", "testcontrol", "compose", "actionlint")
INSTALL_TIMEOUT_S = 10 * 60
# What each `up` imports. Without bytecode it is compiled anew, half a second, where Python may not write any.
COMPILED = ("pulumi*", "grpc", "google", "opentelemetry", "semver", "parver", "yaml", "dill", "packaging", "pip")


def _python() -> str:
    # The interpreter below a virtual environment: the one in VENV vanishes while VENV is made anew.
    return str(getattr(sys, "_base_executable", sys.executable))


def lay(builder: Builder) -> str:
    """Lay the SDK, the PULUMI_HOME and the virtual environment into the checkout; "made" or "there".

    Raises:
        ToolchainError: the packages could not be installed.
    """
    sdk = builder.directory("coderd-sdk")
    stamp = CODERD_SDK / ".coder-pilot-key"
    if not stamp.exists() or stamp.read_text() != builder.key("coderd-sdk"):
        shutil.rmtree(CODERD_SDK, ignore_errors=True)
        shutil.copytree(sdk / "sdk", CODERD_SDK)
        stamp.write_text(builder.key("coderd-sdk"))
    lay_pulumi_home(builder, PULUMI_HOME)
    return _lay_venv(builder, next((sdk / "wheel").glob("*.whl")))


def lay_pulumi_home(builder: Builder, home: Path) -> None:
    """Make `home` a PULUMI_HOME that has this toolchain's plugins and providers."""
    home.mkdir(parents=True, exist_ok=True)
    for name in ("plugins", "dynamic_tf_plugins"):
        link, target = home / name, builder.directory("pulumi-plugins") / name
        if link.is_symlink() and link.readlink() == target:
            continue
        if link.is_symlink():
            link.unlink()
        elif link.exists():
            raise ToolchainError(f"{link} is a folder of its own: remove it, then run the same command again")
        link.symlink_to(target)


def _lay_venv(builder: Builder, coderd_wheel: Path) -> str:
    key = hashlib.sha256(LOCK.read_bytes() + builder.key("coderd-sdk").encode() + sys.version.encode()).hexdigest()
    stamp = VENV / ".coder-pilot-key"
    if stamp.exists() and stamp.read_text() == key:
        return "there"
    uv = builder.directory("uv") / "bin" / "uv"
    stamp.unlink(missing_ok=True)
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", _python(), VENV],
        [uv, "pip", "install", "--quiet", "--python", VENV, "--require-hashes", "-r", LOCK],
        [uv, "pip", "install", "--quiet", "--python", VENV, "--no-deps", coderd_wheel],
    ):
        done = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, "UV_CACHE_DIR": str(builder.cache / "uv"), "UV_LINK_MODE": "hardlink"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S,
        )  # fmt: skip
        if done.returncode != 0:
            raise ToolchainError(f"the virtual environment could not be made:\n{done.stderr.strip()}")
    (packages,) = VENV.glob("lib/python*/site-packages")
    folders = [str(folder) for pattern in COMPILED for folder in packages.glob(pattern) if folder.is_dir()]
    subprocess.run(
        [VENV / "bin" / "python", "-m", "compileall", "-q", "-j", "0", *folders],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=INSTALL_TIMEOUT_S,
    )  # fmt: skip
    stamp.write_text(key)
    return "made"


def variables(builder: Builder) -> dict[str, str]:
    """What a shell needs to have set so that `pulumi` and the rest answer."""
    folders = [VENV / "bin", *(builder.directory(name) / "bin" for name in ON_PATH)]
    ours = {str(folder) for folder in folders}
    rest = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder not in ours]
    return {
        "PATH": os.pathsep.join([*map(str, folders), *rest]),
        "VIRTUAL_ENV": str(VENV),
        "PULUMI_HOME": str(PULUMI_HOME),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # Every plugin is in PULUMI_HOME; without this a wrong version would be looked for on the network for minutes.
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


def shell(builder: Builder) -> str:
    """The variables as lines for `eval`."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables(builder).items())
