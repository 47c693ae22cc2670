"""What part of a photo the network sees, and the exact way back.

One convention everywhere: pixel i covers [i, i + 1), its centre is at i + 1/2; resizing is
Pillow's, whose filters widen when shrinking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from whylens.core.inputs.spec import InputSpec
from whylens.core.results import Array

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class View:
    """An axis-aligned affine map between a photo and the network's input.

    A point (x, y) of the photo lies at (x * scale_x - left, y * scale_y - top) of the input.

    Attributes:
        original: Width and height of the photo.
        model: Width and height of the network's input.
        scale_x: Input pixels per photo pixel.
        scale_y: Likewise, downwards.
        left: Input pixels of the resized photo cut off at the left; negative where it is padded.
        top: Likewise at the top.
    """

    original: tuple[int, int]
    model: tuple[int, int]
    scale_x: float
    scale_y: float
    left: float
    top: float

    @property
    def visible_box(self) -> Box:
        """The part of the photo that the network sees: x0, y0, x1, y1 in photo pixels."""
        return (
            max(0.0, self.left / self.scale_x),
            max(0.0, self.top / self.scale_y),
            min(float(self.original[0]), (self.left + self.model[0]) / self.scale_x),
            min(float(self.original[1]), (self.top + self.model[1]) / self.scale_y),
        )

    @property
    def whole_size(self) -> tuple[int, int]:
        """Width and height of the whole photo in input pixels, before it is cut or padded."""
        return round(self.original[0] * self.scale_x), round(self.original[1] * self.scale_y)

    def to_model(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the photo lies in the input."""
        return x * self.scale_x - self.left, y * self.scale_y - self.top

    def to_original(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the input lies in the photo."""
        return (x + self.left) / self.scale_x, (y + self.top) / self.scale_y

    def for_original(self, width: int, height: int) -> View:
        """Return the same view of a photo that was resized.

        Args:
            width: Of the resized photo, in pixels, as is the height.
        """
        return replace(
            self,
            original=(width, height),
            scale_x=self.scale_x * self.original[0] / width,
            scale_y=self.scale_y * self.original[1] / height,
        )

    def for_crop(self, left: int, top: int, width: int, height: int) -> View:
        """Return the same view of a part of the photo, given in photo pixels."""
        return replace(
            self,
            original=(width, height),
            left=self.left - left * self.scale_x,
            top=self.top - top * self.scale_y,
        )

    def as_dict(self) -> dict[str, object]:
        """Return the plain numbers, for manifests."""
        return asdict(self)

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> View:
        """Return the view of the plain numbers, as JSON holds them."""
        return cls(**{**numbers, **{key: tuple(numbers[key]) for key in ("original", "model")}})


def view_of(size: tuple[int, int], input_spec: InputSpec) -> View:
    """Return how a photo of `size` reaches a network that wants `input_spec`."""
    width, height = size
    tall, wide = input_spec.size
    target = [int(np.floor(n / input_spec.crop)) for n in (tall, wide)]
    if input_spec.crop_mode == "squash":
        new_w, new_h = target[1], target[0]
    elif input_spec.crop_mode == "center" and target[0] == target[1]:
        # torchvision: the shorter side becomes the target, the longer is cut to an integer.
        short = target[0]
        new_w, new_h = (
            (short, int(short * height / width))
            if width <= height
            else (int(short * width / height), short)
        )
    else:
        ratios = height / target[0], width / target[1]
        ratio = max(ratios) if input_spec.crop_mode == "border" else min(ratios)
        new_h, new_w = (max(1, round(n / ratio)) for n in (height, width))
    new_w, new_h = max(1, new_w), max(1, new_h)
    return View(
        original=size,
        model=(wide, tall),
        scale_x=new_w / width,
        scale_y=new_h / height,
        left=offset(new_w, wide),
        top=offset(new_h, tall),
    )


def whole_view(width: int, height: int) -> View:
    """Return the view of an input that reaches the network as it is."""
    return View((width, height), (width, height), 1.0, 1.0, 0.0, 0.0)


def offset(resized: int, target_size: int) -> float:
    """Return how many pixels are cut off before the middle, as torchvision rounds them.

    Args:
        resized: Length before cutting, in pixels.
        target_size: Length to be seen; where it is the larger, the result is negative.
    """
    if resized >= target_size:
        return float(round((resized - target_size) / 2.0))
    return float(-((target_size - resized) // 2))


_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "hamming": Image.Resampling.HAMMING,
    "box": Image.Resampling.BOX,
}


# Pixels of the whole resized photo up to which it is made; beyond, only the part that is seen is.
_WHOLE = 1 << 22
BAND = 1 << 20  # pixels of a map written at a time, so that no second copy of it is held


def _resize(image: Image.Image, view: View, filter_: Image.Resampling) -> Image.Image:
    # Resized whole, then cut, as torchvision and timm do: filters with edges (box, nearest) then
    # choose between equally near pixels as theirs do.
    full, offsets, end = list(view.whole_size), [0, 0], [0, 0]
    region = [0.0, 0.0, *map(float, image.size)]
    for axis, offset in enumerate((view.left, view.top)):
        offsets[axis] = max(0, round(offset))
        end[axis] = min(full[axis], offsets[axis] + view.model[axis])
    if full[0] * full[1] > _WHOLE:
        # 8 x 5000 pixels would become 256 x 160000: along the longer axis only what the filter
        # reads is resized. Pillow keeps the region in single precision, hence counted from nearby.
        axis = int(full[1] > full[0])
        scale = full[axis] / image.size[axis]
        first, last = offsets[axis] / scale, end[axis] / scale
        reach = int(np.ceil(3 / min(1.0, scale))) + 1
        near, far = max(0, int(first) - reach), min(image.size[axis], int(np.ceil(last)) + reach)
        strip = [0, 0, *image.size]
        strip[axis], strip[axis + 2] = near, far
        image = image.crop((strip[0], strip[1], strip[2], strip[3]))
        region[axis], region[axis + 2] = first - near, min(last - near, float(image.size[axis]))
        length = end[axis] - offsets[axis]
        full[axis], offsets[axis], end[axis] = length, 0, length
    box = (region[0], region[1], region[2], region[3])
    whole = image.resize((full[0], full[1]), filter_, box)
    return whole.crop((offsets[0], offsets[1], end[0], end[1]))


def _coarse(piece: Image.Image, view: View, detail: int, filter_: Image.Resampling) -> Image.Image:
    x0, y0, x1, y1 = view.visible_box
    share = detail / min(view.model)
    if share >= 1 or min(x1 - x0, y1 - y0) <= detail:
        return piece  # no finer than that as it is
    width, height = (max(1, round(share * side)) for side in piece.size)
    return piece.resize((width, height), Image.Resampling.BOX).resize(piece.size, filter_)


def model_view(image: Image.Image, view: View, input_spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Return (H, W, 3) uint8: what the network sees, before normalisation."""
    left, top = max(0, round(-view.left)), max(0, round(-view.top))
    piece = _resize(image, view, _FILTERS[input_spec.interpolation])
    if input_spec.detail is not None:
        piece = _coarse(piece, view, input_spec.detail, _FILTERS[input_spec.interpolation])
    if piece.size == view.model:
        return np.asarray(piece)
    # Padding is black in torchvision's crop, the mean colour in timm's border.
    border = input_spec.crop_mode == "border"
    fill = tuple(round(255 * m) if border else 0 for m in (input_spec.mean * 3)[:3])
    canvas = Image.new("RGB", view.model, fill)
    canvas.paste(piece, (left, top))
    return np.asarray(canvas)


def on_original(values: Array, view: View) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return a map on the whole photo, and where the network saw anything at all.

    What is only looked at piece by piece is had from `bands_on_original`, in less memory.

    Args:
        values: (h, w) of any resolution; its cells share the model's view equally.

    Returns:
        (H, W) float32 values, 0 where unseen, and (H, W) bool, True where the pixel's centre was
        seen.
    """
    width, height = view.original
    whole = np.empty((height, width), dtype=np.float32)
    inside = np.empty((height, width), dtype=np.bool_)
    for rows, piece, is_visible in bands_on_original(values, view):
        whole[rows], inside[rows] = piece, is_visible
    return whole, inside


def bands_on_original(
    values: Array, view: View
) -> Iterator[tuple[slice, Array, npt.NDArray[np.bool_]]]:
    """Yield rows of the photo from top to bottom, and what `on_original` returns of them.

    Args:
        values: (h, w) of any resolution; its cells share the model's view equally.
    """
    rows, columns = values.shape
    width, height = view.original
    x0, y0, x1, y1 = view.visible_box
    first_x, last_x = int(np.ceil(x0 - 0.5)), int(np.ceil(x1 - 0.5))
    first_y, last_y = int(np.ceil(y0 - 0.5)), int(np.ceil(y1 - 0.5))
    if first_x >= last_x:  # the view lies between two pixels' centres
        first_y = last_y = height
    # A seen pixel's outer edge may lie beyond the map by half a pixel of the photo, for which the
    # map is continued at its edge.
    cells_x, cells_y = columns / view.model[0], rows / view.model[1]
    pad_x = int(np.ceil(view.scale_x * cells_x)) + 1
    pad_y = int(np.ceil(view.scale_y * cells_y)) + 1
    padded = Image.fromarray(
        np.pad(values.astype(np.float32), ((pad_y, pad_y), (pad_x, pad_x)), mode="edge")
    )

    def in_map(x: int, y: int) -> tuple[float, float]:
        across, down = view.to_model(x, y)
        return across * cells_x + pad_x, down * cells_y + pad_y

    step = max(1, BAND // width)
    for start, end, seen in ((0, first_y, False), (first_y, last_y, True), (last_y, height, False)):
        for top in range(start, end, step):
            bottom = min(end, top + step)
            whole = np.zeros((bottom - top, width), dtype=np.float32)
            inside = np.zeros((bottom - top, width), dtype=np.bool_)
            if seen:
                piece = padded.resize(
                    (last_x - first_x, bottom - top),
                    Image.Resampling.BILINEAR,
                    (*in_map(first_x, top), *in_map(last_x, bottom)),
                )
                whole[:, first_x:last_x] = np.asarray(piece)
                inside[:, first_x:last_x] = True
            yield slice(top, bottom), whole, inside


def shrunk(pixels: npt.NDArray[np.uint8], longest: int) -> npt.NDArray[np.uint8]:
    """Return a picture whose longer side is `longest` pixels at most.

    Args:
        pixels: (H, W, 3) uint8; one that is small enough comes back as it is.
        longest: In pixels.
    """
    height, width = pixels.shape[:2]
    if max(height, width) <= longest:
        return pixels
    share = longest / max(width, height)
    size = max(1, round(width * share)), max(1, round(height * share))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
