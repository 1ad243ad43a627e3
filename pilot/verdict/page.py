"""The report as one HTML page that loads nothing: no script, no font, no address."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from pilot.verdict import plots, report
from pilot.verdict.figures import Figures
from pilot.verdict.judge import Verdict

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff; max-width: 64rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 0.4rem; }
.verdict { font-size: 1.1rem; padding: 0.7rem 1rem; border-left: 0.4rem solid; background: #f6f6f6; }
.keep { border-color: #3f7d3a; } .retire { border-color: #b23a48; } .too-early { border-color: #d99a2b; }
.warning { color: #8a5a00; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.8rem 0.25rem 0; border-bottom: 1px solid #eee; }
th { font-weight: 600; }
.numbers td:not(:first-child), .numbers th:not(:first-child) { text-align: right; white-space: nowrap; }
.figures td:first-child { width: 16rem; } .figures td:last-child { color: #666; width: 22rem; font-size: 0.85rem; }
svg { width: 100%; height: auto; }
details { margin-top: 2rem; color: #555; }
"""


def render(
    figures: Figures,
    verdict: Verdict,
    queries: Sequence[str],
    typed: Sequence[str],
    *,
    purge: bool,
    data_directory: str,
) -> str:
    """The page's text."""
    removing, removed, keeping, kept = report.retiring(figures, purge=purge, data_directory=data_directory)
    body = [
        f"<h1>{report.QUESTION}</h1>",
        f"<p>{escape(report.headline(figures))}</p>",
        f'<p class="verdict {verdict.outcome.replace(" ", "-")}">{escape(verdict.line)}</p>',
        *(f'<p class="warning">warning: {escape(each)}</p>' for each in figures.warnings),
        "<h2>The rule: all of these</h2>",
        _table(("condition", "found", "met"), report.check_rows(verdict)),
        *_plots(figures),
        "<h2>Workspaces</h2>",
        _table(report.WORKSPACE_HEADS, report.workspace_rows(figures), kind="numbers")
        if figures.workspaces
        else f"<p>{escape(report.NO_WORKSPACES)}</p>",
    ]
    for section in report.sections(figures):
        rows = [(row.name, row.value, row.source) for row in section.rows]
        body += [f"<h2>{escape(section.title)}</h2>", _table(("", "", "source"), rows, kind="figures")]
    for title, names in ((removing, removed), (keeping, kept)):
        body += [f"<h2>{escape(title)}</h2>", f"<ul>{_each('li', names)}</ul>"]
    body.append(f"<h2>What to type</h2><ul>{_each('li', typed)}</ul>")
    body.append(f"<details><summary>Queries</summary><ol>{_each('li', queries)}</ol></details>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Whatever a name or a reason contains, the browser runs and loads nothing.
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>Coder pilot: {escape(verdict.outcome)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _plots(figures: Figures) -> Iterable[str]:
    if not figures.workspaces:
        return
    yield "<h2>Running and parked</h2>"
    yield plots.timeline(figures)
    yield "<h2>RAM: used by Coder, Postgres and keeper, given back by parking</h2>"
    yield plots.ram(figures)
    yield "<h2>Starts</h2>"
    yield plots.starts(figures)
    yield "<h2>Compared with the alternatives</h2>"
    yield plots.alternatives(figures)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    lines = "".join(f"<tr>{_each('td', row)}</tr>\n" for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{_each("th", heads)}</tr></thead>'
        f"<tbody>\n{lines}</tbody></table></div>"
    )


def _each(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)
