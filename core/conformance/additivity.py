"""Tests 3, 4 and 5: where the truth is a sum, the map says that sum.

The networks are linear, or linear above their feature map.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from whylens.core.conformance.outcome import NotApplicable, difference, require
from whylens.core.conformance.toy_inputs import GRID, SIZE, noise
from whylens.core.conformance.toy_networks import (
    LinearNet,
    gradient_reader,
    patches,
    plain_spec,
    randomise,
    with_change,
)
from whylens.core.conformance.under_test import Answer, ExplainerUnderTest
from whylens.core.evaluation.agreement import cosine, on_grid, rank_correlation
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.needs import Need
from whylens.core.results import Heatmap
from whylens.core.words import percent

GAP, CHANGE = "completeness gap", "score change"
SCALES = (1e-3, 1e3)


def linear_rank(candidate: ExplainerUnderTest) -> None:
    """On a picture of one colour a linear network's places rank as its weights do."""
    candidate.needs_places()
    backbone, weights = candidate.network(gradient_reader)
    heat = candidate.answer(backbone, torch.full((1, 3, *SIZE), 0.8), 0).heat
    if not heat.values.any():
        raise NotApplicable("a picture of one colour shows it nothing: it compares places")
    explainer, truth = candidate.explainer, weights.clamp_min(0).numpy()
    if explainer.sign_blind:
        require(
            not heat.signed and "not in which direction" in explainer.limits,
            "It declares sign_blind; its map must then have no negative values, and limits must "
            'tell visitors that it shows how strongly a place counts, "not in which direction".',
        )
        truth = weights.abs().numpy()
    elif heat.signed:
        truth = weights.numpy()
    agreement = rank_correlation(on_grid(heat.values, GRID), truth)
    require(
        agreement >= 0.9,
        "The network adds up the light of its cells by weights that slope across the picture; the "
        f"picture is of one colour. The map's ranks agree with the weights by {agreement:.2f} "
        "(Spearman), 0.9 is owed. Divide by how often each place was covered, keep the sign, and "
        "say signed=True only where negative values are kept.",
    )


def linear_shares(candidate: ExplainerUnderTest) -> None:
    """On a linear network shares are w (x - x0) exactly; with ReLUs the stated gap is true."""
    candidate.needs_places()
    backbone = candidate.network(_linear)
    x = noise(backbone.input_spec)
    heat = _complete(candidate.answer(backbone, x, 1))
    weight = backbone.module.get_parameter("fc.weight")[1].view(3, -1).double().numpy()
    pixels = x[0].flatten(1).double().numpy()
    # Whatever the baseline, if it is of one colour: w x minus the map is w times that colour.
    remainder = (weight * pixels).sum(0) - heat.values.ravel()
    colour, *_ = np.linalg.lstsq(weight.T, remainder, rcond=None)
    error = difference(weight.T @ colour + heat.values.ravel(), (weight * pixels).sum(0))
    require(
        error < 1e-4,
        "On a linear network a complete method gives every pixel w (x - x0), with x0 of one "
        f"colour; the map misses that by {percent(error, 1)}. The weights of a path's points add "
        "up to 1, channels are summed after multiplying, and the trial's baseline is of one "
        "colour.",
    )
    for word in ("functional", "module"):
        heat = _complete(candidate.answer(candidate.network(_rectifier, word), x, 1))
        change, stated_gap = heat.diagnostics[CHANGE], heat.diagnostics[GAP]
        gap = abs(float(heat.values.sum(dtype=np.float64)) - change) / max(abs(change), 1e-6)
        require(
            gap <= stated_gap + 1e-3 and stated_gap <= 0.05,
            f"With {word} ReLUs the shares miss the score's change by {percent(gap, 1)} of it; the "
            f"map says {percent(stated_gap, 1)}, and 5 % are allowed. Where the rule does not "
            "cover a network, raise whylens.NeedsNotMet instead of falling back to gradients.",
        )


def _linear() -> Backbone:
    return wrap(randomise(LinearNet()), input_spec=plain_spec())


def _rectifier(relu: str) -> Backbone:
    act = nn.ReLU() if relu == "module" else None
    return wrap(randomise(_Rectified(act)), input_spec=plain_spec())


class _Rectified(nn.Module):
    """Two layers with a ReLU between them, a module or a function; no feature map."""

    def __init__(self, act: nn.Module | None) -> None:
        super().__init__()
        self.hidden = nn.Linear(LinearNet().fc.in_features, 12)
        self.act = act
        self.fc = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.hidden(x.flatten(1))
        scores: torch.Tensor = self.fc(inner.relu() if self.act is None else self.act(inner))
        return scores


