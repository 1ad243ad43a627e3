"""The ways in which YAML may write the same settings: each form makes the text of a stack's file from the values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

Form = Callable[[Mapping[str, str]], str]


def _lines(line: str) -> Form:
    def write(values: Mapping[str, str]) -> str:
        lines = [line.format(key=key, value=value) for key, value in values.items()]
        return "\n".join(["config:", *lines, ""])

    return write


def _one_line(values: Mapping[str, str]) -> str:
    pairs = ", ".join(f"'coder-pilot:{key}': {json.dumps(value)}" for key, value in values.items())
    return f"config: {{{pairs}}}\n"


def _merged(values: Mapping[str, str]) -> str:
    (name, first), *rest = values.items()
    lines = [f"  coder-pilot:{key}: {json.dumps(value)}" for key, value in rest]
    base = f"  other:base: &base\n    coder-pilot:{name}: {json.dumps(first)}\n  <<: *base"
    return "\n".join(["config:", base, *lines, ""])


def _nested(values: Mapping[str, str]) -> str:
    """As `pulumi config set --path` writes a list and an object."""
    lines = [f"  coder-pilot:{key}: {json.dumps(value)}" for key, value in values.items() if key != "workspaceImages"]
    images = [f"    - {image}" for image in values["workspaceImages"].split(",")]
    environment = ["  coder-pilot:serviceEnvironment:", "    OLLAMA_HOST: http://127.0.0.1:11434", "    WORKERS: 4"]
    return "\n".join(["config:", *lines, "  coder-pilot:workspaceImages:", *images, *environment, ""])


FORMS: Final[Mapping[str, Form]] = {
    "double quotes": _lines('  coder-pilot:{key}: "{value}"'),
    "single quotes": _lines("  coder-pilot:{key}: '{value}'"),
    "no quotes": _lines("  coder-pilot:{key}: {value}"),
    "a comment behind the value": _lines("  coder-pilot:{key}: {value} # not coder"),
    "a quoted key": _lines('  "coder-pilot:{key}": {value}'),
    "a key on a line of its own": _lines("  ? coder-pilot:{key}\n  : {value}"),
    "a key without the project": _lines("  {key}: {value}"),
    "folded text": _lines("  coder-pilot:{key}: >-\n    {value}"),
    "literal text": _lines("  coder-pilot:{key}: |-\n    {value}"),
    "one line": _one_line,
    "a merged mapping": _merged,
    "a list and an object": _nested,
}
