"""The report on a terminal."""

from __future__ import annotations

from typing import IO, Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pilot.verdict import report
from pilot.verdict.figures import Figures
from pilot.verdict.judge import Verdict

STYLES: Final = {"keep": "bold green", "retire": "bold red", "too early": "bold yellow"}
PIPE_WIDTH: Final = 160


def show(figures: Figures, verdict: Verdict, *, purge: bool, data_directory: str, stream: IO[str]) -> None:
    """Print everything; names and reasons are other people's text and never taken for markup."""
    console = Console(file=stream, highlight=False)
    if not console.is_terminal:
        # A file or a pipe has no width, and 80 columns would break every row.
        console.width = PIPE_WIDTH
    console.print(Text("Did the pilot earn its keep? ", style="bold") + Text(report.headline(figures)))
    for warning in figures.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))
    console.print()
    if figures.workspaces:
        console.print(_workspaces(figures))
    else:
        console.print("no workspaces in this time: `make workspace NAME=demo` makes one\n")
    for section in report.sections(figures):
        table = _table(section.title, "", "", "from")
        for row in section.rows:
            table.add_row(Text(row.name), Text(row.value), Text(row.source, style="dim"))
        console.print(table)
    removing, removed, keeping, kept = report.retiring(figures, purge=purge, data_directory=data_directory)
    for title, names in ((removing, removed), (keeping, kept)):
        console.print(Text(title, style="bold"))
        for name in names:
            console.print(Padding(Text(name), (0, 0, 0, 2)))
    console.print()
    table = _table("The rule: all of these", "condition", "found", "met")
    for cells in report.check_rows(verdict):
        table.add_row(*map(Text, cells))
    console.print(table)
    console.print(Text(verdict.line, style=STYLES[verdict.outcome]))


def _table(title: str, *heads: str) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
                  show_header=any(heads))  # fmt: skip
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def _workspaces(figures: Figures) -> Table:
    table = Table(title=Text("Workspaces", style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, head in enumerate(report.WORKSPACE_HEADS):
        table.add_column(head, justify="right" if place else "left", overflow="fold")
    for cells in report.workspace_rows(figures):
        table.add_row(*map(Text, cells))
    return table
