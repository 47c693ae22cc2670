"""Image classifiers that the package `transformers` saved; no code of their folder is run.

They come from a folder, or from the Hub: three files of known size, their hashes checked.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from whylens.core.errors import NETWORK_ERRORS, BadArtifact, NotInstalled, WeightsUnavailable
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.backbone import Backbone, ModelSource, wrap
from whylens.core.models.checkpoints import DEPTH, MOST_LABELS, MOST_LAYERS, WEIGHTS
from whylens.core.models.footprint import Footprint, meta_footprint
from whylens.core.models.hub import HubFile, Timeouts, hub_file
from whylens.core.models.random_weights import shapes_only
from whylens.core.models.stated_outputs import stated_outputs
from whylens.core.progress import ProgressCallback
from whylens.core.storage.files import file_sha256

SHARDS = f"{WEIGHTS}.index.json"
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"

# Pillow's numbers, which a processor's `resample` is one of.
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
_CONVNEXT_SQUASHES = 384  # from this size on its processor does not crop
_REMEDY = "Save it again: model.save_pretrained(folder) and processor.save_pretrained(folder)."
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
# Of config.json and the processor's file: 22,000 labels, both ways, take 2 MB.
MOST_DESCRIPTION_BYTES = 16_000_000


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
    _library(folder.name)
    if not (folder / WEIGHTS).is_file() and (folder / SHARDS).is_file():
        raise BadArtifact(
            f"The weights of {folder.name} lie in several files, which {SHARDS} lists, and one is "
            "read. Save them as one, where transformers loads it: "
            'model.save_pretrained(folder, max_shard_size="1TB"), with its processor beside it.'
        )
    if not (folder / WEIGHTS).is_file():
        raise BadArtifact(f"{folder.name} holds no {WEIGHTS}, and nothing else is read. {_REMEDY}")
    _read_config(folder, folder.name)
    identity = ModelSource(
        name=folder.name,
        digest=file_sha256(folder / WEIGHTS),
        source="a folder of transformers",
        folder=folder,
    )
    return _classifier(folder, identity, device)


def from_transformers_hub(
    repo: str,
    *,
    progress: ProgressCallback | None = None,
    device: str = "cpu",
    timeouts: Timeouts | None = None,
) -> Backbone:
    """Return an image classifier of the Hub that transformers saved, as its folder would be.

    Args:
        repo: "owner/name".
        progress: Called with a share done (0 to 1) and a sentence while weights are fetched.

    Raises:
        NotInstalled: transformers is not there.
        WeightsUnavailable: A file cannot be had.
        BadArtifact: It is no image classifier, is damaged, lacks weights or is larger than the
            network that its description is of.
    """
    # 8 bytes for each of its numbers, and as much as counters and names may take.
    most = 8 * hub_footprint(repo).parameters + 10_000_000
    small = [_describe(repo, name, timeouts) for name in (CONFIG, PROCESSOR)]
    weights = hub_file(repo, WEIGHTS, timeouts=timeouts, progress=progress, most=most)
    folder = weights.path.parent
    if any(file.path.parent != folder for file in small):
        raise WeightsUnavailable(f"{repo} was changed while it was fetched. Try again.")
    identity = ModelSource(
        name=f"hf:{repo}",
        digest=weights.sha256,
        licence="stated by its authors on the Hub",
        source=f"Hub: {repo}",
    )
    return _classifier(folder, identity, device)


@lru_cache(maxsize=1000)
def hub_footprint(repo: str) -> Footprint:
    """Return what a network takes that a repository's config.json describes.

    Its weights are neither fetched nor allocated.

    Args:
        repo: "owner/name".

    Raises:
        NotInstalled: transformers is not there.
        WeightsUnavailable: The description cannot be had.
        BadArtifact: It is none of an image classifier.
    """
    library = _library(f"hf:{repo}")
    folder = _describe(repo, CONFIG, None).path.parent
    _read_config(folder, repo)
    try:
        config = library.AutoConfig.from_pretrained(folder, **_LOCAL)
        with shapes_only():
            network = library.AutoModelForImageClassification.from_config(config)
    except (*NETWORK_ERRORS, ImportError, OSError) as exc:
        raise _unreadable(repo, exc) from exc
    side = getattr(config, "image_size", None)
    height, width = side if isinstance(side, list | tuple) else (side or 224, side or 224)
    size = getattr(config, "num_channels", 3), height, width
    return meta_footprint(Logits(network), size)


def _describe(repo: str, filename: str, timeouts: Timeouts | None) -> HubFile:
    return hub_file(repo, filename, timeouts=timeouts, most=MOST_DESCRIPTION_BYTES)


def _library(name: str) -> Any:
    try:
        import transformers
    except ImportError as exc:
        raise NotInstalled(
            f"{name} was saved by transformers, which is not installed. Install Whylens with its "
            "extra [transformers]."
        ) from exc
    return transformers


def _read_config(folder: Path, name: str) -> None:
    """Refuse a description that would have files read, another library asked or hours spent.

    Or one that transformers cannot read, though it is one.

    Raises:
        BadArtifact: It is such a one, or cannot be read.
    """
    try:
        for file in (folder / CONFIG, folder / PROCESSOR):
            if file.is_file() and file.read_bytes().startswith(BOM_UTF8):
                raise BadArtifact(
                    f"{file.name} of {name} begins with a mark of byte order, as editors of "
                    "Windows write it, which transformers does not read. Save it as UTF-8 without "
                    "one."
                )
        config = dict(json.loads((folder / CONFIG).read_bytes()))
    except (OSError, ValueError, TypeError) as exc:
        raise _unreadable(name, exc) from exc
    if "model_type" not in config and "architecture" in config:
        raise BadArtifact(f"{name} was written by timm. Choose it as hf-hub:OWNER/NAME.")
    settings = list(_settings(config))
    foreign = config.get("model_type") == "timm_wrapper" or "model_args" in config
    if foreign or any("backbone" in key and value for key, value in settings):
        raise BadArtifact(
            f"{name} rests on a network of another library, which is not built from what a "
            "repository says. Choose that network itself."
        )
    depth = max((_count(value) for key, value in settings if DEPTH.search(key)), default=0)
    longest = max((len(value) for _, value in settings if isinstance(value, list)), default=0)
    if max(depth, longest) > MOST_LAYERS:
        raise BadArtifact(
            f"{name} describes a network of {max(depth, longest):,} layers; {MOST_LAYERS:,} are "
            "the most that is built. Choose another model."
        )
    labels = max((_count(value) for key, value in settings if key == "num_labels"), default=0)
    if labels > MOST_LABELS:
        raise BadArtifact(
            f"{name} describes {labels:,} labels; {MOST_LABELS:,} are the most that is read. "
            "Choose another model."
        )


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of a description, those of its parts included."""
    for key, value in config.items():
        if key in ("id2label", "label2id"):
            continue
        yield key, value
        if isinstance(value, Mapping):
            yield from _settings(value)


