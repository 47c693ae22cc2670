"""Networks whose every score is known in closed form.

Cells are of 8 pixels; the usual input is 32 by 48, so that the grid is 4 by 6: not square, and
coarse enough to be quick.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from whylens.core.conformance.toy_inputs import CELL, GRID, SIZE, Cell
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.models.random_weights import randomize_weights

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")

LABELS = ("ant", "bee", "cat")
CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOLS: dict[int, Any] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


def plain_spec(*size: int, channels: int = 3, crop: float = 1.0, mode: str = "center") -> InputSpec:
    """Return an input without normalisation.

    Args:
        size: Spatial size; by default that of the tests.
    """
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    return InputSpec.model_validate(
        {
            "size": size or SIZE,
            "channels": channels,
            "mean": zeros,
            "std": ones,
            "crop": crop,
            "crop_mode": mode,
        }
    )


def tinted_spec() -> InputSpec:
    """Return an input that is normalised, as a trained network's is."""
    return InputSpec(size=SIZE, mean=(0.4, 0.5, 0.3), std=(0.25, 0.2, 0.3), crop=1.0)


class WeighedLight(nn.Module):
    """The score is the light of each cell times that cell's weight, summed.

    The feature map has two channels: what speaks for class 0, and what speaks against it.
    """

    def __init__(self, weights: Tensor, gain: float = 20.0) -> None:
        super().__init__()
        self.axes = weights.ndim
        both = torch.stack([weights.clamp_min(0), (-weights).clamp_min(0)])[None]
        self.weights = nn.Parameter(both)
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            scale = gain * weights.numel()
            self.fc.weight.copy_(scale * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))

    def features(self, x: Tensor) -> Tensor:
        """Return the feature map of (N, C, *S) inputs."""
        light = POOLS[self.axes](x, CELL).mean(1, keepdim=True)
        weighed: Tensor = light * self.weights
        return weighed

    def head(self, f: Tensor) -> Tensor:
        """Return (N, C) scores of a feature map."""
        scores: Tensor = self.fc(f.flatten(2).mean(-1))
        return scores

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) scores."""
        return self.head(self.features(x))


class ReadLight(WeighedLight):
    """The score is the light in some cells alone; the rest of the picture is another channel."""

    def __init__(self, weights: Tensor, gain: float = 20.0) -> None:
        super().__init__(weights, gain)
        with torch.no_grad():
            self.weights.copy_(torch.stack([weights, 1 - weights])[None])
            self.fc.weight[:, 1] = 0


def cell_reader(cells: tuple[Cell, ...], input_spec: InputSpec, gain: float = 20.0) -> Backbone:
    """Return a network whose class 0 scores the light in some cells, and nothing else.

    Args:
        gain: Score per unit of light.
    """
    weights = torch.zeros([n // CELL for n in input_spec.size])
    for cell in cells:
        weights[cell] = 1
    return wrap(ReadLight(weights, gain).eval(), input_spec=input_spec)


def gradient_reader() -> tuple[Backbone, Tensor]:
    """Return a network that weighs light by a slope across the picture, and the (4, 6) weights."""
    rows, columns = torch.linspace(-0.6, 0.6, GRID[0]), torch.linspace(-1, 1, GRID[1])
    weights = 0.3 + rows[:, None] + columns[None]  # not 0 on the whole: a change to share out
    return wrap(WeighedLight(weights).eval(), input_spec=plain_spec()), weights


class LinearNet(nn.Module):
    """Scores that are linear in the input; it has no feature map."""

    def __init__(self, classes: int = 3, size: tuple[int, ...] = SIZE) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * math.prod(size), classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) scores."""
        scores: Tensor = self.fc(x.flatten(1))
        return scores


