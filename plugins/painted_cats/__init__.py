"""Painted Cats: portraits drawn from a seed, with the mask of every part and known evidence."""

from collections.abc import Iterable
from typing import get_args

from whylens import DatasetSource, hookimpl
from whylens.plugins.painted_cats.breeds import BREEDS, Breed, diagnostic_parts
from whylens.plugins.painted_cats.cats import BADGE, PaintedCats, painted_cats
from whylens.plugins.painted_cats.changes import with_background, with_part_of, without
from whylens.plugins.painted_cats.portrait import paint_portrait
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
    "paint_portrait",
    "with_background",
    "with_part_of",
    "without",
]


@hookimpl
def datasets() -> Iterable[DatasetSource]:
    """Return the painted cats: one data set per world, and one whose label a badge gives away."""
    yield DatasetSource(
        name="painted-cats",
        summary=(
            "Cats drawn from seeds, with the mask of every part: by breed, genuine or not, or by "
            "breed with a badge that gives one breed away."
        ),
        load=painted_cats,
        options=(*get_args(World), BADGE),
    )
