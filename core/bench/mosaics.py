"""An input of a benchmark in a mosaic, among others that the network names right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from whylens.core.bench.plan import BenchPlan, Sight
from whylens.core.errors import NeedsNotMet
from whylens.core.evaluation.grid_pointing import mosaic, on_mosaics, tile_mask
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.subject import Subject
from whylens.core.targets import Target

SIDES = (3, 2)  # tiles along an axis: the first for which there are inputs of enough classes
CONFIDENT = 0.5  # the least probability of a tile's own class


@dataclass(frozen=True)
class Mosaic:
    """A question about a mosaic.

    Attributes:
        subject: It asks about the class of one tile.
        tile: (*S) bool, where that tile lies.
        chance: The tile's share of the area.
    """

    subject: Subject
    tile: Tensor
    chance: float


def mosaic_around(plan: BenchPlan, sight: Sight) -> Mosaic | None:
    """Return an input of the test split in a mosaic with those that come after it, one per class.

    None where the network takes inputs of one size only, does not name this one with confidence,
    or too few of other classes.
    """
    axes = len(plan.backbone.input_spec.size)
    tiles: list[tuple[Tensor, int]] = []
    for tile, label in _confident(plan, sight):
        if len(tiles) == SIDES[0] ** axes:
            break
        if label not in [used_label for _, used_label in tiles]:
            tiles.append((tile, label))
    side = next((side for side in SIDES if side**axes <= len(tiles)), None)
    if side is None:
        return None
    grid, count = (side,) * axes, side**axes
    try:
        backbone = plan.backbone.once(f"on mosaics {grid}", lambda own: on_mosaics(own, grid))
    except NeedsNotMet:
        return None
    # Every place in turn, so that no corner's advantage counts.
    place = sight.position % count
    rest = tiles[1:count]
    x = mosaic([tile for tile, _ in (*rest[:place], tiles[0], *rest[place:])], grid)
    target = Target(tiles[0][1], outputs=backbone.outputs)
    subject = Subject(ForwardPass(backbone, x), target, batch_size=1, seed=sight.index)
    return Mosaic(subject, tile_mask(place, grid, subject.size), 1 / count)


def _confident(plan: BenchPlan, first: Sight) -> Iterator[tuple[Tensor, int]]:
    """Yield inputs that are named right, with classes, from one on and around; none without it."""
    test = [sight for sight in plan.sights if sight.split == "test"]
    for sight in (*test[first.position :], *test[: first.position]):
        subject = plan.engine.subject(plan.question(sight))
        label = plan.dataset.items[sight.index].label
        probability = plan.backbone.probabilities(subject.forward_pass.logits)[0]
        if int(probability.argmax()) == label and float(probability[label]) >= CONFIDENT:
            yield subject.x, label
        elif sight == first:
            return
