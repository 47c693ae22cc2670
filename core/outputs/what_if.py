"""The What if tab's question as plain data, and its answer, computed where the network is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from whylens.core.datasets.tensors import view_pixels
from whylens.core.engine import Engine
from whylens.core.evaluation.agreement import on_grid
from whylens.core.evaluation.what_if import (
    Foresight,
    change_input,
    falls_elsewhere,
    foresight,
    strongest_places,
)
from whylens.core.explanation import Question
from whylens.core.inputs.photo import Photo, Pixels
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.results import Heatmap
from whylens.core.subject import Subject
from whylens.core.targets import ClassScore

FillName = Literal["blur", "grey", "mean"]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Change:
    """Which places of an input are changed, and into what.

    Attributes:
        marks: (H, W) of any size over the whole view, or a map, whose strongest are meant.
        share: Of a map's places, 0 to 1.
        keep: Whether the other places are changed instead.
        fill: "blur", "grey" or "mean", or a photo whose places are put there.
    """

    marks: Marks | Heatmap
    share: float
    keep: bool
    fill: FillName | Photo


@dataclass(frozen=True)
class ChangeOutcome:
    """What a network says of a changed input.

    Attributes:
        picture: What it is shown.
        label: The class that is asked about.
        unit: Of its value; "" of a class.
        before: The best classes of the input as it is.
        after: The same, and the changed input's own best where that is another.
        area: Share of the input that was changed, 0 to 1.
        fell: By how much the asked class fell.
        elsewhere: By how much it falls where the same shape is changed elsewhere, mean; None while
            that is still asked.
        foreseen: For each map whether it foresaw that; empty as long.
    """

    picture: Pixels
    label: str
    unit: str
    before: tuple[ClassScore, ...]
    after: tuple[ClassScore, ...]
    area: float
    fell: float
    elsewhere: float | None = None
    foreseen: tuple[Foresight, ...] = ()


def network_views(engine: Engine, question: Question) -> Iterator[Pixels | None]:
    """Yield (H, W, 3) uint8, what the network is shown; None of a signal."""
    subject = engine.subject(question)
    yield None if subject.x.ndim == 3 else view_pixels(subject.x, subject.backbone.input_spec)


def change_outcomes(
    engine: Engine, question: Question, change: Change, maps: Sequence[Heatmap]
) -> Iterator[ChangeOutcome]:
    """Yield what becomes of the question's class, and then which of its maps foresaw it."""
    subject = engine.subject(question)
    marked = _marked_places(change, subject)
    hidden = 1 - marked if change.keep else marked
    with engine.slot(quick=True):
        changed_input = change_input(subject, hidden, _fill(change.fill, subject))
    target = subject.target
    outcome = ChangeOutcome(
        view_pixels(changed_input.x, subject.backbone.input_spec),
        subject.backbone.labels[target.index],
        target.value_unit if target.quantity == "value" else "",
        changed_input.before,
        changed_input.after,
        float(hidden.mean()),
        changed_input.fell,
    )
    # The other places cost four times as much, and nobody waits for them to see the classes.
    yield outcome
    with engine.slot(quick=True):
        shapes, falls = falls_elsewhere(subject, changed_input)
    yield replace(
        outcome,
        elsewhere=float(falls[1:].mean()),
        foreseen=tuple(foresight(heat, shapes, falls) for heat in maps),
    )


def _marked_places(change: Change, subject: Subject) -> Tensor:
    """Return (*S) in [0, 1], how much of each place is marked."""
    if isinstance(change.marks, Heatmap):
        return strongest_places(subject, change.marks, change.share).float()
    # The share of each pixel that was painted: the area stays what it is, whatever the sizes.
    return torch.from_numpy(on_grid(change.marks, subject.size)).float()


def _fill(fill: FillName | Photo, subject: Subject) -> Tensor:
    if isinstance(fill, str):
        return subject.baseline(fill)
    tensor, _ = photo_tensor(fill, subject.backbone.input_spec)
    return tensor.to(subject.x)