def _count(value: object) -> int:
    if isinstance(value, list):
        return sum(max(1, item) if isinstance(item, int) else 1 for item in value)
    return value if isinstance(value, int) else 0


def _unreadable(name: str, exc: Exception) -> BadArtifact:
    reason = " ".join(str(exc).split())[:160]
    return BadArtifact(f"{name} cannot be read as an image classifier: {reason}. {_REMEDY}")


def _classifier(folder: Path, identity: ModelSource, device: str) -> Backbone:
    from safetensors import SafetensorError

    library, name = _library(identity.name), identity.name
    try:
        network, loading = library.AutoModelForImageClassification.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **_LOCAL
        )
        processor = library.AutoImageProcessor.from_pretrained(folder, **_LOCAL)
    except (*NETWORK_ERRORS, ImportError, OSError, SafetensorError) as exc:
        raise _unreadable(name, exc) from exc
    # What is missing was filled with random numbers.
    if absent := sorted({*loading["missing_keys"], *map(str, loading["mismatched_keys"])}):
        raise BadArtifact(
            f"{name} lacks weights: {', '.join(absent[:3])}. It may have no trained head; "
            "choose a network that classifies."
        )
    labels, outputs = stated_outputs(network.config, name, network.config.num_labels)
    return wrap(
        Logits(network.float()).to(device),
        input_spec=_spec(processor, network.config.num_channels, name),
        labels=labels,
        identity=identity,
        outputs=outputs,
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
