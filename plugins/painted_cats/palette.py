"""Colours of fur, eyes and noses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whylens.plugins.painted_cats.canvas import Colour
from whylens.plugins.painted_cats.seeds import between
from whylens.plugins.painted_cats.traits import Eyes, Fur


@dataclass(frozen=True, slots=True)
class Coating:
    """Colours of one cat's fur.

    Attributes:
        base: Most of the fur; neither so dark nor so light that a marking or muzzle is lost on it.
        light: Around eyes, cheeks and chest.
        mark: The marking.
    """

    base: Colour
    light: Colour
    mark: Colour


def coating(fur: Fur, rng: np.random.Generator) -> Coating:
    """Return the colours of one cat, a little off the named ones."""
    table: dict[Fur, tuple[Colour, Colour, Colour]] = {
        "ginger": ((0.90, 0.55, 0.26), (0.98, 0.77, 0.50), (0.48, 0.19, 0.07)),
        "slate": ((0.50, 0.54, 0.61), (0.70, 0.73, 0.78), (0.15, 0.16, 0.21)),
        "sand": ((0.83, 0.68, 0.49), (0.95, 0.85, 0.69), (0.38, 0.24, 0.14)),
        "cocoa": ((0.62, 0.43, 0.30), (0.80, 0.62, 0.46), (0.20, 0.11, 0.07)),
        "mist": ((0.74, 0.74, 0.74), (0.88, 0.88, 0.87), (0.25, 0.25, 0.28)),
        "lilac": ((0.70, 0.62, 0.65), (0.86, 0.79, 0.80), (0.31, 0.22, 0.27)),
        "honey": ((0.86, 0.66, 0.34), (0.97, 0.84, 0.58), (0.42, 0.24, 0.08)),
    }
    base, light, mark = (np.asarray(colour) for colour in table[fur])
    power = between(rng, 0.94, 1.05)
    drift = 1 + 0.03 * (rng.random(3) - 0.5)
    return Coating(
        _colour(base * power * drift), _colour(light * power * drift), _colour(mark * drift)
    )


def irises(eyes: Eyes, rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Return the colours of the left and the right iris.

    Args:
        eyes: Which; not "none".
    """
    table: dict[str, Colour] = {
        "green": (0.42, 0.78, 0.24),
        "blue": (0.22, 0.60, 0.98),
        "amber": (0.98, 0.66, 0.10),
    }
    drift = 1 + 0.06 * (rng.random(3) - 0.5)
    flipped = bool(rng.random() < 0.5)
    odd = ("blue", "amber") if flipped else ("amber", "blue")
    pair = odd if eyes == "odd" else (eyes, eyes)
    left, right = (_colour(np.asarray(table[name]) * drift) for name in pair)
    return left, right


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = (float(value) for value in np.clip(values, 0, 1))
    return red, green, blue
