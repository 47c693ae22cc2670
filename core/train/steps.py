"""Signs of life of a training, and how those of its parts become its own.

May touch the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Step:
    """A sign of life.

    Attributes:
        fraction: Share done, from 0 to 1.
        said: What is going on, in words.
        seconds_left: A guess; None while there is nothing to guess from.
        epoch: The epoch it belongs to; 0 before the first.
        figures: Numbers by name: the loss, or those of the epoch that has just ended.
    """

    fraction: float
    said: str
    seconds_left: float | None = None
    epoch: int = 0
    figures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


def relayed(
    work: Generator[float, None, _Result], step: Callable[[float], Step]
) -> Generator[Step, None, _Result]:
    """Yield a step for each share of a part's work and return the part's result.

    Args:
        work: Yields the share done of the part.
        step: Makes a step of the whole from it.
    """
    while True:
        try:
            share = next(work)
        except StopIteration as end:
            result: _Result = end.value
            return result
        yield step(share)
