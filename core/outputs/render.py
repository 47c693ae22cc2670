"""From raw values to pictures: the only place that normalises, always around a fixed zero."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from cmap import Colormap
from PIL import Image

from whylens.core.errors import BadInput, InvalidParameter
from whylens.core.explanation import Explanation
from whylens.core.inputs.signal import plot_signal
from whylens.core.inputs.view import View, on_original, whole_view
from whylens.core.results import Array, Heatmap

Pixels = npt.NDArray[np.uint8]

# What a visitor reads -> cmap's names, for maps from zero up and for maps around zero.
_COLOURS = {
    "ember": ("matplotlib:inferno", "colorbrewer:RdBu_r"),
    "viridis": ("bids:viridis", "colorbrewer:PuOr_r"),
    "turbo": ("google:turbo", "matplotlib:coolwarm"),
    "grey": ("colorbrewer:Greys_r", "colorbrewer:RdGy_r"),
}


@dataclass(frozen=True, slots=True)
class Style:
    """How a map is laid over the photo.

    Attributes:
        colormap: One of `colour_names()`.
        opacity: 0 shows the photo alone, 1 the colours alone.
        significant_only: Hide what does not differ from 0 at 95 %, in maps with a standard error.
    """

    colormap: str = "ember"
    opacity: float = 0.6
    significant_only: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """Which raw values the ends of the colours stand for.

    Attributes:
        low: Raw value at the lower end; minus `high` for signed maps, else 0.
        high: Raw value at the upper end.
        unit: What the values are.
    """

    low: float
    high: float
    unit: str


def scale_of(heatmap: Heatmap, *, high: float | None = None) -> Scale:
    """Return the colour scale of a map: zero stays zero, and signed maps are symmetric about it.

    Args:
        high: Upper end to use instead of the map's own largest magnitude, to share a scale.
    """
    if high is None:
        low, top = float(heatmap.values.min()), float(heatmap.values.max())
        high = max(abs(low), abs(top)) if heatmap.signed or low < 0 else top
    return Scale(-high if _diverges(heatmap) else 0.0, high, heatmap.unit)


def _diverges(heatmap: Heatmap) -> bool:
    return heatmap.signed or float(heatmap.values.min()) < 0


def overlay(
    photo: Pixels, heatmap: Heatmap, view: View, style: Style, *, scale: Scale | None = None
) -> Image.Image:
    """Return the whole photo at its own size under the coloured map, hatched where unseen.

    Args:
        photo: (H, W, 3) uint8, of the size that `view` was made for.
        heatmap: (h, w) raw values.
        scale: Shared scale; by default the map's own.

    Raises:
        BadInput: The map is not two-dimensional.
    """
    if heatmap.values.ndim != 2:
        raise BadInput("Only maps over a picture can be laid over a photo.")
    values, inside = on_original(np.asarray(heatmap.values), view)
    scale = scale or scale_of(heatmap)
    share = share_of(values, scale)
    colours = coloured(share, style.colormap, diverges=scale.low < 0)
    weight = np.where(inside, _alpha(share, style), 0).astype(np.float32)[..., None]
    mixed = photo * (1 - weight) + colours * weight
    picture = Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))
    return picture if inside.all() else hatched(picture, inside)


def _alpha(share: Array, style: Style) -> Array:
    # Colour is laid on in proportion to magnitude, so that what lies behind stays readable where
    # the map says nothing; the root keeps the faint parts visible.
    alpha: Array = (style.opacity * np.abs(share) ** 0.6).astype(np.float32)
    return alpha


def share_of(values: Array, scale: Scale) -> Array:
    """Return values as shares of the scale's upper end, clipped to [-1, 1] or [0, 1]."""
    if scale.high <= 0:
        return np.zeros_like(values)
    low = -1.0 if scale.low < 0 else 0.0
    shares: Array = np.clip(values / np.float32(scale.high), low, 1.0)
    return shares


def coloured(share: Array, name: str, *, diverges: bool) -> Pixels:
    """Return (..., 3) uint8 colours of shares.

    Args:
        share: In [0, 1], or in [-1, 1] where `diverges`.
        name: One of `colour_names()`.
    """
    table = _table(name, diverges)
    place = (share + 1) / 2 if diverges else share
    colours: Pixels = table[np.rint(place * (len(table) - 1)).astype(np.intp)]
    return colours


def colour_names() -> tuple[str, ...]:
    """Return the names of the colour scales, the default first."""
    return tuple(_COLOURS)


