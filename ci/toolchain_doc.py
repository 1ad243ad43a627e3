"""Print the table of toolchain/README.md from toolchain/pins.py; `make docs` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from toolchain.pins import PINS

FILE: Final = Path(__file__).resolve().parent.parent / "toolchain" / "README.md"
MARK: Final = "<!-- written by `make docs` from pins.py -->\n"


def page() -> str:
    """The file with its table written anew; the table is its last part."""
    rows = [f"| {name} | {pin.version} | {pin.origin} | {pin.licence} |" for name, pin in PINS.items()]
    table = "\n".join(["| what | version | from | licence |", "|---|---|---|---|", *rows])
    return FILE.read_text().partition(MARK)[0] + MARK + table + "\n"


if __name__ == "__main__":
    print(page(), end="")
