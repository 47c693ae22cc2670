"""What a metric is: a figure for one map of one input, with what a random map would get beside it.

A metric knows networks and maps; no screen, no method and no data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from whylens.core.results import Heatmap
from whylens.core.subject import Subject

Direction = Literal["higher", "lower", "none"]
Asks = Literal["method", "mask", "randomised", "baseline"]


@dataclass(frozen=True, slots=True)
class Score:
    """What a metric came to.

    Attributes:
        value: None where the metric says nothing about this map; `note` says why.
        chance: What a random map is expected to get, on the same scale; None where chance has no
            meaning.
        note: One sentence, or "".
        passes: Forward passes spent on it, so far; a backward pass counts as two.
        fraction: How much of the work is done, 0 to 1; the last is 1.
        shares: Places of a curve, 0 to 1; empty without one.
        curve: Its values at `shares`.
    """

    value: float | None
    chance: float | None = None
    note: str = ""
    passes: float = 0
    fraction: float = 1.0
    shares: tuple[float, ...] = ()
    curve: tuple[float, ...] = ()


@dataclass(frozen=True)
class Case:
    """What a metric is handed: a question, a map that answers it, and what else is known.

    Attributes:
        subject: The question. Its target stays what it is, whatever becomes of the input.
        heat: The map, on its own grid.
        explain: Returns the map of the same method, with the same parameters, for another subject:
            another input, seed, target or network. None where only the map is known.
        randomised: Returns the same question to the same network with new random weights, by seed.
            None where that cannot be had.
        mask: (*S) bool, where the evidence is known to lie; None where it is not known.
        baseline: (1, C, *S) the input that the method compares with, where it promises
            completeness; None where it does not.
    """

    subject: Subject
    heat: Heatmap
    explain: Callable[[Subject], Heatmap] | None = None
    randomised: Callable[[int], Subject] | None = None
    mask: Tensor | None = None
    baseline: Tensor | None = None


@dataclass(frozen=True)
class Metric:
    """One metric; a plugin offers its own by the hook `metrics()`.

    Attributes:
        name: Kebab-case.
        title: Two or three words.
        summary: One sentence: what is asked of a map.
        source: Paper and equation, and where this differs.
        direction: Which way is good; "none" for what only describes.
        measure: Yields scores, each more certain than the one before; the last is finished.
            Closing it stops the work.
        asks: What a case must hold beside the question and the map; without it the metric is not
            asked.
        scale_free: Whether a map times a positive number gets the same.
    """

    name: str
    title: str
    summary: str
    source: str
    direction: Direction
    measure: Callable[[Case], Iterator[Score]]
    asks: frozenset[Asks] = frozenset()
    scale_free: bool = True

    def score(self, case: Case) -> Score:
        """Return the finished score, or one without a value that says what the case lacks."""
        held = {"method": case.explain, "mask": case.mask, "randomised": case.randomised,
                "baseline": case.baseline}  # fmt: skip
        missing = sorted(name for name in self.asks if held[name] is None)
        if missing:
            return Score(None, note=f"It cannot be asked here: {_MISSING[missing[0]]}.")
        *_, last = self.measure(case)
        return last


_MISSING = {
    "method": "only the map is known, not the method that made it",
    "mask": "where the evidence lies is not known",
    "randomised": "the network's weights cannot be exchanged",
    "baseline": "the method does not promise that its values add up",
}
