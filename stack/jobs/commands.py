"""The commands in what is said to a person: a message names them without a stack, and whoever says it adds that."""

from __future__ import annotations

import re
from typing import Any, TextIO, cast

DEFAULT_STACK = "local"
"""As in the Makefile."""
VARIABLE = "PULUMI_STACK"
"""Where a job reads which stack it works for."""
TARGETS = (
    "up", "down", "import", "leave", "preview", "status", "workspace", "password", "doctor", "prove", "outdated",
    "upgrade", "backup", "restore", "adopt", "upgrade-postgres", "verdict", "room",
)  # fmt: skip
"""Of the Makefile, those that are about a stack."""

_COMMAND = (
    rf"(?:\w+=\S+ )?(?:make (?:{'|'.join(TARGETS)})|pulumi (?:config|up|preview|destroy|stack output|cancel))(?![\w-])"
)
_QUOTED = re.compile(rf"`({_COMMAND}[^`]*)`")
_ALONE = re.compile(rf"{_COMMAND}[^`]*")


def for_stack(text: str, stack: str) -> str:
    """The text with each `make` and `pulumi` in backquotes, and one that is all of it, for the stack.

    Pulumi gets its name always: it has no default, and asks for one.
    """
    if _ALONE.fullmatch(text):
        return _named(text, stack)
    return _QUOTED.sub(lambda found: f"`{_named(found[1], stack)}`", text)


def _named(command: str, stack: str) -> str:
    if " --stack " in command or " STACK=" in command:
        return command
    if re.match(r"(?:\w+=\S+ )?pulumi ", command):
        return f"{command} --stack {stack}"
    return command if stack == DEFAULT_STACK else f"{command} STACK={stack}"


class _Speaker:
    def __init__(self, stream: TextIO, stack: str) -> None:
        self._stream, self._stack = stream, stack

    def write(self, text: str) -> int:
        return self._stream.write(for_stack(text, self._stack))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def speaker(stream: TextIO, stack: str) -> TextIO:
    """The stream, on which every command is for the stack."""
    return cast(TextIO, _Speaker(stream, stack))
