"""Print docs/settings.md from stack/settings.py and the defaults in Pulumi.yaml; `make docs` writes it."""

from __future__ import annotations

import ast
from pathlib import Path

import yaml

from stack.settings import SECRET_KEYS, field_of

PROJECT = Path(__file__).resolve().parent.parent
HEAD = """# Settings

Written by `make docs` from `stack/settings.py` and `Pulumi.yaml`; do not edit it here. A stack's own values are in
`Pulumi.<stack>.yaml`; `pulumi config set KEY VALUE --stack STACK` sets one. Whatever is wrong is told by the next
`make up` or `make doctor`, all at once.

| key | default | what it is |
|---|---|---|
"""


def documented() -> dict[str, str]:
    """The documentation of every field of Settings: the string below it."""
    tree = ast.parse((PROJECT / "stack" / "settings.py").read_text())
    (settings,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings"]
    found: dict[str, str] = {}
    for field, text in zip(settings.body, settings.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[field.target.id] = str(text.value.value)
    return found


def page() -> str:
    """The whole file."""
    fields = documented()
    config = yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())["config"]
    rows = [(key, f"`{entry['default']}`" if entry["default"] else "empty") for key, entry in config.items()]
    rows += [(key, "unset; always `--secret`") for key in SECRET_KEYS]
    return HEAD + "".join(f"| `{key}` | {default} | {_escaped(fields[field_of(key)])} |\n" for key, default in rows)


def _escaped(text: str) -> str:
    return text.replace("<", "\\<").replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
