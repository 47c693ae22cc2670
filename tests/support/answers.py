"""An answer to write, draw and read."""

from __future__ import annotations

from functools import cache

import numpy as np

from tests.support.networks import GapNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.explanation import Explanation, Question
from whylens.core.models.backbone import wrap
from whylens.core.progress import last_of


@cache
def occlusion() -> Explanation:
    """Return an occlusion of a wide photo by a toy network."""
    input_spec = plain_spec(32, 32)
    engine = Engine(loader=lambda name, progress: wrap(seeded(GapNet()), input_spec=input_spec))
    pixels = np.random.default_rng(2).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    question = Question("toy", pixels, quantity="contrast", target=1, seed=4)
    params = {"window": 16, "stride": 8, "fill": "blur"}
    return last_of(engine.explain(question, "occlusion", params))
