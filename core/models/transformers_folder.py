"""Image classifiers that the package `transformers` saved; no code of their folder is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from whylens.core.errors import NETWORK_ERRORS, BadArtifact, NotInstalled
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.backbone import Backbone, ModelSource, wrap
from whylens.core.models.checkpoints import WEIGHTS
from whylens.core.storage.files import file_sha256

CONFIG = "config.json"

# Pillow's numbers, which a processor's `resample` is one of.
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
_CONVNEXT_SQUASHES = 384  # from this size on its processor does not crop
_REMEDY = "Save it again: model.save_pretrained(folder) and processor.save_pretrained(folder)."


class Logits(nn.Module):
    """A classifier of transformers, of which the logits are read."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) logits."""
        logits: Tensor = self.network(pixel_values=x).logits
        return logits


def from_transformers_folder(folder: Path, *, device: str = "cpu") -> Backbone:
    """Return the image classifier of a folder with config.json, weights and its processor's file.

    Raises:
        NotInstalled: transformers is not there.
        BadArtifact: It is no image classifier, is damaged, or lacks weights.
    """
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except ImportError as exc:
        raise NotInstalled(
            f"{folder.name} was saved by transformers, which is not installed. Install Whylens "
            "with its extra [transformers]."
        ) from exc
    if not (folder / WEIGHTS).is_file():
        raise BadArtifact(f"{folder.name} holds no {WEIGHTS}, and nothing else is read. {_REMEDY}")
    from safetensors import SafetensorError

    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        network, loading = AutoModelForImageClassification.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **local
        )
        processor = AutoImageProcessor.from_pretrained(folder, **local)
    except (*NETWORK_ERRORS, OSError, SafetensorError) as exc:
        reason = " ".join(str(exc).split())[:160]
        raise BadArtifact(
            f"{folder.name} cannot be read as an image classifier: {reason}. {_REMEDY}"
        ) from exc
    # What is missing was filled with random numbers.
    if absent := sorted({*loading["missing_keys"], *map(str, loading["mismatched_keys"])}):
        raise BadArtifact(
            f"{folder.name} lacks weights: {', '.join(absent[:3])}. It may have no trained head; "
            "choose a network that classifies."
        )
    names = network.config.id2label
    identity = ModelSource(
        name=folder.name,
        digest=file_sha256(folder / WEIGHTS),
        source="a folder of transformers",
        folder=folder,
    )
    return wrap(
        Logits(network.float()).to(device),
        spec=_spec(processor, network.config.num_channels, folder.name),
        labels=tuple(str(names[i]) for i in sorted(names)),
        identity=identity,
        outputs="labels"
        if network.config.problem_type == "multi_label_classification"
        else "classes",
    )


def _spec(processor: Any, channels: int, name: str) -> InputSpec:
    def option(key: str, default: Any = None) -> Any:
        value = getattr(processor, key, None)
        return default if value is None else value

    size, crop, mode = _geometry(option("size"), option)
    scale = 255 * float(option("rescale_factor", 1 / 255)) if option("do_rescale", True) else 255.0
    mean, std = [0.0] * channels, [1.0] * channels
    if option("do_normalize", True):
        mean, std = option("image_mean", mean), option("image_std", std)
    try:
        return InputSpec(
            size=size,
            channels=channels,
            mean=tuple(value / scale for value in mean),
            std=tuple(value / scale for value in std),
            crop=crop,
            crop_mode="squash" if mode == "squash" else "center",
            interpolation=_FILTERS[int(option("resample", 2))],
        )
    except (ValidationError, IndexError) as exc:
        raise BadArtifact(f"The processor of {name} describes no input. {_REMEDY}") from exc


def _geometry(size: Any, option: Any) -> tuple[tuple[int, int], float, str]:
    """Return (height, width), the share that the crop keeps, and whether the aspect is kept."""
    sides = _sides(size)
    shortest = None if sides else int(_get(size, "shortest_edge") or 224)
    if option("do_center_crop", False) and (crop_size := _sides(option("crop_size"))):
        whole = min(sides) if sides else shortest
        crop = min(crop_size) / (whole or min(crop_size))
        return crop_size, crop, "squash" if sides else "center"
    if sides:
        return sides, 1.0, "squash"
    assert shortest is not None  # noqa: S101 - there are sides or there is a shortest edge
    if shortest >= _CONVNEXT_SQUASHES or option("crop_pct") is None:
        return (shortest, shortest), 1.0, "squash"
    return (shortest, shortest), float(option("crop_pct")), "center"


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    height, width = _get(size, "height"), _get(size, "width")
    return (int(height), int(width)) if height and width else None


def _get(size: Any, key: str) -> Any:
    return size.get(key) if isinstance(size, Mapping) else getattr(size, key, None)
