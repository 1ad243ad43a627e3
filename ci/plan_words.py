"""A plan in words, what it deletes or replaces first: `python3 -m ci.plan_words PLAN.json`, Markdown on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ci.plan import Plan, PlanError, Step, read

DELETES: Final = frozenset({"delete", "delete-replaced", "discard"})
REPLACES: Final = frozenset({"replace", "create-replacement", "import-replacement"})

# What it means for people when one of ours is replaced; anything else is told without a consequence.
CONSEQUENCES: Final[Mapping[str, str]] = {
    "coder": "Coder is away for some seconds; running workspaces go on and reconnect",
    "postgres": "Postgres and Coder are away for some seconds; the data directory stays",
    "template": "the next start of a workspace uses the new version",
    "admin-password": "the admin's password changes: `make password WHO=admin`",
    "postgres-password": "Postgres and Coder restart with a new password",
    "control": "Postgres and Coder are replaced with it",
    "workspaces": "Coder is replaced with it; running workspaces go on and are let into the new one",
}


def words(plan: Plan) -> str:
    """The plan as Markdown: deletions, replacements, then the rest in one line each."""
    parts = [
        *_section("Deletes", plan, lambda step: step.op in DELETES, _replaced),
        *_section("Replaces", plan, lambda step: step.op in REPLACES, _replaced),
        *_section("Updates in place", plan, lambda step: step.op == "update", _updated),
        *_section("Creates", plan, lambda step: step.op in ("create", "import"), _created),
    ]
    said = [f"- {severity}: {text}" for severity, text in plan.messages]
    if said:
        parts += ["### Pulumi says", *said, ""]
    if not plan.steps:
        parts = ["Nothing changes.", "", *parts]
    elif not any(step.op in DELETES | REPLACES for step in plan.steps):
        parts = ["Nothing is deleted or replaced.", "", *parts]
    return "\n".join(parts).rstrip() + "\n"


def _section(title: str, plan: Plan, chosen: Callable[[Step], bool], detail: Callable[[Step], str]) -> list[str]:
    # Components declare nothing of their own.
    own = ("coder-pilot:", "pulumi:pulumi:")
    steps = [step for step in plan.steps if chosen(step) and not step.type.startswith(own)]
    lines = [": ".join(filter(None, [f"- **{step.name}** ({_kind(step.type)})", detail(step)])) for step in steps]
    return [f"### {title}", *lines, ""] if lines else []


def _kind(type_: str) -> str:
    return "provider" if type_.startswith("pulumi:providers:") else type_.rsplit(":", 1)[-1]


def _replaced(step: Step) -> str:
    because = f"because of {_and(step.forcing)}" if step.forcing else ""
    if step.op in DELETES and step.old.get("retainOnDelete"):
        because = "only from the state; the thing itself stays"
    return "; ".join(filter(None, [because, CONSEQUENCES.get(step.name, "")]))


def _updated(step: Step) -> str:
    return _and(step.changed)


def _created(step: Step) -> str:
    return "exists already and is taken over" if step.op == "import" else ""


def _and(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), *quoted[-1:]]))


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, or 2 where there is no plan."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(words(read(Path(arguments[0]))), end="")
    except PlanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