def colour_stops(name: str, *, diverges: bool, count: int = 9) -> list[str]:
    """Return evenly spaced colours of a scale as #rrggbb, for legends.

    Args:
        name: One of `colour_names()`.
    """
    table = _table(name, diverges)
    picks = table[np.linspace(0, len(table) - 1, count).round().astype(int)]
    return ["#{:02x}{:02x}{:02x}".format(*(int(c) for c in rgb)) for rgb in picks]


@cache
def _table(name: str, diverges: bool) -> Pixels:
    if name not in _COLOURS:
        raise InvalidParameter(f"There are the colours {', '.join(_COLOURS)}; not {name!r}.")
    table = np.asarray(Colormap(_COLOURS[name][1 if diverges else 0])(np.linspace(0, 1, 256)))
    fixed: Pixels = np.rint(table[:, :3] * 255).astype(np.uint8)
    fixed.setflags(write=False)
    return fixed


def hatched(picture: Image.Image, inside: npt.NDArray[np.bool_]) -> Image.Image:
    """Return the picture with diagonal lines, and faded, where the model saw nothing.

    Args:
        seen: (H, W), True where the model looked.
    """
    height, width = inside.shape
    pixels = np.array(picture)
    rows, columns = np.ogrid[:height, :width]
    period = max(8, round(min(height, width) / 32))
    line = (rows + columns) % period < max(1, period // 6)
    faded = pixels * 0.35 + 255 * 0.65 * 0.82
    striped = np.where(line[..., None], 96, faded)
    pixels = np.where(inside[..., None], pixels, striped)
    return Image.fromarray(pixels.astype(np.uint8))


def render_explanation(
    explanation: Explanation, style: Style, *, scale: Scale | None = None
) -> Image.Image:
    """Return the picture of an explanation's map: an overlay, or a plot for signals.

    A picture of other channels than RGB lies under its map in grey, the mean of its channels; of a
    volume the middle slice along the first axis is shown.

    Args:
        scale: Shared scale; by default the map's own.

    Raises:
        BadInput: Its result is not a map.
    """
    if not isinstance(explanation.result, Heatmap):
        raise BadInput("This result is a set of examples, not a map.")
    scale = scale or scale_of(explanation.result)  # of the whole map, whatever is hidden
    if explanation.view is not None and explanation.question.pixels is not None:
        photo, heat = explanation.question.pixels, explanation.result
        heat = heat.significant() if style.significant_only else heat
        return overlay(photo, heat, explanation.view, style, scale=scale)
    if explanation.result.values.ndim in (2, 3):
        return _grey_overlay(explanation.result, explanation.question.array, style, scale)
    return signal_plot(explanation, style, scale=scale)


def _grey_overlay(
    heat: Heatmap, channels: npt.NDArray[np.generic], style: Style, scale: Scale
) -> Image.Image:
    heat = heat.significant() if style.significant_only else heat
    values = np.asarray(heat.values)
    grey = np.asarray(channels, np.float64)
    grey = grey if grey.ndim == values.ndim else grey.mean(0)
    if values.ndim == 3:
        values, grey = values[len(values) // 2], grey[len(grey) // 2]
    grey = (grey - grey.min()) / max(float(np.ptp(grey)), 1e-12) * 255
    photo = np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)
    height, width = grey.shape
    flat = Heatmap(values, heat.unit, heat.signed)
    return overlay(photo, flat, whole_view(width, height), style, scale=scale)


def signal_plot(
    explanation: Explanation, style: Style, *, scale: Scale | None = None
) -> Image.Image:
    """Return a line plot of a signal whose background is coloured by the map.

    Args:
        scale: Shared scale; by default the map's own.

    Raises:
        BadInput: The map has another number of axes.
    """
    heat, signal = explanation.result, explanation.question.signal
    if not isinstance(heat, Heatmap) or heat.values.ndim != 1 or signal is None:
        raise BadInput("Only one-dimensional maps of signals can be plotted.")
    scale = scale or scale_of(heat)
    heat = heat.significant() if style.significant_only else heat
    share = share_of(np.asarray(heat.values), scale)[None, :]
    colours = coloured(share, style.colormap, diverges=scale.low < 0)
    weight = _alpha(share, style)[..., None]  # white where the map says nothing
    mixed = 255 * (1 - weight) + colours * weight
    return plot_signal(signal, Image.fromarray(np.rint(mixed).astype(np.uint8)))
