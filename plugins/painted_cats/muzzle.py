"""Muzzle, nose and mouth, and the whiskers that grow out of them."""

from __future__ import annotations

import numpy as np

from whylens.plugins.painted_cats.canvas import (
    Canvas,
    Colour,
    Field,
    Frame,
    ellipse,
    inside,
    join,
    mix,
    ramp,
    shade,
)
from whylens.plugins.painted_cats.noise import grain, strands
from whylens.plugins.painted_cats.palette import Coating
from whylens.plugins.painted_cats.pose import Light, Pose
from whylens.plugins.painted_cats.seeds import between, stream
from whylens.plugins.painted_cats.traits import Muzzle, Traits


def paint_muzzle(canvas: Canvas, pose: Pose, light: Light, traits: Traits) -> None:
    """Paint the cushions, the chin, the nose and the mouth."""
    rng = stream(traits.cat_seed, "muzzle")
    middle = pose.face(0, 0.38, 0.22)
    frame = pose.head.around(*middle, 0.58)
    x, y = frame.x - np.float32(middle[0]), frame.y - np.float32(middle[1])
    side = np.abs(x)
    cushion, nose = _colours(traits.muzzle)
    fur = strands(grain(rng), x * 18 + 40, y * 7 + 3 * side + 40)
    puff = ellipse(side, y, (0.17, 0.03), (between(rng, 0.26, 0.29), 0.215))
    shape = join(puff, ellipse(x, y, (0, 0.23), (0.20, 0.15)), 0.15)
    bridge = ellipse(x, y, (0, -0.16), (0.15, 0.20))
    shape = join(shape, bridge, 0.25) - (fur - np.float32(0.5)) * np.float32(0.22)
    # Two balls side by side under the light.
    ball_x, ball_y = (
        (side - np.float32(0.17)) / np.float32(0.3),
        (y - np.float32(0.03)) / np.float32(0.25),
    )
    out = np.sqrt(np.clip(1 - ball_x * ball_x - ball_y * ball_y, 0.05, 1))
    direction = light.direction
    facing = direction[0] * ball_x * np.sign(x) + direction[1] * ball_y + direction[2] * out
    tone = mix(light.fill, light.key, np.clip(facing * np.float32(0.6) + np.float32(0.52), 0, 1))
    pelt = shade(cushion) * tone * (np.float32(0.86) + np.float32(0.24) * fur)
    canvas.paint(inside(shape), np.clip(pelt, 0, 1), part="muzzle", window=frame.window)
    _mouth(canvas, frame, x, y, side, dark=traits.muzzle == "dark")
    _nose(canvas, frame, x, y, nose, light, grown=1.25 if traits.muzzle == "rosy" else 1.05)


def _colours(kind: Muzzle) -> tuple[Colour, Colour]:
    """Return the colours of cushions and nose."""
    table: dict[Muzzle, tuple[Colour, Colour]] = {
        "white": ((1.0, 0.98, 0.95), (0.93, 0.55, 0.55)),
        "dark": ((0.20, 0.14, 0.13), (0.07, 0.05, 0.06)),
        "rosy": ((1.0, 0.80, 0.74), (0.94, 0.32, 0.44)),
    }
    return table[kind]


def _mouth(canvas: Canvas, frame: Frame, x: Field, y: Field, side: Field, *, dark: bool) -> None:
    """Paint the line under the nose, the smile and the roots of the whiskers."""
    ink: Colour = (0.02, 0.01, 0.01) if dark else (0.35, 0.17, 0.16)
    pixel = np.float32(frame.pixel)
    smile = np.abs(
        np.sqrt((side - np.float32(0.14)) ** 2 + (y - np.float32(0.05)) ** 2) - np.float32(0.14)
    )
    smile = np.where(y > 0.07, smile, np.float32(1))
    stem = np.maximum(np.abs(x), np.abs(y - np.float32(-0.03)) - np.float32(0.10))
    line = np.minimum(smile, stem)
    width = np.float32(0.016)
    cover = np.clip((width - line) / pixel + np.float32(0.5), 0, 1) * np.float32(0.9)
    canvas.paint(cover, ink, part="muzzle", window=frame.window)
    roots: Colour = (0.5, 0.4, 0.38) if dark else (0.45, 0.33, 0.30)
    for at in ((0.24, -0.03), (0.32, 0.04), (0.22, 0.06)):
        dot = ellipse(side, y, at, (0.017, 0.017)) * np.float32(0.017)
        canvas.paint(
            np.clip(np.float32(0.5) - dot / pixel, 0, 1) * np.float32(0.55),
            roots,
            part="muzzle",
            window=frame.window,
        )


