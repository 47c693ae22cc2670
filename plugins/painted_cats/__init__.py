"""Painted Cats: portraits drawn from a seed, with the mask of every part and known evidence."""

from whylens.plugins.painted_cats.breeds import BREEDS, Breed, diagnostic_parts
from whylens.plugins.painted_cats.cats import PaintedCats
from whylens.plugins.painted_cats.changes import with_background, with_part_of, without
from whylens.plugins.painted_cats.portrait import painted
from whylens.plugins.painted_cats.tasks import World
from whylens.plugins.painted_cats.traits import Portrait, Traits

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
