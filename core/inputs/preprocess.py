"""From a photo or a signal to a network's input tensor, and the baselines it is compared to."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whylens.core.errors import BadInput
from whylens.core.inputs.framing import framed_spec, framed_view
from whylens.core.inputs.photo import Photo
from whylens.core.inputs.signal import fit_signal
from whylens.core.inputs.spec import InputSpec
from whylens.core.inputs.view import View, model_view
from whylens.core.results import Array

Fill = Literal["black", "grey", "mean", "blur"]


def photo_tensor(photo: Photo, input_spec: InputSpec) -> tuple[Tensor, View]:
    """Return (1, C, H, W) normalised input and the view through which it was taken.

    Args:
        input_spec: The network's input; 1 channel means luminance.

    Raises:
        BadInput: The network does not take images.
    """
    if len(input_spec.size) != 2 or input_spec.channels not in (1, 3):
        raise BadInput("This network does not take photos; choose another, or give it a signal.")
    view = framed_view(photo.size, input_spec, photo.framing)
    pixels = model_view(photo.image(), view, framed_spec(input_spec, photo.framing))
    if input_spec.channels == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    unit = torch.from_numpy(pixels.astype(np.float32) / 255.0).permute(2, 0, 1)[None]
    return normalize(unit, input_spec), view


def signal_tensor(signal: Array, input_spec: InputSpec) -> Tensor:
    """Return (1, C, *S) normalised input of a signal or a volume.

    Args:
        signal: (C, *S) or, for one channel, (*S,).

    Raises:
        BadInput: It holds no numbers, its shape is not what the network wants, or values are not
            finite.
    """
    try:
        array = np.asarray(signal, dtype=np.float32)
    except (TypeError, ValueError) as exc:
        raise BadInput(
            "The signal is not a table of numbers with rows of one length. Check the file."
        ) from exc
    if array.ndim == len(input_spec.size):
        array = array[None]
    if len(input_spec.size) == 1:
        array = fit_signal(array, input_spec.channels, input_spec.size[0])
    if array.shape != (input_spec.channels, *input_spec.size):
        remedy = "Cut or resample it."
        if len(input_spec.size) == 1 and (input_spec.channels, input_spec.size[0] + 1) in (
            array.shape,
            array.shape[::-1],
        ):
            remedy = "Its first or last value may be a class or a row's number: take that out."
        raise BadInput(
            f"The signal is {array.shape}; this network wants "
            f"{(input_spec.channels, *input_spec.size)}. {remedy}"
        )
    if not np.isfinite(array).all():
        raise BadInput("The signal holds NaN or infinite values; remove them.")
    return normalize(torch.from_numpy(array)[None], input_spec)


def normalize(unit: Tensor, input_spec: InputSpec) -> Tensor:
    """Return values of pixel space as the network wants them.

    Args:
        unit: (N, C, *S) in pixel space, [0, 1] for images.
    """
    return (unit - per_channel(input_spec.mean, unit)) / per_channel(input_spec.std, unit)


def denormalize(x: Tensor, input_spec: InputSpec) -> Tensor:
    """Return the inverse of `normalize`."""
    return x * per_channel(input_spec.std, x) + per_channel(input_spec.mean, x)


def baseline(x: Tensor, input_spec: InputSpec, fill: Fill) -> Tensor:
    """Return an input of the same shape that shows nothing, in the network's own units.

    Args:
        x: (1, C, *S) the input that shows something.
        fill: Defined in pixel space: "black" is 0, "grey" is 1/2, "mean" is this input's own mean
            colour, "blur" is this input without detail (a Gaussian of 1/10 of the shorter side).

    Raises:
        BadInput: There is no such fill.
    """
    unit = denormalize(x, input_spec)
    match fill:
        case "black":
            empty = torch.zeros_like(unit)
        case "grey":
            empty = torch.full_like(unit, 0.5)
        case "mean":
            empty = unit.flatten(2).mean(-1)[(...,) + (None,) * (unit.ndim - 2)].expand_as(unit)
        case "blur":
            empty = _blur(unit)
        case _:
            raise BadInput(f"A fill is black, grey, mean or blur, not {fill!r}.")
    return normalize(empty, input_spec)


def _blur(unit: Tensor) -> Tensor:
    # Separable, one axis at a time, so that signals and volumes blur by the same lines.
    radius = max(1.0, min(unit.shape[2:]) / 10)
    reach = int(3 * radius + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=unit.dtype, device=unit.device)
    kernel = torch.exp(-(offsets**2) / (2 * radius**2))
    kernel = (kernel / kernel.sum())[None, None]
    for axis in range(2, unit.ndim):
        last_axis_view = unit.movedim(axis, -1)
        rows = last_axis_view.reshape(-1, 1, last_axis_view.shape[-1])
        # Edges are continued: the image does not fade to black outside.
        padded = torch.nn.functional.pad(rows, (reach, reach), mode="replicate")
        blurred = torch.nn.functional.conv1d(padded, kernel)
        unit = blurred.reshape(last_axis_view.shape).movedim(-1, axis)
    return unit


def per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    """Return (1, C, 1, ...): one value per channel, shaped to meet (N, C, *S).

    Args:
        like: (N, C, *S) gives axes, kind and device.
    """
    column = torch.tensor(values, dtype=like.dtype, device=like.device)
    return column[(None, ...) + (None,) * (like.ndim - 2)]
