"""A stack's settings for the front door: read as Pulumi reads them, and parsed by the program's own parser."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from stack.jobs.names import PROJECT as NAMESPACE
from stack.settings import Encrypted, Settings, SettingsError, parse
from toolchain.builder import Builder, ToolchainError
from toolchain.paths import CHECKOUT, VENV
from toolchain.pieces import PIECES

PROJECT = Path(os.environ.get("CODER_PILOT_PROJECT") or CHECKOUT)
"""The folder of Pulumi.yaml; a test's pilot has one of its own."""


class PilotError(Exception):
    """Something that the owner can fix; the message says how."""


def file_of(stack: str) -> Path:
    """The stack's file.

    Raises:
        PilotError: there is none.
    """
    file = PROJECT / f"Pulumi.{stack}.yaml"
    if not file.exists():
        known = ", ".join(sorted(each.name.split(".")[1] for each in PROJECT.glob("Pulumi.*.yaml")))
        raise PilotError(f"there is no {file.name}; stacks here: {known}")
    return file


def settings(stack: str) -> Settings:
    """The settings of the stack, over the project's defaults; values that are encrypted are unknown here.

    Raises:
        PilotError: there is no such stack, or its settings have problems; lists them all.
    """
    try:
        return parse(values(stack), PROJECT)
    except SettingsError as error:
        raise PilotError(f"Pulumi.{stack}.yaml: {error}") from None


def values(stack: str) -> dict[str, str | Encrypted[str]]:
    """The values that Pulumi passes to the program, by their keys without the project's name."""
    defaults = document(PROJECT / "Pulumi.yaml")["config"]
    own = document(file_of(stack)).get("config") or {}
    if not isinstance(own, dict):
        raise PilotError(f"`config` in Pulumi.{stack}.yaml is not a mapping; edit it")
    return {
        **{key: _value(entry["default"]) for key, entry in defaults.items()},
        **{name: _value(value) for key, value in own.items() if (name := _name(str(key))) is not None},
    }


def document(file: Path) -> dict[str, Any]:
    """What a file of YAML holds.

    Raises:
        PilotError: it is not YAML, or no mapping.
    """
    library = _yaml()
    try:
        found = library.load(file.read_text(), Loader=_loader())
    except library.YAMLError as error:
        raise PilotError(f"{file.name} is not YAML: {' '.join(str(error).split())}; edit it") from None
    if not isinstance(found, dict | None):
        raise PilotError(f"{file.name} is not a mapping; edit it")
    return found or {}


def without_encrypted(value: Any) -> Any:
    """`value`, from a file, without what is encrypted in it."""
    if isinstance(value, dict):
        return {key: without_encrypted(item) for key, item in value.items() if not _is_encrypted(item)}
    if isinstance(value, list):
        return [without_encrypted(item) for item in value if not _is_encrypted(item)]
    return value


def _name(key: str) -> str | None:
    """The name of a setting of ours: Pulumi takes `port`, `coder-pilot:port` and `coder-pilot:config:port`."""
    namespace, _, name = key.rpartition(":")
    return name if namespace in ("", NAMESPACE, f"{NAMESPACE}:config") else None


def _value(value: Any) -> str | Encrypted[str]:
    if without_encrypted([value]) != [value]:
        return Encrypted()
    # Pulumi passes every value as text, and nothing as none.
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _is_encrypted(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"secure"}


@cache
def _loader() -> Any:
    """Reads unquoted words as Pulumi does: for YAML 1.1 `yes` is true, `1:30` is 90, and a date no text."""
    library = _yaml()

    loader: Any = type("Loader", (library.SafeLoader,), {"yaml_implicit_resolvers": {}})
    for tag, pattern, first in (
        ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?(?:0|[1-9][0-9_]*|0[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+)", "-+0123456789"),
        ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("merge", "<<", "<"),
    ):
        loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})\Z"), list(first))
    return loader


@cache
def _yaml() -> ModuleType:
    """PyYAML: this Python's, else the virtual environment's, else one that the toolchain fetches in a second or two.

    Raises:
        PilotError: it could not be fetched.
    """
    try:
        return importlib.import_module("yaml")
    except ModuleNotFoundError:
        folder = next((each.parent for each in VENV.glob("lib/python*/site-packages/yaml")), None)
    if folder is None:
        builder = Builder(PIECES)
        try:
            builder.build(["pyyaml"])
        except ToolchainError as error:
            raise PilotError(
                f"PyYAML, which reads the settings, cannot be fetched: {error}; run `sudo apt-get install python3-yaml`"
            ) from None
        folder = builder.directory("pyyaml")
    sys.path.append(str(folder))
    try:
        return importlib.import_module("yaml")
    finally:
        # Nothing else of the environment is meant to be found.
        sys.path.remove(str(folder))
