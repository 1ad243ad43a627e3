"""The report on a terminal: the verdict first, then ten key figures or everything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO, Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pilot.verdict import report
from pilot.verdict.figures import Figures
from pilot.verdict.judge import Verdict
from stack.jobs import commands

STYLES: Final = {"keep": "bold green", "retire": "bold red", "too early": "bold yellow"}
PIPE_WIDTH: Final = 100
"""For a file or a pipe, which has no width of its own."""
PIPE_WIDTH_SOURCES: Final = 200
MORE: Final = "All figures: `make verdict ARGS=--sources`; plots: `ARGS='--html FILE'`."


def console(stream: IO[str], *, sources: bool) -> Console:
    """Where the functions below print; with `sources`, wide enough for a third column."""
    found = Console(file=stream, highlight=False)
    if not found.is_terminal:
        found.width = PIPE_WIDTH_SOURCES if sources else PIPE_WIDTH
    return found


# Names and reasons are other people's text: as Text they are never read as markup.


def begin(out: Console, figures: Figures, verdict: Verdict) -> None:
    """Print the verdict, the period, warnings and the rule."""
    out.print(Text(verdict.line, style=STYLES[verdict.outcome]))
    out.print(Text(report.headline(figures)))
    for warning in figures.warnings:
        out.print(Text(f"warning: {warning}", style="yellow"))
    if not figures.workspaces:
        out.print(Text(report.NO_WORKSPACES))
    _table(out, "The rule: all of these", ("condition", "found", "met"), report.check_rows(verdict))


def key_figures(out: Console, figures: Figures, stack: str) -> None:
    """Print a line for each key figure."""
    rows = [row for section in report.sections(figures) for row in section.rows if row.key]
    _table(out, "Key figures", ("", ""), [(row.name, row.value) for row in rows])
    out.print()
    out.print(Text(commands.for_stack(MORE, stack), style="dim"))


def everything(out: Console, figures: Figures, *, purge: bool, data_directory: str) -> None:
    """Print every figure with its source, and what retiring would remove and keep."""
    if figures.workspaces:
        _table(out, "Workspaces", report.WORKSPACE_HEADS, report.workspace_rows(figures), numbers=True)
    for section in report.sections(figures):
        _table(out, section.title, ("", "", "source"), [(row.name, row.value, row.source) for row in section.rows])
    removing, removed, keeping, kept = report.retiring(figures, purge=purge, data_directory=data_directory)
    out.print()
    for title, names in ((removing, removed), (keeping, kept)):
        out.print(Text(title, style="bold"))
        for name in names:
            out.print(Padding(Text(name), (0, 0, 0, 2)))


def end(out: Console, typed: Sequence[str]) -> None:
    """Print what to type now."""
    out.print()
    out.print(Text("What to type", style="bold"))
    for line in typed:
        out.print(Padding(Text(line), (0, 0, 0, 2)))


def _table(
    out: Console, title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False
) -> None:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
                  show_header=any(heads), show_edge=False, collapse_padding=True)  # fmt: skip
    for place, head in enumerate(heads):
        table.add_column(
            head, justify="right" if numbers and place else "left", overflow="fold",
            style="dim" if head == "source" else "",
        )  # fmt: skip
    for cells in rows:
        table.add_row(*map(Text, cells))
    out.print()
    out.print(table)
