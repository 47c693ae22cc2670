"""From raw values to pictures: the only place that normalises, always around a fixed zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from cmap import Colormap
from PIL import Image

from whylens.core.errors import BadInput, InvalidParameter
from whylens.core.explanation import Explanation
from whylens.core.inputs.signal import plot_signal
from whylens.core.inputs.view import BAND, View, bands_on_original, whole_view
from whylens.core.results import Array, Heatmap

Pixels = npt.NDArray[np.uint8]
Under = Literal["auto", "photo", "faded", "alone"]

FULL_COLOUR = 0.99  # quantile of a map's magnitudes that gets full colour
_FADED = 0.3  # of the grey photo; the rest is the colour of zero

# What a visitor reads -> cmap's names, for maps from zero up and for maps around zero.
_COLOURS = {
    "heat": ("matplotlib:inferno", "colorbrewer:RdBu_r"),
    "viridis": ("bids:viridis", "colorbrewer:PuOr_r"),
    "rainbow": ("google:turbo", "matplotlib:coolwarm"),
    "grey": ("colorbrewer:Greys_r", "colorbrewer:RdGy_r"),
}


@dataclass(frozen=True, slots=True)
class Style:
    """How a map is laid over the photo.

    Attributes:
        colormap: One of `colour_names()`.
        opacity: 0 shows the photo alone, 1 the colours alone.
        significant_only: Hide what does not differ from 0 at 95 %, in maps with a standard error.
        under: What lies under the map: "photo"; "faded", a grey photo faded towards the colour of
            zero, on which single pixels show; "alone", nothing, whatever the opacity; "auto":
            "faded" for maps that `is_pixelwise`, "photo" for all others.
    """

    colormap: str = "heat"
    opacity: float = 0.6
    significant_only: bool = False
    under: Under = "auto"

    def __post_init__(self) -> None:
        """Check the values that would else be drawn as something else.

        Raises:
            InvalidParameter: One is none of those above.
        """
        if self.under not in get_args(Under):
            raise InvalidParameter(
                f"Under a map lies one of {', '.join(get_args(Under))}; not {self.under!r}."
            )
        if not 0 <= self.opacity <= 1:
            raise InvalidParameter(f"An opacity lies in 0 to 1; {self.opacity} does not.")


@dataclass(frozen=True, slots=True)
class Scale:
    """Which raw values the ends of the colours stand for.

    Attributes:
        low: Raw value at the lower end; minus `high` for signed maps, else 0.
        high: Raw value at the upper end.
        unit: What the values are.
        largest: Largest magnitude on this scale, above `high` where colours end before it; None
            where it is not known.
    """

    low: float
    high: float
    unit: str
    largest: float | None = None


def scale_of(heatmap: Heatmap) -> Scale:
    """Return the colour scale of a map: zero stays zero, and signed maps are symmetric about it.

    Full colour begins at the 99th percentile of the magnitudes, so that a single place does not
    pale all others. The percentile is one of the map's own magnitudes, and no more than one place
    in a hundred exceeds it: maps of a hundred places or fewer, and constant ones, reach full colour
    at their largest value. So does a map whose percentile is 0, since hardly any place differs.
    """
    magnitudes = np.abs(heatmap.values)
    largest = float(magnitudes.max())
    high = float(np.quantile(magnitudes, FULL_COLOUR, method="higher")) or largest
    diverges = heatmap.signed or float(heatmap.values.min()) < 0
    return Scale(-high if diverges else 0.0, high, heatmap.unit, largest)


def scales_together(heatmaps: Sequence[Heatmap], *, same_values: bool = False) -> list[Scale]:
    """Return the scales of maps that are shown side by side.

    Args:
        same_values: One colour is one raw value in all maps of one unit, and where one of the maps
            has values below 0, zero is in the middle of the colours for all; else each map has a
            scale of its own.
    """
    own = [scale_of(heatmap) for heatmap in heatmaps]
    if not same_values:
        return own
    diverges = any(scale.low < 0 for scale in own)
    together = []
    for scale in own:
        same_unit_scales = [s for s in own if s.unit == scale.unit]
        high, largest = (
            max(getattr(s, end) for s in same_unit_scales) for end in ("high", "largest")
        )
        together.append(Scale(-high if diverges else 0.0, high, scale.unit, largest))
    return together


def scale_words(scale: Scale) -> str:
    """Return in one sentence what full colour stands for, and how far the values go beyond it."""
    if scale.largest is None or scale.largest <= scale.high:
        return f"Full colour is {scale.high:.4g}, the largest value."
    return (
        f"Full colour begins at {scale.high:.4g}, which no more than 1 place in 100 exceeds; "
        f"the largest value is {scale.largest:.4g}."
    )


def is_pixelwise(heatmap: Heatmap, view: View) -> bool:
    """Return whether a map says something of each pixel, as gradients do, and not of regions.

    It does where it has more than a quarter of the input's pixels along each side, and cells that
    are neighbours differ on average by more than half of the mean magnitude: of maps by gradients
    they differ by more than the whole, of occlusion, RISE or superpixels by less than a tenth.
    """
    values = np.asarray(heatmap.values, np.float64)
    rows, columns = values.shape
    if 4 * columns <= view.model[0] or 4 * rows <= view.model[1] or min(rows, columns) < 2:
        return False
    steps = [float(np.abs(np.diff(values, axis=axis)).mean()) for axis in (0, 1)]
    return sum(steps) / 2 > float(np.abs(values).mean()) / 2


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
    scale = scale or scale_of(heatmap)  # of the whole map, whatever is hidden
    visible = heatmap.significant() if style.significant_only else heatmap
    diverges = scale.low < 0
    under = style.under
    if under == "auto":
        under = "faded" if is_pixelwise(heatmap, view) else "photo"
    picture = Image.new("RGB", view.original)
    # Of a photo of 30 million pixels all at once would take gigabytes.
    for rows, values, inside in bands_on_original(np.asarray(visible.values), view):
        share = share_of(values, scale)
        pixels = colours = colour(share, style.colormap, diverges=diverges)
        if under != "alone":
            below, alpha = photo[rows], _alpha(share, style.opacity)
            if under == "faded":  # has the colour of zero already: faint parts bear more colour
                below, alpha = _fade(below, style.colormap, diverges=diverges), alpha**0.5
            weight = np.where(inside, alpha, 0).astype(np.float32)[..., None]
            blend = below * (1 - weight) + colours * weight
            pixels = np.clip(np.rint(blend), 0, 255).astype(np.uint8)
        _hatch(pixels, inside, rows.start, view.original)
        picture.paste(Image.fromarray(pixels), (0, rows.start))
    return picture


def _fade(photo: Pixels, colormap: str, *, diverges: bool) -> Pixels:
    zero = colour(np.zeros(1, np.float32), colormap, diverges=diverges)
    grey = np.asarray(Image.fromarray(photo).convert("L"))[..., None]
    faded: Pixels = np.rint(_FADED * grey + (1 - _FADED) * zero).astype(np.uint8)
    return faded


def _alpha(share: Array, opacity: float) -> Array:
    # Colour is laid on in proportion to magnitude, so that what lies behind stays readable where
    # the map says nothing; the root keeps the faint parts visible.
    alpha: Array = (opacity * np.abs(share) ** 0.6).astype(np.float32)
    return alpha


def share_of(values: Array, scale: Scale) -> Array:
    """Return values as shares of the scale's upper end, clipped to [-1, 1] or [0, 1]."""
    if scale.high <= 0:
        return np.zeros_like(values)
    low = -1.0 if scale.low < 0 else 0.0
    shares: Array = np.clip(values / np.float32(scale.high), low, 1.0)
    return shares


