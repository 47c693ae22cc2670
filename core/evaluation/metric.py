"""What a metric is: a figure for one map of one input, with what a random map would get beside it.

A metric knows networks and maps; no screen, no method and no data set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from whylens.core.errors import NeedsNotMet

if TYPE_CHECKING:
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
        span: Lowest and highest value over a choice that nothing decides, as what hidden places
            show; None where there was no such choice.
    """

    value: float | None
    chance: float | None = None
    note: str = ""
    passes: float = 0
    fraction: float = 1.0
    shares: tuple[float, ...] = ()
    curve: tuple[float, ...] = ()
    span: tuple[float, float] | None = None


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
        baseline: (N, C, *S) the input that the method compares with, or all over which it takes
            the mean, where it promises completeness; None where it does not.
        class_blind: Whether the method says that it has one answer for all classes.
        cache: What metrics find out once for this network, method and parameters, whatever the
            input, lies in it by name; None to find it out anew. Whoever asks keeps it.
    """

    subject: Subject
    heat: Heatmap
    explain: Callable[[Subject], Heatmap] | None = None
    randomised: Callable[[int], Subject] | None = None
    mask: Tensor | None = None
    baseline: Tensor | None = None
    class_blind: bool = False
    cache: MutableMapping[str, object] | None = None


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
        best: What the exact map of a linear network gets, where that is known: 1 of a correlation.
    """

    name: str
    title: str
    summary: str
    source: str
    direction: Direction
    measure: Callable[[Case], Iterator[Score]]
    asks: frozenset[Asks] = frozenset()
    scale_free: bool = True
    best: float | None = None

    def steps(self, case: Case) -> Iterator[Score]:
        """Yield its scores, or one without a value that says what the case lacks."""
        try:
            for ask in sorted(self.asks):
                require(case, ask)
        except NeedsNotMet as lacking:
            yield Score(None, note=str(lacking))
            return
        yield from self.measure(case)

    def score(self, case: Case) -> Score:
        """Return the finished score, or one without a value that says what the case lacks."""
        *_, last = self.steps(case)
        return last


def require(case: Case, ask: Asks) -> Any:
    """Return what a metric asks of a case beside the question and the map.

    Raises:
        NeedsNotMet: The case does not hold it.
    """
    value = getattr(case, "explain" if ask == "method" else ask)
    if value is None:
        raise NeedsNotMet(f"It cannot be asked here: {_MISSING[ask]}.")
    return value


_MISSING: dict[Asks, str] = {
    "method": "only the map is known, not the method that made it",
    "mask": "where the evidence lies is not known",
    "randomised": "the network's weights cannot be exchanged",
    "baseline": "the method does not promise that its values add up",
}


def metric_errors(metric: object) -> list[str]:
    """Return what is wrong with something a plugin offers as a metric; empty if nothing is."""
    if not isinstance(metric, Metric):
        return [f"metrics() gave {type(metric).__name__}, not a Metric."]
    errors = []
    if not re.fullmatch("[a-z0-9]+(?:-[a-z0-9]+)*", str(metric.name)):
        errors.append(
            f"The name {metric.name!r} must be kebab-case: lower-case words joined by '-'."
        )
    errors += [
        f"The metric {metric.name!r} needs a {attribute}."
        for attribute in ("title", "summary", "source")
        if not str(getattr(metric, attribute)).strip()
    ]
    if metric.direction not in get_args(Direction):
        errors.append(f"The metric {metric.name!r} has no direction {metric.direction!r}.")
    if not set(metric.asks) <= set(get_args(Asks)):
        errors.append(f"The metric {metric.name!r} may ask for {', '.join(get_args(Asks))}.")
    measure: object = metric.measure
    if not callable(measure):
        errors.append(f"The metric {metric.name!r} needs a function `measure(case)`.")
    return errors
