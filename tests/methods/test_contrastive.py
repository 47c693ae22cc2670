"""Contrastive explanations: what is found is tried on the network; the search is the paper's."""

from __future__ import annotations

import copy
import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.networks import GapNet, MlpHeadNet, plain_spec, seeded
from tests.support.quick import some_quick
from tests.support.toys import LinearNet, difference, final, noise, precise, subject_of
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.backbone import wrap
from whylens.core.targets import Target
from whylens.plugins.contrastive import (
    CONSTANT_GROWTH,
    FIRST_CONSTANT,
    STEP,
    Contrastive,
    ContrastiveParams,
    elastic_net,
    ista_step,
    margin,
    search_bounds,
)

METHOD = Contrastive()
NEGATIVE, POSITIVE = "pertinent negative", "pertinent positive"
SPEC = InputSpec(size=(6, 9), mean=(0.4, 0.5, 0.1), std=(0.2, 0.3, 0.25))


def sought(subject, find=NEGATIVE, **params):
    params.setdefault("steps", 30)  # a third of the default: these inputs are tiny
    return final(METHOD.explain(subject, ContrastiveParams(find=find, **params)))


def linear(scale: float = 3.0) -> nn.Module:
    """Return a linear network without constant, whose classes differ by a good deal."""
    module = seeded(LinearNet(6, 9))
    with torch.no_grad():
        module.fc.weight *= scale
        module.fc.bias.zero_()
    return module


def question(module, find=None, *, input_spec=None, seed=5, **kwargs):
    """Return a question about the class that is chosen."""
    input_spec = input_spec or plain_spec(6, 9)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (input_spec.mean, input_spec.std))
    x = (noise(1, 3, *input_spec.size, seed=seed) - mean) / std
    subject = subject_of(module, x, Target(0), input_spec=input_spec, **kwargs)
    return replace(subject, target=Target(int(subject.forward_pass.logits.argmax())))


class LiteralSearch:
    """The search in numpy, float64, one number at a time where the formula is about numbers."""

    def __init__(self, module, subject, *, find, empty, kappa, beta, input_spec) -> None:
        self.twin, self.index, self.beta, self.kappa = (
            precise(module), subject.target.index, beta, kappa,
        )  # fmt: skip
        self.mean, self.std = np.array(input_spec.mean), np.array(input_spec.std)
        x = subject.x[0].double().numpy()
        self.pixels = np.stack([x[c] * self.std[c] + self.mean[c] for c in range(len(x))])
        empty_value = {"black": 0.0, "grey": 0.5}[empty]
        self.negative = find == NEGATIVE
        self.base = self.pixels if self.negative else np.full_like(self.pixels, empty_value)
        self.low, self.high = np.zeros_like(self.pixels), np.zeros_like(self.pixels)
        for at in np.ndindex(*self.pixels.shape):
            u = self.pixels[at]
            if not self.negative:
                self.low[at], self.high[at] = min(0.0, u - empty_value), max(0.0, u - empty_value)
            elif u >= empty_value:
                self.high[at] = 1 - u
            else:
                self.low[at] = 0 - u
        self.start = np.zeros_like(self.pixels) if self.negative else self.pixels - empty_value

    def loss(self, change, kappa=None):
        """Return max(lead of what is unwanted, -kappa) and its gradient: eq. 2 and eq. 4."""
        leaf = torch.tensor(self.base + change).requires_grad_()
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        logits = self.twin(((leaf - mean) / std)[None])[0]
        rival_logit = torch.cat([logits[: self.index], logits[self.index + 1 :]]).max()
        lead = logits[self.index] - rival_logit
        value = torch.clamp_min(
            lead if self.negative else -lead, -(self.kappa if kappa is None else kappa)
        )
        value.backward()
        return float(value.detach()), leaf.grad.numpy()

    def run(self, steps, constants):
        """Return the smallest change that has the margin."""
        scale = np.abs(self.loss(self.start, np.inf)[1]).max()
        best, best_size, low, high, constant = None, np.inf, 0.0, np.inf, FIRST_CONSTANT
        for _ in range(constants):
            change, succeeded = self.start.copy(), False
            for step in range(steps + 1):
                value, slope = self.loss(change)
                size = self.beta * np.abs(change).sum() + (change**2).sum()
                if value <= -self.kappa:
                    succeeded = succeeded or step > steps / 2
                    if size < best_size:
                        best, best_size = change.copy(), size
                rate = STEP * np.sqrt(1 - min(step, steps - 1) / steps)
                for at in np.ndindex(*change.shape):
                    v = change[at] - rate * (constant / scale * slope[at] + 2 * change[at])
                    if v > rate * self.beta:
                        v -= rate * self.beta
                    elif v < -rate * self.beta:
                        v += rate * self.beta
                    else:
                        v = 0.0
                    change[at] = min(max(v, self.low[at]), self.high[at])
            if succeeded:
                high = constant
            else:
                low = constant
            constant = (low + high) / 2 if high < np.inf else constant * CONSTANT_GROWTH
        return best


