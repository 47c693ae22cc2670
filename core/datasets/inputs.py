"""From pictures of a set to batches that a network eats, and to small pictures worth keeping.

May touch torch, Pillow and the preprocessing of photos.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from core.datasets.dataset import Dataset, Pixels
from core.images import photo_of
from core.models.spec import InputSpec
from core.preprocess import photo_tensor, pixel_space


def inputs_of(
    dataset: Dataset, indices: Sequence[int], spec: InputSpec, *, batch: int = 32
) -> Iterator[tuple[Sequence[int], Tensor]]:
    """Yield (positions, (n, C, H, W) inputs) for pictures, as the network sees visitors' photos.

    Args:
        dataset: Where the pictures are.
        indices: Positions in it.
        spec: The network's input.
        batch: Largest n.
    """
    for start in range(0, len(indices), batch):
        piece = indices[start : start + batch]
        tensors = [photo_tensor(photo_of(dataset.pixels(i)), spec)[0] for i in piece]
        yield piece, torch.cat(tensors)


def view_pixels(x: Tensor, spec: InputSpec) -> Pixels:
    """Return (H, W, 3) uint8: what a network is shown, as a person would see it.

    Args:
        x: (1, C, H, W) normalised input with 1 or 3 channels.
        spec: The network's input.
    """
    unit = pixel_space(x, spec)[0].clamp(0, 1)
    pixels = (unit * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def packed_pictures(
    pictures: Sequence[Pixels], *, quality: int = 88
) -> dict[str, npt.NDArray[Any]]:
    """Return pictures as two arrays, "jpeg" bytes and "jpeg_ends", fit for an artifact.

    Args:
        pictures: (H, W, 3) uint8 each.
        quality: Of the JPEG.
    """
    pieces = []
    for pixels in pictures:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
        pieces.append(np.frombuffer(buffer.getvalue(), np.uint8))
    ends = np.cumsum([len(p) for p in pieces], dtype=np.int64)
    return {"jpeg": np.concatenate(pieces) if pieces else np.zeros(0, np.uint8), "jpeg_ends": ends}


def pictures_of(arrays: Mapping[str, npt.NDArray[Any]], indices: Sequence[int]) -> list[Pixels]:
    """Return (H, W, 3) uint8 pictures that `packed_pictures` packed.

    Args:
        arrays: Holding "jpeg" and "jpeg_ends".
        indices: Which pictures.
    """
    ends = arrays["jpeg_ends"]
    found = []
    for i in indices:
        begin = int(ends[i - 1]) if i else 0
        data = bytes(arrays["jpeg"][begin : int(ends[i])])
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            found.append(np.asarray(image.convert("RGB")))
    return found


def inputs_from(pixels: Pixels, spec: InputSpec) -> Tensor:
    """Return (1, C, H, W): one picture as the network sees it.

    Args:
        pixels: (H, W, 3) uint8.
        spec: The network's input.
    """
    return photo_tensor(photo_of(pixels), spec)[0]
