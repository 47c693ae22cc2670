"""Agreement with captum and pytorch-grad-cam where they are right, and where they are not, why."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.test_grad_cam_pp import literal_weights
from tests.support.networks import seeded
from tests.support.toys import difference, final, noise, subject_of
from whylens.core.targets import Target
from whylens.plugins import _arrays as maps
from whylens.plugins._layers import SignedLayerParams
from whylens.plugins.grad_cam import GradCAM
from whylens.plugins.grad_cam_pp import channel_weights as plus_plus_weights
from whylens.plugins.integrated_gradients import IntegratedGradients, IntegratedGradientsParams
from whylens.plugins.occlusion import Occlusion, OcclusionParams
from whylens.plugins.score_cam import ScoreCAM


class Modules(nn.Module):
    """A network of modules only, as the peers' hooks want it."""

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=stride, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 6, 3, stride=stride, padding=1),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.top = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))

    def features(self, x):
        return self.trunk(x)

    def head(self, f):
        return self.top(self.pool(f).flatten(1))

    def forward(self, x):
        return self.head(self.features(x))


def imported(name: str):
    # Their own imports warn, about packages of theirs; only while importing is that let pass.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return pytest.importorskip(name, reason=f"the peer {name} is not installed")


@pytest.fixture(scope="module")
def captum():
    return imported("captum.attr")


@pytest.fixture(scope="module")
def pgc():
    return imported("pytorch_grad_cam")


def furthest(actual, expected) -> float:
    """Return the largest difference, relative to the largest value."""
    expected = np.asarray(expected, float)
    return float(np.abs(np.asarray(actual, float) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("rule", "captum_rule"), [("midpoint", "riemann_middle"), ("gauss-legendre", "gausslegendre")]
)
@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_integrated_gradients_agree_with_captum_s(captum, rule, captum_rule, baseline):
    module, x = seeded(Modules()), noise(1, 3, 32, 44)
    expected = captum.IntegratedGradients(module).attribute(
        x, baselines=baseline, target=1, n_steps=32, method=captum_rule
    )
    name = "black" if baseline == 0 else "grey"
    params = IntegratedGradientsParams(rule=rule, baseline=name, steps=32, max_steps=32)
    heat = final(IntegratedGradients().explain(subject_of(module, x), params))
    assert furthest(heat.values, expected[0].sum(0).detach()) < 1e-4


def test_captum_s_trapezoid_is_not_complete_on_a_line_and_our_rules_are(captum):
    # Its weights sum to (n - 1) / n; see docs on why there is no such rule here.
    weight = noise(3 * 8 * 9, seed=4)

    def line(x):
        return (x.flatten(1) * weight).sum(1, keepdim=True).repeat(1, 2)

    x = noise(1, 3, 8, 9)
    whole = float(line(x)[0, 0])
    reference = captum.IntegratedGradients(line).attribute(
        x, target=0, n_steps=8, method="riemann_trapezoid"
    )
    assert float(reference.sum()) == pytest.approx(7 / 8 * whole, rel=1e-4)
    middle = captum.IntegratedGradients(line).attribute(
        x, target=0, n_steps=8, method="riemann_middle"
    )
    assert float(middle.sum()) == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (16, 4), (8, 4)])
def test_occlusion_agrees_with_captum_s_where_windows_fit(captum, window, stride):
    module, x = seeded(Modules()), noise(1, 3, 32, 48)
    expected = captum.Occlusion(module).attribute(
        x,
        sliding_window_shapes=(3, window, window),
        strides=(3, stride, stride),
        baselines=0.5,
        target=2,
        perturbations_per_eval=16,
    )
    params = OcclusionParams(window=window, stride=stride)
    heat = final(Occlusion().explain(subject_of(module, x, Target(2)), params))
    assert furthest(heat.values, expected[0, 0]) < 2e-4