class PatchNet(nn.Module):
    """A convolution that cuts patches, ReLU, mean over places, linear; in any layout.

    Places do not see each other, so that moving the picture by a patch moves the features.
    """

    def __init__(
        self,
        *,
        axes: int = 2,
        channels: int = 3,
        width: int = 6,
        classes: int = 3,
        layout: str = "channels first",
        prefix: int = 0,
        in_place: bool = False,
    ) -> None:
        super().__init__()
        self.layout = layout
        if layout == "channels last":
            self.output_fmt = "NHWC"
        if layout == "tokens":
            self.num_prefix_tokens = prefix
        self.conv = CONVOLUTIONS[axes](channels, width, CELL, stride=CELL)
        self.act = nn.ReLU(inplace=in_place)
        self.fc = nn.Linear(width, classes)
        # A buffer: networks of one seed then agree in all the rest, whatever their layout.
        self.register_buffer("extra", torch.full((1, prefix, width), 0.5))

    def features(self, x: Tensor) -> Tensor:
        """Return the feature map of (N, C, *S) inputs."""
        maps: Tensor = self.act(self.conv(x))
        if self.layout == "channels last":
            return maps.movedim(1, -1)
        if self.layout == "tokens":
            tokens = maps.flatten(2).transpose(1, 2)
            extra: Tensor = self.get_buffer("extra")
            return torch.cat([extra.expand(len(x), -1, -1), tokens], 1)
        return maps

    def head(self, f: Tensor) -> Tensor:
        """Return (N, C) scores of a feature map."""
        if self.layout == "tokens":
            pooled = f[:, self.num_prefix_tokens :].mean(1)
        else:
            places = range(1, f.ndim - 1) if self.layout == "channels last" else range(2, f.ndim)
            pooled = f.mean(tuple(places))
        scores: Tensor = self.fc(pooled)
        return scores

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) scores."""
        return self.head(self.features(x))


def randomise(module: nn.Module, seed: int = 3) -> nn.Module:
    """Return a network with seeded random weights, its classes as far apart as a trained one's.

    Args:
        module: One whose last layer is `fc`.
    """
    module = randomize_weights(module, seed=seed).eval()
    with torch.no_grad():
        module.get_parameter("fc.weight").mul_(20)
    return module


def patches(seed: int = 3, **changes: Any) -> Backbone:
    """Return a seeded `PatchNet(**changes)` for normalised pictures, as a backbone."""
    module = randomise(PatchNet(**changes), seed)
    labels = LABELS if changes.get("classes", 3) == 3 else ()
    return wrap(module, input_spec=tinted_spec(), labels=labels)


class MlpHeadNet(PatchNet):
    """Patches that overlap, under a head that is not linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, CELL + 4, stride=CELL, padding=2)
        self.hidden = nn.Linear(6, 6)

    def head(self, f: Tensor) -> Tensor:
        """Return (N, C) scores of a feature map."""
        scores: Tensor = self.fc(functional.gelu(self.hidden(f.mean((2, 3)))))
        return scores


def mlp_head(seed: int = 3) -> Backbone:
    """Return a seeded `MlpHeadNet` for normalised pictures, as a backbone."""
    return wrap(randomise(MlpHeadNet(), seed), input_spec=tinted_spec(), labels=LABELS)


def signal_patches(seed: int = 3) -> Backbone:
    """Return a seeded `PatchNet` for normalised signals of two channels, as a backbone."""
    input_spec = InputSpec(size=(64,), channels=2, mean=(0.1, 0.2), std=(1.5, 0.5), crop=1.0)
    module = randomise(PatchNet(axes=1, channels=2, width=12), seed)
    return wrap(module, input_spec=input_spec, labels=LABELS)


def dead_network() -> Backbone:
    """Return a network that no photo can wake: its features are zero wherever light is below 1.2.

    The probes of a backbone, which are no photos, find it alive.
    """
    module = randomise(PatchNet())
    weight, bias = module.get_parameter("conv.weight"), module.get_parameter("conv.bias")
    with torch.no_grad():
        weight.zero_()
        for channel, filters in enumerate(weight):
            filters[channel % 3] = 1 / filters[0].numel()
        bias.fill_(-1.2)
    return wrap(module, input_spec=plain_spec(), labels=LABELS)


def tiny_vit(seed: int = 3, *, registers: int = 0) -> Backbone:
    """Return a small vision transformer: 4 x 6 patches behind a class token and registers.

    Args:
        registers: More tokens without a place.
    """
    import timm

    module = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        img_size=SIZE,
        patch_size=CELL,
        embed_dim=16,
        depth=2,
        num_heads=2,
        num_classes=3,
        reg_tokens=registers,
    )
    randomize_weights(module, seed=seed).eval()
    with torch.no_grad():
        module.head.weight *= 20
    return wrap(module, input_spec=tinted_spec(), labels=LABELS)


class ToyNetworks:
    """The networks of the tests, each built once; explainers that leave no mark may share them."""

    def __init__(self) -> None:
        self._built: dict[object, Any] = {}

    def get(
        self,
        build: Callable[Arguments, Value],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Value:
        """Return what `build(*args, **kwargs)` returned at the first such call.

        Args:
            args: Hashable, as all of `kwargs`.
        """
        call = inspect.signature(build).bind(*args, **kwargs)
        call.apply_defaults()
        key = build, call.args, tuple(sorted(call.kwargs.items()))
        if key not in self._built:
            self._built[key] = build(*args, **kwargs)
        value: Value = self._built[key]
        return value


def with_change(backbone: Backbone, change: Any) -> Backbone:
    """Return the same network after a change to its weights.

    Args:
        change: Called with a copy of its module, without gradients.
    """
    module = copy.deepcopy(backbone.module)
    with torch.no_grad():
        change(module)
    return wrap(module, input_spec=backbone.input_spec, labels=backbone.labels)


# What every answer is held to, whatever it is about, it is held to on each of these.
NETWORKS: dict[str, Callable[..., Backbone]] = {
    "convolutions under a linear head": patches,
    "convolutions under an MLP head": mlp_head,
    "a transformer": tiny_vit,
    "a network for signals": signal_patches,
}
