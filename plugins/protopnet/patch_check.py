"""The patch that a prototype's similarity rests on, and a check by covering it.

An enlarged similarity map does not show what a deep unit sees; a gradient does, and covering it
must lower the similarity more than covering another place of the same size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from whylens.plugins.protopnet.similarity import PatchMetric, cosine_maps, similarities

if TYPE_CHECKING:
    from whylens import Backbone, Subject

# Side of the patch as a share of the view's, and how many other places it is compared with.
SIDE = 0.25
OTHERS = 8
_SHARP = 20.0

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class PatchCheck:
    """A patch of the view and the effect of covering it.

    Attributes:
        box: top, left, bottom, right in input pixels.
        drop: Fall of the similarity when it is covered.
        random_drop: Mean fall when patches of this size elsewhere are covered.
    """

    box: Box
    drop: float
    random_drop: float


def rows_and_columns(size: Sequence[int]) -> tuple[int, int]:
    """Return height and width; a signal lies in one row."""
    height, width = (1, *size)[-2:]
    return height, width


def check_patch(subject: Subject, metric: PatchMetric, prototype: int) -> PatchCheck:
    """Return the patch that a prototype's similarity rests on, by gradient times input."""
    backbone = subject.backbone
    empty = subject.baseline("blur")
    leaf = subject.x.clone().requires_grad_()
    patches = metric.patches[metric.prototype_of == prototype]
    with torch.enable_grad():
        white = metric.to_white(backbone.features(leaf).map)
        # A soft maximum: places that would take over when the best is covered count as well.
        soft = (_SHARP * cosine_maps(white, metric.rotation, patches)).flatten().logsumexp(0)
        (gradient,) = torch.autograd.grad(soft, leaf)
    value = float(similarities(subject.features, metric)[0, prototype])
    height, width = rows_and_columns(subject.size)
    saliency = (gradient * (subject.x - empty)).sum(1)[0].abs().reshape(height, width)
    tall, wide = max(1, round(SIDE * height)), max(1, round(SIDE * width))
    mass = functional.avg_pool2d(saliency[None, None], (tall, wide), stride=1)[0, 0]
    # Several boxes may hold all of it: the one in their middle.
    rows, columns = torch.nonzero(mass >= 0.999 * mass.max(), as_tuple=True)
    top, left = round(float(rows.float().mean())), round(float(columns.float().mean()))
    boxes = [(top, left, top + tall, left + wide)]
    generator = subject.generator()
    for _ in range(OTHERS):
        y = int(torch.randint(height - tall + 1, (1,), generator=generator))
        x = int(torch.randint(width - wide + 1, (1,), generator=generator))
        boxes.append((y, x, y + tall, x + wide))
    pieces = [
        _covered_similarities(
            backbone, subject.x, empty, metric, boxes[start : start + subject.batch_size]
        )
        for start in range(0, len(boxes), subject.batch_size)
    ]
    drops = value - torch.cat(pieces)[:, prototype]
    return PatchCheck(boxes[0], float(drops[0]), float(drops[1:].mean()))


def _covered_similarities(
    backbone: Backbone, x: Tensor, empty: Tensor, metric: PatchMetric, boxes: list[Box]
) -> Tensor:
    shape = (x.shape[1], *rows_and_columns(x.shape[2:]))
    inputs = x.reshape(1, *shape).repeat(len(boxes), 1, 1, 1)
    fill = empty.reshape(shape)
    for row, (top, left, bottom, right) in enumerate(boxes):
        inputs[row, :, top:bottom, left:right] = fill[:, top:bottom, left:right]
    with torch.no_grad():
        return similarities(backbone.features(inputs.reshape(-1, *x.shape[1:])).map, metric)
