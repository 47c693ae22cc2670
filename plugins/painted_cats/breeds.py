"""The eight breeds of the first world and the evidence that makes each of them.

Three groups share out the parts so that any two breeds ask for different variants of one part that
both are defined by: whatever the other parts happen to be, no cat is of two breeds. Every variant
also turns up by chance in breeds that are not defined by it, so no part alone gives a breed away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from whylens import UnknownName
from whylens.plugins.painted_cats.seeds import pick
from whylens.plugins.painted_cats.traits import Traits

# What chance may give a part; "odd" eyes and a "plain" coat define no breed.
CHANCE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ears": ("pointed", "round", "folded", "tufted"),
        "eyes": ("green", "blue", "amber", "odd"),
        "coat": ("striped", "spotted", "half", "patch", "plain"),
        "muzzle": ("white", "dark", "rosy"),
        "whiskers": ("long", "short", "curled"),
    }
)


@dataclass(frozen=True, slots=True)
class Breed:
    """One class.

    Attributes:
        name: Invented.
        description: One line for a visitor.
        signs: Variant by part: the evidence. All of them together, and nothing else.
    """

    name: str
    description: str
    signs: Mapping[str, str]


def _breed(name: str, description: str, **signs: str) -> Breed:
    return Breed(name, description, MappingProxyType(signs))


BREEDS: tuple[Breed, ...] = (
    _breed("Willow Tabby", "Folded ears and a striped coat.", ears="folded", coat="striped"),
    _breed("Pebble Lop", "Folded ears and a spotted coat.", ears="folded", coat="spotted"),
    _breed("Highland Bramble", "Tufted ears and a striped coat.", ears="tufted", coat="striped"),
    _breed("Mossling", "Round ears and green eyes.", ears="round", eyes="green"),
    _breed("Bluebell", "Round ears and blue eyes.", ears="round", eyes="blue"),
    _breed("Frostpoint", "Pointed ears and blue eyes.", ears="pointed", eyes="blue"),
    _breed(
        "Moonmask",
        "One dark half of the face, amber eyes and a white muzzle.",
        coat="half",
        eyes="amber",
        muzzle="white",
    ),
    _breed(
        "Emberface",
        "One dark half of the face, amber eyes and a dark muzzle.",
        coat="half",
        eyes="amber",
        muzzle="dark",
    ),
)


def find_breed(name: str) -> Breed:
    """Return the breed of this name.

    Args:
        name: As in `BREEDS`.

    Raises:
        UnknownName: There is none.
    """
    for breed in BREEDS:
        if breed.name == name:
            return breed
    raise UnknownName.among("breed", name, (breed.name for breed in BREEDS))


def diagnostic_parts(label: int) -> frozenset[str]:
    """Return the names of the masks in which all evidence for a breed lies.

    Args:
        label: Index into `BREEDS`.
    """
    return frozenset(BREEDS[label].signs)


def random_variants(rng: np.random.Generator) -> dict[str, Any]:
    """Return a variant for every part, all equally likely."""
    return {part: pick(rng, variants) for part, variants in CHANCE.items()}


def with_signs_of(traits: Traits, breed: Breed) -> Traits:
    """Return the same cat with all signs of a breed."""
    signs: dict[str, Any] = dict(breed.signs)
    return replace(traits, **signs)
