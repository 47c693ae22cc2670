"""Distractors: a collar the cat wears, and things that stand beside or behind it."""

from __future__ import annotations

import math

import numpy as np

from whylens.plugins.painted_cats.canvas import (
    Canvas,
    Colour,
    Field,
    Frame,
    ellipse,
    inside,
    mix,
    ramp,
)
from whylens.plugins.painted_cats.pose import Light, Pose
from whylens.plugins.painted_cats.seeds import between, pick, stream


def _side(seed: int) -> int:
    """Return -1 or 1: window and plant go there, picture and yarn opposite."""
    return 1 if stream(seed, "side").random() < 0.5 else -1


def paint_window(canvas: Canvas, frame: Frame, seed: int) -> None:
    """Paint a window with a view, in an upper corner."""
    rng = stream(seed, "window")
    at = (0.5 + _side(seed) * between(rng, 0.30, 0.40), between(rng, 0.16, 0.3))
    half = (between(rng, 0.15, 0.19), between(rng, 0.18, 0.24))
    u, v = (
        (frame.x - np.float32(at[0])) / np.float32(half[0]),
        (frame.y - np.float32(at[1])) / np.float32(half[1]),
    )
    box = np.maximum(np.abs(u), np.abs(v)) - 1
    canvas.paint(inside(box), (0.96, 0.94, 0.90), part="window")
    pane = np.maximum(
        np.abs(np.abs(u) - np.float32(0.47)), np.abs(np.abs(v) - np.float32(0.47))
    ) - np.float32(0.38)
    view = mix(
        pick(rng, ((0.50, 0.74, 0.95), (0.98, 0.76, 0.55), (0.16, 0.20, 0.42))),
        (0.93, 0.96, 0.92),
        ramp(v, -1, 1.2),
    )
    leafy = np.float32(0.45) + np.float32(0.2) * np.sin(u * 3 + np.float32(between(rng, 0, 6)))
    view = mix(view, (0.36, 0.55, 0.38), ramp(v - leafy, -0.05, 0.05))
    canvas.paint(inside(pane), view, part="window")


def paint_frame(canvas: Canvas, frame: Frame, seed: int) -> None:
    """Paint a small framed picture on the wall."""
    rng = stream(seed, "frame")
    at = (0.5 - _side(seed) * between(rng, 0.33, 0.41), between(rng, 0.12, 0.45))
    half = (between(rng, 0.07, 0.10), between(rng, 0.08, 0.115))
    near = frame.around(*at, 0.16)
    u, v = (
        (near.x - np.float32(at[0])) / np.float32(half[0]),
        (near.y - np.float32(at[1])) / np.float32(half[1]),
    )
    box = np.maximum(np.abs(u), np.abs(v))
    gold = mix((0.55, 0.38, 0.16), (0.93, 0.78, 0.42), ramp(v - u, -1.4, 1.4))
    canvas.paint(inside(box - 1), gold, part="frame", window=near.window)
    canvas.paint(
        inside(box - np.float32(0.80)), (0.97, 0.95, 0.90), part="frame", window=near.window
    )
    ground = pick(rng, ((0.36, 0.56, 0.62), (0.78, 0.48, 0.42), (0.42, 0.46, 0.66)))
    art = mix((0.95, 0.88, 0.72), ground, ramp(v + np.float32(0.25) * np.sin(u * 4), -0.05, 0.05))
    canvas.paint(inside(box - np.float32(0.60)), art, part="frame", window=near.window)
    sun = ellipse(u, v, (between(rng, -0.3, 0.3), -0.28), (0.16, 0.14))
    canvas.paint(inside(sun), (0.95, 0.62, 0.35), part="frame", window=near.window)


def paint_plant(canvas: Canvas, frame: Frame, seed: int) -> None:
    """Paint a potted plant in a lower corner."""
    rng = stream(seed, "plant")
    side = _side(seed)
    foot = (0.5 + side * between(rng, 0.36, 0.44), between(rng, 0.84, 0.90))
    leaf = pick(rng, ((0.24, 0.52, 0.30), (0.36, 0.60, 0.26), (0.18, 0.46, 0.42)))
    for k in range(7):
        angle = math.radians(-66 + 22 * k + between(rng, -7, 7))
        length = between(rng, 0.20, 0.34)
        near = frame.around(
            foot[0] + 0.5 * length * math.sin(angle), foot[1] - 0.5 * length * math.cos(angle), 0.2
        )
        across, down = near.local(*foot, angle)
        share = np.clip(-down / np.float32(length), 0, 1)
        bow = np.float32(0.06 * math.sin(angle)) * share * share
        blade = np.abs(across - bow) - np.float32(0.17 * length) * np.sin(
            share * np.float32(3.1415)
        ) ** np.float32(0.8)
        blade = np.maximum(blade, np.maximum(down, -down - np.float32(length)))
        vein = ramp(np.abs(across - bow), 0.006, 0.001) * np.float32(0.4)
        tone = mix(mix(leaf, (0.80, 0.90, 0.55), share * np.float32(0.45)), (0.1, 0.25, 0.15), vein)
        tone = tone * np.float32(between(rng, 0.75, 1.08))
        canvas.paint(inside(blade), np.clip(tone, 0, 1), part="plant", window=near.window)
    u, v = (
        (frame.x - np.float32(foot[0])) / np.float32(0.10),
        (frame.y - np.float32(foot[1])) / np.float32(0.16),
    )
    pot = np.maximum(np.abs(u) - (1 - np.float32(0.22) * v), -v)
    clay = pick(rng, ((0.78, 0.42, 0.28), (0.86, 0.84, 0.78), (0.28, 0.42, 0.52)))
    tone = mix(clay, (0.12, 0.08, 0.1), ramp(u, 0.1, 1.3) * np.float32(0.5))
    canvas.paint(inside(pot), tone, part="plant")
    lip = np.maximum(np.abs(u) - np.float32(1.15), np.abs(v) - np.float32(0.13))
    canvas.paint(inside(lip), np.clip(tone * np.float32(1.08), 0, 1), part="plant")


