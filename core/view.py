"""What part of a photo the network sees, and the exact way back.

May touch Pillow, numpy and the input spec. One convention everywhere: pixel i covers [i, i + 1),
its centre is at i + 1/2; resizing is Pillow's, whose filters widen when shrinking.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from core.models.spec import InputSpec
from core.results import Array

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
    def seen(self) -> Box:
        """The part of the photo that the network sees: x0, y0, x1, y1 in photo pixels."""
        return (
            max(0.0, self.left / self.scale_x),
            max(0.0, self.top / self.scale_y),
            min(float(self.original[0]), (self.left + self.model[0]) / self.scale_x),
            min(float(self.original[1]), (self.top + self.model[1]) / self.scale_y),
        )

    def to_model(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the photo lies in the input."""
        return x * self.scale_x - self.left, y * self.scale_y - self.top

    def to_original(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the input lies in the photo."""
        return (x + self.left) / self.scale_x, (y + self.top) / self.scale_y

    def as_dict(self) -> dict[str, object]:
        """Return the plain numbers, for manifests."""
        return asdict(self)


def view_of(size: tuple[int, int], spec: InputSpec) -> View:
    """Return how a photo of `size` reaches a network that wants `spec`.

    Args:
        size: Width and height of the photo.
        spec: The network's input; its rounding of sizes is that of torchvision and timm.
    """
    width, height = size
    tall, wide = spec.size
    target = [int(np.floor(n / spec.crop)) for n in (tall, wide)]
    if spec.crop_mode == "squash":
        new_w, new_h = target[1], target[0]
    elif spec.crop_mode == "center" and target[0] == target[1]:
        # torchvision: the shorter side becomes the target, the longer is cut to an integer.
        short = target[0]
        new_w, new_h = (
            (short, int(short * height / width))
            if width <= height
            else (int(short * width / height), short)
        )
    else:
        ratios = height / target[0], width / target[1]
        ratio = max(ratios) if spec.crop_mode == "border" else min(ratios)
        new_h, new_w = (max(1, round(n / ratio)) for n in (height, width))
    new_w, new_h = max(1, new_w), max(1, new_h)
    return View(
        original=size,
        model=(wide, tall),
        scale_x=new_w / width,
        scale_y=new_h / height,
        left=_offset(new_w, wide),
        top=_offset(new_h, tall),
    )


def _offset(resized: int, wanted: int) -> float:
    if resized >= wanted:
        return float(round((resized - wanted) / 2.0))
    return float(-((wanted - resized) // 2))


_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "hamming": Image.Resampling.HAMMING,
    "box": Image.Resampling.BOX,
}


def model_view(image: Image.Image, view: View, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Return (H, W, 3) uint8: what the network sees, before normalisation.

    Only the part that is seen is resized, so a very long photo costs no more than a square one;
    Pillow's filters read beyond the box, so this equals resizing all of it and cropping.

    Args:
        image: The photo, RGB.
        view: Made for its size.
        spec: The network's input.
    """
    x0, y0, x1, y1 = view.seen
    left, top = (round(v) for v in view.to_model(x0, y0))
    right, bottom = (round(v) for v in view.to_model(x1, y1))
    piece = image.resize(
        (right - left, bottom - top), _FILTERS[spec.interpolation], (x0, y0, x1, y1)
    )
    if piece.size == view.model:
        return np.asarray(piece)
    fill = tuple(round(255 * m) for m in spec.mean)
    canvas = Image.new("RGB", view.model, fill)
    canvas.paste(piece, (left, top))
    return np.asarray(canvas)


def on_original(values: Array, view: View) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return a map on the whole photo, and where the network saw anything at all.

    Args:
        values: (h, w) of any resolution; its cells share the model's view equally.
        view: The way back.

    Returns:
        (H, W) float32 values, 0 where unseen, and (H, W) bool, True where seen.
    """
    rows, columns = values.shape
    width, height = view.original
    x0, y0, x1, y1 = view.seen
    # Photo pixels that the seen part touches; their outer edges may lie beyond the map by less
    # than a pixel, for which the map is continued at its edge.
    first_x, first_y = int(np.floor(x0)), int(np.floor(y0))
    last_x, last_y = int(np.ceil(x1)), int(np.ceil(y1))
    cells_x, cells_y = columns / view.model[0], rows / view.model[1]
    pad_x, pad_y = (
        int(np.ceil(view.scale_x * cells_x)) + 1,
        int(np.ceil(view.scale_y * cells_y)) + 1,
    )
    padded = np.pad(values, ((pad_y, pad_y), (pad_x, pad_x)), mode="edge")
    left, top = view.to_model(first_x, first_y)
    right, bottom = view.to_model(last_x, last_y)
    box = (
        left * cells_x + pad_x,
        top * cells_y + pad_y,
        right * cells_x + pad_x,
        bottom * cells_y + pad_y,
    )
    size = (last_x - first_x, last_y - first_y)
    piece = Image.fromarray(padded.astype(np.float32)).resize(size, Image.Resampling.BILINEAR, box)
    whole = np.zeros((height, width), dtype=np.float32)
    whole[first_y:last_y, first_x:last_x] = np.asarray(piece)
    centre_x, centre_y = np.arange(width) + 0.5, np.arange(height) + 0.5
    seen = ((centre_y >= y0) & (centre_y < y1))[:, None] & ((centre_x >= x0) & (centre_x < x1))
    whole[~seen] = 0
    return whole, seen
