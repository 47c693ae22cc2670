"""RELAX: the authors' running mean written out, and what it shows of a network without classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, MlpHeadNet
from tests.support.toys import (
    SIZES,
    difference,
    final,
    picture,
    precise,
    subject_of,
    toy,
)
from whylens.core.targets import Target
from whylens.plugins._random_masks import random_masks
from whylens.plugins.relax import RELAX, RELAXParams

METHOD = RELAX()


def relax(subject, **params):
    return final(METHOD.explain(subject, RELAXParams(**params)))


# The head of the second is not linear: its vector is the mean of the feature map all the same.
@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize("axes", SIZES)
def test_the_map_is_the_authors_running_mean_less_the_mean_of_all_cosines(axes, kind):
    module, x = toy(axes, kind), picture(axes)
    subject = subject_of(module, x)
    generator = subject.generator()
    masks = torch.cat([random_masks(16, subject.size, 3, 0.5, generator) for _ in range(4)])
    twin, fill = precise(module), subject.baseline("grey").double()

    def vector(inputs):
        with torch.no_grad():
            return twin.features(inputs).flatten(2).mean(-1)[0].numpy()

    whole = vector(x.double())
    weights, importance, cosines = np.full(subject.size, 1e-10), np.zeros(subject.size), []
    for mask in masks.double():
        masked_vector = vector(fill + mask[None] * (x.double() - fill))
        cosines.append(
            masked_vector @ whole / np.linalg.norm(masked_vector) / np.linalg.norm(whole)
        )
        weights += mask[0].numpy()
        importance += mask[0].numpy() * (cosines[-1] - importance) / weights
    heat = relax(subject, masks=64, cells=3, fill="grey")
    assert difference(heat.values, importance - np.mean(cosines)) < 1e-3
    assert (heat.unit, heat.signed) == ("cosine", True)


def test_the_error_foretells_another_seed_and_the_class_changes_nothing():
    module, x = toy(2), picture(2)
    first, second = (relax(subject_of(module, x, Target(i)), masks=128, cells=4) for i in (0, 1))
    assert np.array_equal(first.values, second.values)
    assert first.error.max() > 0
    assert first.values.max() > 2 * first.error.mean()


def test_a_network_whose_vector_never_changes_has_a_blank_map():
    module = toy(2)
    with torch.no_grad():
        module.conv.weight.zero_()
        module.conv.bias.copy_(torch.arange(1.0, 5.0))
    heat = relax(subject_of(module, picture(2)), masks=64)
    assert not heat.values.any()
