"""Painted Cats: portraits drawn from a seed, with the mask of every part and known evidence."""

from core.datasets.painted_cats.breeds import BREEDS, Breed, diagnostic_parts
from core.datasets.painted_cats.cats import PaintedCats
from core.datasets.painted_cats.changes import with_background, with_part_of, without
from core.datasets.painted_cats.portrait import painted
from core.datasets.painted_cats.traits import Portrait, Traits
from core.datasets.painted_cats.worlds import World

__all__ = [
    "BREEDS",
    "Breed",
    "PaintedCats",
    "Portrait",
    "Traits",
    "World",
    "diagnostic_parts",
    "painted",
    "with_background",
    "with_part_of",
    "without",
]
