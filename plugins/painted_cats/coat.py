"""Markings of the fur: where on head and chest the darker colour lies."""

from __future__ import annotations

import math

import numpy as np

from whylens.plugins.painted_cats.canvas import Field, Frame, ellipse, inside, join, ramp
from whylens.plugins.painted_cats.noise import clouds, grain
from whylens.plugins.painted_cats.seeds import between, stream
from whylens.plugins.painted_cats.traits import Coat


def on_head(coat: Coat, seed: int, frame: Frame, fur: Field, turn: float) -> Field | None:
    """Return (h, w) in [0, 1]: how much of each pixel of the head is marked; None if nothing is.

    Args:
        fur: (h, w) strands, along which the marking frays.
        turn: In [-1, 1]: how far the face is turned.
    """
    if coat == "plain":
        return None
    rng = stream(seed, "coat on head")
    x = frame.x - np.float32(0.12 * turn)
    y = frame.y
    fray = (fur - np.float32(0.5)) * np.float32(0.16)
    if coat == "striped":
        return inside(_rays(rng, x, y) + fray)
    if coat == "spotted":
        return inside(_spots(rng, x, y) + 2 * fray)
    side = 1.0 if rng.random() < 0.5 else -1.0
    wobble = clouds(grain(rng), x * 3 + 50, y * 3 + 50, 2) - np.float32(0.5)
    if coat == "half":
        return inside(np.float32(-side) * x + np.float32(0.22) * wobble + fray)
    eye = ellipse(x, y, (side * between(rng, 0.40, 0.46), between(rng, -0.16, -0.06)), (0.45, 0.52))
    return inside(eye + np.float32(0.5) * wobble + fray)


def on_body(coat: Coat, seed: int, frame: Frame, fur: Field) -> Field | None:
    """Return (h, w) in [0, 1]: how much of each pixel of the body is marked; None if nothing is.

    Args:
        fur: (h, w) strands, along which the marking frays.
    """
    if coat == "plain":
        return None
    rng = stream(seed, "coat on body")
    x, y = frame.x, frame.y
    fray = (fur - np.float32(0.5)) * np.float32(0.3)
    if coat == "striped":
        bands = np.sin((y + np.float32(0.35) * x * x) * 17 + np.float32(between(rng, 0, 6)))
        bib = np.float32(1.1) * ramp(np.abs(x), 0.45, 0.1)
        return inside(np.float32(0.25) - bands + bib + 2 * fray)
    if coat == "spotted":
        spots = [
            ellipse(
                x,
                y,
                (0.82 * (k % 5 - 2) * 0.5 + between(rng, -0.1, 0.1), 1.0 + 0.3 * (k // 5)),
                (between(rng, 0.09, 0.13), between(rng, 0.08, 0.11)),
            )
            for k in range(10)
            if k % 5 != 2
        ]
        return inside(np.minimum.reduce(spots) + fray)
    side = 1.0 if stream(seed, "coat on head").random() < 0.5 else -1.0
    if coat == "half":
        return inside(np.float32(-side) * x + fray * np.float32(0.6))
    return inside(ellipse(x, y, (-side * 0.75, 1.45), (0.42, 0.4)) + fray)


def _rays(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return a tabby's stripes: from forehead and cheeks they point to the middle of the face."""
    radius = np.sqrt(x * x + (y - np.float32(0.1)) ** 2)
    angle = np.arctan2(x, np.float32(0.1) - y)
    turns = angle * np.float32(between(rng, 11.2, 12.2)) + np.float32(0.35) * np.sin(radius * 9)
    # Stripes taper towards the face and are widest at the rim; none on chin and muzzle.
    width = ramp(radius, 0.42, 0.95)
    low = ramp(np.abs(angle), 2.1, 2.5)
    rays: Field = np.float32(1.27) - np.float32(1.15) * width - np.cos(turns) + 2 * low
    return rays


def _spots(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return leopard-like spots on two rings about the face."""
    whole: Field | None = None
    for count, ring, size in ((9, 0.62, 0.085), (11, 0.86, 0.105)):
        for k in range(count):
            angle = math.radians(-128 + 256 * (k + between(rng, 0.3, 0.7)) / count)
            radius = ring + between(rng, -0.04, 0.04)
            at = (radius * math.sin(angle), 0.08 - radius * 0.92 * math.cos(angle))
            wide, high = size * between(rng, 0.8, 1.25), size * between(rng, 0.8, 1.25)
            spot = ellipse(x, y, at, (wide, high))
            whole = spot if whole is None else np.minimum(whole, spot)
    for k in (-1, 1):
        spot = ellipse(x, y, (0.15 * k, between(rng, -0.42, -0.36)), (0.075, 0.10))
        whole = spot if whole is None else join(whole, spot, 0.05)
    return np.zeros_like(x) if whole is None else whole
