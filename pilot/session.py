"""One stack and everything that `pulumi` needs to work on it: programs, passphrase, state backend, configuration."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilot import configuration
from pilot.configuration import PROJECT, PilotError
from stack.jobs import names
from stack.settings import Settings
from toolchain import environment
from toolchain.builder import Builder
from toolchain.paths import CHECKOUT, CODERD_SDK, VENV
from toolchain.pieces import IMAGES, PIECES

STATE = PROJECT / names.STATE
STACKS = STATE / ".pulumi" / "stacks" / names.PROJECT
PASSPHRASE = PROJECT / ".passphrase"
STAMP = VENV / ".pulumi-install"
"""Goes with the virtual environment that `pulumi install` made."""
PASSPHRASE_VARIABLES = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")
INCORRECT = "incorrect passphrase"
"""Pulumi's words for a passphrase that does not fit the salt."""
GIVE_UP = "make up NEW_STATE=yes"
"""The command that goes on without the passphrase."""
_WITHOUT_PASSPHRASE = (
    f"Without one, run `{GIVE_UP}`, which puts the state aside and takes the running pilot over: data, users, "
    "workspaces and homes stay, passwords are made anew"
)
SALT_KEY = "encryptionsalt"
SALT_SUFFIX = ".salt"
QUICK_TIMEOUT_S = 60
BUILT_IMAGE_PREFIX = "coder-pilot/"


