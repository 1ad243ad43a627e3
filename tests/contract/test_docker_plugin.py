"""The plugins built here take exactly the inputs that the published Python packages send, by name and by kind."""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pulumi_docker
import pulumi_random
import pytest
from pulumi._types import input_type_py_to_pulumi_names

from toolchain import environment
from toolchain.builder import Builder
from toolchain.pieces import PIECES
from toolchain.pins import version

# Every resource type of the two packages that the program declares.
USED = [
    ("docker", "docker:index/container:Container", pulumi_docker.ContainerArgs),
    ("docker", "docker:index/remoteImage:RemoteImage", pulumi_docker.RemoteImageArgs),
    ("docker", "docker:index/network:Network", pulumi_docker.NetworkArgs),
    ("docker", "docker:index/volume:Volume", pulumi_docker.VolumeArgs),
    ("random", "random:index/randomPassword:RandomPassword", pulumi_random.RandomPasswordArgs),
]
PACKAGES = {"docker": pulumi_docker, "random": pulumi_random}
KINDS = {"bool": "boolean", "int": "integer", "float": "number", "str": "string", "Sequence": "array"}


@functools.cache
def _schema(plugin: str) -> dict[str, Any]:
    builder = Builder(PIECES)
    binary = builder.directory(f"plugin-{plugin}") / f"pulumi-resource-{plugin}"
    shown = subprocess.run(
        ["pulumi", "package", "get-schema", str(binary)],
        env={**os.environ, **environment.variables(builder)}, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return dict(json.loads(shown.stdout))


def _published(arguments: type, package: object, path: str) -> Iterator[tuple[str, str]]:
    """Every input of the package's class as ("ports.ip", "string"), nested ones too."""
    names = input_type_py_to_pulumi_names(arguments)
    for python_name, parameter in inspect.signature(arguments.__init__).parameters.items():
        if python_name in ("self", "__self__"):
            continue
        text = str(parameter.annotation)
        name = f"{path}{names[python_name]}"
        first = re.sub(r"^(typing\.)?(Union|Optional)\[", "", text).removeprefix("ForwardRef('")
        word = re.match(r"(?:typing\.|builtins\.|collections\.abc\.)?(\w+)", first)
        assert word, text
        yield name, KINDS.get(word[1], "object")
        if nested := re.search(r"ForwardRef\('(\w+Args)'\)", text):
            yield from _published(getattr(package, nested[1]), package, f"{name}.")


def _ours(schema: dict[str, Any], properties: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for key, what in properties.items():
        kind = "object" if "$ref" in what else what["type"]
        yield f"{path}{key}", kind
        reference = what.get("$ref") or what.get("items", {}).get("$ref")
        if reference:
            nested = schema["types"][reference.removeprefix("#/types/")]
            yield from _ours(schema, nested["properties"], f"{path}{key}.")


@pytest.mark.parametrize(("plugin", "token", "arguments"), USED, ids=[token for _, token, _ in USED])
def test_the_inputs_are_those_of_the_published_package(plugin: str, token: str, arguments: type) -> None:
    schema = _schema(plugin)
    published = dict(_published(arguments, PACKAGES[plugin], ""))
    assert published
    assert dict(_ours(schema, schema["resources"][token]["inputProperties"], "")) == published


@pytest.mark.parametrize(("plugin", "token", "arguments"), USED, ids=[token for _, token, _ in USED])
def test_an_input_that_the_package_requires_is_required(plugin: str, token: str, arguments: type) -> None:
    names = input_type_py_to_pulumi_names(arguments)
    parameters = inspect.signature(arguments.__init__).parameters
    required = {
        names[name]
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and name in names
    }
    ours = set(_schema(plugin)["resources"][token].get("requiredInputs") or [])
    # Pulumi names what the program does not, so the packages do not ask for a name.
    assert ours - {"name"} == required - {"name"}


@pytest.mark.parametrize("plugin", ["docker", "random"])
def test_the_plugin_says_the_version_that_the_package_asks_for(plugin: str) -> None:
    assert _schema(plugin)["version"] == version(plugin)
