"""How a network is trained, as plain data that travels in files and reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from whylens.core.errors import BadInput, wrong_value
from whylens.core.inputs.spec import CropMode, Interpolation
from whylens.core.models.checkpoints import Argument

Mode = Literal["head", "full", "head-then-full"]
PRETRAINED = "pretrained"


class Recipe(BaseModel):
    """Everything that decides how a network is trained.

    Attributes:
        backbone: A timm name, or `torchvision:NAME`.
        arguments: What differs from it, as its maker's keyword arguments.
        weights: To start from: a safetensors file, a checkpoint's folder, "pretrained" for those
            of the backbone's authors, or None for random numbers.
        mode: "head" trains the last layer on features computed once, "full" all layers,
            "head-then-full" one after the other; by default the last with weights to start from,
            "full" without.
        epochs: Passes over the training split; by default 10 with weights to start from, 30
            without. "head" needs none.
        batch: Pictures per step.
        optimiser: "sgd" with Nesterov momentum, or "adamw"; by default the latter with weights to
            start from, since its steps do not grow with the scale of the inputs.
        lr: Highest learning rate of the trunk; by default what suits optimiser and start.
        head_ratio: Learning rate of the last layer relative to `lr`; by default 1, or 10 where
            only the trunk has weights to start from.
        bias_ratio: Learning rate of biases and norms relative to that of matrices.
        schedule: "one-cycle" rises and falls as a cosine, "triangular" in straight lines.
        warmup: Share of the steps in which the learning rate rises.
        momentum: Of SGD; the first beta of AdamW.
        weight_decay: Of matrices; biases and norms are left alone.
        smoothing: Label smoothing.
        clip: Largest norm of the gradient; None for any.
        ema: Decay of the averaged weights that are then evaluated and kept; None for none.
        balance: Weight classes so that each counts alike.
        size: Side of the input in pixels; by default the backbone's own.
        grow: Side of the pictures in the first step, as a share of the input's; it grows in equal
            steps of 8 pixels to the whole until 60 % of the training. Small pictures cost less.
        mean: Mean per channel; by default the backbone's own. Likewise the next four.
        std: Standard deviation per channel.
        crop: Share of the resized picture that the network sees.
        crop_mode: As in InputSpec.
        interpolation: Filter of the resize.
        strength: Of the augmentation by zoom, shift and colour; 0 for none.
        flip: Mirror half of the pictures.
        cutout: Side of a square left blank, as a share of the picture's.
        half: Store the weights in 16 bits.
        mistakes: Keep the pictures of mistakes beside the report; not where they may not travel
            with the network.
        whiten: Start with first filters that whiten patches of the pictures; without weights to
            start from only.
        seed: For everything random.
        threads: Of the computation; by default as they are. Bit-identical repeats need the same.
        device: Where to compute.
        memory: Bytes that decoded pictures may take; beyond, they are decoded in every epoch.
        group: As in CheckpointManifest. Likewise `examples`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    arguments: Mapping[str, Argument] = {}
    weights: str | None = None
    mode: Mode = "full"
    epochs: int = Field(30, ge=1, le=10_000)
    batch: int = Field(32, ge=2, le=4096)
    optimiser: Literal["sgd", "adamw"] | None = None
    lr: float | None = Field(None, gt=0, le=10)
    head_ratio: float | None = Field(None, gt=0, le=1000)
    bias_ratio: float = Field(1.0, gt=0, le=1000)
    schedule: Literal["one-cycle", "triangular"] = "triangular"
    warmup: float = Field(0.2, ge=0, lt=1)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0, le=1)
    smoothing: float = Field(0.1, ge=0, lt=1)
    clip: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    balance: bool = True
    size: int | None = Field(None, ge=8, le=2048)
    grow: float = Field(1.0, ge=0.25, le=1)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop: float | None = Field(None, gt=0, le=1)
    crop_mode: CropMode | None = None
    interpolation: Interpolation | None = None
    strength: float = Field(0.5, ge=0, le=1)
    flip: bool = True
    cutout: float = Field(0.0, ge=0, le=0.9)
    half: bool = False
    mistakes: bool = True
    whiten: bool = False
    seed: int = Field(0, ge=0, lt=2**31)
    threads: int | None = Field(None, ge=1, le=256)
    device: str = "cpu"
    memory: int = Field(3_000_000_000, ge=0)
    group: str = ""
    examples: str = ""

    @model_validator(mode="before")
    @classmethod
    def _by_start(cls, values: Any) -> Any:
        # Written out, so that a report shows what was done and not what was left open.
        if isinstance(values, Mapping) and values.get("weights") is not None:
            return {"mode": "head-then-full", "epochs": 10, **values}
        return values

    @model_validator(mode="after")
    def _whitens_nothing_trained(self) -> Recipe:
        if self.whiten and self.weights is not None:
            raise ValueError("'whiten' would overwrite filters of the weights to start from")
        return self

    def solver(self, *, trained: bool) -> Literal["sgd", "adamw"]:
        """Return the optimiser, decided."""
        return self.optimiser or ("adamw" if trained else "sgd")

    def rate(self, *, trained: bool) -> float:
        """Return the highest learning rate."""
        if self.lr is not None:
            return self.lr
        if self.solver(trained=trained) == "adamw":
            return 5e-5 if trained else 1e-3
        return (0.002 if trained else 0.1) * self.batch / 64


def read_recipe(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe of a JSON file.

    Args:
        path: The file; None where everything is in `changed`.
        overrides: Fields that win over those of the file.

    Raises:
        BadInput: It cannot be read or says something impossible.
    """
    name = "recipe" if path is None else f"recipe {path}"
    try:
        values = {} if path is None else json.loads(path.read_bytes())
        return Recipe.model_validate({**values, **(overrides or {})})
    except OSError as exc:
        raise BadInput(f"The {name} cannot be read: {exc.strerror}.") from exc
    except ValidationError as exc:
        where, words = wrong_value(exc)
        at = where or "as a whole"
        raise BadInput(f"The {name} is wrong at {at!r}: {words}. Correct it.") from exc
    except (ValueError, TypeError) as exc:
        raise BadInput(f"The {name} is not a JSON object: {exc}. Correct it.") from exc
