"""A benchmark as a page: tables, a plot of each network, and badges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from whylens.core.words import percent

if TYPE_CHECKING:
    from whylens.core.bench.columns import Column, Group
    from whylens.core.bench.summary import BenchRow, BenchSummary, Figure

# What the plot and a badge show of a method, where it is known.
HEADLINES = ("mass-in-mask", "random-maps", "random-weights", "parts", "shortcut")


def markdown(summaries: Sequence[BenchSummary], groups: Sequence[Group]) -> str:
    """Return the page of recorded runs."""
    lines = [
        "# Benchmark",
        "",
        "Written by `whylens bench`; nothing here was typed by hand. Each map explains the input's "
        "own class, with the method's default parameters. Figures are means over test inputs, "
        "classes in turn, with their 95 % interval (bootstrap over inputs) in parentheses.",
        "",
        "Three rows are no method: *(true mask)* is the evidence itself, *(random map)* is smooth "
        "noise, *(edges)* is the contrast of the input. The evidence is what *defines* the label: "
        "a network that learnt something else is right to look elsewhere. A map that is best in "
        "one table is not best: read the tables together. In the grid pointing game the input is "
        "one tile of a mosaic, among others that the network names right, and the figure is the "
        "share of the map that lies in its tile.",
        "",
        "Figures of parts are after FunnyBirds (Hesse et al. 2023), on sets that can leave a part "
        "out of a picture, and not comparable with theirs: CSDC is the share of a breed's signs "
        "that a map points at, PC and DC whether those parts alone keep the breed and leaving "
        "them out changes it, D the share of irrelevant parts that it does not point at, SD how "
        "well it orders parts by what leaving them out takes, TS whether the map of each of two "
        "breeds prefers its own sign on a cat that has one of each. From which share of a map on "
        "it points at a part was fitted on pictures of the validation split. X is the mean of "
        "((CSDC + PC + DC) / 3 + D) / 2, SD and TS. A hint's figure is how often the map of the "
        "class that it gives away is larger in the hint than beside it, in pictures that have it. "
        "What every other figure means: [Which metric says what](metrics.md).",
    ]
    for summary in summaries:
        lines += ["", f"## {summary.model}", "", _setting(summary)]
        lines += ["", f"![{summary.model}: figures with intervals]({plot_name(summary)})"]
        for group in groups:
            lines += _table(summary, group)
        reasons = [
            f"- {row.method}: {_failures(row)}{' '.join(row.reason.split())}"
            for row in summary.rows
            if row.reason
        ]
        if reasons:
            lines += ["", "Without an answer:", "", *reasons]
    return "\n".join(lines) + "\n"


def _setting(summary: BenchSummary) -> str:
    from whylens.core.bench.columns import GRID

    words = (
        f"{summary.pictures} test inputs of {summary.data}; the network recognises "
        f"{percent(summary.recognised)} of them. Weights {summary.model_sha256[:12]}. All figures "
        "but those of evidence, parts, hints and shape are of the first "
        f"{summary.few}, and so is the grid pointing game; methods that take many steps see no "
        f"more than those, and {_repeats(summary)} of whether a map depends on what was learnt and "
        f"is steady, for which a method is asked again and again. Deletion and insertion take "
        f"{summary.steps} steps; where random maps are compared with others, their row is the mean "
        f"of {summary.random_maps or summary.few}."
    )
    played = [GRID.name in row.figures for row in summary.rows if row.figures]
    if any(played) and not all(played):
        words += " Methods of many steps were not asked the grid pointing game."
    if summary.background is not None:
        words += (
            f" Of what lies around the cats {percent(summary.background)} means nothing to the "
            "network."
        )
    return words


def _repeats(summary: BenchSummary) -> str:
    if not summary.repeats:
        return "have no figures"
    return f"no more than the first {summary.repeats} for the figures"


def _table(summary: BenchSummary, group: Group) -> list[str]:
    columns = [c for c in group.columns if any(c.name in row.figures for row in summary.rows)]
    if not columns:
        return []
    threshold = group.name == "parts"
    heads = [f"{c.title}{_arrow(c)}" for c in columns]
    lines = ["", f"### {group.question}", ""]
    lines += [f"| Method | {' | '.join(heads)} |{' Points from |' if threshold else ''} Inputs |"]
    lines += ["|---|" + "---:|" * (len(columns) + 1 + threshold)]
    for row in summary.rows:
        figures = [row.figures.get(c.name) for c in columns]
        if not any(figures):
            continue
        cells = " | ".join(_cell(figure) for figure in figures)
        most = max(figure.pictures for figure in figures if figure)
        share = "" if not threshold else f" {row.threshold or 0:.2f} |"
        lines += [f"| {row.method} | {cells} |{share} {most} |"]
    chances = [
        f"{c.title} {figure.chance:.2f}"
        for c in columns
        for figure in [summary.rows[0].figures.get(c.name)]
        if figure and figure.chance is not None
    ]
    return [*lines, "", f"Chance: {', '.join(chances)}."] if chances else lines


def _arrow(column: Column) -> str:
    return {"higher": " ↑", "lower": " ↓"}.get(column.direction, "")


def _failures(row: BenchRow) -> str:
    return f"{row.failed} of {row.failed + row.pictures} inputs. " if row.failed else ""


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"{figure.mean:.2f}"
    return f"{figure.mean:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def file_name(name: str) -> str:
    """Return a network's or a method's name as files have it."""
    return name.replace("+", "-plus").replace(":", "-").replace("/", "-")


def plot_name(summary: BenchSummary) -> str:
    """Return the file of a network's plot."""
    return f"benchmark-{file_name(summary.model)}.svg"