@pytest.mark.parametrize(
    ("kind", "find", "empty"),
    # Each with either of the others once: an even number of the second values.
    some_quick(
        itertools.product(["linear", "mlp"], [NEGATIVE, POSITIVE], ["black", "grey"]),
        lambda number, _: number.bit_count() % 2 == 0,
    ),
)
def test_the_search_is_the_paper_s_number_by_number(kind, find, empty):
    module = linear() if kind == "linear" else flipping()
    subject = question(module, input_spec=SPEC, seed=3)  # another class than for an empty input
    assert int(subject.fast_logits(subject.baseline(empty)).argmax()) != subject.target.index
    options = {"find": find, "empty": empty, "kappa": 0.2, "beta": 0.05}
    heat = sought(subject, steps=20, constants=3, **options)
    expected = LiteralSearch(module, subject, input_spec=SPEC, **options).run(20, 3)
    assert expected is not None
    assert heat.diagnostics["found"] == 1
    expected_map = expected.sum(0) if find == NEGATIVE else np.abs(expected).sum(0)
    assert difference(heat.values, expected_map) < 1e-3
    assert heat.diagnostics["L1"] == pytest.approx(np.abs(expected).sum(), rel=1e-3)
    assert heat.diagnostics["L2"] == pytest.approx(np.sqrt((expected**2).sum()), rel=1e-3)


def flipping() -> nn.Module:
    """Return a small network that is not linear, with scores as far apart as a trained one's."""
    module = seeded(MlpHeadNet(width=8))
    with torch.no_grad():
        module.fc.weight *= 20
        module.hidden.weight *= 3
        module.fc.bias.zero_()
    return module


def changed_logits(module, subject, room, change):
    """Return (C,) float64 logits of the input with the change."""
    input_spec = subject.backbone.input_spec
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1)
        for v in (input_spec.mean, input_spec.std)
    )
    with torch.no_grad():
        return precise(module)((room.base.double() + change - mean) / std)[0]


def test_one_step_is_the_proximal_step_number_by_number():
    d, class_gradient = noise(1, 2, 5) - 0.5, 3 * noise(1, 2, 5, seed=6) - 1.5
    low, high = -0.3 * noise(1, 2, 5, seed=7), 0.3 * noise(1, 2, 5, seed=8)
    actual = ista_step(d, class_gradient, 0.07, 0.4, low, high)
    # The minimum of rate (beta |v| + ...) + |v - moved|^2 / 2 within the bounds, by trying all.
    for at in np.ndindex(1, 2, 5):
        step = float(d[at]) - 0.07 * (float(class_gradient[at]) + 2 * float(d[at]))
        grid = np.linspace(float(low[at]), float(high[at]), 20001)
        cost = 0.07 * 0.4 * np.abs(grid) + (grid - step) ** 2 / 2
        assert float(actual[at]) == pytest.approx(grid[cost.argmin()], abs=1e-4)


def test_size_and_margin_are_what_they_say():
    assert elastic_net(torch.tensor([3.0, -4.0]), 0.5) == pytest.approx(0.5 * 7 + 25)
    logits = torch.tensor([1.0, 4.0, 2.5])
    assert margin(logits, 1, torch.tensor([True, False, True])) == pytest.approx(1.5)
    assert margin(logits, 0, torch.tensor([False, False, True])) == pytest.approx(-1.5)


