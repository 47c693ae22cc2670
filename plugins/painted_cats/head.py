"""Head and chest: their outline, their fur and how the light falls on them."""

from __future__ import annotations

import numpy as np

from whylens.plugins.painted_cats import coat
from whylens.plugins.painted_cats.canvas import (
    Canvas,
    Field,
    Frame,
    ellipse,
    inside,
    join,
    mix,
    ramp,
    shade,
    solid,
)
from whylens.plugins.painted_cats.noise import SIDE, grain, smooth, strands
from whylens.plugins.painted_cats.palette import Coating
from whylens.plugins.painted_cats.pose import Light, Pose
from whylens.plugins.painted_cats.seeds import between, stream
from whylens.plugins.painted_cats.traits import Traits


def paint_body(canvas: Canvas, pose: Pose, light: Light, traits: Traits, colours: Coating) -> None:
    """Paint the chest, with its marking."""
    rng = stream(traits.cat_seed, "body")
    frame = pose.body.around(0, 1.3, 1.45)
    x, y = frame.x, frame.y
    fur = strands(grain(rng), x * 21 + 60, y * np.float32(4.5) + np.float32(1.2) * x * x)
    fur = np.clip((fur - np.float32(0.5)) * np.float32(1.6) + np.float32(0.5), 0, 1)
    shape = join(
        ellipse(x, y, (0, 1.75), (between(rng, 0.98, 1.1), 1.05)),
        ellipse(x, y, (0, 0.75), (0.68, 0.7)),
        0.4,
    )
    cover = solid(inside(shape + (np.float32(0.5) - fur) * np.float32(0.12)))
    round_x = x / np.float32(1.25)
    out = np.sqrt(np.clip(1 - round_x * round_x, 0.05, 1))
    facing = light.direction[0] * round_x - light.direction[1] * 0.4 + light.direction[2] * out
    facing = facing * np.float32(0.9)
    # The head keeps the light from the throat; this depends on the pose alone.
    under = ramp(
        ellipse(x - np.float32(0.1 * light.direction[0]), y, (0, 0.25), (1.1, 1.1)), -0.2, 0.45
    )
    facing = facing * (np.float32(0.35) + np.float32(0.65) * under)
    bib = ramp(ellipse(x, y, (0, 1.35), (0.5, 0.7)), 0.25, -0.5)
    plain = mix(colours.base, colours.light, bib * np.float32(0.8))
    canvas.paint(cover, _lit(plain, fur, facing, light), part="body", window=frame.window)
    marked = coat.on_body(traits.coat, traits.cat_seed, frame, fur)
    if marked is not None:
        dark = _lit(shade(colours.mark), fur, facing, light)
        canvas.paint(cover * marked, dark, part="coat on body", window=frame.window, least=0.25)


