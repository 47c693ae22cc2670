"""Where maps point: on the right place of the photo, moving with it, and never at nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from core.answers import Question
from core.engine import Engine
from core.errors import NeedsNotMet
from core.models.backbone import wrap
from core.models.spec import InputSpec
from core.results import Heatmap
from core.view import on_original
from tests.conftest import GapNet, plain_spec, seeded
from tests.contract import (
    HOME,
    REGISTRY,
    UNFITTED,
    engine,
    every_unfitted,
    final,
    params,
    refusal,
    values,
)
from tests.toys import NETS, difference, noise, subject_of
from tests.toys import final as last

STRIDE = 4
# Baselines and fills that are the same wherever the picture's content lies.
STEADY = {
    "occlusion": {"fill": "black"},
    "score-cam": {"fill": "black"},
    # Noise stays where it is when the content moves, so there is to be none.
    "smoothgrad": {"noise": 0.0},
    "gradient-shap": {"noise": 0.0},
    # Regions of 4 by 4 pixels, which move with the picture; superpixels are where SLIC puts them.
    "lime": {"fill": "black", "regions": "boxes", "samples": 1000},
    "kernel-shap": {"fill": "black", "regions": "boxes", "samples": 1000},
    "permutation": {"regions": "boxes", "repeats": 20},
}
# These compare a place with the rest of the picture: where the rest has more of what the network
# looks for, the place that it looks at speaks against the class.
COMPARING = {"permutation"}


def steady(method: str, size: tuple[int, int]) -> dict[str, object]:
    fields = REGISTRY.explainers[method].Params.model_fields
    given = {k: v for k, v in STEADY.get(method, {}).items() if k in fields}
    return given | ({"segments": size[0] * size[1] // 16} if "regions" in given else {})


class SpotNet(nn.Module):
    """The score is the light in one cell of a 4-pixel grid; the rest is another channel."""

    def __init__(self, grid: tuple[int, int], spot: tuple[int, int]) -> None:
        super().__init__()
        here = torch.zeros(1, 1, *grid)
        here[(0, 0, *spot)] = 1
        self.here = nn.Parameter(here)
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            gain = 20 * float(np.prod(grid))
            self.fc.weight.copy_(torch.tensor([[gain, 0.0], [-gain, 0.0]]))

    def features(self, x):
        light = functional.avg_pool2d(x, STRIDE).mean(1, keepdim=True)
        return torch.cat([light * self.here, light * (1 - self.here)], 1)

    def head(self, f):
        return self.fc(f.mean((2, 3)))

    def forward(self, x):
        return self.head(self.features(x))


@every_unfitted
@pytest.mark.parametrize("spot", [(0, 0), (3, 5), (7, 11), (4, 0)])
@pytest.mark.parametrize(("size", "crop"), [((101, 160), 0.8), ((333, 251), 0.7), ((40, 61), 1.0)])
def test_a_network_that_reads_one_cell_is_explained_by_that_place_of_the_photo(
    method, spot, size, crop
):
    spec = InputSpec(size=(32, 48), mean=(0.0,) * 3, std=(1.0,) * 3, crop=crop)
    backbone = wrap(SpotNet((8, 12), spot), spec=spec)
    if REGISTRY.explainers[method].class_blind:
        pytest.skip("it does not ask what the score is read from")
    if refusal(method, backbone):
        pytest.skip("not for a network of this kind")
    page = Engine(REGISTRY, loader=lambda name, progress: backbone)
    rng = np.random.default_rng(2)
    photo = rng.integers(90, 256, (*size, 3), dtype=np.uint8)
    given = {**params(method), **steady(method, spec.size)}
    *_, answer = page.explain(Question("spot", photo, target=0), method, given)
    if not isinstance(answer.result, Heatmap):
        pytest.skip("its answer has no places")
    view = answer.view
    whole, seen = on_original(answer.result.values, view)
    assert whole.shape == size
    if method in COMPARING:
        whole = np.abs(whole)
    assert seen.mean() < 1 or crop == 1
    # Several places may share the peak: their middle is what the map points at.
    rows, columns = np.nonzero(whole >= 0.999 * whole.max())
    x, y = view.to_original((spot[1] + 0.5) * STRIDE, (spot[0] + 0.5) * STRIDE)
    half = STRIDE / 2
    assert abs(columns.mean() + 0.5 - x) <= half / view.scale_x
    assert abs(rows.mean() + 0.5 - y) <= half / view.scale_y


def _at(row: int, column: int) -> torch.Tensor:
    x = torch.zeros(1, 3, 48, 64)
    x[:, :, row : row + 9, column : column + 11] = noise(1, 3, 9, 11)
    return x


@every_unfitted
@pytest.mark.parametrize("kind", [*NETS])
def test_moving_the_picture_by_one_stride_moves_the_map(method, kind):
    # The convolutions' own bias is left out, so that empty places look alike to the very edge.
    module = seeded(NETS[kind]())
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                part.bias.zero_()
    backbone = wrap(module, spec=plain_spec(48, 64))
    explainer = REGISTRY.explainers[method]
    if refusal(method, backbone):
        return
    chosen = explainer.Params(**params(method) | steady(method, (48, 64)))
    for target in range(3):
        maps, errors = [], []
        for place in ((12, 20), (16, 16)):
            subject = subject_of(module, _at(*place), backbone=backbone)
            subject = replace(subject, target=replace(subject.target, index=target))
            heat = last(explainer.explain(subject, chosen))
            maps.append(heat.values)
            errors.append(heat.error)
        before, after = maps
        cells = 48 // before.shape[0]
        moved = np.roll(before, (4 // cells, -4 // cells), (0, 1))
        inner = (slice(8 // cells, -(8 // cells)),) * 2
        if moved[inner].any():
            if errors[1] is not None:
                # Another draw for another place: apart by chance, whose size the method states.
                chance = float(np.linalg.norm(np.hypot(*errors)[inner]))
                assert chance < 0.5 * np.linalg.norm(moved[inner])
                assert np.linalg.norm(after[inner] - moved[inner]) < 2 * chance
                return
            assert difference(after[inner], moved[inner]) < 1e-4
            return
    raise AssertionError("blank for every class")


def _dead(module: nn.Module, channels) -> nn.Module:
    with torch.no_grad():
        module.conv.weight[channels] = 0
        module.conv.bias[channels] = -1
    return module


def _silent(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        module.fc.weight[1] = 0  # the class does not depend on the input
    return module


def _one_cell(module: nn.Module) -> nn.Module:
    module.conv = nn.Conv2d(3, 4, (16, 24))
    return seeded(module)


DEGENERATE = {
    "black photo": (lambda: seeded(GapNet()), 0),
    "white photo": (lambda: seeded(GapNet()), 255),
    "grey photo": (lambda: seeded(GapNet()), 127),
    "zero gradient": (lambda: _silent(seeded(GapNet())), None),
    "zero gradient of a black photo": (lambda: _silent(seeded(GapNet())), 0),
    "dead channel": (lambda: _dead(seeded(GapNet()), [1]), None),
    "dead channels": (lambda: _dead(seeded(GapNet()), [0, 1, 2, 3]), None),
    "single position": (lambda: _one_cell(GapNet()), None),
}


@every_unfitted
@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("quantity", ["logit", "probability", "contrast"])
def test_degenerate_input_gives_a_finite_map_a_reason_or_a_typed_refusal(method, case, quantity):
    make, colour = DEGENERATE[case]
    backbone = wrap(make(), spec=plain_spec(16, 24))
    page = Engine(REGISTRY, loader=lambda name, progress: backbone)
    pixels = np.full((33, 47, 3), colour or 0, np.uint8)
    if colour is None:
        pixels = np.random.default_rng(1).integers(0, 256, pixels.shape, dtype=np.uint8)
    question = Question("toy", pixels, target=1, quantity=quantity)
    if refusal(method, backbone):
        assert case in ("dead channels", "single position") or HOME[method] != "gap"
        with pytest.raises(NeedsNotMet, match="is not available on"):
            final(page, question, method)
        return
    answer = final(page, question, method)
    assert np.isfinite(values(answer)).all()
    if isinstance(answer.result, Heatmap):
        assert all(np.isfinite(v) for v in answer.result.checks.values())
        spread = float(np.ptp(answer.result.values))
        # What is flat, or only rounding, is said to be blank; what is not is not.
        assert bool(answer.reason) == (spread <= 1e-6 * np.abs(answer.result.values).max())
        # Whether a class is chosen is a matter of the others as well, which do have gradients.
        others = method in ("score-cam", "contrastive")
        hears = not (others or REGISTRY.explainers[method].class_blind)
        if case.startswith("zero gradient") and quantity == "logit" and hears:
            assert not answer.result.values.any()


@pytest.mark.parametrize(
    ("method", "given"),
    [("occlusion", {"fill": "black"}), ("integrated-gradients", {"baseline": "black"})],
)
def test_rounding_is_not_painted_on_a_photo_in_which_nothing_can_change(method, given):
    question = Question("toy", np.zeros((33, 47, 3), np.uint8), target=1)
    *_, answer = engine("gap", batch_size=3).explain(question, method, {**params(method), **given})
    assert "zero everywhere" in answer.reason


def test_every_method_is_under_contract():
    assert len(UNFITTED) >= 6