class OnePixel(nn.Module):
    """Two classes: the lead is a weighted sum of the light of three pixels, plus a constant."""

    def __init__(self, weights, bias: float) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([weights, [0.0, 0.0, 0.0]]))
            self.fc.bias.copy_(torch.tensor([bias, 0.0]))

    def forward(self, x):
        return self.fc(x.flatten(1))


def test_what_is_added_is_the_pixel_that_speaks_most_against_the_class():
    module = OnePixel([1.0, -4.0, -1.0], 1.0)
    subject = subject_of(module, torch.tensor([[[0.5, 0.2, 0.4]]]), Target(0))
    heat = sought(subject, kappa=0.0, beta=0.1, constants=9)
    # The lead is 1 + 0.5 - 0.8 - 0.4 = 0.3. Of least squares and sums, over 4 and 1: nearly all on
    # the second pixel, 0.075 by itself.
    assert heat.diagnostics["found"] == 1
    assert heat.values.argmax() == 1
    assert heat.values[1] == pytest.approx(0.075, abs=0.01)
    assert heat.values[0] == 0
    assert abs(heat.values[2]) < 0.02
    assert heat.signed


def test_what_is_kept_is_the_pixel_that_speaks_most_for_the_class():
    module = OnePixel([4.0, 1.0, -2.0], -1.0)
    subject = subject_of(module, torch.tensor([[[0.9, 0.6, 0.4]]]), Target(0))
    heat = sought(subject, POSITIVE, kappa=0.0, beta=0.1, constants=9, steps=100)
    # A quarter of the first pixel's light is enough against the constant.
    assert heat.diagnostics["found"] == 1
    assert heat.values[0] == pytest.approx(0.25, abs=0.03)
    assert abs(heat.values[1]) < 0.03
    assert heat.values[2] == 0
    assert not heat.signed


def changes(subject, find, **params):
    """Return the change of a one-channel question, which is the map itself, with its sign."""
    heat = sought(subject, find, **params)
    assert subject.x.shape[1] == 1
    room = search_bounds(subject, find, params.get("empty", "black"))
    values = torch.from_numpy(np.array(heat.values)).double()[None, None]
    return heat, room, values if find == NEGATIVE else values * room.start.sign()


def one_channel(kind: str) -> nn.Module:
    if kind == "linear":
        module = seeded(LinearNet(6, 9, channels=1))
        with torch.no_grad():
            module.fc.bias.zero_()
        return module
    module = seeded(GapNet(channels=1, width=8))
    with torch.no_grad():
        module.fc.weight *= 30
        module.fc.bias.zero_()
    return module


@pytest.mark.parametrize("empty", ["black", "grey"])
@pytest.mark.parametrize("seed", [2, *(pytest.param(s, marks=pytest.mark.slow) for s in (3, 8))])
@pytest.mark.parametrize("kind", ["linear", "gap"])
def test_the_class_really_changes_when_the_negative_is_added(kind, seed, empty):
    input_spec = InputSpec(size=(6, 9), channels=1, mean=(0.4,), std=(0.2,))
    module = one_channel(kind)
    x = (noise(1, 1, 6, 9, seed=seed) - 0.4) / 0.2
    subject = subject_of(module, x, Target(0), input_spec=input_spec)
    best_class = int(subject.forward_pass.logits.argmax())
    subject = replace(subject, target=Target(best_class))
    heat, room, change = changes(subject, NEGATIVE, empty=empty, kappa=0.1, steps=30)
    assert heat.diagnostics["found"] == 1
    logits = changed_logits(module, subject, room, change)
    new = int(logits.argmax())
    assert new != best_class
    assert heat.diagnostics["class chosen"] == new
    assert heat.diagnostics["margin"] == pytest.approx(
        float(logits[best_class] - logits.max()), abs=1e-3
    )
    assert heat.diagnostics["margin"] <= -0.1
    assert f"chooses class {new} rather than class {best_class}" in heat.note
    assert heat.diagnostics["its probability"] == pytest.approx(
        float(logits.softmax(0)[new]), abs=1e-4
    )
    # Only added: away from what shows nothing, and nowhere beyond what a pixel can be.
    empty_value = {"black": 0.0, "grey": 0.5}[empty]
    before = room.base.double() - empty_value
    assert (change * before >= -1e-6).all()
    assert ((room.base + change) > -1e-6).all()
    assert ((room.base + change) < 1 + 1e-6).all()
    assert heat.diagnostics["places changed"] == pytest.approx(float((change != 0).double().mean()))


