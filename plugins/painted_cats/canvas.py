"""The canvas: layers go on top of each other, and every pixel remembers the part it shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Window = tuple[slice, slice]
WHOLE: Window = (slice(None), slice(None))
Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Frame:
    """Coordinates in which something is drawn.

    Attributes:
        x: (H, W) float32: to the right.
        y: (H, W) float32: downwards.
        pixel: Side of one pixel in these units.
        window: Where on the canvas the arrays lie.
    """

    x: Field
    y: Field
    pixel: float
    window: Window = WHOLE

    @classmethod
    def turned(cls, size: int, *, at: tuple[float, float], unit: float, angle: float) -> Frame:
        """Return coordinates with their origin at `at`, turned clockwise.

        Args:
            size: Side of the canvas in pixels.
            at: Origin (x, y) as fractions of the side.
            unit: Length of one unit as a fraction of the side.
        """
        steps = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
        right = ((steps - np.float32(at[0])) / np.float32(unit))[None, :]
        down = ((steps - np.float32(at[1])) / np.float32(unit))[:, None]
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return cls(cos * right + sin * down, cos * down - sin * right, 1 / (size * unit))

    def around(self, x: float, y: float, reach: float) -> Frame:
        """Return the part of the frame whose pixels lie near a point; at least 3 x 3 pixels."""
        size_y, size_x = self.x.shape
        cos = float(self.x[0, 1] - self.x[0, 0]) / self.pixel
        sin = float(self.x[1, 0] - self.x[0, 0]) / self.pixel
        dx, dy = x - float(self.x[0, 0]), y - float(self.y[0, 0])
        column = (cos * dx - sin * dy) / self.pixel
        row = (sin * dx + cos * dy) / self.pixel
        radius = reach * (abs(cos) + abs(sin)) / self.pixel + 1
        rows = _span(row, radius, size_y)
        columns = _span(column, radius, size_x)
        base_y, base_x = self.window[0].start or 0, self.window[1].start or 0
        window = (
            slice(base_y + rows.start, base_y + rows.stop),
            slice(base_x + columns.start, base_x + columns.stop),
        )
        return Frame(self.x[rows, columns], self.y[rows, columns], self.pixel, window)

    def local(self, x: float, y: float, angle: float) -> tuple[Field, Field]:
        """Return coordinates about a point, turned clockwise by `angle`."""
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        dx, dy = self.x - np.float32(x), self.y - np.float32(y)
        return cos * dx + sin * dy, cos * dy - sin * dx


def _span(middle: float, radius: float, size: int) -> slice:
    low = min(max(int(middle - radius), 0), size - 3)
    return slice(low, max(min(int(middle + radius) + 2, size), low + 3))


class Canvas:
    """A picture under way."""

    def __init__(self, size: int) -> None:
        """Start with black.

        Args:
            size: Side in pixels.
        """
        self.rgb = np.zeros((3, size, size), np.float32)
        self._owner = np.zeros((size, size), np.uint8)
        self._names: list[str] = ["scene"]

    def paint(
        self,
        alpha: Field,
        colour: Colour | Field,
        *,
        part: str | None = None,
        window: Window = WHOLE,
        least: float = 0.5,
    ) -> None:
        """Lay a colour over the picture.

        Args:
            alpha: (h, w) in [0, 1]: how much of each pixel is covered.
            colour: One colour, or (3, h, w), in [0, 1].
            part: What the covered pixels now show; None leaves what they showed.
            least: Coverage from which a pixel counts as showing the part.
        """
        if part is not None:
            if part not in self._names:
                self._names.append(part)
            visible = alpha >= np.float32(least)
            # Paint ends one pixel from the mask, so that a mask tells where a part has any effect.
            alpha = alpha * spread(visible)
            self._owner[window][visible] = self._names.index(part)
        below = self.rgb[(slice(None), *window)]
        over = shade(colour) if isinstance(colour, tuple) else colour
        below += alpha * (over - below)

    def shows(self, *parts: str) -> Mask:
        """Return (H, W) bool: the pixels that show one of `parts`.

        Args:
            parts: Names; one that was never painted has no pixels.
        """
        visible = np.zeros(self._owner.shape, np.bool_)
        for part in parts:
            if part in self._names:
                visible |= self._owner == self._names.index(part)
        return visible


def shade(colour: Colour) -> Field:
    """Return a colour as (3, 1, 1) float32.

    Args:
        colour: Red, green, blue in [0, 1].
    """
    return np.asarray(colour, np.float32)[:, None, None]


def mix(low: Colour | Field, high: Colour | Field, share: Field | float) -> Field:
    """Return (3, h, w) float32: `share` of `high` over the rest of `low`.

    Args:
        low: A colour, or (3, h, w).
        high: A colour, or (3, h, w).
        share: (h, w) or a number, in [0, 1].
    """
    first = shade(low) if isinstance(low, tuple) else low
    second = shade(high) if isinstance(high, tuple) else high
    mixed: Field = first + np.asarray(share, np.float32) * (second - first)
    return mixed


def inside(field: Field) -> Field:
    """Return how much of each pixel lies where `field` is negative, its edge one pixel soft.

    Dividing by the local slope makes any smooth function do for a distance.

    Args:
        field: (h, w), at least 2 x 2.
    """
    down, right = np.gradient(field)
    slope = np.sqrt(down * down + right * right) + np.float32(1e-6)
    cover: Field = np.clip(np.float32(0.5) - field / slope, 0, 1).astype(np.float32)
    return cover


def solid(cover: Field) -> Field:
    """Return the cover without holes in its fur: only pixels at its edge stay soft.

    Args:
        cover: (h, w) in [0, 1].
    """
    filled: Field = np.where(spread(cover < np.float32(0.5)), cover, np.float32(1))
    return filled


def spread(mask: Mask) -> Mask:
    """Return (h, w) bool: the mask and its neighbours, diagonal ones included.

    Args:
        mask: (h, w) bool.
    """
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    whole = wide.copy()
    whole[:, 1:] |= wide[:, :-1]
    whole[:, :-1] |= wide[:, 1:]
    return whole


def ramp(value: Field, low: float, high: float) -> Field:
    """Return a smooth step: 0 at `low`, 1 at `high`, either of which may be the larger."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    step: Field = t * t * (np.float32(3) - 2 * t)
    return step


def ellipse(x: Field, y: Field, at: tuple[float, float], radii: tuple[float, float]) -> Field:
    """Return a field that is -1 in the middle of an ellipse and 0 on its edge.

    Args:
        x: (h, w).
        y: (h, w).
    """
    across = (x - np.float32(at[0])) / np.float32(radii[0])
    along = (y - np.float32(at[1])) / np.float32(radii[1])
    field: Field = np.sqrt(across * across + along * along) - np.float32(1)
    return field


def join(first: Field, second: Field, softness: float) -> Field:
    """Return the union of two shapes with a rounded seam."""
    k = np.float32(softness)
    h = np.maximum(k - np.abs(first - second), 0) / k
    union: Field = np.minimum(first, second) - h * h * k * np.float32(0.25)
    return union
