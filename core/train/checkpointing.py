"""How good a network is on validation, and the best one written as a checkpoint.

May touch torch and the checkpoints.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from whylens.core.datasets.dataset import Dataset
from whylens.core.models.checkpoints import write_checkpoint
from whylens.core.train.head import inputs
from whylens.core.train.network import Network
from whylens.core.train.pictures import Frames
from whylens.core.train.recipe import Recipe

EVALUATED = 64  # pictures at a time where nothing is learnt


def evaluated(network: Network, frames: Frames, truth: Tensor) -> dict[str, float]:
    """Return loss, accuracy and mean recall on pictures as the network is fed them later.

    Args:
        network: The network; put into eval mode.
        frames: The pictures.
        truth: (N,) their classes.
    """
    network.module.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(frames.indices), EVALUATED):
            places = list(range(start, min(start + EVALUATED, len(frames.indices))))
            found.append(network.logits(inputs(frames, places, network)).cpu().float())
    logits = torch.cat(found)
    right = (logits.argmax(1) == truth).float()
    recalls = torch.stack([right[truth == label].mean() for label in truth.unique()])
    return {
        "val_loss": float(torch.nn.functional.cross_entropy(logits, truth)),
        "val_accuracy": float(right.mean()),
        "val_recall": float(recalls.mean()),
    }


def keep(out: Path, network: Network, recipe: Recipe, dataset: Dataset, accuracy: float) -> None:
    """Write a network as the checkpoint that the page can load.

    Args:
        out: The folder.
        network: What to write.
        recipe: Backbone and precision.
        dataset: On which it was trained.
        accuracy: Share of validation pictures that it recognises.
    """
    weights = network.module.state_dict()
    if recipe.half:
        weights = {name: _halved(tensor) for name, tensor in weights.items()}
    spec = network.spec
    write_checkpoint(
        out,
        weights,
        {
            "architecture": recipe.backbone.split(".")[0],
            "arguments": dict(network.arguments),
            "input_size": spec.size,
            "mean": spec.mean,
            "std": spec.std,
            "crop": spec.crop,
            "crop_mode": spec.crop_mode,
            "interpolation": spec.interpolation,
            "detail": spec.detail,
            "labels": dataset.labels,
            "licence": f"trained here on {dataset.name} ({dataset.licence}) from {network.start}",
            "note": (
                f"Trained on {dataset.name}; {accuracy:.1%} of its validation pictures are "
                "recognised."
            ),
        },
    )


def _halved(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    # Variances of a norm behind inputs of up to 255 may lie beyond what 16 bits hold.
    return half if bool(half.isfinite().all()) else tensor
