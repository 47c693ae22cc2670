"""What a network wants to be fed, as plain data that travels in manifests and between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from torch import Tensor

MOST_MEAN, MOST_STD = 1.0, 16.0  # of values in 0 to 1; beyond, they are of bytes
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "hamming", "box"]
CropMode = Literal["center", "squash", "border"]


class InputSpec(BaseModel):
    """How an image becomes the network's input.

    Attributes:
        size: Spatial size of the input, (height, width) for images, (length,) for signals.
        channels: Number of channels.
        mean: Mean per channel, of values in [0, 1].
        std: Standard deviation per channel, of values in [0, 1].
        crop: Share of the resized image that the crop keeps; a few networks pad with more than 1.
        crop_mode: "center" keeps the aspect and crops, "squash" stretches, "border" pads.
        interpolation: Filter of the resize.
        detail: Side in pixels of the pictures that the network learnt from, where they were smaller
            than its input; finer photos are blurred to as much, since it never saw finer ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[int, ...] = Field(min_length=1, max_length=3)
    channels: int = Field(3, ge=1, le=64)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop: float = Field(0.875, gt=0, le=2)
    crop_mode: CropMode = "center"
    interpolation: Interpolation = "bilinear"
    detail: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _channels_agree(self) -> InputSpec:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError("mean and std need one value per channel")
        if min(self.size) < 1 or min(self.std) <= 0:
            raise ValueError("sizes and standard deviations must be positive")
        photos = len(self.size) == 2 and self.channels in (1, 3)  # others come as they are
        if photos and (max(self.mean) > MOST_MEAN or max(self.std) > MOST_STD):
            fixed = [
                ", ".join(f"{v / 255 if max(values) > 1 else v:.4g}" for v in values)
                for values in (self.mean, self.std)
            ]
            raise ValueError(
                "mean and std are of values in 0 to 1, and these are of values in 0 to 255: divide "
                f"them by 255, mean {fixed[0]} and std {fixed[1]}"
            )
        return self


def probe_inputs(input_spec: InputSpec) -> Tensor:
    """Return (2, C, *S) seeded inputs with coarse and fine structure, to try a network out on."""
    import torch

    generator = torch.Generator().manual_seed(20)
    fine = torch.randn(
        2, input_spec.channels, *input_spec.size, generator=generator, dtype=torch.float32
    )
    coarse_size = [max(1, n // 16) for n in input_spec.size]
    coarse = torch.randn(
        2, input_spec.channels, *coarse_size, generator=generator, dtype=torch.float32
    )
    for axis, n in enumerate(input_spec.size):
        coarse = coarse.repeat_interleave(-(-n // coarse.shape[axis + 2]), dim=axis + 2)
        coarse = coarse.narrow(axis + 2, 0, n)
    return coarse + 0.5 * fine
