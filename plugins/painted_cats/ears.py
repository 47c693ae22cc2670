"""Ears: pointed, round, folded or tufted."""

from __future__ import annotations

import math

import numpy as np

from whylens.plugins.painted_cats.canvas import (
    Canvas,
    Field,
    Frame,
    ellipse,
    inside,
    join,
    mix,
    ramp,
    solid,
)
from whylens.plugins.painted_cats.noise import grain, strands
from whylens.plugins.painted_cats.palette import Coating
from whylens.plugins.painted_cats.pose import Light, Pose
from whylens.plugins.painted_cats.seeds import between, stream
from whylens.plugins.painted_cats.traits import Ears, Traits


def paint_ears(canvas: Canvas, pose: Pose, light: Light, traits: Traits, colours: Coating) -> None:
    """Paint both ears; folded ones belong over the head, all others behind it."""
    for side, name in ((-1, "left_ear"), (1, "right_ear")):
        rng = stream(traits.cat_seed, name)
        x = 0.60 * side - 0.05 * pose.turn
        lean = side * (between(rng, 0.30, 0.42) + 0.06 * side * pose.turn)
        if traits.ears == "folded":
            _fold(canvas, pose.head, light, colours, rng, side, x, name)
        else:
            paint_ear(
                canvas,
                pose.head,
                light,
                colours,
                rng,
                traits.ears,
                at=(x, -0.50),
                lean=lean,
                part=name,
            )


def paint_ear(
    canvas: Canvas,
    head: Frame,
    light: Light,
    colours: Coating,
    rng: np.random.Generator,
    kind: Ears,
    *,
    at: tuple[float, float],
    lean: float,
    part: str,
    scale: float = 1.0,
) -> None:
    """Paint one upright ear.

    Args:
        kind: Its shape; not "folded" or "none".
        lean: Angle of its axis in radians, 0 for upright.
        part: What its pixels show.
        scale: Its size; 1 is usual.
    """
    growth = between(rng, 0.95, 1.06) * scale
    middle = 0.45 * scale
    frame = head.around(
        at[0] + middle * math.sin(lean), at[1] - middle * math.cos(lean), 0.98 * scale
    )
    across, down = frame.local(*at, lean)
    up = -down / np.float32(growth)
    across = across / np.float32(growth)
    fur = strands(grain(rng), across * 16 + 40, up * 5 + 40)
    outer, inner = _outlines(kind, across, up)
    outer -= (fur - np.float32(0.5)) * np.float32(0.08)
    inner -= (fur - np.float32(0.5)) * np.float32(0.05)
    sideways = across / np.float32(0.4) * np.float32(light.direction[0])
    tone = mix(light.fill, light.key, np.clip(np.float32(0.72) + np.float32(0.25) * sideways, 0, 1))
    texture = np.float32(0.78) + np.float32(0.42) * fur
    tips = ramp(up, 0.25, 0.95) * np.float32(0.35)
    coat = mix(colours.base, colours.mark, tips) * tone * texture
    canvas.paint(solid(inside(outer)), np.clip(coat, 0, 1), part=part, window=frame.window)
    hollow = mix((0.95, 0.66, 0.62), (0.62, 0.33, 0.32), ramp(up, 0.62, -0.05)) * tone
    canvas.paint(inside(inner), np.clip(hollow, 0, 1), part=part, window=frame.window)
    # Pale hair grows out of the hollow; a round ear is too open for much of it.
    comb: Field = np.abs(((across * 9 + np.float32(1.1) * up) % 1) - np.float32(0.5))
    high = np.float32(0.20 if kind == "round" else 0.38)
    hair = inside(up - high + comb * np.float32(0.55) + np.abs(across) * np.float32(0.5))
    pale = mix(colours.light, (1.0, 0.97, 0.92), 0.4) * tone * texture
    canvas.paint(hair * inside(inner), np.clip(pale, 0, 1), part=part, window=frame.window)
    if kind == "tufted":
        _tuft(canvas, frame, across, up, part, colours)


