"""How concentrated a map is: figures that describe, and say nothing about being right.

Both hang on the resolution, so that all maps are put on one grid first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from whylens.core.evaluation.agreement import Floats, on_grid
from whylens.core.evaluation.metric import Case, Metric, Score
from whylens.core.results import Heatmap

CELLS = 8  # along each axis


def sparseness(heat: Heatmap) -> float:
    """Return the Gini index of a map's absolute values, 0 of a flat one to nearly 1 of one place.

    Source: Chalasani et al. 2020, Concise Explanations, sec. 5; without the 1e-7 that libraries
    add, which hangs on the map's unit.

    Args:
        heat: Not blank.
    """
    sizes = np.sort(_sizes(heat))
    n = len(sizes)
    return float((2 * np.arange(1, n + 1) - n - 1) @ sizes / (n * sizes.sum()))


def complexity(heat: Heatmap) -> float:
    """Return the entropy of a map's absolute values as shares, 0 of one place to 1 of a flat map.

    Source: Bhatt et al. 2020, Evaluating and Aggregating, definition 4, over that of a flat map.

    Args:
        heat: Not blank.
    """
    sizes = _sizes(heat)
    shares = sizes[sizes > 0] / sizes.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(len(sizes)))


def _sizes(heat: Heatmap) -> Floats:
    return on_grid(np.abs(heat.values), (CELLS,) * heat.values.ndim).ravel()


def _measure(read: Callable[[Heatmap], float]) -> Callable[[Case], Iterator[Score]]:
    def measure(case: Case) -> Iterator[Score]:
        if case.heat.values.any():
            yield Score(read(case.heat))
        else:
            yield Score(None, note="The map is blank: it has no shape.")

    return measure


SPARSENESS = Metric(
    name="sparseness",
    title="Sparseness",
    summary="How few places hold the map's values? It describes, and is no quality.",
    source="Chalasani et al. 2020: Gini index of absolute values, on 8 cells an axis.",
    direction="none",
    measure=_measure(sparseness),
)
COMPLEXITY = replace(
    SPARSENESS,
    name="complexity",
    title="Complexity",
    summary="Over how many places do the map's values spread? It describes, and is no quality.",
    source="Bhatt et al. 2020: entropy of absolute values over that of a flat map, on 8 cells.",
    measure=_measure(complexity),
)
