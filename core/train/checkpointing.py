"""A training on disk: state and log to go on from, and the best network as a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from whylens.core.datasets.dataset import Dataset
from whylens.core.errors import BadArtifact
from whylens.core.models.checkpoints import halve, write_checkpoint
from whylens.core.storage.files import header_of, write_atomically
from whylens.core.train.head import inputs
from whylens.core.train.network import Network
from whylens.core.train.pictures import Frames
from whylens.core.train.recipe import Recipe
from whylens.core.words import percent

TRAINING, LOG = "training.safetensors", "training.json"
_AGAIN = "Train again into another folder."


class Epoch(BaseModel):
    """One line of a training's log.

    Attributes:
        epoch: From 1; 0 is the head fitted alone.
        loss: Mean training loss; None for the head alone.
        val_loss: Mean validation loss.
        val_accuracy: Share of validation pictures recognised.
        val_recall: Mean over classes of the share recognised; it decides which epoch is best.
        seconds: Since the start, over all runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    loss: float | None
    val_loss: float
    val_accuracy: float
    val_recall: float
    seconds: float

    @property
    def sort_key(self) -> tuple[float, float]:
        """What is compared between epochs: recall, then loss."""
        return self.val_recall, -self.val_loss


class Log(BaseModel):
    """A training so far, beside its tensors.

    Attributes:
        recipe: As JSON values.
        dataset: Name of the set.
        digest: Of the set.
        start: From what the network started, in words.
        notes: What the report should say.
        step: Steps of the optimiser so far.
        epochs: One line each.
        best: The epoch whose weights are kept.
        seconds: Spent so far.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: dict[str, Any]
    dataset: str
    digest: str
    start: str
    notes: tuple[str, ...]
    step: int
    epochs: tuple[Epoch, ...]
    best: int
    seconds: float


def save_state(folder: Path, log: Log, tensors: dict[str, Tensor]) -> None:
    """Write a training's log and its tensors by name, and the log once more for people."""
    from safetensors.torch import save

    flat = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    # One file for both: a pair could be torn apart by the end of the process.
    write_atomically(folder / TRAINING, save(flat, metadata={"log": log.model_dump_json()}))
    text = json.dumps(log.model_dump(mode="json"), indent=2) + "\n"
    write_atomically(folder / LOG, text.encode())


def read_log(folder: Path) -> Log | None:
    """Return the log of the training in a folder, or None where there is none.

    Raises:
        BadArtifact: It is damaged.
    """
    path = folder / TRAINING
    if not path.is_file():
        return None
    try:
        header, _ = header_of(path)
        return Log.model_validate_json(header["__metadata__"]["log"])
    except OSError as exc:
        raise BadArtifact(f"{folder.name}/{TRAINING} cannot be read: {exc.strerror}.") from exc
    except (ValueError, KeyError, TypeError, ValidationError) as exc:
        raise BadArtifact(f"{folder.name}/{TRAINING} is damaged. {_AGAIN}") from exc


def moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimiser remembers, by parameter and name."""
    state = optimiser.state_dict()["state"]
    return {
        f"optimiser.{index}.{name}": value
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_moments(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load into an optimiser what `moments` gave of one of the same network and recipe."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "optimiser":
            index, _, name = rest.partition(".")
            state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix` and a dot, without both."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{prefix}.")}


EVALUATED = 64  # pictures at a time where nothing is learnt


def evaluate(network: Network, frames: Frames, truth: Tensor) -> dict[str, float]:
    """Return loss, accuracy and mean recall on pictures as the network is fed them later.

    The network is put into eval mode.

    Args:
        truth: (N,) their classes.
    """
    network.module.eval()
    rows = []
    with torch.no_grad():
        for start in range(0, len(frames.indices), EVALUATED):
            places = list(range(start, min(start + EVALUATED, len(frames.indices))))
            rows.append(network.logits(inputs(frames, places, network)).cpu().float())
    logits = torch.cat(rows)
    right = (logits.argmax(1) == truth).float()
    recalls = torch.stack([right[truth == label].mean() for label in truth.unique()])
    return {
        "val_loss": float(torch.nn.functional.cross_entropy(logits, truth)),
        "val_accuracy": float(right.mean()),
        "val_recall": float(recalls.mean()),
    }


def save_best(
    out: Path, network: Network, recipe: Recipe, dataset: Dataset, accuracy: float
) -> None:
    """Write a network as the checkpoint that the page can load.

    Args:
        accuracy: Share of validation pictures that it recognises, 0 to 1.
    """
    weights = network.module.state_dict()
    if recipe.half:
        weights = {name: halve(tensor) for name, tensor in weights.items()}
    input_spec = network.input_spec
    write_checkpoint(
        out,
        weights,
        {
            "architecture": recipe.backbone.split(".")[0],
            "arguments": dict(network.arguments),
            "input_size": input_spec.size,
            "mean": input_spec.mean,
            "std": input_spec.std,
            "crop": input_spec.crop,
            "crop_mode": input_spec.crop_mode,
            "interpolation": input_spec.interpolation,
            "detail": input_spec.detail,
            "labels": dataset.labels,
            "licence": f"trained here on {dataset.name} ({dataset.licence}) from {network.start}",
            "note": (
                f"Trained on {dataset.name}; {percent(accuracy, 1)} of its validation pictures are "
                "recognised."
            ),
            "group": recipe.group,
            "examples": recipe.examples,
        },
    )