def paint_yarn(canvas: Canvas, frame: Frame, seed: int) -> None:
    """Paint a ball of yarn in a lower corner, before the cat."""
    rng = stream(seed, "yarn")
    side = -_side(seed)
    radius = between(rng, 0.075, 0.11)
    at = (0.5 + side * between(rng, 0.34, 0.41), 0.98 - radius)
    near = frame.around(*at, radius * 1.2)
    u, v = (
        (near.x - np.float32(at[0])) / np.float32(radius),
        (near.y - np.float32(at[1])) / np.float32(radius),
    )
    colour = pick(
        rng, ((0.86, 0.28, 0.34), (0.25, 0.55, 0.72), (0.94, 0.68, 0.24), (0.58, 0.40, 0.70))
    )
    square = u * u + v * v
    out = np.sqrt(np.clip(1 - square, 0, 1))
    # Each cap of the ball is wound in its own direction.
    turn = np.where(
        u + v > np.float32(0.25), u * 9 - v * 5, np.where(v - u > 0, u * 3 + v * 9, v * 4 + u * 8)
    )
    thread = np.float32(0.5) + np.float32(0.5) * np.sin(turn * np.float32(2.4))
    tone = (
        np.float32(0.45) + np.float32(0.4) * out - np.float32(0.15) * v + np.float32(0.25) * thread
    )
    wool = mix((0, 0, 0), colour, np.clip(tone, 0, 1.2))
    canvas.paint(inside(np.sqrt(square) - 1), np.clip(wool, 0, 1), part="yarn", window=near.window)


def band(frame: Frame, sag: float = 0.0) -> tuple[Field, Field]:
    """Return the field of a collar's band and how far along the throat each pixel lies."""
    x = frame.x
    middle = np.float32(1.10 + sag) - np.float32(0.30) * x * x
    field = np.maximum(np.abs(frame.y - middle) - np.float32(0.085), np.abs(x) - np.float32(0.72))
    return field, frame.y - middle


def paint_collar(canvas: Canvas, pose: Pose, light: Light, seed: int) -> None:
    """Paint a collar with a bell about the throat."""
    rng = stream(seed, "collar")
    frame = pose.body.around(0, 1.1, 0.85)
    field, off = band(frame)
    dye: Colour = pick(
        rng,
        (
            (0.80, 0.18, 0.22),
            (0.16, 0.42, 0.66),
            (0.18, 0.52, 0.40),
            (0.52, 0.26, 0.56),
            (0.94, 0.62, 0.16),
        ),
    )
    tone = mix(dye, (0.05, 0.03, 0.06), ramp(np.abs(off), 0.03, 0.1) * np.float32(0.4))
    stitch = ramp(np.abs(np.abs(off) - np.float32(0.055)), 0.012, 0.004)
    stitch *= ((frame.x * 11) % 1 > 0.4).astype(np.float32)
    tone = mix(tone, (1.0, 0.95, 0.85), stitch * np.float32(0.7))
    worn = canvas.shows("body", "coat on body")[frame.window]
    canvas.paint(inside(field) * worn, tone, part="collar", window=frame.window)
    paint_bell(canvas, pose, light, at=(0.0, 1.24), part="collar")


def paint_bell(
    canvas: Canvas, pose: Pose, light: Light, *, at: tuple[float, float], part: str
) -> None:
    """Paint a golden bell.

    Args:
        part: What its pixels show.
    """
    near = pose.body.around(*at, 0.17)
    u, v = (
        (near.x - np.float32(at[0])) / np.float32(0.125),
        (near.y - np.float32(at[1])) / np.float32(0.125),
    )
    round_ = np.sqrt(u * u + v * v) - 1
    canvas.paint(
        inside(round_ - np.float32(0.12)), (0.35, 0.20, 0.04), part=part, window=near.window
    )
    shine = ellipse(u, v, (0.35 * np.sign(light.direction[0]), -0.4), (1.3, 1.3))
    gold = mix((1.0, 0.92, 0.55), (0.78, 0.50, 0.10), ramp(shine, -0.9, 0.1))
    canvas.paint(inside(round_), gold, part=part, window=near.window)
    slit = np.maximum(np.abs(u) - np.float32(0.09), np.abs(v - np.float32(0.55)) - np.float32(0.35))
    slit = np.minimum(slit, np.abs(v - np.float32(0.1)) - np.float32(0.07))
    hole = np.minimum(slit, ellipse(u, v, (0, 0.3), (0.2, 0.2)) * np.float32(0.2))
    canvas.paint(inside(hole) * inside(round_), (0.35, 0.20, 0.04), part=part, window=near.window)
