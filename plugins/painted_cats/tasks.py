"""From a seed to the traits of one picture, in either world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from whylens.plugins.painted_cats.breeds import BREEDS, random_variants, with_signs_of
from whylens.plugins.painted_cats.seeds import pick, stream
from whylens.plugins.painted_cats.traits import ARTEFACTS, FURS, PROPS, SCENES, Prop, Scene, Traits

World = Literal["breed", "genuine"]
GENUINE: tuple[str, str] = ("genuine", "generated")
# Scenery may crowd the cat: of the four things that stand about, at most two at once.
MOST_PROPS = 2


def scenery(rng: np.random.Generator) -> tuple[Scene, int, tuple[Prop, ...]]:
    """Return a scene, its seed and what stands about in it."""
    standing = [prop for prop in PROPS if prop != "collar"]
    picks = rng.permutation(len(standing))[: int(rng.integers(MOST_PROPS + 1))]
    return pick(rng, SCENES), int(rng.integers(2**31)), tuple(standing[k] for k in sorted(picks))


def any_cat(seed: int) -> Traits:
    """Return a cat of no intended breed, in some scene."""
    rng = stream(seed, "cat")
    scene, scene_seed, props = scenery(stream(seed, "scenery"))
    worn: tuple[Prop, ...] = ("collar",) if rng.random() < 0.5 else ()
    cat_seed, pose_seed, light_seed = (int(value) for value in rng.integers(2**31, size=3))
    return Traits(
        **random_variants(rng),
        fur=pick(rng, FURS),
        cat_seed=cat_seed,
        pose_seed=pose_seed,
        light_seed=light_seed,
        scene=scene,
        scene_seed=scene_seed,
        props=(*worn, *props),
    )


def breed_cat(seed: int, label: int) -> Traits:
    """Return a cat of a breed; all that does not define the breed is left to chance.

    Args:
        label: Index into `BREEDS`.
    """
    return with_signs_of(any_cat(seed), BREEDS[label])


def genuine_cat(seed: int, label: int) -> Traits:
    """Return a genuine cat, or one with one to three artefacts.

    Args:
        label: 0 for genuine, 1 for generated.
    """
    cat = any_cat(seed)
    return add_artefacts(cat, seed) if label else cat


def add_artefacts(cat: Traits, seed: int) -> Traits:
    """Return the same cat with one to three artefacts; only a collar can be a garbled one."""
    rng = stream(seed, "artefacts")
    open_to = [name for name in ARTEFACTS if name != "garbled_collar" or "collar" in cat.props]
    count = 1 + int(rng.integers(3))
    order = rng.permutation(len(open_to))[:count]
    return replace(cat, artefacts=tuple(open_to[k] for k in sorted(order)))


def traits_function(world: World) -> Callable[[int, int], Traits]:
    """Return the function from seed and label to traits."""
    return breed_cat if world == "breed" else genuine_cat
