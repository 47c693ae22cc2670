"""From pictures of a set to batches that a network eats, and to small pictures worth keeping."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from whylens.core.datasets.dataset import Dataset, Pixels, Signal
from whylens.core.inputs.photo import photo_of
from whylens.core.inputs.preprocess import denormalize, photo_tensor, signal_tensor
from whylens.core.inputs.signal import plot_signal
from whylens.core.inputs.spec import InputSpec

_PLOT_SIZE = (400, 240)  # width and height of a signal's picture


def iter_tensors(
    dataset: Dataset, indices: Sequence[int], input_spec: InputSpec, *, batch: int = 32
) -> Iterator[tuple[Sequence[int], Tensor]]:
    """Yield (positions, (n, C, *S) inputs) of pictures or signals, seen as visitors' are."""
    for start in range(0, len(indices), batch):
        piece = indices[start : start + batch]
        yield piece, torch.cat([_input(dataset, i, input_spec) for i in piece])


def _input(dataset: Dataset, index: int, input_spec: InputSpec) -> Tensor:
    if len(input_spec.size) == 1:
        return signal_tensor(dataset.signal(index), input_spec)
    return to_tensor(dataset.pixels(index), input_spec)


def view_pixels(x: Tensor, input_spec: InputSpec) -> Pixels:
    """Return (H, W, 3) uint8: what a network is shown, as a person would see it.

    Args:
        x: (1, C, H, W) normalised input with 1 or 3 channels, or (1, C, L) of a signal, which
            is drawn as lines.
    """
    if x.ndim == 3:
        return _plot(denormalize(x, input_spec)[0].cpu().numpy())
    unit = denormalize(x, input_spec)[0].clamp(0, 1)
    pixels = (unit * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _plot(signal: Signal) -> Pixels:
    return np.asarray(plot_signal(signal, size=_PLOT_SIZE))


def encode_views(views: Sequence[Tensor], input_spec: InputSpec) -> dict[str, npt.NDArray[Any]]:
    """Return what a network was shown as arrays fit for an artifact.

    Pictures become "jpeg" and "jpeg_ends"; "signals", (N, C, L) float32, stay as they were given.

    Args:
        views: (1, C, *S) normalised inputs.
    """
    if len(input_spec.size) == 1:
        rows = [denormalize(x, input_spec)[0].cpu().numpy() for x in views]
        return {"signals": np.stack(rows).astype(np.float32)}
    return encode_images([view_pixels(x, input_spec) for x in views])


def concat_views(packs: Sequence[Mapping[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of all that several calls of `encode_views` packed, in order.

    Args:
        packs: What they returned; at least one.
    """
    joined = {key: np.concatenate([pack[key] for pack in packs]) for key in packs[0]}
    if "jpeg" in joined:
        sizes = [np.diff(pack["jpeg_ends"], prepend=0) for pack in packs]
        joined["jpeg_ends"] = np.cumsum(np.concatenate(sizes), dtype=np.int64)
    return joined


def encode_images(pictures: Sequence[Pixels], *, quality: int = 88) -> dict[str, npt.NDArray[Any]]:
    """Return pictures as two arrays, "jpeg" bytes and "jpeg_ends", fit for an artifact.

    Args:
        pictures: (H, W, 3) uint8 each.
    """
    pieces = []
    for pixels in pictures:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
        pieces.append(np.frombuffer(buffer.getvalue(), np.uint8))
    ends = np.cumsum([len(p) for p in pieces], dtype=np.int64)
    return {"jpeg": np.concatenate(pieces) if pieces else np.zeros(0, np.uint8), "jpeg_ends": ends}


def decode_images(arrays: Mapping[str, npt.NDArray[Any]], indices: Sequence[int]) -> list[Pixels]:
    """Return (H, W, 3) uint8 pictures of what `encode_views` packed; signals are drawn as lines.

    Args:
        arrays: Holding "jpeg" and "jpeg_ends", or "signals".
    """
    if "signals" in arrays:
        return [_plot(arrays["signals"][i]) for i in indices]
    ends = arrays["jpeg_ends"]
    images = []
    for i in indices:
        begin = int(ends[i - 1]) if i else 0
        data = bytes(arrays["jpeg"][begin : int(ends[i])])
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            images.append(np.asarray(image.convert("RGB")))
    return images


def decode_tensor(
    arrays: Mapping[str, npt.NDArray[Any]], index: int, input_spec: InputSpec
) -> Tensor:
    """Return (1, C, *S): what `encode_views` packed, as the network sees it.

    Args:
        arrays: Holding "jpeg" and "jpeg_ends", or "signals".
    """
    if "signals" in arrays:
        return signal_tensor(np.array(arrays["signals"][index]), input_spec)
    return to_tensor(decode_images(arrays, [index])[0], input_spec)


def to_tensor(pixels: Pixels, input_spec: InputSpec) -> Tensor:
    """Return (1, C, H, W): one picture as the network sees it.

    Args:
        pixels: (H, W, 3) uint8.
    """
    return photo_tensor(photo_of(pixels), input_spec)[0]
