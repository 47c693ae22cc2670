"""ROAD: places filled in from their surroundings, by the dense system of the paper, written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.toys import LinearNet, difference, noise, precise, subject_of
from whylens.core.evaluation.hiding import NOISE
from whylens.core.evaluation.imputation import impute
from whylens.core.evaluation.metric import Case
from whylens.core.evaluation.road import ROAD, SHARES, road
from whylens.core.inputs.preprocess import denormalize, normalize
from whylens.core.inputs.spec import InputSpec
from whylens.core.results import Heatmap
from whylens.core.targets import Target


def dense(pixels: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Return (*S) pixels with the hidden ones solved for, by ROAD's equations, float64."""
    places = list(map(tuple, np.argwhere(hidden)))
    row_of = {place: row for row, place in enumerate(places)}
    matrix, right = np.zeros((len(places),) * 2), np.zeros(len(places))
    for place, row in row_of.items():
        for step in np.ndindex((3,) * pixels.ndim):
            offset = np.array(step) - 1
            if not offset.any():
                continue
            weight = {(2, 1): 1 / 6, (2, 2): 1 / 12, (1, 1): 1 / 2}[pixels.ndim, abs(offset).sum()]
            neighbour = tuple((np.array(place) + offset).tolist())
            if not all(0 <= at < side for at, side in zip(neighbour, pixels.shape, strict=True)):
                continue  # its weight is lost
            matrix[row, row] += weight
            if neighbour in row_of:
                matrix[row, row_of[neighbour]] -= weight
            else:
                right[row] += weight * pixels[neighbour]
    values = pixels.copy()
    values[hidden] = np.linalg.solve(matrix, right)
    return values


@pytest.mark.parametrize("shape", [(40,), (13, 18)])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_hidden_places_are_those_of_the_dense_system(shape, share):
    pixels = noise(1, 2, *shape).double()
    hidden = noise(3, 1, *shape, seed=2) < share
    actual = impute(pixels, hidden, tolerance=1e-10)
    expected = [[dense(pixels[0, c].numpy(), h[0].numpy()) for c in range(2)] for h in hidden]
    assert np.abs(actual.numpy() - np.array(expected)).max() < 1e-8
    rough = impute(pixels.float(), hidden)
    assert np.abs(rough.numpy() - np.array(expected)).max() < 5e-3


def test_wide_holes_are_filled_as_well():
    pixels = noise(1, 1, 24, 40).double()
    hidden = torch.zeros(1, 1, 24, 40, dtype=torch.bool)
    hidden[..., 3:, :31] = True
    actual = impute(pixels, hidden, tolerance=1e-10)
    expected = dense(pixels[0, 0].numpy(), hidden[0, 0].numpy())
    assert np.abs(actual[0, 0].numpy() - expected).max() < 1e-8


def test_a_signal_is_filled_in_straight_lines_and_a_plane_stays_one():
    values = torch.tensor([1.0, 9, 9, 9, 5, 9, 9]).double()[None, None]
    hidden = torch.tensor([0, 1, 1, 1, 0, 1, 1]).bool()[None, None]
    actual = impute(values, hidden, tolerance=1e-10)[0, 0]
    assert actual.tolist() == pytest.approx([1, 2, 3, 4, 5, 5, 5])
    plane = (2 * torch.arange(9.0)[:, None] - torch.arange(12.0)).double()[None, None]
    hidden = torch.zeros(1, 1, 9, 12, dtype=torch.bool)
    hidden[..., 2:7, 3:10] = True
    assert (impute(plane, hidden, tolerance=1e-10) - plane).abs().max() < 1e-7


def test_where_nothing_is_known_each_channel_is_its_mean():
    pixels = noise(1, 3, 9, 12)
    masks = torch.zeros(2, 1, 9, 12, dtype=torch.bool)
    masks[1] = True
    actual = impute(pixels, masks)
    assert actual[0].equal(pixels[0])
    mean = pixels.mean((2, 3), keepdim=True)[0].expand(3, 9, 12)
    assert torch.allclose(actual[1], mean, atol=1e-6)


