"""What a public page may load: by name only, and no more than the server has memory for."""

from __future__ import annotations

from collections.abc import Collection

from whylens.core.errors import CoreError, NotAllowed
from whylens.core.models.backbone import Backbone
from whylens.core.models.black_box import ONNX_FILE
from whylens.core.models.checkpoints import WEIGHTS, checkpoint_folders
from whylens.core.models.footprint import Footprint, footprint
from whylens.core.models.load import load
from whylens.core.models.model_names import ModelName, parse_model_name
from whylens.core.models.transformers_folder import hub_footprint
from whylens.core.progress import ProgressCallback
from whylens.core.storage.memory import memory_for

# ViT-B, ResNet-152 and ConvNeXt-B fit; each takes about 0.8 GB with its faster copy.
DEFAULT_PARAMETER_LIMIT = 100_000_000
# For each parameter: it, its faster copy, and the file that it is read from.
LOADED_BYTES = 12


def check_public_model(
    text: str, checkpoints: Collection[str], *, limit: int = DEFAULT_PARAMETER_LIMIT
) -> ModelName:
    """Return what `text` names if a public page may load it.

    Args:
        limit: Largest number of parameters.

    Raises:
        NotAllowed: It is neither a timm name nor one of the Hub nor a local checkpoint, or it is
            too large.
        UnknownName: Nothing has this name.
        CoreError: Of one on the Hub: its description cannot be had, or is none of a classifier.
    """
    name = parse_model_name(text, checkpoints)
    if name.kind == "torchvision":
        raise NotAllowed(
            "This page loads timm models and local checkpoints only; use the command line or "
            "Python for torchvision's. timm has most of them under the same name."
        )
    takes = _footprint(name)
    if takes is None:
        return name
    if takes.parameters > limit:
        raise NotAllowed(
            f"{name} has {takes.parameters / 1e6:.0f} million parameters; this page loads up to "
            f"{limit / 1e6:.0f} million. Choose a smaller model, or use the command line or Python."
        )
    if takes.per_input > memory_for("work"):
        raise NotAllowed(
            f"{name} takes about {takes.per_input / 1e9:.1f} GB for a single input, "
            f"and this server has {memory_for('work') / 1e9:.1f} GB for it. Choose a network that "
            "reads smaller pictures, or a larger machine."
        )
    if LOADED_BYTES * takes.parameters > memory_for("models"):
        raise NotAllowed(
            f"{name} takes about {LOADED_BYTES * takes.parameters / 1e9:.1f} GB, and this server "
            f"has {memory_for('models') / 1e9:.1f} GB for networks. Choose a smaller model, or "
            "a larger machine."
        )
    return name


def load_public(name: str, *, progress: ProgressCallback | None = None) -> Backbone:
    """Return the network called `name` if a public page may load it.

    Raises:
        CoreError: As `check_public_model` and `load`.
    """
    return load(str(check_public_model(name, checkpoint_folders())), progress=progress)


def expected_bytes(name: str) -> int:
    """Return what a network will take while it is loaded; 0 where that is not known before."""
    folders = checkpoint_folders()
    if name in folders:
        files = (folders[name] / WEIGHTS, folders[name] / ONNX_FILE)
        return 3 * sum(file.stat().st_size for file in files if file.is_file())
    try:
        takes = _footprint(parse_model_name(name, folders))
    except CoreError:  # said when it is loaded
        return 0
    return 0 if takes is None else LOADED_BYTES * takes.parameters


def _footprint(name: ModelName) -> Footprint | None:
    if name.kind == "hub":
        return hub_footprint(name.name)
    return footprint(name.name) if name.kind in ("timm", "untrained") else None
