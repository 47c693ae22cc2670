"""Private streams of random numbers: one per seed and name, so that no part reshuffles another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of one named decision; the same in every process.

    Args:
        name: What is decided, "ears" for example.
    """
    word = int.from_bytes(hashlib.blake2s(name.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(np.random.SeedSequence([seed, word]))


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number drawn uniformly from [low, high)."""
    return low + (high - low) * float(rng.random())


def pick(rng: np.random.Generator, choices: Sequence[Choice]) -> Choice:
    """Return one of `choices`, all equally likely."""
    return choices[int(rng.integers(len(choices)))]
