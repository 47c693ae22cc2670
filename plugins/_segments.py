"""A view cut into regions that people can name: superpixels, or stretches of a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab
from skimage.segmentation import slic
from torch import Tensor

from whylens import view_pixels

if TYPE_CHECKING:
    from whylens import Subject


Cut = Literal["superpixels", "boxes"]


MIN_BOX_PLACES = 4  # places of a box
_GRID = 64  # steps of a colour: Lab's units are as small as people can see


def segments(subject: Subject, count: int, kind: Cut = "superpixels") -> Tensor:
    """Return (*S) int64 labels 0 to n - 1, all of which occur; n is near `count`, at least 1.

    Superpixels are what SLIC makes of the picture that the network was shown, in colours as people
    see them; signals, volumes and pictures without such colours are cut into boxes in any case.

    Args:
        kind: "superpixels" follow what is seen, "boxes" are equal whatever is seen.
    """
    if kind == "superpixels" and len(subject.size) == 2 and subject.x.shape[1] in (1, 3):
        pixels = view_pixels(subject.x, subject.backbone.input_spec)
        return torch.from_numpy(superpixels(pixels, count))
    # A region of one value has nothing to be painted over with but itself.
    places = int(np.prod(subject.size))
    return boxes(subject.size, max(1, min(count, places // MIN_BOX_PLACES)))


def superpixels(pixels: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.int64]:
    """Return (H, W) labels 0 to n - 1 of near `count` superpixels (SLIC, compactness 20).

    Colours are converted and rounded before it: powers and roots differ in their last bits between
    processors, and those bits would choose between two centres that are equally near.

    Args:
        pixels: (H, W, 3) uint8.
    """
    low, high = int(pixels.min()), int(pixels.max())
    colours = rgb2lab((pixels.astype(np.float64) - low) / max(1, high - low))
    # Smoothing by a pixel keeps noise from tearing regions into crumbs, which SLIC then merges: a
    # picture of pure noise came out as one region.
    smooth = np.round(gaussian_filter(colours, (1, 1, 0)) * _GRID) / _GRID
    span = float(np.ptp(smooth)) or 1.0  # SLIC divides by it, and would change what 20 means
    raw = slic(smooth, n_segments=count, compactness=20 / span, convert2lab=False, start_label=0)
    # Labels as SLIC gives them may leave some out: a region that no feature stands for could never
    # light up.
    _, labels = np.unique(raw, return_inverse=True)
    return labels.reshape(raw.shape).astype(np.int64)


def boxes(size: tuple[int, ...], count: int) -> Tensor:
    """Return (*S) int64 labels of near `count` boxes, as close to cubes as the size allows."""
    pieces, small_first = [1] * len(size), list(np.argsort(size, kind="stable"))
    # Short axes first: what an axis is too short for goes to the longer ones.
    while small_first:
        side = (np.prod([size[axis] for axis in small_first]) / count) ** (1 / len(small_first))
        axis = small_first.pop(0)
        pieces[axis] = max(1, min(size[axis], round(size[axis] / side)))
        count = max(1, round(count / pieces[axis]))
    label = torch.zeros(size, dtype=torch.int64)
    for axis, (length, number) in enumerate(zip(size, pieces, strict=True)):
        along = torch.arange(length) * number // length
        label = label * number + along.view([-1 if a == axis else 1 for a in range(label.ndim)])
    return label


def segment_means(x: Tensor, labels: Tensor) -> Tensor:
    """Return (1, C, *S): `x` with every region painted in its own mean.

    Args:
        x: (1, C, *S).
        labels: (*S) int64, 0 to n - 1.
    """
    flat, index = x[0].flatten(1), labels.flatten().to(x.device)
    number = int(labels.max()) + 1
    sums = torch.zeros(len(flat), number, dtype=x.dtype, device=x.device).index_add(1, index, flat)
    means = sums / torch.bincount(index, minlength=number).clamp_min(1)
    return means[:, index].view_as(x)


def region_masks(presence: Tensor, labels: Tensor) -> Tensor:
    """Return (n, 1, *S) float masks that show the regions chosen.

    Args:
        presence: (n, regions) 1 where the region is shown, 0 where it is hidden.
        labels: (*S) int64.
    """
    return presence[:, labels.flatten()].view(len(presence), 1, *labels.shape).float()
