"""How the cat sits and where the light comes from; neither depends on the class."""

from __future__ import annotations

import math
from dataclasses import dataclass

from whylens.plugins.painted_cats.canvas import Colour, Frame
from whylens.plugins.painted_cats.seeds import between, stream


@dataclass(frozen=True, slots=True)
class Pose:
    """Place and turn of the cat.

    Attributes:
        head: Coordinates of the head: its middle is 0, its half width about 1.
        body: Coordinates of the body with the same unit and origin, tilted less.
        turn: In [-1, 1]: the face looks to the left or right of the picture.
        nod: In [-1, 1]: the face looks up or down.
        gaze: Where the pupils look, in [-1, 1] each way.
    """

    head: Frame
    body: Frame
    turn: float
    nod: float
    gaze: tuple[float, float]

    def face(self, x: float, y: float, depth: float) -> tuple[float, float]:
        """Return where a point of the face lies once the head is turned."""
        return x * (1 - 0.04 * abs(self.turn)) + self.turn * depth, y + self.nod * depth * 0.6


def random_pose(seed: int, size: int) -> Pose:
    """Return the pose that a seed stands for.

    Args:
        size: Side of the picture in pixels.
    """
    rng = stream(seed, "pose")
    unit = between(rng, 0.262, 0.302)
    at = (between(rng, 0.44, 0.56), between(rng, 0.53, 0.575))
    tilt = math.radians(between(rng, -13, 13))
    turn, nod = between(rng, -1, 1), between(rng, -1, 1)
    gaze = (between(rng, -1, 1) * 0.5 + turn * 0.5, between(rng, -0.6, 0.6))
    head = Frame.turned(size, at=at, unit=unit, angle=tilt)
    below = (at[0] - math.sin(tilt) * 0.5 * unit, at[1])
    body = Frame.turned(size, at=below, unit=unit, angle=tilt * 0.25)
    return Pose(head, body, turn, nod, gaze)


@dataclass(frozen=True, slots=True)
class Light:
    """Where the light comes from and how warm it is.

    Attributes:
        direction: Unit vector towards the light: right, down, to the viewer.
        key: Colour of the light.
        fill: Colour of the shadows.
    """

    direction: tuple[float, float, float]
    key: Colour
    fill: Colour


def lit(seed: int) -> Light:
    """Return the light that a seed stands for."""
    rng = stream(seed, "light")
    right, down, out = between(rng, -0.85, 0.85), between(rng, -0.9, -0.35), 0.75
    length = math.sqrt(right * right + down * down + out * out)
    warmth = between(rng, -1, 1)
    power = between(rng, 0.92, 1.06)
    key = (power * (1 + 0.06 * warmth), power, power * (1 - 0.09 * warmth))
    fill = (0.50 - 0.02 * warmth, 0.47, 0.54 + 0.02 * warmth)
    return Light((right / length, down / length, out / length), key, fill)
