"""Whether a training may begin, or go on, in a folder.

May touch the disk, the sets and the training's log.
"""

from __future__ import annotations

from pathlib import Path

from whylens.core.datasets.dataset import Dataset
from whylens.core.errors import BadInput
from whylens.core.models.checkpoints import MANIFEST
from whylens.core.models.model_names import check_folder_name, parse_model_name
from whylens.core.train.recipe import Recipe
from whylens.core.train.state import Log, read_log


def admitted(dataset: Dataset, recipe: Recipe, out: Path, *, resume: bool) -> Log | None:
    """Return the log of the training to go on with, or None where one begins.

    Args:
        dataset: What is to be learnt.
        recipe: How.
        out: The checkpoint's folder.
        resume: Whether to go on with what is there.

    Raises:
        BadInput: The folder is taken, or the set, the recipe and what is there do not fit.
        UnknownName: There is no such backbone.
    """
    check_folder_name(out.name)
    parse_model_name(recipe.backbone)
    for split in ("train", "val"):
        if not dataset.of(split):
            raise BadInput(f"{dataset.name} has no {split} split; add pictures to it.")
    log = read_log(out) if out.is_dir() else None
    if not resume:
        if (log is not None and log.epochs) or (out / MANIFEST).exists():
            raise BadInput(
                f"{out} holds a model already. Add --resume to go on with it, or choose another "
                "--out."
            )
        return None
    if log is None:
        if (out / MANIFEST).exists():
            raise BadInput(
                f"{out} holds a model that was not trained here, so there is nothing to go on "
                "with. Choose another --out; --weights can start from it."
            )
        return None
    now = recipe.model_dump(mode="json")
    differing = sorted(key for key in now if now[key] != log.recipe.get(key))
    if differing:
        raise BadInput(
            f"The training in {out} was started with another {', '.join(differing)}. Go on with "
            "the same recipe, or choose another --out."
        )
    if log.digest != dataset.digest:
        raise BadInput(
            f"The training in {out} was started on other pictures than {dataset.name} has now. "
            "Choose another --out."
        )
    return log


def untested(dataset: Dataset) -> tuple[str, ...]:
    """Return what to say of a set without a test split.

    Args:
        dataset: The set.
    """
    if dataset.of("test"):
        return ()
    return (
        "There is no test split. Validation chose the best epoch, so its figures are a little too "
        "good.",
    )


def prepared(out: Path) -> None:
    """Make the folder.

    Args:
        out: The checkpoint's folder.

    Raises:
        BadInput: It cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise BadInput(f"The folder {out} cannot be made: {exc.strerror}.") from exc
