"""How far work is: a share and a sentence, and generators that pass both on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
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
    """

    fraction: float
    message: str
    artifact: Artifact | None = None


_Told = TypeVar("_Told")
_Result = TypeVar("_Result")


def map_progress(
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
