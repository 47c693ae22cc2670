"""Rows of a comparison: how they are timed, judged and written down."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One thing that is compared, before it is measured.

    Attributes:
        title: What is compared, in words; unique.
        unit: What the figure is: "x faster than the fastest peer", "forward passes", ...
        goal: Figure to reach.
        at_least: Whether more is better; else the figure must not exceed the goal.
        rounds: Most interleaved rounds; long rows get fewer.
        method: Returns what to race, or the figure itself where nobody is raced.
    """

    title: str
    unit: str
    goal: float
    at_least: bool
    rounds: int
    method: Callable[[], Contest | float]


@dataclass(frozen=True)
class Contest:
    """What runs against what.

    Attributes:
        own_work: Whylens' work.
        peers: Name to a peer's work; the bare forward pass counts as one.
        likeness: What was compared before timing, in words.
        over: True for peer / ours (how much faster we are), False for ours / peer.
    """

    own_work: Work
    peers: dict[str, Work]
    likeness: str
    over: bool


@dataclass(frozen=True)
class Measured:
    """A row with its figures.

    Attributes:
        row: What was compared.
        figure: The one that is held against the goal: that of the fastest peer.
        ratios: Name of a peer to the median of ratios within a round.
        labour: As `ratios`, of processor time instead of time on the clock.
        seconds: Name to the median time, "whylens" among them.
        rounds: How many rounds were run.
        likeness: What was compared before timing.
    """

    row: Row
    figure: float
    ratios: dict[str, float] = field(default_factory=dict)
    labour: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    rounds: int = 1
    likeness: str = ""

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        if self.row.at_least:
            return self.figure >= self.row.goal
        return self.figure <= self.row.goal


def race(row: Row, contest: Contest, *, rounds: int) -> Measured:
    """Return a row measured in interleaved rounds: everyone once in each, in turning order.

    A ratio is taken within a round and its median over the rounds: a machine that slows down
    for a while slows down all of a round.

    Args:
        rounds: How many rounds, at least one; everyone has run once before.
    """
    works = {"whylens": contest.own_work, **contest.peers}
    names = list(works)
    if not contest.likeness:  # else everyone has run already
        for work in works.values():
            work()
    clock: dict[str, list[float]] = {name: [] for name in names}
    labour: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            began, worked = time.perf_counter(), time.process_time()
            works[name]()
            labour[name].append(time.process_time() - worked)
            clock[name].append(time.perf_counter() - began)
    ratios = _ratios(clock, over=contest.over)
    # Against the fastest peer: the smallest gain, or the largest share of its time.
    figure = min(ratios.values()) if contest.over else max(ratios.values())
    return Measured(
        row,
        figure,
        ratios,
        _ratios(labour, over=contest.over),
        {name: statistics.median(times) for name, times in clock.items()},
        rounds,
        contest.likeness,
    )


def _ratios(seconds: dict[str, list[float]], *, over: bool) -> dict[str, float]:
    results = {}
    for name in seconds:
        if name != "whylens":
            pairs = zip(seconds["whylens"], seconds[name], strict=True)
            results[name] = statistics.median(t / o if over else o / t for o, t in pairs)
    return results


def cells(measured: Measured) -> list[str]:
    """Return the cells of one row."""
    row = measured.row
    sign = "≥" if row.at_least else "≤"
    others, labour = (
        ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
        for ratios in (measured.ratios, measured.labour)
    )
    times = ", ".join(f"{name} {spent:.3f} s" for name, spent in measured.seconds.items())
    return [
        row.title,
        f"{measured.figure:.4g} {row.unit}",
        f"{sign} {row.goal:g}",
        "reached" if measured.reached else "**not reached**",
        others or "-",
        labour or "-",
        times or "-",
        str(measured.rounds),
    ]


HEADINGS = (
    "What", "Measured", "Goal", "Verdict", "Ratio to each",
    "Ratio of processor time", "Median times", "Rounds",
)  # fmt: skip


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    Args:
        headings: One per column.
    """
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def this_machine() -> str:
    """Return on what the figures were measured, in a few words."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def verdicts(results: Sequence[Measured]) -> str:
    """Return in words which goals were reached and which were not."""
    good = [m.row.title for m in results if m.reached]
    bad = [m for m in results if not m.reached]
    text = f"{len(good)} of {len(results)} goals were reached in this run."
    if not bad:
        return text
    unmet = [
        f"- {m.row.title}: {m.figure:.4g} {m.row.unit}; the goal is "
        f"{'at least' if m.row.at_least else 'at most'} {m.row.goal:g}."
        for m in bad
    ]
    return "\n".join([text + " Not reached:", "", *unmet])
