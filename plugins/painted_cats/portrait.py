"""One picture from its traits: every layer in its order, and the mask of every part."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from whylens.plugins.painted_cats import artefacts, props
from whylens.plugins.painted_cats.badge import paint_badge
from whylens.plugins.painted_cats.canvas import Canvas, Frame, Mask
from whylens.plugins.painted_cats.ears import paint_ears
from whylens.plugins.painted_cats.eyes import paint_eyes
from whylens.plugins.painted_cats.head import paint_body, paint_head
from whylens.plugins.painted_cats.muzzle import paint_muzzle, paint_whiskers
from whylens.plugins.painted_cats.palette import coating
from whylens.plugins.painted_cats.pose import lit, random_pose
from whylens.plugins.painted_cats.scene import paint_scene
from whylens.plugins.painted_cats.seeds import stream
from whylens.plugins.painted_cats.traits import Pixels, Portrait, Traits


def paint_portrait(traits: Traits, *, size: int = 224) -> Portrait:
    """Return the picture of one cat; the same traits and size give the same bytes.

    Args:
        size: Side in pixels, at least 32.
    """
    canvas = Canvas(size)
    pose, light = random_pose(traits.pose_seed, size), lit(traits.light_seed)
    colours = coating(traits.fur, stream(traits.cat_seed, "fur"))
    square = Frame.turned(size, at=(0, 0), unit=1, angle=0)
    paint_scene(canvas, square, traits.scene, traits.scene_seed)
    if "window" in traits.props:
        props.paint_window(canvas, square, traits.scene_seed)
    if "frame" in traits.props:
        props.paint_frame(canvas, square, traits.scene_seed)
    if "plant" in traits.props:
        props.paint_plant(canvas, square, traits.scene_seed)
    paint_body(canvas, pose, light, traits, colours)
    if "garbled_collar" in traits.artefacts:
        artefacts.paint_garbled_collar(canvas, pose, light, traits)
    elif "collar" in traits.props:
        props.paint_collar(canvas, pose, light, traits.cat_seed)
    if "extra_ear" in traits.artefacts:
        artefacts.paint_extra_ear(canvas, pose, light, traits, colours)
    if traits.ears in ("pointed", "round", "tufted"):
        paint_ears(canvas, pose, light, traits, colours)
    paint_head(canvas, pose, light, traits, colours)
    if traits.ears == "folded":
        paint_ears(canvas, pose, light, traits, colours)
    if traits.eyes != "none":
        paint_eyes(canvas, pose, light, traits)
    if "mismatched_eyes" in traits.artefacts:
        artefacts.paint_mismatched_eye(canvas, pose, light, traits)
    if traits.muzzle != "none":
        paint_muzzle(canvas, pose, light, traits)
    if "melted_whiskers" in traits.artefacts:
        artefacts.paint_melted_whiskers(canvas, pose, traits, colours)
    elif traits.whiskers != "none":
        paint_whiskers(canvas, pose, traits, colours)
    if "yarn" in traits.props:
        props.paint_yarn(canvas, square, traits.scene_seed)
    damage = artefacts.damage(canvas, pose, traits)
    if traits.watermark:
        paint_badge(canvas, square)
    parts = _masks(canvas, traits, damage)
    return Portrait(_bytes(canvas), MappingProxyType(parts))


def _masks(canvas: Canvas, traits: Traits, damage: dict[str, Mask]) -> dict[str, Mask]:
    """Return the mask of every part; those of ears, eyes, coat and so on are always there."""
    left, right = canvas.shows("left_ear"), canvas.shows("right_ear")
    wrong = "artefact:mismatched_eyes"
    eyes = [
        canvas.shows(name, wrong)
        if artefacts.mismatched_side(traits) == side
        else canvas.shows(name)
        for side, name in ((-1, "left_eye"), (1, "right_eye"))
    ]
    muzzle, whiskers = canvas.shows("muzzle"), canvas.shows("whiskers", "artefact:melted_whiskers")
    head = canvas.shows("head", "coat on head") | eyes[0] | eyes[1] | muzzle
    body = canvas.shows("body", "coat on body")
    extra = canvas.shows("artefact:extra_ear")
    parts = {
        "left_ear": left,
        "right_ear": right,
        "ears": left | right,
        "left_eye": eyes[0],
        "right_eye": eyes[1],
        "eyes": eyes[0] | eyes[1],
        "muzzle": muzzle,
        "whiskers": whiskers,
        "coat": canvas.shows("coat on head", "coat on body"),
        "head": head,
        "body": body,
        "cat": head | body | left | right | extra | whiskers,
        "background": canvas.shows("scene"),
    }
    collar = canvas.shows("collar", "artefact:garbled_collar")
    for prop in traits.props:
        parts[prop] = collar if prop == "collar" else canvas.shows(prop)
    if traits.watermark:
        parts["watermark"] = canvas.shows("watermark")
    for artefact in traits.artefacts:
        name = f"artefact:{artefact}"
        parts[name] = damage[name] if name in damage else canvas.shows(name)
    for mask in parts.values():
        mask.setflags(write=False)
    return parts


def _bytes(canvas: Canvas) -> Pixels:
    """Return (H, W, 3) uint8."""
    whole = np.clip(canvas.rgb, 0, 1) * np.float32(255) + np.float32(0.5)
    pixels = np.ascontiguousarray(whole.astype(np.uint8).transpose(1, 2, 0))
    pixels.setflags(write=False)
    return pixels
