"""Random weights: figures written out, what owes nothing to the training, what cannot be asked."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import entropy, spearmanr
from torch import nn

from tests.support.cases import contributions, linear_case
from tests.support.networks import GapNet, seeded
from tests.support.toys import attention_net, noise, subject_of
from whylens.core.errors import NeedsNotMet
from whylens.core.evaluation.metric import Case
from whylens.core.evaluation.randomised_weights import (
    ENTROPY,
    SEEDS,
    SIGNED,
    SIZES,
    randomised_backbone,
    randomised_subjects,
)
from whylens.core.models.backbone import wrap
from whylens.core.models.black_box import BlackBox
from whylens.core.results import Heatmap
from whylens.core.storage.artifacts import Artifact
from whylens.core.storage.cache import ByteLRU

ALL = (SIGNED, SIZES, ENTROPY)


def edges(subject) -> Heatmap:
    """Return a map that no network has a part in."""
    return Heatmap(subject.x[0].sum(0).diff(dim=-1).abs().numpy(), "contrast")


def written_out_entropy(values: np.ndarray) -> float:
    low, high = float(values.min()), float(values.max())
    counts = [0] * 100
    for value in values.ravel().tolist():
        counts[min(99, int((value - low) / (high - low) * 100))] += 1
    return float(entropy([count / values.size for count in counts]))


def test_the_figures_are_means_over_seeds_of_what_stands_in_the_papers():
    case = linear_case(12, 16)
    maps = [contributions(case.randomised(seed)).values for seed in range(SEEDS)]
    first = case.heat.values
    expected = np.mean([spearmanr(first, m, axis=None).statistic for m in maps])
    sizes = np.mean([spearmanr(abs(first), abs(m), axis=None).statistic for m in maps])
    before = written_out_entropy(first.astype(float))
    gains = [(written_out_entropy(m.astype(float)) - before) / before for m in maps]
    assert SIGNED.score(case).value == pytest.approx(expected, abs=1e-4)
    assert SIZES.score(case).value == pytest.approx(sizes, abs=1e-4)
    assert ENTROPY.score(case).value == pytest.approx(np.mean(gains), abs=1e-2)
    pairs = [spearmanr(maps[i], maps[j], axis=None).statistic for i in range(5) for j in range(i)]
    assert f"agree with each other by {np.mean(pairs):.2f}." in SIGNED.score(case).note


def test_the_exact_map_of_a_linear_network_is_unlike_and_edges_stay_what_they_are():
    case = linear_case(12, 16)
    blind = replace(case, heat=edges(case.subject), explain=edges)
    assert abs(SIGNED.score(case).value) < 0.15
    assert SIGNED.score(blind).value == pytest.approx(1)
    assert SIZES.score(blind).value == pytest.approx(1)
    assert ENTROPY.score(blind).value == pytest.approx(0)


def test_a_map_turned_over_is_like_by_size_and_unlike_by_sign():
    case = linear_case(12, 16)

    def opposite_map(subject):
        return Heatmap(-case.heat.values, "x", signed=True)

    case = replace(case, explain=opposite_map)
    assert SIGNED.score(case).value == pytest.approx(-1)
    assert SIZES.score(case).value == pytest.approx(1)


def test_all_three_share_five_networks_and_later_inputs_ask_none():
    subjects = []

    def counting(subject):
        subjects.append(subject)
        return contributions(subject)

    case = replace(linear_case(), explain=counting, cache={})
    scores = [metric.score(case) for metric in ALL]
    assert len(subjects) == SEEDS
    assert len({item.backbone.identity.digest for item in subjects}) == SEEDS
    later = replace(case, heat=edges(case.subject))
    assert [metric.score(later).value for metric in ALL] == [score.value for score in scores]
    assert len(subjects) == SEEDS
    assert SIGNED.score(replace(later, cache={})).value != scores[0].value


def test_scores_come_one_network_after_the_other():
    steps = list(SIGNED.steps(linear_case()))
    assert [step.fraction for step in steps] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    half = SIGNED.steps(linear_case(6, 8))
    next(half)
    half.close()


@pytest.mark.parametrize("make", [GapNet, attention_net], ids=["convolutions", "transformer"])
def test_every_weight_is_drawn_anew_and_the_network_itself_is_left_alone(make):
    backbone = wrap(
        seeded(make()),
        input_spec=subject_of(seeded(GapNet()), noise(1, 3, 16, 24)).backbone.input_spec,
    )
    before = {name: p.clone() for name, p in backbone.module.named_parameters()}
    twins = [randomised_backbone(backbone, seed) for seed in (0, 0, 1)]
    for name, old in before.items():
        new = [twin.module.get_parameter(name) for twin in twins]
        assert torch.equal(backbone.module.get_parameter(name), old)
        assert torch.equal(new[0], new[1])
        assert not torch.equal(new[0], new[2])
        assert not torch.isclose(new[0], old).all(), name
    assert twins[0].identity.digest == twins[1].identity.digest != twins[2].identity.digest
    assert not twins[0].identity.trained
    assert twins[0].labels == backbone.labels


def test_layers_of_one_shape_get_weights_of_their_own():
    # Not so where the seed is set anew for each layer, as in Quantus.
    module = nn.Sequential(*(nn.Conv2d(3, 3, 3) for _ in range(3)), nn.Flatten())
    input_spec = subject_of(seeded(GapNet()), noise(1, 3, 16, 24)).backbone.input_spec
    random_net = randomised_backbone(wrap(module.eval(), input_spec=input_spec), 0).module
    layers = [layer.weight for layer in random_net.modules() if isinstance(layer, nn.Conv2d)]
    assert len(layers) == 3
    for first, second in combinations(layers, 2):
        r = float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])
        assert abs(r) < 0.4  # of 81 independent weights about 0.11, of equal ones 1


def test_networks_are_made_once_where_a_cache_is_at_hand():
    subject = linear_case().subject
    cache = ByteLRU(10**9, lambda b: b.bytes)
    first, second = (randomised_subjects(subject, cache)(3).backbone for _ in range(2))
    assert first is second
    assert len(cache.cached_keys()) == 1


def test_it_says_why_it_cannot_be_asked():
    case = linear_case()
    artifact_case = replace(case, subject=replace(case.subject, stored_artifact=Artifact({}, {})))
    assert SIGNED.score(artifact_case).value is None
    assert "fitted to the trained network" in SIGNED.score(artifact_case).note
    box = subject_of(BlackBox(lambda x: x.flatten(1)[:, :3]), noise(1, 1, 6, 8))
    assert randomised_subjects(box) is None
    with pytest.raises(NeedsNotMet, match="no weights"):
        randomised_backbone(box.backbone, 0)
    unknown = SIGNED.score(Case(box, case.heat, contributions, randomised_subjects(box)))
    assert unknown.note == "It cannot be asked here: the network's weights cannot be exchanged."
    score = SIGNED.score(replace(case, explain=None))
    assert "only the map is known" in score.note
    flat = ENTROPY.score(replace(case, heat=Heatmap(np.ones((6, 8)), "x")))
    assert (flat.value, flat.note[:29]) == (None, "The map is the same all over:")

    def refuses(subject):
        raise NeedsNotMet("It needs a head that is linear.")

    assert SIGNED.score(replace(case, explain=refuses)).note == "It needs a head that is linear."