def test_where_windows_do_not_fit_captum_cuts_the_last_and_we_anchor_it(captum):
    module, x = seeded(Modules()), noise(1, 3, 36, 44)
    reference = captum.Occlusion(module).attribute(
        x, sliding_window_shapes=(3, 16, 16), strides=(3, 16, 16), baselines=0.5, target=2
    )
    params = OcclusionParams(window=16, stride=16)
    heat = final(Occlusion().explain(subject_of(module, x, Target(2)), params))
    # The corner window of captum's is 4 x 12 pixels: a smaller cover and so a smaller fall.
    assert furthest(heat.values[:20, :28], reference[0, 0][:20, :28]) < 2e-4
    assert furthest(heat.values[32:, 32:], reference[0, 0][32:, 32:]) > 0.1


def test_grad_cam_agrees_with_captum_s(captum):
    module, x = seeded(Modules()), noise(1, 3, 32, 44)
    peer = captum.LayerGradCam(module, module.trunk[3])
    for target in range(3):
        signed = final(
            GradCAM().explain(subject_of(module, x, Target(target)), SignedLayerParams(signed=True))
        )
        assert furthest(signed.values, peer.attribute(x, target=target)[0, 0].detach()) < 1e-5
        expected = peer.attribute(x, target=target, relu_attributions=True)[0, 0].detach()
        if expected.any():
            heat = final(
                GradCAM().explain(subject_of(module, x, Target(target)), SignedLayerParams())
            )
            assert furthest(heat.values, expected) < 1e-5


def stretched(values: np.ndarray) -> np.ndarray:
    values = values - values.min()
    return values / (1e-7 + values.max())


def as_pgc_shows(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map as pytorch-grad-cam returns it: stretched to [0, 1], enlarged, stretched."""
    small = torch.from_numpy(stretched(np.maximum(values, 0)))[None, None]
    return stretched(maps.resize(small, size)[0, 0].numpy())


def pgc_target(pgc, index: int):
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    return [ClassifierOutputTarget(index)]


def test_grad_cam_agrees_with_pytorch_grad_cam_s(pgc):
    module, x = seeded(Modules()), noise(1, 3, 32, 44)
    count = 0
    for target in range(3):
        heat = final(GradCAM().explain(subject_of(module, x, Target(target)), SignedLayerParams()))
        twin = seeded(Modules())  # the peer wants parameters with gradients
        with pgc.GradCAM(model=twin, target_layers=[twin.trunk[3]]) as peer:
            expected = peer(input_tensor=x, targets=pgc_target(pgc, target))[0]
        if heat.values.any():
            count += 1
            assert furthest(as_pgc_shows(heat.values, (32, 44)), expected) < 1e-3
    assert count


def test_score_cam_agrees_with_pytorch_grad_cam_s_where_masks_need_no_enlarging(pgc):
    # Elsewhere its masks are enlarged with aligned corners, ours by half pixels.
    module, x = seeded(Modules(stride=1)), noise(1, 3, 14, 18)
    with torch.no_grad():
        module.top[2].weight *= 50
    exact = {"mode": "exact"} if "mode" in ScoreCAM.Params.model_fields else {}
    params = ScoreCAM.Params(fill="black", **exact)
    heat = final(ScoreCAM().explain(subject_of(module, x), params))
    with pgc.ScoreCAM(model=module, target_layers=[module.trunk[3]]) as peer:
        expected = peer(input_tensor=x, targets=pgc_target(pgc, 1))[0]
    assert furthest(stretched(heat.values), expected) < 1e-3


@pytest.mark.parametrize(("scale", "theirs_is_off"), [(1e-3, 0.5), (1.0, 0.0), (1e3, 0.0)])
def test_pytorch_grad_cam_s_grad_cam_plus_plus_depends_on_the_scale_and_ours_does_not(
    pgc, scale, theirs_is_off
):
    features, gradients = noise(1, 5, 7, 7), scale * (noise(1, 5, 7, 7, seed=9) - 0.5)
    expected = literal_weights(features[0].double().numpy(), gradients[0].double().numpy())
    reference = pgc.GradCAMPlusPlus.get_cam_weights(
        None, None, None, None, features.numpy(), gradients.numpy()
    )[0]
    assert difference(plus_plus_weights(features, gradients).numpy(), expected) < 1e-4
    if theirs_is_off:
        # Its 1e-6 beside 2 g^2 of about 1e-7 swallows most of the weight.
        assert difference(reference, expected) > theirs_is_off
