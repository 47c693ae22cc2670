"""What image generators get wrong, each in its place."""

from __future__ import annotations

import math

import numpy as np

from whylens.plugins.painted_cats import props
from whylens.plugins.painted_cats.canvas import (
    Canvas,
    Field,
    Frame,
    Mask,
    ellipse,
    inside,
    mix,
    ramp,
)
from whylens.plugins.painted_cats.ears import paint_ear
from whylens.plugins.painted_cats.eyes import paint_eye
from whylens.plugins.painted_cats.muzzle import hair
from whylens.plugins.painted_cats.palette import Coating
from whylens.plugins.painted_cats.pose import Light, Pose
from whylens.plugins.painted_cats.seeds import between, pick, stream
from whylens.plugins.painted_cats.traits import Ears, Traits


def mismatched_side(traits: Traits) -> int:
    """Return -1 where the wrong eye is the left one, 1 where it is the right one."""
    return 1 if stream(traits.cat_seed, "wrong eye").random() < 0.5 else -1


def paint_mismatched_eye(canvas: Canvas, pose: Pose, light: Light, traits: Traits) -> None:
    """Paint an eye too large, too low and with a lying pupil over one of the two."""
    rng = stream(traits.cat_seed, "wrong eye's shape")
    side = mismatched_side(traits)
    at = pose.face(0.43 * side, 0.02 + between(rng, 0.0, 0.06), 0.16)
    growth = between(rng, 1.35, 1.5)
    colour = pick(rng, ((0.86, 0.25, 0.62), (0.75, 0.20, 0.20), (0.60, 0.35, 0.90)))
    paint_eye(
        canvas,
        pose,
        light,
        rng,
        at=at,
        size=(growth, growth),
        slant=side * between(rng, 0.3, 0.6),
        pupil=(0.78, 0.22),
        colour=colour,
        part="artefact:mismatched_eyes",
    )


def paint_extra_ear(
    canvas: Canvas, pose: Pose, light: Light, traits: Traits, colours: Coating
) -> None:
    """Paint a third ear on the crown or low on a cheek.

    Args:
        canvas: Where; the head is not there yet.
    """
    rng = stream(traits.cat_seed, "extra ear")
    lean = pick(rng, (-1.75, -0.06, 0.06, 1.75))
    kind: Ears = traits.ears if traits.ears in ("pointed", "round", "tufted") else "pointed"
    at = (0.86 * math.sin(lean), -0.52 * math.cos(lean))
    paint_ear(
        canvas,
        pose.head,
        light,
        colours,
        rng,
        kind,
        at=at,
        lean=lean,
        part="artefact:extra_ear",
        scale=1.3,
    )


def paint_melted_whiskers(canvas: Canvas, pose: Pose, traits: Traits, colours: Coating) -> None:
    """Paint whiskers that run down the cheeks like wax."""
    rng = stream(traits.cat_seed, "melted whiskers")
    part = "artefact:melted_whiskers"
    pale = mix(colours.light, (1.0, 1.0, 1.0), 0.75)
    for side in (-1, 1):
        for k in range(3):
            x, y = pose.face((0.28 + 0.22 * k) * side, 0.40 - 0.02 * k, 0.22)
            length, wide = between(rng, 0.35, 0.8), between(rng, 0.030, 0.042)
            near = pose.head.around(x, y + 0.5 * length, 0.55 * length + 0.15)
            along = (near.y - np.float32(y)) / np.float32(length)
            sway = np.float32(0.035) * np.sin(along * np.float32(between(rng, 4, 7)))
            across = near.x - np.float32(x + side * 0.03) - sway
            # A thread that thickens into a drop.
            width = np.float32(wide) * (1 + np.float32(1.0) * ramp(along, 0.55, 1.0))
            drip = np.maximum(
                np.abs(across) - width, np.maximum(-along, along - 1) * np.float32(length)
            )
            drop = ellipse(across, near.y, (0, y + length), (2 * wide, 2.4 * wide)) * np.float32(
                wide
            )
            canvas.paint(inside(np.minimum(drip, drop)), pale, part=part, window=near.window)
        arc = pose.face(0.14 * side, 0.40, 0.22)
        hair(canvas, pose.head, arc, side, 0.06, 0.78, 0.10, 0.055, pale, part)


def paint_garbled_collar(canvas: Canvas, pose: Pose, light: Light, traits: Traits) -> None:
    """Paint a collar that comes apart into two, with signs that are no letters."""
    rng = stream(traits.cat_seed, "garbled collar")
    part = "artefact:garbled_collar"
    frame = pose.body.around(0, 1.2, 0.95)
    worn = canvas.shows("body", "coat on body")[frame.window]
    for turn, colour in ((0.55, (0.80, 0.18, 0.22)), (-0.5, (0.14, 0.50, 0.56))):
        bent = Frame(
            frame.x, frame.y + np.float32(turn) * frame.x * np.cos(frame.x * 5), frame.pixel
        )
        field, off = props.band(bent, sag=between(rng, 0.02, 0.12))
        tone = mix(colour, (0.05, 0.03, 0.06), ramp(np.abs(off), 0.03, 0.1) * np.float32(0.4))
        signs = np.sin(frame.x * 47 + 3 * np.sin(off * 60)) * np.sin(off * 70 + frame.x * 9)
        tone = mix(tone, (0.98, 0.93, 0.7), ramp(signs, 0.25, 0.4))
        canvas.paint(inside(field) * worn, tone, part=part, window=frame.window)
    for at in ((-0.2, 1.22), (0.16, 1.34)):
        props.paint_bell(canvas, pose, light, at=at, part=part)


