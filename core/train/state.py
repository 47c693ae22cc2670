"""What a training needs to go on after an end of its process: one file, there whole or not at all.

May touch the disk, torch and safetensors; safetensors only, so a foreign file can run nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from whylens.core.errors import BadArtifact
from whylens.core.storage.files import header_of, write_atomically

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
    def merit(self) -> tuple[float, float]:
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
    """Write a training's state, and its log once more for people.

    Args:
        folder: Where.
        log: What has happened.
        tensors: Weights, moments and random states by name.
    """
    from safetensors.torch import save

    flat = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    # One file for both: a pair could be torn apart by the end of the process.
    write_atomically(folder / TRAINING, save(flat, metadata={"log": log.model_dump_json()}))
    text = json.dumps(log.model_dump(mode="json"), indent=2) + "\n"
    write_atomically(folder / LOG, text.encode())


def read_log(folder: Path) -> Log | None:
    """Return the log of the training in a folder, or None where there is none.

    Args:
        folder: A checkpoint's folder.

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
    """Return what an optimiser remembers, by parameter and name.

    Args:
        optimiser: SGD or AdamW, whose memory is all tensors.
    """
    state = optimiser.state_dict()["state"]
    return {
        f"optimiser.{index}.{name}": value
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_moments(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimiser its memory back.

    Args:
        optimiser: Of the same network and recipe.
        tensors: As `moments` gave them, among others.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "optimiser":
            index, _, name = rest.partition(".")
            state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors below a prefix, without it.

    Args:
        tensors: All.
        prefix: As in "weights".
    """
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{prefix}.")}
