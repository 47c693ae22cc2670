"""Agreement with Quantus where it is right, by figures that `quantus_figures.py` stored."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.support.quantus_figures import FILE, cases, positive
from whylens.core.evaluation.curves import aopc, deletion
from whylens.core.evaluation.in_mask import mass_in_mask, pointing_game, rank_in_mask
from whylens.core.evaluation.shape import complexity, sparseness
from whylens.core.evaluation.steadiness import MAX_SENSITIVITY
from whylens.core.results import Heatmap

STORED = json.loads(FILE.read_text())["figures"]


@pytest.mark.parametrize(("case", "stored"), list(zip(cases(), STORED, strict=True)))
def test_metrics_agree_with_quantus(case, stored):
    heat, mask, figures = case.heat, case.mask, dict(stored)
    curves = {"steps": 16, "fill": "mean", "chance": False}
    *_, hidden = deletion(case.subject, heat, **curves)
    *_, loss = aopc(case.subject, heat, **curves)
    # Quantus' curve lacks the input itself.
    probabilities = [hidden.curve[0], *figures.pop("deletion")]
    assert hidden.curve == pytest.approx(probabilities, abs=1e-5)
    assert loss.value == pytest.approx(probabilities[0] - np.mean(probabilities), abs=1e-5)
    actual = {
        "sparseness": sparseness(heat),
        "complexity": complexity(heat) * np.log(64),  # ours is a share of a flat map's
        "mass-in-mask": mass_in_mask(Heatmap(positive(case), "x"), mask).value,
        "rank-in-mask": rank_in_mask(heat, mask).value,
        "pointing-game": pointing_game(heat, mask, tolerance=0).value,
        "max-sensitivity": MAX_SENSITIVITY.score(case).value,
    }
    assert actual == pytest.approx(figures, rel=1e-4, abs=1e-5)