def damage(canvas: Canvas, pose: Pose, traits: Traits) -> dict[str, Mask]:
    """Damage the finished picture where its traits say so; return the mask of each damage."""
    masks: dict[str, Mask] = {}
    if "smeared_fur" in traits.artefacts:
        masks["artefact:smeared_fur"] = _smear(canvas, pose, traits)
    if "garbled_nose" in traits.artefacts:
        masks["artefact:garbled_nose"] = _swirl(canvas, pose)
    if "checkerboard" in traits.artefacts:
        masks["artefact:checkerboard"] = _checker(canvas, pose, traits)
    return masks


def _checker(canvas: Canvas, pose: Pose, traits: Traits) -> Mask:
    """Lay the grid of a careless upsampling over a patch of the cat."""
    rng = stream(traits.cat_seed, "checkerboard")
    angle = between(rng, -2.4, 2.4)
    at = (0.62 * math.sin(angle), -0.55 * math.cos(angle))
    x, y = pose.head.x, pose.head.y
    patch = inside(ellipse(x, y, at, (between(rng, 0.40, 0.5), between(rng, 0.36, 0.46))))
    size = x.shape[0]
    cell = max(2, round(size / 48))
    steps = np.arange(size) // cell
    board = ((steps[:, None] + steps[None, :]) % 2).astype(np.float32)
    tint = mix((0.10, 0.02, 0.20), (1.0, 0.98, 0.72), board)
    canvas.paint(patch * np.float32(0.55), tint)
    return patch >= 0.5


def _smear(canvas: Canvas, pose: Pose, traits: Traits) -> Mask:
    """Drag the fur of a patch sideways in waves."""
    rng = stream(traits.cat_seed, "smeared fur")
    side = 1 if rng.random() < 0.5 else -1
    at = (side * between(rng, 0.45, 0.62), between(rng, 0.1, 0.35))
    size = pose.head.x.shape[0]
    patch = inside(ellipse(pose.head.x, pose.head.y, at, (0.52, 0.48)))
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    unit = np.float32(1 / pose.head.pixel)
    swirled = np.zeros_like(canvas.rgb)
    wave = np.sin(rows / unit * 14 + columns / unit * 4) * unit * np.float32(0.11)
    for step in range(6):
        shift = np.float32((step - 2.5) * 0.075) * unit
        swirled += _sample(
            canvas.rgb, rows + wave + shift * np.float32(0.5), columns + shift + wave
        )
    canvas.paint(patch, swirled / np.float32(6))
    return patch >= 0.5


def _swirl(canvas: Canvas, pose: Pose) -> Mask:
    """Twist nose and mouth about their middle."""
    x0, y0 = pose.face(0, 0.34, 0.22)
    near = pose.head.around(x0, y0, 0.52)
    dx, dy = near.x - np.float32(x0), near.y - np.float32(y0)
    radius = np.sqrt(dx * dx + dy * dy)
    patch = inside(radius - np.float32(0.46))
    turn = np.float32(3.6) * ramp(radius, 0.46, 0.05)
    cos, sin = np.cos(turn), np.sin(turn)
    size_y, size_x = near.x.shape
    middle = np.unravel_index(int(np.argmin(radius)), radius.shape)
    rows, columns = np.mgrid[0:size_y, 0:size_x].astype(np.float32)
    down, right = rows - np.float32(middle[0]), columns - np.float32(middle[1])
    source = canvas.rgb[(slice(None), *near.window)].copy()
    turned = _sample(
        source, middle[0] + cos * down + sin * right, middle[1] + cos * right - sin * down
    )
    canvas.paint(patch, turned, window=near.window)
    whole = np.zeros(canvas.rgb.shape[1:], np.bool_)
    whole[near.window] = patch >= 0.5
    return whole


def _sample(picture: Field, rows: Field, columns: Field) -> Field:
    """Return the picture read at other places, linearly between pixels."""
    height, width = picture.shape[1:]
    rows, columns = np.clip(rows, 0, height - 1.001), np.clip(columns, 0, width - 1.001)
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    fy, fx = rows - top, columns - left
    flat = picture.reshape(3, -1)
    start = top * width + left
    upper = flat[:, start] * (1 - fx) + flat[:, start + 1] * fx
    lower = flat[:, start + width] * (1 - fx) + flat[:, start + width + 1] * fx
    return np.asarray(upper * (1 - fy) + lower * fy, np.float32)