def _nose(
    canvas: Canvas, frame: Frame, x: Field, y: Field, colour: Colour, light: Light, *, grown: float
) -> None:
    """Paint the nose: a soft triangle that stands on its tip."""
    u, v = x / np.float32(grown), (y + np.float32(0.15)) / np.float32(grown)
    wide = np.float32(0.135) * np.clip(1 - (v + np.float32(0.02)) / np.float32(0.14), 0, 1) ** 0.7
    shape = np.maximum(
        np.maximum(np.abs(u) - wide, v - np.float32(0.115)),
        -v - np.float32(0.065) + np.float32(0.9) * u * u,
    )
    canvas.paint(
        inside(shape - np.float32(0.014)), _darker(colour), part="muzzle", window=frame.window
    )
    tone = mix(colour, (1.0, 0.92, 0.9), ramp(v, 0.03, -0.07) * np.float32(0.35))
    canvas.paint(inside(shape), tone, part="muzzle", window=frame.window)
    shine = ellipse(u, v, (0.035 * np.sign(light.direction[0]), -0.03), (0.035, 0.016))
    canvas.paint(
        inside(shine) * np.float32(0.65), (1.0, 1.0, 1.0), part="muzzle", window=frame.window
    )


def _darker(colour: Colour) -> Colour:
    """Return a colour at about half its brightness."""
    return colour[0] * 0.55, colour[1] * 0.5, colour[2] * 0.5


def paint_whiskers(
    canvas: Canvas, pose: Pose, traits: Traits, colours: Coating, *, part: str = "whiskers"
) -> None:
    """Paint three whiskers on each side.

    Args:
        part: What their pixels show.
    """
    rng = stream(traits.cat_seed, "whiskers")
    length = {"long": 1.02, "short": 0.55, "curled": 0.85}[traits.whiskers]
    bend = {"long": 0.10, "short": 0.06, "curled": 0.62}[traits.whiskers]
    pale = mix(colours.light, (1.0, 1.0, 1.0), 0.8)
    for side in (-1, 1):
        for k in range(3):
            root = pose.face(0.26 * side, 0.36 + 0.055 * k, 0.22)
            lift = 0.26 - 0.24 * k + between(rng, -0.05, 0.05)
            reach = length * between(rng, 0.92, 1.08)
            hair(canvas, pose.head, root, side, lift, reach, bend, 0.017, pale, part)


def hair(
    canvas: Canvas,
    head: Frame,
    root: tuple[float, float],
    side: int,
    lift: float,
    length: float,
    bend: float,
    width: float,
    colour: Field,
    part: str,
) -> None:
    """Paint one tapering hair.

    Args:
        side: -1 to the left, 1 to the right.
        colour: (3, 1, 1).
        part: What its pixels show.
    """
    reach = length * 0.62
    frame = head.around(
        root[0] + side * 0.5 * length * np.cos(lift), root[1] - 0.5 * length * np.sin(lift), reach
    )
    along, off = frame.local(*root, -side * lift)
    along = along * np.float32(side)
    share = np.clip(along / np.float32(length), 0, 1)
    slope = 1 + (2 * np.float32(bend) * along) ** 2
    distance = np.abs(off - np.float32(bend) * along * along) / np.sqrt(slope)
    half = np.float32(width) * (np.float32(1.05) - share)
    pixel = np.float32(frame.pixel)
    cover = np.clip((half - distance) / pixel + np.float32(0.5), 0, 1)
    # A hair thinner than a pixel is as faint as it is thin.
    cover *= np.clip(2 * half / pixel, 0, 1) * ((along > 0) & (along < length))
    canvas.paint(cover.astype(np.float32), colour, part=part, window=frame.window, least=0.15)
