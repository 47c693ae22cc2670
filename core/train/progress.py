"""Signs of life of a training.

May touch the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Step:
    """A sign of life.

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
    figures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
