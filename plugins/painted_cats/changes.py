"""Interventions: the same cat but for one thing, so that what a model makes of it can be measured.

Every part draws its small differences from a stream of its own, so only the pixels that show the
part before or after, and their neighbours, take another colour. The one exception, a handful of
pixels: where a thin part's soft edge lies on top, what is beneath shines through.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from whylens import InvalidParameter, UnknownName
from whylens.plugins.painted_cats.breeds import find_breed
from whylens.plugins.painted_cats.seeds import stream
from whylens.plugins.painted_cats.tasks import scenery
from whylens.plugins.painted_cats.traits import ARTEFACTS, PROPS, Traits


def without(traits: Traits, part: str) -> Traits:
    """Return the same cat with a part left out: fur or scene shows in its place.

    Args:
        part: "ears", "eyes", "muzzle", "whiskers" or "coat"; a prop; "watermark"; or an artefact as
            in "artefact:checkerboard", which gives the picture its generator should have made.

    Raises:
        UnknownName: Nothing of this name can be left out.
    """
    if part == "coat":
        return replace(traits, coat="plain")
    if part == "watermark":
        return replace(traits, watermark=False)
    kind, _, artefact = part.partition(":")
    if kind == "artefact" and artefact in ARTEFACTS:
        return _less(traits, artefact)
    # The artefact that stands in for a part goes with it.
    in_its_place = {
        "ears": "extra_ear",
        "eyes": "mismatched_eyes",
        "whiskers": "melted_whiskers",
        "muzzle": "garbled_nose",
        "collar": "garbled_collar",
    }
    if part in PROPS:
        props = tuple(prop for prop in traits.props if prop != part)
        return _less(replace(traits, props=props), in_its_place.get(part, ""))
    if part in in_its_place:
        absent: dict[str, Any] = {part: "none"}
        return _less(replace(traits, **absent), in_its_place[part])
    parts = (*in_its_place, "coat", "watermark", *PROPS, *(f"artefact:{a}" for a in ARTEFACTS))
    raise UnknownName.among("part to leave out", part, parts)


def _less(traits: Traits, artefact: str) -> Traits:
    return replace(traits, artefacts=tuple(a for a in traits.artefacts if a != artefact))


def with_part_of(traits: Traits, part: str, breed: str) -> Traits:
    """Return the same cat with the variant of a part that defines another breed.

    Raises:
        UnknownName: There is no such breed.
        InvalidParameter: The breed is not defined by this part.
    """
    signs = find_breed(breed).signs
    if part not in signs:
        raise InvalidParameter(
            f"{breed} is not defined by its {part}; choose one of {', '.join(sorted(signs))}."
        )
    signs_of_breed: dict[str, Any] = {part: signs[part]}
    return replace(traits, **signs_of_breed)


def with_background(traits: Traits, seed: int) -> Traits:
    """Return the same cat, in the same light and pose, in another scene with other props.

    What the cat wears stays.
    """
    scene, scene_seed, props = scenery(stream(seed, "other scenery"))
    worn = tuple(prop for prop in traits.props if prop == "collar")
    return replace(traits, scene=scene, scene_seed=scene_seed, props=(*worn, *props))
