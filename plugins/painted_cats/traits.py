"""Everything that determines one painted cat, and what painting it gives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from whylens.plugins.painted_cats.canvas import Mask

Pixels = npt.NDArray[np.uint8]

Ears = Literal["pointed", "round", "folded", "tufted", "none"]
Eyes = Literal["green", "blue", "amber", "odd", "none"]
Coat = Literal["striped", "spotted", "half", "patch", "plain"]
Muzzle = Literal["white", "dark", "rosy", "none"]
Whiskers = Literal["long", "short", "curled", "none"]
Fur = Literal["ginger", "slate", "sand", "cocoa", "mist", "lilac", "honey"]
Scene = Literal["bokeh", "sky", "wallpaper", "room", "garden", "dusk", "library"]
# Drawn besides the cat and never evidence; "collar" is worn, the others stand in the scene.
Prop = Literal["collar", "window", "frame", "plant", "yarn"]
Artefact = Literal[
    "checkerboard",
    "mismatched_eyes",
    "extra_ear",
    "melted_whiskers",
    "smeared_fur",
    "garbled_collar",
    "garbled_nose",
]

FURS: tuple[Fur, ...] = get_args(Fur)
SCENES: tuple[Scene, ...] = get_args(Scene)
PROPS: tuple[Prop, ...] = get_args(Prop)
ARTEFACTS: tuple[Artefact, ...] = get_args(Artefact)
# Raise it whenever the same traits give other pixels: stored digests then no longer match.
RENDERER_VERSION = 1


@dataclass(frozen=True, slots=True)
class Traits:
    """All that one picture depends on besides its size.

    Attributes:
        ears: Shape of both ears; "none" leaves them out.
        eyes: Colour of both eyes; "odd" is one blue and one amber, "none" is fur.
        coat: Marking on head and chest; "plain" has none.
        muzzle: Colour of muzzle and nose; "none" is fur.
        whiskers: Their shape.
        fur: Colour of the coat under the marking.
        cat_seed: Small differences between cats of the same variants.
        pose_seed: Place, scale, tilt and turn of the cat.
        light_seed: Direction and warmth of the light.
        scene: What lies behind the cat.
        scene_seed: Colours and places within the scene, its props included.
        props: Distractors, in no order that matters.
        artefacts: What an image generator got wrong; empty for a genuine picture.
        watermark: Whether a badge lies in the lower right corner.
    """

    ears: Ears
    eyes: Eyes
    coat: Coat
    muzzle: Muzzle
    whiskers: Whiskers
    fur: Fur
    cat_seed: int
    pose_seed: int
    light_seed: int
    scene: Scene
    scene_seed: int
    props: tuple[Prop, ...] = ()
    artefacts: tuple[Artefact, ...] = ()
    watermark: bool = False

    def digest(self, size: int) -> str:
        """Return a hex sha256 of all that determines the pixels, without drawing them.

        Args:
            size: Side of the picture in pixels.
        """
        whole = {"renderer": RENDERER_VERSION, "size": size, **asdict(self)}
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


# Pictures compare by identity: == of arrays has no single truth value.
@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """One painted cat.

    Attributes:
        pixels: (H, W, 3) uint8.
        parts: (H, W) bool by name: the pixels where that part is what one sees. A pixel on an
            edge goes to the part that covers at least half of it (0.15 for whiskers and 0.25 for
            the coat, which are thin). Nothing is painted further than a pixel from its mask.
            What is done to the finished picture, as a smear, leaves the other masks as they were.
    """

    pixels: Pixels
    parts: Mapping[str, Mask]
