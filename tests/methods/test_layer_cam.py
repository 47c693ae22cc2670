"""LayerCAM: its equations written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.support.networks import GapNet, MlpHeadNet
from tests.support.toys import CASES, IDS, difference, final, picture, slopes64, subject_of, toy
from whylens.plugins.layer_cam import LayerCAM

METHOD = LayerCAM()


def literal(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    values = np.zeros(features.shape[1:])
    for place in itertools.product(*map(range, values.shape)):
        total = 0.0
        for k in range(len(features)):
            total += max(gradients[k][place], 0) * features[k][place]  # eqs. 5 and 6
        values[place] = max(total, 0)  # eq. 7
    return values


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_paper_s_formula_position_by_position(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    heat = final(METHOD.explain(subject_of(module, x, target), METHOD.Params()))
    assert difference(heat.values, literal(*slopes64(module, x, target))) < 1e-5
    assert (heat.signed, heat.unit) == (False, target.unit)