def plot_svg(summary: BenchSummary, groups: Sequence[Group]) -> str:
    """Return a picture of the main figures: a point and its interval per method, a panel each."""
    columns = [c for group in groups for c in group.columns if c.name in HEADLINES]
    panels = [c for c in columns if any(c.name in row.figures for row in summary.rows)]
    rows = [row for row in summary.rows if row.figures]
    left, wide, gap, line, top = 150, 170, 24, 18, 40
    width, height = left + (wide + gap) * len(panels), top + line * len(rows) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" font-family="sans-serif" font-size="11">',
        f"<title>{escape(summary.model)}: figures with 95 % intervals</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, row in enumerate(rows):
        y = top + line * number + line / 2
        parts.append(
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(row.method)}</text>'
        )
    for number, column in enumerate(panels):
        begin = left + (wide + gap) * number
        figures = [
            (i, row.figures[column.name])
            for i, row in enumerate(rows)
            if column.name in row.figures
        ]
        low = min([0.0, *(math.floor(10 * _low(f)) / 10 for _, f in figures)])
        high = max([1.0, *(math.ceil(10 * _high(f)) / 10 for _, f in figures)])

        def x(value: float, begin: int = begin, low: float = low, high: float = high) -> float:
            return round(begin + wide * (value - low) / (high - low), 1)

        bottom = top + line * len(rows)
        title = f"{escape(column.title)}{_arrow(column)}"
        parts.append(f'<text x="{begin}" y="{top - 20}" font-weight="bold">{title}</text>')
        parts += [
            f'<path d="M{x(tick)} {top}V{bottom}" stroke="#ccc"/>'
            f'<text x="{x(tick)}" y="{bottom + 14}" text-anchor="middle">{tick:g}</text>'
            for tick in sorted({0.0, high} | ({low} if -low > 0.15 * (high - low) else set()))
        ]
        chance = figures[0][1].chance if figures else None
        if chance is not None:
            parts.append(
                f'<path d="M{x(chance)} {top}V{bottom}" stroke="#b00" stroke-dasharray="3 3"/>'
            )
        for i, figure in figures:
            y = top + line * i + line / 2
            colour = "#777" if rows[i].method.startswith("(") else "#2a6f97"
            parts.append(
                f'<path d="M{x(_low(figure))} {y}H{x(_high(figure))}" stroke="{colour}" '
                f'stroke-width="2"/><circle cx="{x(figure.mean)}" cy="{y}" r="4" fill="{colour}"/>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _low(figure: Figure) -> float:
    return figure.mean if figure.low is None else figure.low


def _high(figure: Figure) -> float:
    return figure.mean if figure.high is None else figure.high


def badge_text(row: BenchRow, groups: Sequence[Group]) -> str:
    """Return a method's main figures in a line."""
    words = [
        f"{column.title.lower()} {row.figures[column.name].mean:.2f}"
        for group in groups
        for column in group.columns
        if column.name in HEADLINES and column.name in row.figures
    ]
    return ", ".join(words) or "no answer"


def badge_svg(label: str, text: str) -> str:
    """Return a picture of two words on two grounds, which asks no host for anything."""
    left, right = (round(6.6 * len(words)) + 14 for words in (label, text))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img">'
        f"<title>{escape(label)}: {escape(text)}</title>"
        f'<rect width="{left}" height="20" fill="#444"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="#2a6f97"/>'
        '<g fill="#fff" font-family="monospace" font-size="11">'
        f'<text x="7" y="14" textLength="{left - 14}">{escape(label)}</text>'
        f'<text x="{left + 7}" y="14" textLength="{right - 14}">{escape(text)}</text></g></svg>\n'
    )