def colour(share: Array, name: str, *, diverges: bool) -> Pixels:
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


def hatch(picture: Image.Image, inside: npt.NDArray[np.bool_]) -> Image.Image:
    """Return the picture with diagonal lines, and faded, where the model saw nothing.

    Args:
        inside: (H, W), True where the model looked.
    """
    hatched, step = picture.copy(), max(1, BAND // picture.width)
    for top in range(0, picture.height, step):
        bottom = min(picture.height, top + step)
        pixels = np.array(picture.crop((0, top, picture.width, bottom)))
        _hatch(pixels, inside[top:bottom], top, picture.size)
        hatched.paste(Image.fromarray(pixels), (0, top))
    return hatched


def _hatch(pixels: Pixels, inside: npt.NDArray[np.bool_], top: int, size: tuple[int, int]) -> None:
    # In place, of the rows from `top` of a picture of this size.
    if inside.all():
        return
    rows, columns = np.ogrid[top : top + len(pixels), : pixels.shape[1]]
    period = max(8, round(min(size) / 32))
    line = (rows + columns) % period < max(1, period // 6)
    faded = (np.arange(256) * 0.35 + 255 * 0.65 * 0.82).astype(np.uint8)  # of each level
    pixels[~inside] = faded[pixels[~inside]]
    pixels[line & ~inside] = 96


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
    heat, photo = explanation.result, explanation.question.pixels
    if explanation.view is not None and photo is not None:
        return overlay(photo, heat, explanation.view, style, scale=scale)
    if heat.values.ndim in (2, 3):
        return _grey_overlay(heat, explanation.question.array, style, scale or scale_of(heat))
    signal = explanation.question.signal
    if signal is None:
        raise BadInput("A map with one axis can be drawn for a signal only.")
    return signal_plot(signal, heat, style, scale=scale)


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
    signal: Array, heat: Heatmap, style: Style, *, scale: Scale | None = None
) -> Image.Image:
    """Return a line plot of a signal whose background is coloured by the map.

    Args:
        signal: (C, L).
        heat: (l,) raw values.
        scale: Shared scale; by default the map's own.
    """
    scale = scale or scale_of(heat)
    heat = heat.significant() if style.significant_only else heat
    share = share_of(np.asarray(heat.values), scale)[None, :]
    colours = colour(share, style.colormap, diverges=scale.low < 0)
    weight = _alpha(share, style.opacity)[..., None]  # white where the map says nothing
    blend = 255 * (1 - weight) + colours * weight
    return plot_signal(signal, Image.fromarray(np.rint(blend).astype(np.uint8)), axes=True)
