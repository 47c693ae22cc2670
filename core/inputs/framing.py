"""What part of a photo a network is shown: its own crop, the whole photo, or a chosen part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from whylens.core.errors import BadInput, quote
from whylens.core.inputs.spec import InputSpec
from whylens.core.inputs.view import View, offset, view_of

# A part is left, top, right and bottom, each as a share of the photo's width or height.
Part = tuple[float, float, float, float]
Framing = Literal["network", "whole"] | Part
NETWORK: Final = "network"
WHOLE: Final = "whole"
LEAST_SHARE = 0.02  # of the photo's width and height, that a part has


def parse_framing(value: str | Sequence[float] | None) -> Framing:
    """Return the framing that a word or four numbers name; of nothing, the network's own crop.

    Args:
        value: "network", "whole", or left, top, right and bottom in shares of the photo: as numbers
            or as text with commas.

    Raises:
        BadInput: It is none of these, or no part of a photo.
    """
    if value is None or value in ("", NETWORK):
        return NETWORK
    if value == WHOLE:
        return WHOLE
    numbers = value.split(",") if isinstance(value, str) else value
    try:
        left, top, right, bottom = (float(number) for number in numbers)
    except (TypeError, ValueError) as exc:
        raise BadInput(
            f"A framing is network, whole, or four shares such as 0.1,0,0.6,0.5, not "
            f"{quote(str(value))}."
        ) from exc
    wide_enough = right - left >= LEAST_SHARE and bottom - top >= LEAST_SHARE
    if not (wide_enough and min(left, top) >= 0 and max(right, bottom) <= 1):
        raise BadInput(
            f"{quote(str(value))} is no part of a photo: left,top,right,bottom lie in 0 to 1, the "
            "first two before the last two."
        )
    return left, top, right, bottom


def framing_text(framing: Framing) -> str:
    """Return what `parse_framing` reads back."""
    return framing if isinstance(framing, str) else ",".join(f"{share:.4g}" for share in framing)


def framed_spec(input_spec: InputSpec, framing: Framing) -> InputSpec:
    """Return the input as it is for a framing; a photo that is shown whole is fitted inside."""
    if framing == WHOLE:
        return input_spec.model_copy(update={"crop_mode": "border", "crop": 1.0})
    return input_spec


def framed_view(size: tuple[int, int], input_spec: InputSpec, framing: Framing) -> View:
    """Return how a photo of `size` reaches a network.

    Of a part that has not the shape of the network's input, the middle that has is shown.

    Args:
        size: Width and height in pixels.
    """
    if isinstance(framing, str):
        return view_of(size, framed_spec(input_spec, framing))
    tall, wide = input_spec.size
    left, top, right, bottom = (share * size[i % 2] for i, share in enumerate(framing))
    scale = max(wide / (right - left), tall / (bottom - top))
    full = tuple(max(1, round(side * scale)) for side in size)
    axis_crops = (
        ((left + right) / 2 * full[0] / size[0], full[0], wide),
        ((top + bottom) / 2 * full[1] / size[1], full[1], tall),
    )
    return View(
        original=size,
        model=(wide, tall),
        scale_x=full[0] / size[0],
        scale_y=full[1] / size[1],
        left=_start(*axis_crops[0]),
        top=_start(*axis_crops[1]),
    )


def _start(middle: float, resized: int, length: int) -> float:
    if resized <= length:
        return offset(resized, length)
    return float(min(max(0, round(middle - length / 2)), resized - length))