@pytest.mark.parametrize(("order", "sign"), [("morf", 1), ("lerf", -1)])
def test_the_curve_is_written_out_in_pixels_before_normalisation(order, sign):
    input_spec = InputSpec(size=(8, 12), mean=(0.4, 0.5, 0.3), std=(0.25, 0.2, 0.3), crop=1.0)
    module, x = seeded(GapNet()), normalize(noise(1, 3, 8, 12), input_spec)
    subject = subject_of(module, x, Target(2), input_spec=input_spec)
    values = noise(4, 6, seed=1).numpy()
    *_, score = road(subject, Heatmap(values, "x"), order=order, chance=False)
    pixels = denormalize(x, input_spec)[0].double().numpy()
    speckle = torch.randn(x.shape, generator=subject.generator())[0].numpy()
    twin, expected = precise(module), []
    for share in SHARES:
        cells = sorted(np.ndindex(4, 6), key=lambda cell: -sign * values[cell])
        hidden = np.zeros((8, 12), bool)
        for row, column in cells[: round(24 * share)]:
            hidden[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = True
        imputed_pixels = np.stack([dense(channel, hidden) for channel in pixels])
        imputed_pixels += np.where(hidden, NOISE * (pixels.max() - pixels.min()) * speckle, 0)
        exponents = (
            twin(normalize(torch.from_numpy(imputed_pixels)[None], input_spec))[0].detach().exp()
        )
        expected.append(float(exponents[2] / exponents.sum()))
    assert difference(score.curve, expected) < 1e-3
    assert score.value == pytest.approx(np.mean(score.curve))
    assert score.shares == pytest.approx([round(24 * share) / 24 for share in SHARES])
    assert score.passes == 7


def test_a_linear_network_loses_what_the_filled_places_differ_by():
    weights = noise(6, 8) - 0.5
    module = LinearNet(6, 8, channels=1)
    with torch.no_grad():
        module.fc.weight.zero_()
        module.fc.weight[1] = weights.flatten()
    x = noise(1, 1, 6, 8, seed=3)
    subject = subject_of(module, x, Target(1), input_spec=plain_spec(6, 8, channels=1))
    values = noise(6, 8, seed=1).numpy()
    ask = {"shares": (0.5,), "quantity": "logit", "chance": False}
    *_, score = road(subject, Heatmap(values, "x"), order="morf", **ask)
    hidden = values >= np.sort(values.ravel())[24]
    imputed_pixels = dense(x[0, 0].double().numpy(), hidden)
    speckle = NOISE * float(x.max() - x.min()) * torch.randn(x.shape, generator=subject.generator())
    imputed_pixels += np.where(hidden, speckle[0, 0].numpy(), 0)
    bias = float(module.fc.bias.detach()[1])
    assert score.value == pytest.approx((imputed_pixels * weights.numpy()).sum() + bias, abs=2e-3)


@pytest.mark.parametrize(
    ("order", "higher"),
    [
        ("gap", True),  # both of the others, one less the other
        pytest.param("morf", False, marks=pytest.mark.slow),
        pytest.param("lerf", True, marks=pytest.mark.slow),
    ],
)
def test_the_direction_and_the_chance_level_are_as_printed(order, higher):
    def ask(subject, heat):
        *_, last = road(subject, heat, order=order)
        assert last.fraction == 1
        return last

    weights, x = noise(6, 8) - 0.5, 4 * noise(1, 1, 6, 8, seed=1)
    module = LinearNet(6, 8, channels=1, classes=2)
    with torch.no_grad():
        module.fc.weight.zero_()
        module.fc.bias.zero_()
        module.fc.weight[1] = weights.flatten()
    subject = subject_of(module, x, Target(1))
    evidence = (weights * (x - x.mean())[0, 0]).numpy()
    good, bad = (ask(subject, Heatmap(sign * evidence, "x", True)) for sign in (1, -1))
    assert (good.value - bad.value if higher else bad.value - good.value) > 0.05
    assert min(good.value, bad.value) < good.chance < max(good.value, bad.value)
    maps = [Heatmap(noise(6, 8, seed=seed).numpy(), "x") for seed in range(30)]
    random = [ask(subject, heat) for heat in maps]
    values = np.array([score.value for score in random])
    # Beside the spread of these maps, that of the 20 from which the chance level is known.
    error = values.std() * np.sqrt(1 / 30 + 1 / 20)
    assert abs(values.mean() - random[0].chance) < 3 * error


def test_a_map_of_one_place_has_no_order():
    score = ROAD.score(Case(subject_of(seeded(GapNet()), noise(1, 3, 8, 12)), Heatmap([[1]], "x")))
    assert score.value is None
    assert "one place" in score.note
