"""How far work is: a share and a sentence, and generators that pass both on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from whylens.core.storage.artifacts import Artifact

# Called with the share done (0 to 1) and a sentence.
ProgressCallback = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of fitting.

    Attributes:
        fraction: Share of the work done, 0 to 1.
        message: What is going on, in a few words.
        artifact: The outcome; only the last step has it.
        pictures: How many the set has; the engine says it.
    """

    fraction: float
    message: str
    artifact: Artifact | None = None
    pictures: int = 0


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a training is.

    Attributes:
        fraction: Share done, from 0 to 1.
        message: What is going on, in words.
        seconds_left: A guess; None while there is nothing to guess from.
        epoch: The epoch it belongs to; 0 before the first.
        figures: Numbers by name: the loss, or those of the epoch that has just ended.
    """

    fraction: float
    message: str
    seconds_left: float | None = None
    epoch: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)


_Shown = TypeVar("_Shown")
_Result = TypeVar("_Result")
_Step = TypeVar("_Step")


def last_of(steps: Iterable[_Step]) -> _Step:
    """Return the last step of work; of those before it none is kept.

    Raises:
        ValueError: There is none.
    """
    # A star before a name would hold all of them, of which a stranger's method may yield millions.
    last = deque(steps, maxlen=1)
    if not last:
        raise ValueError("the work had no step")
    return last[0]


def map_progress(
    work: Generator[float, None, _Result], convert: Callable[[float], _Shown]
) -> Generator[_Shown, None, _Result]:
    """Yield what `convert` makes of each share of a part's work, and return the part's result.

    Args:
        work: Yields the share done of the part, 0 to 1.
        convert: From that share to how far the whole is.
    """
    while True:
        try:
            share = next(work)
        except StopIteration as end:
            result: _Result = end.value
            return result
        yield convert(share)


def run(
    work: Generator[float, None, _Result], progress: Callable[[float], object] | None = None
) -> _Result:
    """Return the result of work, done to its end.

    Args:
        work: Yields the share done, 0 to 1.
        progress: Called with each share.
    """
    while True:
        try:
            share = next(work)
        except StopIteration as end:
            result: _Result = end.value
            return result
        if progress is not None:
            progress(share)
