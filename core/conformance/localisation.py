"""Tests 1, 2, 12, 13 and 17: a map points at what the score is read from, wherever that is.

Every network here reads known cells of a known picture.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whylens.core.conformance.outcome import NotApplicable, difference, peak, require
from whylens.core.conformance.toy_inputs import CELL, GRID, SIZE, Cell, lit, noise
from whylens.core.conformance.toy_networks import (
    cell_reader,
    patches,
    plain_spec,
    signal_patches,
    with_change,
)
from whylens.core.conformance.under_test import ExplainerUnderTest
from whylens.core.evaluation.hiding import Setting, hiding_curve
from whylens.core.evaluation.ordering import cells
from whylens.core.inputs.photo import Photo, photo_of, read_photo
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.inputs.spec import InputSpec
from whylens.core.inputs.view import View, on_original, view_of
from whylens.core.models.backbone import Backbone
from whylens.core.results import Heatmap
from whylens.core.words import percent

SEGMENTS = [
    tuple((row + i, column + j) for i in (0, 1) for j in (0, 1))
    for row in (0, 2)
    for column in (0, 2, 4)
]
FRAMES = {"crop": (1, 4), "letterbox": (0, 3), "squash": (3, 5), "exif": (2, 1)}
RANDOM_MAPS = 20


def one_segment(candidate: ExplainerUnderTest) -> None:
    """A network reads one of six segments; the map peaks on it, the first and the last included."""
    candidate.needs_places()
    input_spec = plain_spec()
    for number, segment in enumerate(SEGMENTS):
        # Another segment is as bright: a map of mere brightness peaks between the two.
        decoy = SEGMENTS[(number + 3) % len(SEGMENTS)]
        reader = candidate.network(cell_reader, segment, input_spec)
        answer = candidate.answer(reader, lit(input_spec, [*segment, *decoy]), 0)
        place = _peak(answer.heat, f"the network reads segment {number} of 6 alone")
        rows, columns = (sorted({cell[axis] for cell in segment}) for axis in (0, 1))
        inside = (
            rows[0] / GRID[0] <= place[0] <= (rows[-1] + 1) / GRID[0]
            and columns[0] / GRID[1] <= place[1] <= (columns[-1] + 1) / GRID[1]
        )
        require(
            inside,
            f"The network reads segment {number} of 6 alone (rows {rows}, columns {columns} of "
            f"cells), but the map peaks at {_in_cells(place)}. Mend how regions are numbered and "
            "painted: numbers start at 0, rows come before columns.",
        )


def one_patch(candidate: ExplainerUnderTest) -> None:
    """A network reads one cell; its place on the photo peaks, through crop, letterbox and EXIF."""
    candidate.needs_places()
    for kind, cell in FRAMES.items():
        mode = {"letterbox": "border", "squash": "squash"}.get(kind, "center")
        input_spec = plain_spec(*SIZE, crop=0.8 if kind in ("crop", "exif") else 1.0, mode=mode)
        width, height = {"letterbox": (61, 87), "squash": (97, 45)}.get(kind, (161, 101))
        view = view_of((width, height), input_spec)
        photo = _photo(view, [cell, (3 - cell[0], 5 - cell[1])])
        if kind == "exif":
            photo = _turn(photo)
        x, view = photo_tensor(photo, input_spec)
        heat = candidate.answer(candidate.network(cell_reader, (cell,), input_spec), x, 0).heat
        _peak(heat, f"the network reads cell {cell} alone")
        if heat.values.ndim != 2:
            raise NotApplicable("its map is not one of a picture")
        whole, _ = on_original(heat.values, view)
        down, across = (p * n for p, n in zip(peak(whole), whole.shape, strict=True))
        at_x, at_y = view.to_original((cell[1] + 0.5) * CELL, (cell[0] + 0.5) * CELL)
        off = abs(across - at_x) * view.scale_x, abs(down - at_y) * view.scale_y
        require(
            max(off) <= CELL / 2 + 1e-6,
            f"The network reads one cell of {CELL} pixels; on the photo ({kind}) the map peaks "
            f"{off[0]:.1f} pixels across and {off[1]:.1f} down from its middle, more than half a "
            "cell. A map covers the network's view, in equal cells, with pixel centres at i + 1/2: "
            "never crop, pad or stretch it yourself, and resize with align_corners=False.",
        )


def shift(candidate: ExplainerUnderTest) -> None:
    """Moving the picture by one stride moves the inner part of the map by one cell."""
    candidate.needs_places()
    backbone = candidate.network(_empty_to_the_edge)
    for target in range(3):
        before, after = (
            candidate.answer(backbone, _content(backbone.input_spec, column), target).heat
            for column in (1, 2)
        )
        if before.values.ndim != 2 or any(
            n % cells for n, cells in zip(before.values.shape, GRID, strict=True)
        ):
            raise NotApplicable("its map has no whole number of cells per patch")
        step = before.values.shape[1] // GRID[1]
        inner = (slice(step, -step), slice(step, -step))
        rolled_map = np.roll(before.values, step, 1)[inner]
        if not rolled_map.any():
            continue
        distance = difference(after.values[inner], rolled_map)
        if after.error is not None and before.error is not None:
            # Another draw for another place: apart by chance, whose size the method states.
            spread = np.hypot(np.roll(before.error, step, 1)[inner], after.error[inner])
            chance = float(np.linalg.norm(spread) / np.linalg.norm(rolled_map))
            if chance > 0.5:
                raise NotApplicable(
                    f"its own standard error, {percent(chance)} of the map, hides the move"
                )
            tolerance = max(2 * chance, 1e-3)
        else:
            tolerance = 1e-3
        require(
            distance <= tolerance,
            "The picture moved by one patch and the map did not move with it: the two differ by "
            f"{percent(distance, 1)}. Nothing but the input may say where evidence is: look for a "
            "prior, a fixed centre, or a resize that shifts.",
        )
        return
    raise NotApplicable("its map of this network is blank for every class")


def _empty_to_the_edge() -> Backbone:
    return with_change(patches(), lambda module: module.get_parameter("conv.bias").zero_())


def beats_chance(candidate: ExplainerUnderTest) -> None:
    """Hiding exactly the map's first k places hurts more than nearly all random orders do."""
    candidate.needs_places()
    input_spec = plain_spec()
    half = tuple((row, column) for row in range(GRID[0]) for column in range(GRID[1] // 2))
    # A gain at which the probability falls over the whole way, not at its last step.
    answer = candidate.answer(
        candidate.network(cell_reader, half, input_spec, gain=6.0), lit(input_spec, half), 0
    )
    subject = answer.subject
    generator = np.random.default_rng(3)

    def area(heat: Heatmap) -> float:
        setting = Setting("black", steps=8)
        *_, curve = hiding_curve(subject, cells(heat, subject.size), setting)
        return curve.area()

    map_area = area(answer.heat)
    random_areas = [
        area(Heatmap(generator.random(GRID, np.float32), "chance")) for _ in range(RANDOM_MAPS)
    ]
    better = sum(map_area < random_area for random_area in random_areas)
    require(
        better >= RANDOM_MAPS - 1,
        "The network reads the left half of the picture. Hiding places in the order of the map "
        f"hurts its class more than only {better} of {RANDOM_MAPS} random orders do. The largest "
        "values must lie where the evidence is: check the map's sign and its orientation.",
    )


def axes(candidate: ExplainerUnderTest) -> None:
    """Signals and volumes are explained by the same code, or refused in words."""
    candidate.needs_places()
    reasons: list[str] = []
    for size, cell in (((48,), (4,)), ((16, 16, 24), (1, 0, 2))):
        input_spec = plain_spec(*size, channels=2)
        grid = tuple(n // CELL for n in size)
        decoy = tuple(n - 1 - at for n, at in zip(grid, cell, strict=True))
        reader = candidate.network(cell_reader, (cell,), input_spec)
        try:
            heat = candidate.answer(reader, lit(input_spec, [cell, decoy]), 0).heat
        except NotApplicable as refusal:
            reasons.append(str(refusal))
            continue
        require(
            heat.values.ndim == len(size),
            f"An input of {len(size)} axes got a map of {heat.values.ndim}. Reduce over "
            "range(2, ndim), never over (2, 3), or refuse with whylens.NeedsNotMet.",
        )
        place = _peak(heat, f"the network reads cell {cell} of {grid} alone")
        off = [abs(p * n - at - 0.5) for p, n, at in zip(place, grid, cell, strict=True)]
        require(
            max(off) <= 0.5 + 1e-6,
            f"On an input of {len(size)} axes the network reads cell {cell} of {grid} alone, but "
            f"the map peaks {max(off):.1f} cells from its middle. Keep the axes in order, and "
            "choose the interpolation by their number.",
        )
    if len(reasons) == 2:
        raise NotApplicable(reasons[0])


def signals(candidate: ExplainerUnderTest) -> None:
    """A signal of several channels is explained, or refused in words."""
    backbone = candidate.network(signal_patches)
    values = candidate.plain_answer(backbone).values
    require(
        np.isfinite(values).all(),
        "A signal's answer holds NaN or infinite values. Reduce over range(2, ndim), never over "
        "(2, 3).",
    )


def _peak(heat: Heatmap, because: str) -> tuple[float, ...]:
    require(
        heat.values.max() > 0,
        f"The map shows no positive evidence, though {because} and it is bright there. Evidence "
        "for the class is positive: check the sign.",
    )
    return peak(heat.values)


def _in_cells(place: tuple[float, ...]) -> str:
    words = ", ".join(f"{p * n:.1f}" for p, n in zip(place, GRID, strict=True))
    return f"({words}) in cells"


def _photo(view: View, cells: list[Cell]) -> Photo:
    # Dim noise, bright where the view will show the cells.
    width, height = view.original
    rng = np.random.default_rng(2)
    pixels = rng.integers(25, 76, (height, width, 3), dtype=np.uint8)
    for row, column in cells:
        x0, y0 = view.to_original(column * CELL, row * CELL)
        x1, y1 = view.to_original((column + 1) * CELL, (row + 1) * CELL)
        pixels[max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)] += 165
    return photo_of(pixels)


def _turn(photo: Photo) -> Photo:
    # The same picture as a camera held upright writes it: lying, with a note to turn it.
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    lying = Image.fromarray(np.rot90(photo.pixels))
    lying.save(stream, "JPEG", quality=95, subsampling=0, exif=exif)
    return read_photo(stream.getvalue())


def _content(input_spec: InputSpec, column: int) -> Tensor:
    black = -torch.tensor(input_spec.mean).view(1, -1, 1, 1) / torch.tensor(input_spec.std).view(
        1, -1, 1, 1
    )
    x = black.expand(1, input_spec.channels, *input_spec.size).clone()
    patch = noise(input_spec)[..., : 2 * CELL, : 2 * CELL]
    x[..., CELL : 3 * CELL, column * CELL : (column + 2) * CELL] = patch
    return x