def _outlines(kind: Ears, across: Field, up: Field) -> tuple[Field, Field]:
    """Return the ear's rim and its hollow, negative inside."""
    if kind == "round":
        rim = ellipse(across, up, (0, 0.20), (0.42, 0.44)) * np.float32(0.42)
        return rim, ellipse(across, up, (0, 0.17), (0.27, 0.28)) * np.float32(0.27)
    high, wide = (0.94, 0.36) if kind == "pointed" else (0.78, 0.42)
    rise = np.clip(up / np.float32(high), 0, 1)
    side = np.abs(across)
    swell = np.float32(wide) * (1 - rise) * (1 + np.float32(0.45) * rise)
    rim = np.maximum(side - swell, up - np.float32(high))
    low = np.clip(up / np.float32(high * 0.8), 0, 1)
    hollow = side - np.float32(wide * 0.62) * (1 - low) * (1 + np.float32(0.4) * low)
    return rim, np.maximum(hollow, up - np.float32(high * 0.8))


def _tuft(
    canvas: Canvas, frame: Frame, across: Field, up: Field, part: str, colours: Coating
) -> None:
    """Paint the brush of a lynx on the tip of an ear: a dark cap that runs out into hairs."""
    dark = mix(colours.mark, (0.05, 0.04, 0.05), 0.6)
    for bend, length, wide in (
        (-0.42, 0.40, 0.050),
        (-0.18, 0.54, 0.056),
        (0.0, 0.60, 0.062),
        (0.18, 0.54, 0.056),
        (0.42, 0.40, 0.050),
    ):
        along = (up - np.float32(0.50)) / np.float32(length)
        share = np.clip(along, 0, 1)
        middle = np.float32(bend * length * 0.8) * share * share
        width = np.float32(wide) * (1 - share) * (1 + np.float32(1.2) * share)
        stroke = np.maximum(np.abs(across - middle) - width, (along - 1) * np.float32(length))
        stroke = np.maximum(stroke, -along * np.float32(length))
        canvas.paint(inside(stroke), dark, part=part, window=frame.window)


def _fold(
    canvas: Canvas,
    head: Frame,
    light: Light,
    colours: Coating,
    rng: np.random.Generator,
    side: int,
    x: float,
    part: str,
) -> None:
    """Paint an ear that is folded forward over the brow."""
    frame = head.around(x, -0.55, 0.72)
    across, down = frame.local(x, -0.62 + between(rng, -0.02, 0.02), side * 0.42)
    across = across * np.float32(side)
    fur = strands(grain(rng), across * 14 + 40, down * 5 + 40)
    cap = ellipse(across, down, (-0.02, 0.0), (0.40, 0.24)) * np.float32(0.3)
    taper = np.clip(1 - down / np.float32(0.46), 0, 1.3)
    flap = np.abs(across + np.float32(0.03)) - np.float32(0.34) * taper
    flap = np.maximum(flap, np.maximum(-down - np.float32(0.1), down - np.float32(0.44)))
    shape = join(cap, flap, 0.12) - (fur - np.float32(0.5)) * np.float32(0.04)
    glow = np.clip(np.float32(0.80) + np.float32(0.3 * light.direction[0] * side) * across, 0, 1)
    tone = mix(light.fill, light.key, glow)
    # Bright along the crease, dark towards the edge that stands off the head.
    depth = ramp(down, -0.2, 0.42)
    coat = mix(mix(colours.light, colours.base, 0.4), colours.mark, depth * np.float32(0.55)) * tone
    coat = coat * (np.float32(0.78) + np.float32(0.42) * fur)
    rim = mix(colours.base, colours.mark, 0.72) * tone
    canvas.paint(solid(inside(shape)), np.clip(rim, 0, 1), part=part, window=frame.window)
    canvas.paint(
        inside(shape + np.float32(0.03)), np.clip(coat, 0, 1), part=part, window=frame.window
    )
