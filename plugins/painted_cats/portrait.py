"""One picture from its traits: every layer in its order, and the mask of every part."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from whylens.plugins.painted_cats import artefacts, props
from whylens.plugins.painted_cats.badge import paint_badge
from whylens.plugins.painted_cats.canvas import Easel, Frame, Mask
from whylens.plugins.painted_cats.ears import paint_ears
from whylens.plugins.painted_cats.eyes import paint_eyes
from whylens.plugins.painted_cats.head import paint_body, paint_head
from whylens.plugins.painted_cats.muzzle import paint_muzzle, paint_whiskers
from whylens.plugins.painted_cats.palette import coating
from whylens.plugins.painted_cats.pose import lit, posed
from whylens.plugins.painted_cats.scene import paint_scene
from whylens.plugins.painted_cats.seeds import stream
from whylens.plugins.painted_cats.traits import Pixels, Portrait, Traits


def painted(traits: Traits, *, size: int = 224) -> Portrait:
    """Return the picture of one cat; the same traits and size give the same bytes.

    Args:
        traits: All that determines it.
        size: Side in pixels, at least 32.
    """
    easel = Easel(size)
    pose, light = posed(traits.pose_seed, size), lit(traits.light_seed)
    colours = coating(traits.fur, stream(traits.cat_seed, "fur"))
    square = Frame.turned(size, at=(0, 0), unit=1, angle=0)
    paint_scene(easel, square, traits.scene, traits.scene_seed)
    if "window" in traits.props:
        props.paint_window(easel, square, traits.scene_seed)
    if "frame" in traits.props:
        props.paint_frame(easel, square, traits.scene_seed)
    if "plant" in traits.props:
        props.paint_plant(easel, square, traits.scene_seed)
    paint_body(easel, pose, light, traits, colours)
    if "garbled_collar" in traits.artefacts:
        artefacts.paint_garbled_collar(easel, pose, light, traits)
    elif "collar" in traits.props:
        props.paint_collar(easel, pose, light, traits.cat_seed)
    if "extra_ear" in traits.artefacts:
        artefacts.paint_extra_ear(easel, pose, light, traits, colours)
    if traits.ears in ("pointed", "round", "tufted"):
        paint_ears(easel, pose, light, traits, colours)
    paint_head(easel, pose, light, traits, colours)
    if traits.ears == "folded":
        paint_ears(easel, pose, light, traits, colours)
    if traits.eyes != "none":
        paint_eyes(easel, pose, light, traits)
    if "mismatched_eyes" in traits.artefacts:
        artefacts.paint_mismatched_eye(easel, pose, light, traits)
    if traits.muzzle != "none":
        paint_muzzle(easel, pose, light, traits)
    if "melted_whiskers" in traits.artefacts:
        artefacts.paint_melted_whiskers(easel, pose, traits, colours)
    elif traits.whiskers != "none":
        paint_whiskers(easel, pose, traits, colours)
    if "yarn" in traits.props:
        props.paint_yarn(easel, square, traits.scene_seed)
    damage = artefacts.damaged(easel, pose, traits)
    if traits.watermark:
        paint_badge(easel, square)
    parts = _masks(easel, traits, damage)
    return Portrait(_bytes(easel), MappingProxyType(parts))


def _masks(easel: Easel, traits: Traits, damage: dict[str, Mask]) -> dict[str, Mask]:
    """Return the mask of every part; those of ears, eyes, coat and so on are always there."""
    left, right = easel.shows("left_ear"), easel.shows("right_ear")
    wrong = "artefact:mismatched_eyes"
    eyes = [
        easel.shows(name, wrong) if artefacts.mismatched_side(traits) == side else easel.shows(name)
        for side, name in ((-1, "left_eye"), (1, "right_eye"))
    ]
    muzzle, whiskers = easel.shows("muzzle"), easel.shows("whiskers", "artefact:melted_whiskers")
    head = easel.shows("head", "coat on head") | eyes[0] | eyes[1] | muzzle
    body = easel.shows("body", "coat on body")
    extra = easel.shows("artefact:extra_ear")
    parts = {
        "left_ear": left,
        "right_ear": right,
        "ears": left | right,
        "left_eye": eyes[0],
        "right_eye": eyes[1],
        "eyes": eyes[0] | eyes[1],
        "muzzle": muzzle,
        "whiskers": whiskers,
        "coat": easel.shows("coat on head", "coat on body"),
        "head": head,
        "body": body,
        "cat": head | body | left | right | extra | whiskers,
        "background": easel.shows("scene"),
    }
    collar = easel.shows("collar", "artefact:garbled_collar")
    for prop in traits.props:
        parts[prop] = collar if prop == "collar" else easel.shows(prop)
    if traits.watermark:
        parts["watermark"] = easel.shows("watermark")
    for artefact in traits.artefacts:
        name = f"artefact:{artefact}"
        parts[name] = damage[name] if name in damage else easel.shows(name)
    for mask in parts.values():
        mask.setflags(write=False)
    return parts


def _bytes(easel: Easel) -> Pixels:
    """Return (H, W, 3) uint8."""
    whole = np.clip(easel.rgb, 0, 1) * np.float32(255) + np.float32(0.5)
    pixels = np.ascontiguousarray(whole.astype(np.uint8).transpose(1, 2, 0))
    pixels.setflags(write=False)
    return pixels
