"""What lies behind the cat."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from whylens.plugins.painted_cats.canvas import Canvas, Colour, Field, Frame, ellipse, mix, ramp
from whylens.plugins.painted_cats.noise import clouds, grain, smooth
from whylens.plugins.painted_cats.seeds import between, pick, stream
from whylens.plugins.painted_cats.traits import Scene


def paint_scene(canvas: Canvas, frame: Frame, scene: Scene, seed: int) -> None:
    """Fill the canvas."""
    rng = stream(seed, f"scene {scene}")
    painter = {
        "bokeh": _bokeh,
        "sky": _sky,
        "wallpaper": _wallpaper,
        "room": _room,
        "garden": _garden,
        "dusk": _dusk,
        "library": _library,
    }[scene]
    painter(canvas, frame, rng)


def _tones(rng: np.random.Generator) -> tuple[Colour, Colour, Colour]:
    """Return three colours that go together: deep, middle and light."""
    return pick(
        rng,
        (
            ((0.16, 0.30, 0.36), (0.36, 0.58, 0.60), (0.87, 0.92, 0.84)),
            ((0.38, 0.20, 0.30), (0.76, 0.46, 0.50), (0.98, 0.85, 0.78)),
            ((0.20, 0.26, 0.44), (0.46, 0.56, 0.78), (0.90, 0.92, 0.97)),
            ((0.24, 0.34, 0.22), (0.52, 0.66, 0.44), (0.92, 0.94, 0.78)),
            ((0.42, 0.28, 0.16), (0.82, 0.62, 0.38), (0.99, 0.92, 0.76)),
            ((0.28, 0.22, 0.40), (0.58, 0.50, 0.74), (0.93, 0.88, 0.96)),
            ((0.34, 0.36, 0.38), (0.62, 0.64, 0.64), (0.93, 0.92, 0.90)),
            ((0.10, 0.36, 0.38), (0.95, 0.60, 0.42), (0.99, 0.90, 0.76)),
        ),
    )


def _wash(
    canvas: Canvas, frame: Frame, rng: np.random.Generator, low: Colour, high: Colour
) -> None:
    """Fill the canvas with a slanted, faintly cloudy gradient."""
    angle = between(rng, -0.6, 0.6)
    slope = frame.y * math.cos(angle) + frame.x * math.sin(angle)
    patchy = clouds(grain(rng), frame.x * 4, frame.y * 4, 2)
    share = np.clip(slope + (patchy - np.float32(0.5)) * np.float32(0.35), 0, 1)
    canvas.paint(np.ones_like(frame.x), mix(high, low, share))


def _discs(
    canvas: Canvas, frame: Frame, rng: np.random.Generator, count: int, colours: tuple[Colour, ...]
) -> None:
    """Paint lights out of focus."""
    for _ in range(count):
        x, y, radius = between(rng, 0, 1), between(rng, 0, 1), between(rng, 0.035, 0.12)
        near = frame.around(x, y, radius * 1.15)
        gap = ellipse(near.x, near.y, (x, y), (radius, radius))
        glow = ramp(gap, 0.06, -0.06) * (np.float32(0.75) + np.float32(0.25) * ramp(gap, -0.6, 0))
        canvas.paint(
            glow * np.float32(between(rng, 0.15, 0.5)), pick(rng, colours), window=near.window
        )


def _bokeh(canvas: Canvas, frame: Frame, rng: np.random.Generator) -> None:
    deep, middle, light = _tones(rng)
    _wash(canvas, frame, rng, deep, middle)
    _discs(canvas, frame, rng, 22, (light, middle, (1.0, 0.93, 0.78)))


def _sky(canvas: Canvas, frame: Frame, rng: np.random.Generator) -> None:
    top = pick(rng, ((0.30, 0.55, 0.86), (0.42, 0.70, 0.90), (0.36, 0.52, 0.78)))
    low: Colour = (0.90, 0.95, 0.98)
    air = mix(top, low, ramp(frame.y, -0.05, 0.85))
    canvas.paint(np.ones_like(frame.x), air)
    drift = between(rng, 0, 90)
    cloud = clouds(grain(rng), frame.x * 3 + np.float32(drift), frame.y * 6, 4)
    canvas.paint(ramp(cloud, 0.50, 0.70) * np.float32(0.9), (1.0, 1.0, 1.0))
    _hills(canvas, frame, rng, ((0.55, 0.72, 0.52), (0.42, 0.62, 0.36)), 0.72)


def _hills(
    canvas: Canvas,
    frame: Frame,
    rng: np.random.Generator,
    colours: tuple[Colour, ...],
    start: float,
) -> None:
    """Paint rows of hills, each nearer than the one before."""
    for row, colour in enumerate(colours):
        wave = np.sin(frame.x * np.float32(between(rng, 3, 7)) + np.float32(between(rng, 0, 6)))
        edge = np.float32(start + 0.1 * row) + np.float32(0.05) * wave
        near = ramp(frame.y - edge, -0.008, 0.008)
        fade = mix(colour, (0.2, 0.3, 0.2), ramp(frame.y - edge, 0.0, 0.5) * np.float32(0.5))
        canvas.paint(near, fade)


def _wallpaper(canvas: Canvas, frame: Frame, rng: np.random.Generator) -> None:
    deep, middle, light = _tones(rng)
    paper, print_ = (light, middle) if rng.random() < 0.6 else (middle, light)
    canvas.paint(np.ones_like(frame.x), paper)
    cells = between(rng, 5, 8)
    u, v = frame.x * np.float32(cells), frame.y * np.float32(cells)
    kind = int(rng.integers(4))
    if kind == 0:
        figure = ramp(np.abs((u % 1) - np.float32(0.5)), 0.27, 0.23)
    else:
        v = v + np.float32(0.5) * (np.floor(u) % 2)
        a, b = (u % 1) - np.float32(0.5), (v % 1) - np.float32(0.5)
        if kind == 1:
            figure = ramp(np.sqrt(a * a + b * b), 0.26, 0.20)
        elif kind == 2:
            figure = ramp(np.abs(a) + np.abs(b), 0.40, 0.33)
        else:
            petals = np.float32(0.24) + np.float32(0.11) * np.cos(5 * np.arctan2(a, b))
            figure = ramp(np.sqrt(a * a + b * b) - petals, 0.03, -0.03)
    canvas.paint(figure * np.float32(between(rng, 0.35, 0.7)), print_)
    _vignette(canvas, frame, rng, deep)


def _vignette(canvas: Canvas, frame: Frame, rng: np.random.Generator, colour: Colour) -> None:
    """Let the light fall off from a point on the wall."""
    at = (between(rng, 0.2, 0.8), between(rng, 0.1, 0.5))
    away = ellipse(frame.x, frame.y, at, (1.0, 1.0))
    canvas.paint(ramp(away, -0.7, 0.2) * np.float32(0.42), colour)


def _room(canvas: Canvas, frame: Frame, rng: np.random.Generator) -> None:
    deep, middle, light = _tones(rng)
    canvas.paint(np.ones_like(frame.x), mix(light, middle, ramp(frame.y, -0.2, 1.1)))
    rail = between(rng, 0.60, 0.72)
    canvas.paint(ramp(frame.y, rail - 0.006, rail + 0.006), mix(light, (1.0, 0.99, 0.96), 0.7))
    boards = np.abs(((frame.x * np.float32(7)) % 1) - np.float32(0.5))
    below = ramp(frame.y, rail + 0.035, rail + 0.045)
    canvas.paint(below, mix(middle, deep, ramp(boards, 0.42, 0.5) * np.float32(0.35)))
    # A sofa or a cushion of light, far out of focus.
    at = (between(rng, 0.05, 0.95), 1.0)
    sofa = ellipse(frame.x, frame.y, at, (0.42, 0.30))
    canvas.paint(ramp(sofa, 0.06, -0.06) * np.float32(0.85), deep)
    _vignette(canvas, frame, rng, deep)


def _garden(canvas: Canvas, frame: Frame, rng: np.random.Generator) -> None:
    leaves = clouds(grain(rng), frame.x * 6, frame.y * 6, 3)
    green = mix((0.14, 0.32, 0.14), (0.60, 0.76, 0.36), ramp(leaves, 0.25, 0.75))
    canvas.paint(np.ones_like(frame.x), mix((0.86, 0.94, 0.90), green, ramp(frame.y, -0.15, 0.35)))
    _discs(canvas, frame, rng, 10, ((0.80, 0.92, 0.50), (0.95, 0.97, 0.75), (0.25, 0.48, 0.2)))
    petal = pick(
        rng, ((0.95, 0.45, 0.55), (0.98, 0.82, 0.32), (0.80, 0.62, 0.94), (0.98, 0.96, 0.95))
    )
    for _ in range(14):
        x, y, size = between(rng, 0, 1), between(rng, 0.45, 1), between(rng, 0.025, 0.05)
        near = frame.around(x, y, size * 1.6)
        dx, dy = near.x - np.float32(x), near.y - np.float32(y)
        radius = np.sqrt(dx * dx + dy * dy)
        bloom = radius - np.float32(size) * (1 + np.float32(0.35) * np.cos(5 * np.arctan2(dx, dy)))
        canvas.paint(ramp(bloom, 0.008, -0.008) * np.float32(0.9), petal, window=near.window)
        canvas.paint(ramp(radius, size * 0.45, size * 0.3), (0.98, 0.78, 0.30), window=near.window)


def _dusk(canvas: Canvas, frame: Frame, rng: np.random.Generator) -> None:
    high = pick(rng, ((0.13, 0.14, 0.36), (0.24, 0.14, 0.38), (0.10, 0.22, 0.36)))
    low = pick(rng, ((0.97, 0.62, 0.46), (0.93, 0.52, 0.56), (0.96, 0.75, 0.52)))
    canvas.paint(np.ones_like(frame.x), mix(high, low, ramp(frame.y, 0.0, 0.85)))
    for _ in range(26):
        x, y = between(rng, 0, 1), between(rng, 0, 0.5)
        near = frame.around(x, y, 0.02)
        star = ramp(ellipse(near.x, near.y, (x, y), (0.009, 0.009)), 0.4, -0.9)
        canvas.paint(star * np.float32(between(rng, 0.4, 1)), (1.0, 0.97, 0.88), window=near.window)
    at, radius = (between(rng, 0.08, 0.92), between(rng, 0.1, 0.25)), between(rng, 0.055, 0.085)
    moon = ellipse(frame.x, frame.y, at, (radius, radius))
    canvas.paint(ramp(moon, 2.2, 0.0) * np.float32(0.25), (1.0, 0.92, 0.75))
    canvas.paint(ramp(moon, 0.05, -0.05), (1.0, 0.96, 0.84))
    _hills(canvas, frame, rng, ((0.34, 0.22, 0.36), (0.20, 0.15, 0.28)), 0.74)


def _library(canvas: Canvas, frame: Frame, rng: np.random.Generator) -> None:
    wood = pick(rng, ((0.36, 0.22, 0.13), (0.48, 0.34, 0.22), (0.26, 0.20, 0.18)))
    canvas.paint(np.ones_like(frame.x), wood)
    shelf = np.float32(between(rng, 0.26, 0.34))
    row = np.floor(frame.y / shelf)
    inner = frame.y / shelf - row
    books = between(rng, 12, 17)
    column = np.floor(frame.x * np.float32(books) + row * np.float32(0.37))
    share = frame.x * np.float32(books) + row * np.float32(0.37) - column
    tones = np.asarray(
        (*_tones(rng), *_tones(rng), (0.72, 0.26, 0.22), (0.90, 0.78, 0.52), (0.22, 0.34, 0.50)),
        np.float32,
    )
    code = (column * 7 + row * 13).astype(np.int32)
    spine = cast("Field", tones[(code * 5 + code // 3) % len(tones)].transpose(2, 0, 1))
    tall = np.float32(0.10) + np.float32(0.22) * smooth(grain(rng), column * 3, row * 5)
    cover = ramp(inner - tall, -0.02, 0.02) * ramp(inner, 0.95, 0.92) * ramp(share, 0.0, 0.10)
    canvas.paint(
        cover,
        spine
        * (np.float32(0.62) + np.float32(0.38) * ramp(np.abs(share - np.float32(0.45)), 0.5, 0.1)),
    )
    bands = ramp(np.abs(inner - np.float32(0.55)), 0.05, 0.03) * np.float32(0.4)
    canvas.paint(bands * cover, (0.95, 0.85, 0.6))
    _vignette(canvas, frame, rng, (0.10, 0.07, 0.06))
