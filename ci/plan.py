"""The plan that `pulumi preview --json` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.policy import Resource


class PlanError(Exception):
    """The file holds no plan."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step; `changed` and `forcing` are the properties that change, and those that make it a replacement."""

    op: str
    type: str
    name: str
    changed: tuple[str, ...]
    forcing: tuple[str, ...]
    old: Mapping[str, Any]
    new: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps that change something, and what Pulumi said."""

    steps: tuple[Step, ...]
    messages: tuple[tuple[str, str], ...]
    """(severity, text)."""
    config: Mapping[str, str]

    def resources(self) -> list[Resource]:
        """The steps as the policy sees them."""
        return [
            Resource(
                type=step.type,
                name=step.name,
                inputs=step.new.get("inputs") or {},
                old_inputs=step.old.get("inputs") or {},
                op=step.op,
                retained=bool((step.new or step.old).get("retainOnDelete")),
            )
            for step in self.steps
        ]


def read(file: Path) -> Plan:
    """The plan in `file`.

    Raises:
        PlanError: there is none; a preview that failed has none.
    """
    try:
        record = json.loads(file.read_text())
        steps = tuple(_step(each) for each in record["steps"] if each["op"] != "same")
        said = record.get("diagnostics") or []
        messages = tuple((each["severity"], _text(each["message"])) for each in said)
        return Plan(steps=steps, messages=messages, config=record.get("config") or {})
    except OSError as error:
        raise PlanError(f"{error}; make one with `python3 -m pilot preview --plan {file}`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{file} is no plan of `pulumi preview --json`: {error!r}; did the preview fail?") from None


def _step(record: Mapping[str, Any]) -> Step:
    qualified, name = record["urn"].split("::")[-2:]
    return Step(
        op=record["op"],
        type=qualified.rsplit("$", 1)[-1],
        name=name,
        changed=tuple(record.get("diffReasons") or ()),
        forcing=tuple(record.get("replaceReasons") or ()),
        old=record.get("oldState") or {},
        new=record.get("newState") or {},
    )


def _text(message: str) -> str:
    return message.strip().removeprefix("warning: ").removeprefix("error: ")
