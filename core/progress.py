"""Generators that tell how far they are and return what they made: passing both on.

May touch the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

_Told = TypeVar("_Told")
_Result = TypeVar("_Result")


def relayed(
    work: Generator[float, None, _Result], told: Callable[[float], _Told]
) -> Generator[_Told, None, _Result]:
    """Yield what `told` makes of each share of a part's work, and return the part's result.

    Args:
        work: Yields the share done of the part.
        told: Makes of it what is said of the whole.
    """
    while True:
        try:
            share = next(work)
        except StopIteration as end:
            result: _Result = end.value
            return result
        yield told(share)


def result_of(
    work: Generator[float, None, _Result], tell: Callable[[float], object] | None = None
) -> _Result:
    """Return the result of a part's work.

    Args:
        work: Yields the share done of the part.
        tell: Called with each share.
    """
    while True:
        try:
            share = next(work)
        except StopIteration as end:
            result: _Result = end.value
            return result
        if tell is not None:
            tell(share)