@dataclass(frozen=True, kw_only=True)
class Session:
    """A stack that exists, and the environment in which `pulumi` works on it."""

    stack: str
    settings: Settings
    environment: Mapping[str, str]
    config_file: Path
    published: bool

    def pulumi(self, *arguments: str, timeout_s: float | None = None) -> int:
        """Run `pulumi` on the terminal; its exit code.

        Raises:
            KeyboardInterrupt: it failed because somebody pressed Ctrl-C; nothing is to be repaired then.
        """
        # Ctrl-C reaches `pulumi` itself, which then ends in order; to die first would kill it in the middle.
        interrupted: list[int] = []
        before = signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))
        try:
            with subprocess.Popen(self.command(*arguments), cwd=PROJECT, env=self.environment) as process:
                try:
                    code = process.wait(timeout_s)
                except subprocess.TimeoutExpired:
                    process.terminate()
                    raise
        finally:
            signal.signal(signal.SIGINT, before)
        if code != 0 and interrupted:
            raise KeyboardInterrupt
        if code != 0 and not passphrase_fits(self.stack, self.config_file, self.environment):
            raise PilotError(wrong_passphrase(self.stack, self.environment))
        return code

    def read(self, *arguments: str) -> str:
        """Run `pulumi` and take its standard output.

        Raises:
            PilotError: it failed; with what it said.
        """
        done = subprocess.run(
            self.command(*arguments), cwd=PROJECT, env=self.environment, check=False, timeout=QUICK_TIMEOUT_S,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode != 0:
            if INCORRECT in done.stderr:
                raise PilotError(wrong_passphrase(self.stack, self.environment))
            raise PilotError(f"`pulumi {arguments[0]}` failed: {done.stderr.strip()}")
        return done.stdout

    def outputs(self, *, secret: bool = False) -> dict[str, Any]:
        """The stack's outputs; secret ones as "[secret]" unless asked for."""
        shown = self.read("stack", "output", "--json", *(["--show-secrets"] if secret else []))
        value = json.loads(shown)
        return value if isinstance(value, dict) else {}

    def command(self, *arguments: str) -> list[str]:
        """The `pulumi` command line for this stack, with the configuration where it is read."""
        with_config = arguments[0] in ("up", "preview", "destroy", "refresh", "config")
        config = ["--config-file", str(self.config_file)] if with_config else []
        return ["pulumi", *arguments, "--stack", self.stack, *config]


def published_pulumi() -> str | None:
    """The `pulumi` on PATH that is not of this project's toolchain."""
    ours = str(Builder(PIECES).cache)
    folders = [each for each in os.environ.get("PATH", "").split(os.pathsep) if not each.startswith(ours)]
    return shutil.which("pulumi", path=os.pathsep.join(folders))


def prepare(stack: str, *, images: bool = True) -> tuple[Mapping[str, str], bool]:
    """Everything that is missing: programs, virtual environment, passphrase, with `images` those; then as `programs`.

    Raises:
        PilotError: a step failed, and has said why; or the settings have problems.
    """
    published = published_pulumi() is not None
    if published:
        # First, for it brings the library that reads the settings.
        _install(STAMP, installed_from())
    local = any(each.startswith(BUILT_IMAGE_PREFIX) for each in images_of(configuration.settings(stack)))
    wanted = IMAGES if images and local else ()
    if not published:
        _step([sys.executable, "-m", "toolchain", "build", "--program", *wanted])
    elif wanted:
        _step([sys.executable, "-m", "toolchain", "build", *wanted])
    _say(
        "pulumi and its plugins: " + ("published" if published else "built here")
        + "; images: " + ("built here" if local else "published")
    )  # fmt: skip
    return programs()


def installed_from() -> str:
    """A digest of all that `pulumi install` reads, and of the program itself."""
    program = Path(published_pulumi() or "").resolve()
    about = program.stat()
    inputs = [(CHECKOUT / name).read_bytes() for name in ("Pulumi.yaml", "pyproject.toml", "requirements.lock")]
    inputs.append(f"{program} {about.st_size} {about.st_mtime_ns}".encode())
    return hashlib.sha256(b"\0".join(inputs)).hexdigest()


def _install(stamp: Path, key: str) -> None:
    # It takes ten seconds to find that nothing is to be done.
    if stamp.exists() and stamp.read_text() == key and CODERD_SDK.is_dir():
        return
    stamp.unlink(missing_ok=True)
    _step(["pulumi", "install"])
    if stamp.parent.is_dir():
        stamp.write_text(key)


def images_of(settings: Settings) -> list[str]:
    """The images that the settings name."""
    return [settings.control_plane.image, settings.database.image, *settings.workspaces.images]


def programs() -> tuple[Mapping[str, str], bool]:
    """The environment in which `pulumi` works, and whether it is a published one; nothing is built."""
    published = published_pulumi() is not None
    variables = {} if published else environment.variables(Builder(PIECES))
    return {**os.environ, **variables, **passphrase()}, published


def passphrase(*, new: bool = False) -> dict[str, str]:
    """The variable that holds the passphrase; a file with a new one where none is set.

    Raises:
        PilotError: there is none, and a state here has one, unless a `new` one is asked for.
    """
    if passphrase_variable():
        return {}
    if not _has_own_passphrase():
        if not new and (stacks := with_state()):
            raise PilotError(lost_passphrase(stacks))
        _write(PASSPHRASE, secrets.token_urlsafe(32))
        _say(f"made {PASSPHRASE.name}: it opens the secrets in the state, keep a copy")
    return {"PULUMI_CONFIG_PASSPHRASE_FILE": str(PASSPHRASE)}


def passphrase_variable() -> str | None:
    """The variable of the environment in which a passphrase, or its file, is set; it wins over ours."""
    return next((name for name in PASSPHRASE_VARIABLES if name in os.environ), None)


def has_passphrase() -> bool:
    """Whether a passphrase is set, right or wrong."""
    return _has_own_passphrase() or passphrase_variable() is not None


def _has_own_passphrase() -> bool:
    # Pulumi would take an empty one, and so would encrypt with nothing.
    return PASSPHRASE.exists() and PASSPHRASE.stat().st_size > 0


def _write(file: Path, text: str) -> None:
    """Write a file for the owner alone, whole or not at all: a full disk would leave an empty one, which counts."""
    # Another command may write it at the same time.
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(text)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def salted_file(stack: str) -> Path:
    """The configuration that holds the salt of the stack's secrets: the committed file, else the working copy."""
    committed, working = PROJECT / f"Pulumi.{stack}.yaml", STATE / f"Pulumi.{stack}.yaml"
    return committed if SALT_KEY in configuration.document(committed) or not working.exists() else working


def passphrase_fits(stack: str, config_file: Path, variables: Mapping[str, str]) -> bool:
    """Whether the passphrase is that of the stack's secrets: `pulumi` encrypts a word with it, in a copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(config_file, Path(folder) / f"Pulumi.{stack}.yaml")
        done = subprocess.run(
            ["pulumi", "config", "set", "--secret", "word", "word", "--stack", stack, "--config-file", copy],
            cwd=PROJECT, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=QUICK_TIMEOUT_S,
        )  # fmt: skip
    return INCORRECT not in done.stderr


def with_state() -> list[str]:
    """The stacks that have a state here, and so secrets of an earlier passphrase."""
    salts = (file.name.removesuffix(SALT_SUFFIX) for file in STATE.glob(f"*{SALT_SUFFIX}"))
    return sorted({*salts, *(file.name.removesuffix(".json") for file in STACKS.glob("*.json"))})


def lost_passphrase(stacks: Sequence[str]) -> str:
    """What to do where the passphrase of `stacks` is gone."""
    return (
        f"the passphrase is missing: there is no {PASSPHRASE.name}, or an empty one, and the state of "
        f"{', '.join(stacks)} has one. If it is in a file of yours, set ${PASSPHRASE_VARIABLES[1]}; if it is lost, put "
        f"your copy back, mode 0600. {_WITHOUT_PASSPHRASE}"
    )


def wrong_passphrase(stack: str, variables: Mapping[str, str]) -> str:
    """What to do where another passphrase than that of the stack is set."""
    variable = passphrase_variable()
    chosen = f"${variable}" if variable else PASSPHRASE.name
    if told := second_passphrase(stack, variables):
        return told
    return (
        f"the passphrase is wrong: the one in {chosen} is not that of the state of {stack}. Put your copy of the right "
        f"one there. {_WITHOUT_PASSPHRASE}"
    )


def second_passphrase(stack: str, variables: Mapping[str, str]) -> str:
    """What to do where the state's passphrase is right and the settings got another one, "" elsewhere.

    A plain `pulumi config set --secret` finds no salt in the settings, asks for a new passphrase, and writes its salt
    there.
    """
    salt, committed = STATE / f"{stack}{SALT_SUFFIX}", PROJECT / f"Pulumi.{stack}.yaml"
    if not salt.exists() or SALT_KEY not in configuration.document(committed):
        return ""
    if not passphrase_fits(stack, salt, variables):
        return ""
    return (
        f"{committed.name} has secrets of another passphrase than the state: remove its line `{SALT_KEY}` and each "
        f"setting with `secure`, `export {PASSPHRASE_VARIABLES[1]}={PASSPHRASE.name}` unless you set it otherwise, and "
        f"repeat `pulumi config set --secret`"
    )


def open_session(stack: str, *, build: bool = False, images: bool = True) -> Session:
    """The session of a stack, which is made where it does not exist; with `build`, after all that it needs, or without
    `images` all but those.

    From then on `stack.jobs.engine` talks to the stack's own Docker Engine.

    Raises:
        PilotError: something is missing that cannot be made here, or the settings have problems.
    """
    configuration.file_of(stack)
    variables, published = prepare(stack, images=images) if build else programs()
    if shutil.which("pulumi", path=variables["PATH"]) is None:
        raise PilotError("there is no `pulumi` yet: run `make up`, which builds it")
    settings = configuration.settings(stack)
    STATE.mkdir(exist_ok=True)
    config_file = _config_file(stack, variables)
    select_engine(settings)
    return Session(stack=stack, settings=settings, environment=variables, config_file=config_file, published=published)


def select_engine(settings: Settings) -> None:
    """Make `docker`, and so `stack.jobs.engine`, talk to the stack's own Docker Engine."""
    os.environ["DOCKER_HOST"] = settings.site.docker_host


def _config_file(stack: str, variables: Mapping[str, str]) -> Path:
    """The stack's configuration with the salt of its secrets.

    `pulumi stack init` writes the salt into Pulumi.<stack>.yaml, a file under version control. Unless it is there
    already, the salt is kept beside the state, and a copy of the configuration with it is what `pulumi` gets.
    """
    committed = PROJECT / f"Pulumi.{stack}.yaml"
    if SALT_KEY in configuration.document(committed):
        _init(stack, PROJECT, variables)
        return committed
    salt = STATE / f"{stack}{SALT_SUFFIX}"
    if not salt.exists():
        with tempfile.TemporaryDirectory() as folder:
            project = Path(folder)
            (project / "Pulumi.yaml").write_text(f"name: {names.PROJECT}\nruntime: python\n")
            _init(stack, project, variables)
            written = project / f"Pulumi.{stack}.yaml"
            lines = written.read_text().splitlines() if written.exists() else []
        found = [line for line in lines if line.startswith(SALT_KEY)]
        if not found:
            raise PilotError(
                f"the stack {stack} exists, but the salt of its secrets is lost: restore .pulumi-state/{stack}.salt "
                f"from a backup, or run `pulumi stack rm {stack} --force` and `make up`, which adopts the kept data"
            )
        _write(salt, found[0] + "\n")
    working = STATE / f"Pulumi.{stack}.yaml"
    _write(working, f"{committed.read_text().rstrip()}\n{salt.read_text()}")
    return working


def _init(stack: str, project: Path, variables: Mapping[str, str]) -> None:
    # The copy counts too: a `pulumi` that is killed while it writes leaves that one alone, and `make up` takes it.
    if any((STACKS / f"{stack}{suffix}").exists() for suffix in (".json", ".json.bak")):
        return
    done = subprocess.run(
        ["pulumi", "stack", "init", stack, "--secrets-provider", "passphrase"],
        cwd=project, env={**variables, "PULUMI_BACKEND_URL": f"file://{STATE}"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=QUICK_TIMEOUT_S,
    )  # fmt: skip
    if done.returncode != 0:
        raise PilotError(f"the stack {stack} could not be made: {done.stderr.strip()}")


def _step(command: list[str]) -> None:
    # Its standard output is a table of what was there; progress and problems are on its standard error.
    if subprocess.run(command, cwd=CHECKOUT, check=False, stdout=subprocess.DEVNULL).returncode != 0:
        raise PilotError(f"`{' '.join(command[-3:])}` failed, see above")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