def cam_identity(candidate: ExplainerUnderTest) -> None:
    """Where a head pools and is linear: the map's mean plus the class's bias is the logit."""
    candidate.needs_places()
    if Need.POOLED_LINEAR_HEAD not in candidate.explainer.needs:
        raise NotApplicable("it does not declare Need.POOLED_LINEAR_HEAD")
    backbone = candidate.network(patches)
    x = noise(backbone.input_spec)
    for target in range(3):
        answer = candidate.answer(backbone, x, target)
        if backbone.linear is None:
            raise NotApplicable("this network's head is not linear")
        bias, score = float(backbone.linear.bias[target]), answer.subject.score
        recovered_score = float(answer.heat.values.mean(dtype=np.float64)) + bias
        require(
            abs(recovered_score - score) <= 1e-4 * max(1.0, abs(score)),
            f"On a head that pools and applies one linear layer, class {target} scores "
            f"{score:.4f}, but the map's mean plus the class's bias is {recovered_score:.4f}. "
            "Weigh the feature map by the class's own row of weights, and cut off nothing.",
        )


def one_channel(candidate: ExplainerUnderTest) -> None:
    """Where a class reads one channel, a map made of features and gradients is that channel."""
    candidate.needs_places()
    if not {Need.GRADIENTS, Need.SPATIAL_FEATURES} <= candidate.explainer.needs:
        raise NotApplicable("it does not weigh feature maps by gradients")
    for target in range(3):
        backbone = candidate.network(_one_channel_head, target)
        answer = candidate.answer(backbone, noise(backbone.input_spec, 5 + target), target)
        channel = answer.subject.features[0, target].numpy()
        if answer.heat.values.shape != channel.shape:
            raise NotApplicable("its map is finer than the feature map")
        likeness = cosine(answer.heat.values, channel)
        require(
            likeness > 0.9999,
            f"Class {target} reads channel {target} alone, through a mean over places, and the "
            "others its opposite: CAM, Grad-CAM and their kin are then that channel up to scale. "
            f"The map's cosine with it is {likeness:.4f}. Use the gradient of the score with "
            "respect to this very layer.",
        )


def _one_channel_head(target: int) -> Backbone:
    def one_channel(module: nn.Module) -> None:
        weight = module.get_parameter("fc.weight")
        # The others read its opposite, so that it is the evidence against rivals as well; unevenly,
        # since a network whose scores balance looks dead to a probe.
        weight.zero_()
        weight[:, target] = torch.tensor([-5.0, -10.0, -15.0])
        weight[target, target] = 20

    return with_change(patches(), one_channel)


def scale_of_scores(candidate: ExplainerUnderTest) -> None:
    """Scores a thousand times larger or smaller leave the map's form; raw values grow with them."""
    candidate.needs_places()
    if Need.GRADIENTS not in candidate.explainer.needs:
        raise NotApplicable("it uses no gradients")
    plain = candidate.plain_answer(candidate.network(patches), 1)
    if "probability" in plain.heat.unit:
        raise NotApplicable("it goes by probabilities, which the size of scores does change")
    for scale in SCALES:
        rescaled = candidate.plain_answer(candidate.network(_scaled_backbone, scale), 1)
        likeness = cosine(rescaled.heat.values, plain.heat.values)
        require(
            likeness > 0.999,
            f"All scores times {scale:g}, which changes no decision, changes the form of the map: "
            f"cosine {likeness:.4f}. Guard divisions relative to their size, never by adding a "
            "fixed epsilon.",
        )
        if not (plain.heat.signed and plain.subject.unit in plain.heat.unit):
            continue
        error = difference(rescaled.heat.values, scale * plain.heat.values)
        require(
            error < 1e-2,
            f"The map is signed and in units of the score ({plain.heat.unit!r}), but with all "
            f"scores times {scale:g} its values are not. Values stay raw: leave normalising to "
            "the page, or state another unit.",
        )


def _scaled_backbone(scale: float) -> Backbone:
    def multiply(module: nn.Module) -> None:
        for name in ("fc.weight", "fc.bias"):
            module.get_parameter(name).mul_(scale)

    return with_change(patches(), multiply)


def _complete(answer: Answer) -> Heatmap:
    heat = answer.heat
    if GAP not in heat.diagnostics or CHANGE not in heat.diagnostics:
        raise NotApplicable(
            f"it does not claim completeness: no {GAP!r} and {CHANGE!r} in its checks"
        )
    if heat.error is not None:
        raise NotApplicable("it is complete on average only: its map has a standard error")
    return heat