@pytest.mark.parametrize("empty", ["black", "grey"])
@pytest.mark.parametrize("seed", [2, *(pytest.param(s, marks=pytest.mark.slow) for s in (3, 8))])
@pytest.mark.parametrize("kind", ["linear", "gap"])
def test_the_class_really_stays_when_only_the_positive_is_shown(kind, seed, empty):
    input_spec = InputSpec(size=(6, 9), channels=1, mean=(0.4,), std=(0.2,))
    module = one_channel(kind)
    x = (noise(1, 1, 6, 9, seed=seed) - 0.4) / 0.2
    subject = subject_of(module, x, Target(0), input_spec=input_spec)
    best_class = int(subject.forward_pass.logits.argmax())
    subject = replace(subject, target=Target(best_class))
    heat, room, change = changes(subject, POSITIVE, empty=empty, kappa=0.1, steps=30)
    assert heat.diagnostics["found"] == 1
    logits = changed_logits(module, subject, room, change)
    assert int(logits.argmax()) == best_class
    assert heat.diagnostics["margin"] >= 0.1
    empty_logits = subject.fast_logits(subject.baseline(empty))[0]
    if margin(empty_logits, best_class, torch.arange(3) != best_class) >= 0.1:
        assert not heat.values.any()
        assert "Nothing needs keeping" in heat.note
        return
    assert heat.values.any()
    assert f"chooses class {best_class}" in heat.note
    assert (change.abs() <= room.start.abs() + 1e-6).all()
    whole = float(room.start.abs().sum())
    assert heat.diagnostics["L1"] < 0.2 * whole
    assert heat.diagnostics["places kept"] < 1


@pytest.mark.parametrize("find", [NEGATIVE, pytest.param(POSITIVE, marks=pytest.mark.slow)])
def test_more_constants_never_make_it_larger(find):
    subject = question(flipping())
    sizes = []
    for constants in (1, 3, 6):
        checks = sought(subject, find, constants=constants, beta=0.1, steps=30).diagnostics
        if checks["found"]:
            sizes.append(0.1 * checks["L1"] + checks["L2"] ** 2)
    assert len(sizes) >= 2
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(sizes))


def test_a_larger_margin_takes_more():
    subject = question(linear())
    small, large = (sought(subject, kappa=k, constants=5).diagnostics for k in (0.0, 2.0))
    assert small["found"] == large["found"] == 1
    assert large["margin"] <= -2 < small["margin"]
    assert large["L1"] > small["L1"]


def test_a_larger_beta_changes_fewer_places():
    subject = question(linear())
    sparse, dense = (sought(subject, beta=b, constants=5).diagnostics for b in (1.0, 0.0))
    assert sparse["found"] == dense["found"] == 1
    assert sparse["places changed"] < dense["places changed"]


def test_of_a_class_that_is_not_chosen_nothing_needs_adding():
    subject = question(linear())
    best_class = subject.target.index
    target = (best_class + 1) % 3
    heat = sought(replace(subject, target=Target(target)))
    assert not heat.values.any()
    assert heat.diagnostics["found"] == 1 or heat.diagnostics["margin"] > -0.1
    assert f"prefers class {best_class} to class {target} as it is" in heat.note


def test_a_part_may_be_enough_for_a_class_that_the_whole_is_not():
    module = OnePixel([3.0, -5.0, 0.0], 0.0)
    subject = subject_of(module, torch.tensor([[[0.9, 0.9, 0.4]]]), Target(0))
    assert int(subject.forward_pass.logits.argmax()) == 1
    heat = sought(subject, POSITIVE)
    assert heat.diagnostics["found"] == 1
    assert heat.values[0] > 0
    assert heat.values[1] < 0.6 * heat.values[0]
    assert heat.diagnostics["class chosen"] == 0


