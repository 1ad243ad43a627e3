"""Print docs/settings.md from the groups of stack/settings.py and the defaults of Pulumi.yaml, for `make docs`."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_type_hints

import yaml

from stack.settings import KEYS, Settings

PROJECT = Path(__file__).resolve().parent.parent
HEAD = """# Settings

Written by `make docs` from `stack/settings.py` and `Pulumi.yaml`; do not edit it here. A stack's own values are in
`Pulumi.<stack>.yaml`; `pulumi config set KEY VALUE --stack STACK` sets one, and a secret one with `--secret` and
without VALUE, for which it asks: `export PULUMI_CONFIG_PASSPHRASE_FILE=.passphrase` first, if the passphrase is the one
that `make up` made. The next `make up` or `make doctor` reports everything that is wrong, all at once.
"""


def documented() -> dict[tuple[str, str], str]:
    """The documentation of every field by the name of its class and its own: the string below it."""
    tree = ast.parse((PROJECT / "stack" / "settings.py").read_text())
    found: dict[tuple[str, str], str] = {}
    for group in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, text in zip(group.body, group.body[1:], strict=False):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[group.name, field.target.id] = str(text.value.value)
    return found


def page() -> str:
    """The whole file."""
    texts, config = documented(), yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())["config"]
    parts = [HEAD]
    for group, cls in get_type_hints(Settings).items():
        parts.append(f"\n## {group.replace('_', ' ').capitalize()}\n\n{cls.__doc__}\n\n")
        parts.append("| key | default | what it is |\n|---|---|---|\n")
        for key, (of, field, _) in KEYS.items():
            if of == group:
                parts.append(f"| `{key}` | {_default(config.get(key))} | {_escaped(texts[cls.__name__, field])} |\n")
    return "".join(parts)


def _default(entry: dict[str, str] | None) -> str:
    if entry is None:
        return "unset; always `--secret`"
    return f"`{entry['default']}`" if entry["default"] else "empty"


def _escaped(text: str) -> str:
    return text.replace("<", "\\<").replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
