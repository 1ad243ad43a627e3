"""The page's plots as SVG, drawn by Matplotlib without a display."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from pilot.verdict import report
from pilot.verdict.figures import Figures
from pilot.verdict.samples import PARTS, Sample
from pilot.verdict.sessions import State
from pilot.verdict.workspaces import WorkspaceFigures

WIDTH_IN: Final = 9.5
COLOURS: Final[dict[State, str]] = {"running": "#2f6fb2", "parked": "#bcd7a5", "unclear": "#e3a94b"}
CONTROL: Final = "#b23a48"
PEAK: Final = "#3f7d3a"
SETTINGS: Final[dict[Any, Any]] = {
    # Text stays text: it can be searched, read aloud and copied, and has the page's font.
    "svg.fonttype": "none",
    # The same figures make the same page.
    "svg.hashsalt": "verdict",
    # A name is never read as a formula.
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
}


def _parts_gib(sample: Sample) -> float:
    return sum(sample.ram_mib.get(part, 0) for part in PARTS) / 1024


def timeline(figures: Figures) -> str:
    """When each workspace was running and parked, in one line each."""

    def draw(axes: Axes) -> None:
        shown = figures.workspaces
        for state, colour in COLOURS.items():
            for place, each in enumerate(shown):
                bars = [
                    (_days(span.start), _days(span.end) - _days(span.start))
                    for span in each.spans if span.state == state
                ]  # fmt: skip
                # Without an edge, a session of minutes is thinner than a pixel in a plot of a week.
                axes.broken_barh(bars, (place - 0.34, 0.68), facecolors=colour, edgecolors=colour, linewidth=0.6)
            axes.broken_barh([], (0, 0), facecolors=colour, label=state)
        axes.set_yticks(range(len(shown)), [each.name for each in shown])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        _times(axes, figures)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)

    return _svg("timeline", 1.3 + 0.34 * max(2, len(figures.workspaces)), draw)


def ram(figures: Figures) -> str:
    """RAM of Coder, Postgres and keeper, and RAM given back."""

    def draw(axes: Axes) -> None:
        for label, gib_of, style in (
            ("given back, by limit", lambda each: each.limit_gib, {"color": PEAK, "alpha": 0.35}),
            ("given back, by peak", lambda each: each.peak_gib, {"color": PEAK}),
        ):
            times, values = _parked_gib(figures, gib_of)
            axes.step(times, values, where="post", label=label, **style)
        if figures.samples:
            # Where all ran; those of before the keeper know nothing of it.
            parts = [each for each in figures.samples if {"coder", "postgres"} <= each.ram_mib.keys()]
            axes.plot(
                [_days(each.time) for each in parts], [_parts_gib(each) for each in parts],
                color=CONTROL, label="Coder, Postgres and keeper, sampled", marker=".", markersize=3,
            )  # fmt: skip
        elif (now := figures.control_plane_gib) is not None:
            axes.axhline(now, color=CONTROL, linestyle="--", label="Coder, Postgres and keeper, now")
        axes.set_ylabel("GiB")
        axes.set_ylim(bottom=0)
        _times(axes, figures)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)

    return _svg("ram", 2.9, draw)


def starts(figures: Figures) -> str:
    """How long each start took."""

    def draw(axes: Axes) -> None:
        known = [each for each in figures.starts if each.seconds is not None]
        failed = [each for each in figures.starts if each.status == "failed"]
        seconds = [each.seconds for each in known if each.seconds is not None]
        times = [_days(each.time) for each in known]
        axes.plot(times, seconds, "o", markersize=4, color=COLOURS["running"], label="ready")
        if failed:
            axes.plot([_days(each.time) for each in failed], [0.0] * len(failed), "x", color=CONTROL, label="failed")
        if figures.median_ready_s is not None:
            axes.axhline(figures.median_ready_s, color="#888888", linestyle="--", label="median")
        axes.set_ylabel("seconds to ready")
        axes.set_ylim(bottom=0)
        axes.margins(y=0.12)
        _times(axes, figures)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)

    return _svg("starts", 2.6, draw)


def alternatives(figures: Figures) -> str:
    """GiB hours of the pilot and its alternatives, under both measures."""

    def draw(axes: Axes) -> None:
        names = ["this pilot", "docker run per project", "always on"]
        for place, (label, by, colour) in enumerate(
            (("by limit", figures.by_limit, "#9cc08b"), ("by peak", figures.by_peak, PEAK))
        ):
            values = (by.pilot, by.bare, by.always_on)
            heights = [0.0 if value is None else value.low for value in values]
            bars = axes.barh([row + 0.4 * place for row in range(3)], heights, height=0.36, color=colour, label=label)
            axes.bar_label(bars, [report.bounds(each, "") for each in values], padding=4)
        axes.set_yticks([row + 0.2 for row in range(3)], names)
        axes.invert_yaxis()
        axes.set_xlabel("GiB·h held in the period (less is better)")
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.16)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)

    return _svg("alternatives", 2.6, draw)


def _times(axes: Axes, figures: Figures) -> None:
    axes.set_xlim(_days(figures.since), _days(figures.until))
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _days(time: datetime) -> float:
    """Matplotlib's number for a time: days since 1970."""
    return time.timestamp() / 86_400


def _parked_gib(
    figures: Figures, gib_of: Callable[[WorkspaceFigures], float | None]
) -> tuple[list[float], list[float]]:
    """The sum over the workspaces that are parked, at each moment at which it changes."""
    changes: list[tuple[datetime, float]] = [(figures.since, 0.0), (figures.until, 0.0)]
    for each in figures.workspaces:
        gib = gib_of(each)
        for span in each.spans:
            if span.state == "parked" and gib is not None:
                changes += [(span.start, gib), (span.end, -gib)]
    times: list[float] = []
    values: list[float] = []
    total = 0.0
    for time, change in sorted(changes, key=lambda entry: entry[0]):
        total += change
        times.append(_days(time))
        values.append(total)
    return times, values


def _svg(name: str, height_in: float, draw: Callable[[Axes], None]) -> str:
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        draw(figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    # One page has several, whose parts would have the same names.
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{name}"', 1)