def test_what_cannot_be_found_is_said_and_the_nearest_attempt_shown():
    # Light speaks for the class everywhere: adding light cannot change it, removing is not adding.
    module = OnePixel([4.0, 1.0, 2.0], 1.0)
    subject = subject_of(module, torch.tensor([[[0.9, 0.6, 0.4]]]), Target(0))
    heat = sought(subject)
    assert heat.diagnostics["found"] == 0
    assert not heat.values.any()
    assert "did not find" in heat.note
    assert "class 0 has +6 logits" in heat.note
    one_pixel_net = OnePixel([-1.0, 0.0, 0.0], 5.0)
    heat = sought(subject_of(one_pixel_net, torch.tensor([[[0.4, 0.1, 0.9]]]), Target(0)))
    assert heat.diagnostics["found"] == 0
    assert heat.values[0] > 0.3
    assert "did not find" in heat.note


def test_of_a_contrast_only_the_second_class_counts():
    module = linear()
    subject = question(module)
    best_class = subject.target.index
    for versus in {0, 1, 2} - {best_class}:
        contrast = replace(subject, target=Target(best_class, "contrast", versus))
        heat = sought(contrast)
        assert heat.diagnostics["found"] == 1
        assert heat.diagnostics["margin"] <= -0.1
        assert f"prefers class {versus} rather than class {best_class}" in heat.note


def test_the_scale_of_the_scores_does_not_matter_but_to_the_margin():
    maps = []
    for scale in (1.0, 1000.0):
        subject = question(linear(scale))
        maps.append(sought(subject, kappa=0.0, constants=5).values)
    assert difference(maps[1], maps[0]) < 1e-2


def test_the_limits_of_a_signal_are_its_channels_own():
    x = torch.stack([torch.linspace(-3, 5, 17), 100 * noise(17)])[None]
    module = seeded(GapNet(axes=1, channels=2))
    subject = subject_of(module, x)
    room = search_bounds(subject, NEGATIVE, "black")
    top = (room.base + room.high).amax(-1)[0]
    bottom = (room.base + room.low).amin(-1)[0]
    assert torch.allclose(top, x[0].amax(-1))
    assert torch.allclose(bottom, x[0].amin(-1))
    # Away from 0: what is positive may rise, what is negative fall.
    assert (room.low[x > 0] == 0).all()
    assert (room.high[x < 0] == 0).all()


@pytest.mark.parametrize("find", [NEGATIVE, POSITIVE])
@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_answer_does_not_depend_on_the_batch_size(find, batch_size):
    subject = question(flipping())
    expected = sought(subject, find, steps=20).values
    assert expected.any()
    assert np.array_equal(
        sought(replace(subject, batch_size=batch_size), find, steps=20).values, expected
    )


def test_threads_get_the_answer_that_one_gets():
    subject = question(flipping())
    expected, maps = sought(subject, steps=20).values, []
    threads = [
        threading.Thread(target=lambda: maps.append(sought(subject, steps=20).values))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert expected.any()
    assert len(maps) == 4
    assert all(np.array_equal(f, expected) for f in maps)


@pytest.mark.parametrize("find", [pytest.param(NEGATIVE, marks=pytest.mark.slow), POSITIVE])
def test_parts_get_smaller_once_found_and_fractions_end_at_1(find):
    parts = list(METHOD.explain(question(linear()), ContrastiveParams(find=find)))
    fractions = [p.fraction for p in parts]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert len(parts) > 10
    diagnostics = [p.result.diagnostics for p in parts if p.result.diagnostics["found"]]
    sizes = [0.1 * c["L1"] + c["L2"] ** 2 for c in diagnostics]
    assert len(sizes) > 3
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(sizes))
    assert sizes[-1] < sizes[0]


def test_labels_are_named():
    module = linear()
    backbone = wrap(
        copy.deepcopy(module), input_spec=plain_spec(6, 9), labels=("ant", "bee", "cat")
    )
    subject = question(module, backbone=backbone)
    heat = sought(subject)
    names = ("ant", "bee", "cat")
    label = names[int(heat.diagnostics["class chosen"])]
    assert f"chooses {label} rather than {names[subject.target.index]}." in heat.note
