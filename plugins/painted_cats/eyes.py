"""Eyes: rim, iris, pupil and catchlights."""

from __future__ import annotations

import numpy as np

from whylens.plugins.painted_cats.canvas import Canvas, Colour, inside, mix, ramp
from whylens.plugins.painted_cats.noise import SIDE, grain, smooth
from whylens.plugins.painted_cats.palette import irises
from whylens.plugins.painted_cats.pose import Light, Pose
from whylens.plugins.painted_cats.seeds import between, stream
from whylens.plugins.painted_cats.traits import Traits

RIM: Colour = (0.10, 0.07, 0.07)


def paint_eyes(canvas: Canvas, pose: Pose, light: Light, traits: Traits) -> None:
    """Paint both eyes alike but for an odd pair's colours."""
    rng = stream(traits.cat_seed, "eyes")
    slant, size = between(rng, 0.04, 0.22), between(rng, 0.95, 1.06)
    pupil = between(rng, 0.24, 0.55)
    colours = irises(traits.eyes, rng)
    for side, name, colour in ((-1, "left_eye", colours[0]), (1, "right_eye", colours[1])):
        at = pose.face(0.41 * side, -0.03, 0.16)
        narrow = 1 - 0.10 * max(0.0, side * pose.turn)
        paint_eye(
            canvas,
            pose,
            light,
            stream(traits.cat_seed, name),
            at=at,
            size=(size * narrow, size),
            slant=-slant * side,
            pupil=(pupil, 0.80),
            colour=colour,
            part=name,
        )


def paint_eye(
    canvas: Canvas,
    pose: Pose,
    light: Light,
    rng: np.random.Generator,
    *,
    at: tuple[float, float],
    size: tuple[float, float],
    slant: float,
    pupil: tuple[float, float],
    colour: Colour,
    part: str,
) -> None:
    """Paint one eye.

    Args:
        size: Width and height; 1 is usual.
        pupil: Its width and height as shares of the eye's.
        part: What its pixels show.
    """
    wide, high = 0.262 * size[0], 0.285 * size[1]
    frame = pose.head.around(*at, max(wide, high) * 1.45)
    across, down = frame.local(*at, slant)
    x, y = across / np.float32(wide), down / np.float32(high)
    circle = x * x + y * y
    # Two circles meet in an almond.
    almond = circle - np.float32(1.12) + np.float32(0.46) * np.abs(y)
    # The rim is thicker above, like a drawn line of lashes.
    rim = almond - np.float32(0.28) + np.float32(0.10) * y
    canvas.paint(inside(rim), RIM, part=part, window=frame.window)
    gaze_x = x - np.float32(0.16 * pose.gaze[0])
    gaze_y = y - np.float32(0.12 * pose.gaze[1])
    radius = np.sqrt(gaze_x * gaze_x + gaze_y * gaze_y)
    turns = np.arctan2(gaze_x, gaze_y) * np.float32(SIDE / (4 * np.pi))
    fibres = smooth(grain(rng), turns, radius * 2)
    deep = (colour[0] * 0.45, colour[1] * 0.45, colour[2] * 0.5)
    glow = tuple(min(1.0, 0.35 + 0.78 * c) for c in colour)
    iris = mix(colour, (glow[0], glow[1], glow[2]), ramp(gaze_y, -0.3, 0.95) * np.float32(0.8))
    iris = mix(iris, deep, ramp(radius, 0.72, 1.1) * np.float32(0.85))
    iris = iris * (np.float32(0.84) + np.float32(0.32) * fibres)
    # The upper lid shades the top of the eyeball.
    iris = iris * (1 - np.float32(0.45) * ramp(y, -0.35, -0.95))
    ball = inside(almond)
    canvas.paint(ball, np.clip(iris, 0, 1), part=part, window=frame.window)
    # Pupils stand upright however the eye slants, or the cat would squint.
    cos, sin = np.float32(np.cos(slant)), np.float32(np.sin(slant))
    upright_x, upright_y = cos * gaze_x - sin * gaze_y, sin * gaze_x + cos * gaze_y
    wide_slit, high_slit = np.float32(pupil[0]), np.float32(pupil[1])
    u, v = upright_x / wide_slit, upright_y / high_slit
    slit = np.asarray(u * u + v * v + 0.25 * np.abs(v) - 1.1, np.float32)
    canvas.paint(ball * inside(slit), (0.03, 0.02, 0.03), part=part, window=frame.window)
    toward = 1.0 if light.direction[0] > 0 else -1.0
    for dx, dy, spot, power in ((0.34, -0.36, 0.25, 0.97), (-0.32, 0.42, 0.13, 0.6)):
        shine = (x - np.float32(dx * toward)) ** 2 + (y - np.float32(dy)) ** 2 - np.float32(spot**2)
        canvas.paint(
            ball * inside(shine) * np.float32(power),
            (1.0, 1.0, 0.99),
            part=part,
            least=0.5,
            window=frame.window,
        )