def paint_head(canvas: Canvas, pose: Pose, light: Light, traits: Traits, colours: Coating) -> None:
    """Paint the head without its features, with its marking."""
    rng = stream(traits.cat_seed, "head")
    frame = pose.head.around(0, -0.02, 1.3)
    x, y = frame.x, frame.y
    fur, locks = _pelt(rng, pose, frame)
    wide, cheek = between(rng, 0.95, 1.02), between(rng, 0.54, 0.60)
    shape = join(
        ellipse(x, y, (0, -0.12), (wide * 0.93, 0.76)),
        ellipse(x, y, (0, 0.24), (wide, cheek)),
        0.3,
    )
    # Fur sticks out all round, and in tufts at the cheeks.
    tuft = ramp(np.abs(x), 0.45, 0.9) * ramp(y, 0.0, 0.35)
    shape -= (fur - np.float32(0.5)) * np.float32(0.09) + tuft * locks * np.float32(0.22)
    cover = solid(inside(shape))
    facing = _relief(pose, light, frame)
    # The fur at the rim on the light's side glows.
    toward = light.direction
    rim = ramp(shape, -0.22, 0.0) * np.clip(
        x * np.float32(toward[0]) + y * np.float32(toward[1]), 0, 1
    )
    facing = facing + np.float32(0.55) * rim
    face_x, face_y = pose.face(0, 0.28, 0.16)
    pale = ramp(ellipse(x, y, (face_x, face_y), (0.85, 0.55)), 0.25, -0.6)
    crown = ramp(y, -0.2, -0.85) * np.float32(0.16)
    plain = mix(colours.base, colours.light, pale * np.float32(0.75)) * (1 - crown)
    for side in (-1, 1):
        at = pose.face(0.38 * side, -0.30, 0.16)
        brow = ramp(ellipse(x, y, at, (0.20, 0.13)), 0.3, -0.6) * np.float32(0.45)
        plain = mix(plain, colours.light, brow)
    canvas.paint(cover, _lit(plain, fur, facing, light), part="head", window=frame.window)
    marked = coat.on_head(traits.coat, traits.cat_seed, frame, fur, pose.turn)
    if marked is not None:
        dark = _lit(shade(colours.mark), fur, facing, light)
        canvas.paint(cover * marked, dark, part="coat on head", window=frame.window, least=0.25)


def _pelt(rng: np.random.Generator, pose: Pose, frame: Frame) -> tuple[Field, Field]:
    """Return strands that run outwards from between the eyes, and the locks at the rim."""
    middle = pose.face(0, 0.12, 0.16)
    x, y = frame.x - np.float32(middle[0]), frame.y - np.float32(middle[1])
    radius = np.sqrt(x * x + y * y)
    # The seam of the angle points down, where the muzzle hides it; SIDE locks make it vanish.
    turns = np.arctan2(x, -y) * np.float32(SIDE / (2 * np.pi))
    bend = np.float32(1.2) * np.sin(radius * 5 + np.float32(between(rng, 0, 6)))
    grid = grain(rng)
    fur = strands(grid, turns + bend, radius * 5)
    fur = np.clip((fur - np.float32(0.5)) * np.float32(1.6) + np.float32(0.5), 0, 1)
    locks = smooth(grid, turns * np.float32(0.25), np.full_like(x, 9.5))
    return fur, locks


def _relief(pose: Pose, light: Light, frame: Frame) -> Field:
    """Return how far each point of the head faces the light, in about [-0.4, 1]."""
    x, y = frame.x, frame.y
    dome = np.sqrt(np.clip(1 - (x * x / 1.3 + y * y / 1.1), 0.03, 1)) * np.float32(0.75)
    nose_x, nose_y = pose.face(0, 0.34, 0.24)
    near = ((x - nose_x) / 0.40) ** 2 + ((y - nose_y) / 0.30) ** 2
    height = dome.astype(np.float32) + np.float32(0.22) * np.exp(-near).astype(np.float32)
    for side in (-1, 1):
        eye_x, eye_y = pose.face(0.42 * side, -0.02, 0.16)
        near = ((x - eye_x) / 0.24) ** 2 + ((y - eye_y) / 0.22) ** 2
        height -= np.float32(0.07) * np.exp(-near).astype(np.float32)
    down, right = np.gradient(height, np.float32(frame.pixel))
    # The gradient is taken along rows and columns: light needs no turning.
    length = np.sqrt(down * down + right * right + 1)
    direction = light.direction
    facing = (-direction[0] * right - direction[1] * down + direction[2]) / length
    return np.asarray(facing, np.float32)


def _lit(albedo: Field, fur: Field, facing: Field, light: Light) -> Field:
    """Return (3, h, w): fur of a colour under the light."""
    strength = np.clip(facing * np.float32(0.62) + np.float32(0.30), 0, 1)
    tone = mix(light.fill, light.key, strength * np.float32(1.12))
    return np.clip(albedo * tone * (np.float32(0.78) + np.float32(0.42) * fur), 0, 1)
