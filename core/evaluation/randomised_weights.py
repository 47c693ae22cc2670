"""Random weights: is a map of the trained network another than those of untrained ones?

What owes nothing to the training, such as a detector of edges, stays what it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from whylens.core.errors import CoreError, NeedsNotMet
from whylens.core.evaluation.agreement import likeness
from whylens.core.evaluation.metric import Asks, Case, Metric, Score, require
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.models.random_weights import randomize_weights
from whylens.core.results import Heatmap
from whylens.core.storage.cache import ByteLRU
from whylens.core.storage.files import parameters_sha256
from whylens.core.subject import Subject

SEEDS = 5
_CACHED = "random weights"


def randomised_backbone(backbone: Backbone, seed: int) -> Backbone:
    """Return a copy of a network with all weights drawn anew, its tokens and scales among them.

    Raises:
        NeedsNotMet: It has no weights that are known.
    """
    if not any(True for _ in backbone.module.parameters()):
        raise NeedsNotMet(f"{backbone.name} has no weights that are known.")
    module = copy.deepcopy(backbone.module)
    randomize_weights(module, seed=seed, probe=backbone.probe_inputs())
    identity = replace(
        backbone.identity,
        digest=parameters_sha256(module),
        source=f"random weights of seed {seed}",
        trained=False,
        notes=(),
        folder=None,
    )
    return wrap(
        module,
        input_spec=backbone.input_spec,
        labels=backbone.labels,
        identity=identity,
        outputs=backbone.outputs,
        unit=backbone.unit,
    )


def randomised_subjects(
    subject: Subject, cache: ByteLRU[tuple[str, int], Backbone] | None = None
) -> Callable[[int], Subject] | None:
    """Return what asks the same of the network with random weights, by seed; None without weights.

    Args:
        cache: Of networks by digest and seed, for whoever asks of many inputs or methods.
    """
    backbone = subject.backbone
    if not any(True for _ in backbone.module.parameters()):
        return None

    def ask(seed: int) -> Subject:
        def make() -> Backbone:
            return randomised_backbone(backbone, seed)

        network = cache.get((backbone.identity.digest, seed), make) if cache else make()
        forward_pass = ForwardPass(network, subject.x)
        return replace(subject, forward_pass=forward_pass, stored_artifact=None)

    return ask


@dataclass(frozen=True)
class RandomWeights:
    """How a map compares with those of networks with random weights, one figure per seed.

    Attributes:
        signed: Spearman's correlation with the map, -1 to 1.
        sizes: The same of absolute values.
        entropy: How much more complex the map became, as a share; empty where the map is flat.
        among: Spearman's correlation of the random networks' maps with each other, per pair.
    """

    signed: tuple[float, ...]
    sizes: tuple[float, ...]
    entropy: tuple[float, ...]
    among: tuple[float, ...]


def random_weights(case: Case) -> Iterator[RandomWeights]:
    """Yield the comparison of a map with those of ever more random networks, up to `SEEDS`.

    Source: Adebayo et al. 2018, Sanity Checks for Saliency Maps, sec. 4: the last step of the
    cascade, all weights at once, so that no order of layers matters (Binder et al. 2023 on what
    it does); Hedstroem et al. 2024, Sanity Checks Revisited, eq. 9, for the entropy.

    Raises:
        NeedsNotMet: The case does not hold a method and networks, or the method was fitted.
    """
    explain, randomised = require(case, "method"), require(case, "randomised")
    if case.subject.stored_artifact is not None:
        raise NeedsNotMet(
            "It cannot be asked here: the method was fitted to the trained network, and would have "
            "to be fitted to each random one."
        )
    before, maps = histogram_entropy(case.heat), list[Heatmap]()
    for seed in range(SEEDS):
        maps.append(explain(randomised(seed)))
        yield RandomWeights(
            tuple(likeness(case.heat, heat) for heat in maps),
            tuple(likeness(case.heat, heat, sizes_only=True) for heat in maps),
            tuple((histogram_entropy(heat) - before) / before for heat in maps if before),
            tuple(likeness(a, b) for a, b in combinations(maps, 2)),
        )


def histogram_entropy(heat: Heatmap) -> float:
    """Return the entropy of a histogram of 100 bins of a map's values, in nats; 0 of a flat one."""
    values = np.asarray(heat.values, np.float64)
    if values.min() == values.max():
        return 0.0
    counts, _ = np.histogram(values, bins=100)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _measure(
    read: Callable[[RandomWeights], tuple[float, ...]],
) -> Callable[[Case], Iterator[Score]]:
    def measure(case: Case) -> Iterator[Score]:
        cached = None if case.cache is None else case.cache.get(_CACHED)
        if isinstance(cached, RandomWeights):
            yield _score(cached, read)
            return
        if not np.ptp(case.heat.values):
            yield Score(None, note="The map is the same all over: nothing in it can change.")
            return
        comparison = None
        try:
            for comparison in random_weights(case):
                networks = len(comparison.signed)
                if networks == SEEDS and case.cache is not None:
                    case.cache[_CACHED] = comparison
                yield replace(_score(comparison, read), passes=networks, fraction=networks / SEEDS)
        except CoreError as exc:
            yield Score(None, note=str(exc))

    return measure


def _score(comparison: RandomWeights, read: Callable[[RandomWeights], tuple[float, ...]]) -> Score:
    figures = read(comparison)
    if not figures:
        return Score(None, note="The map is the same all over: nothing in it can change.")
    note = ""
    if comparison.among:
        note = (
            "Maps of networks with random weights agree with each other by "
            f"{np.mean(comparison.among):.2f}."
        )
    return Score(float(np.mean(figures)), 0.0, note)


_ASKS: frozenset[Asks] = frozenset({"method", "randomised"})
SIGNED = Metric(
    name="random-weights",
    title="Like random weights",
    summary="How like is the map to maps of the same network with random weights?",
    source="Adebayo et al. 2018: Spearman's correlation, all weights at once, mean of 5 seeds.",
    direction="lower",
    measure=_measure(lambda comparison: comparison.signed),
    asks=_ASKS,
)
SIZES = replace(
    SIGNED,
    name="random-weights-sizes",
    title="Like random, sizes",
    summary="The same of the map's absolute values: the sign of what is there does not count.",
    source="Adebayo et al. 2018, with absolute values.",
    measure=_measure(lambda comparison: comparison.sizes),
)
ENTROPY = replace(
    SIGNED,
    name="random-weights-entropy",
    title="Gain of complexity",
    summary="How much more complex does the map become where the weights are random?",
    source="Hedstroem et al. 2024, eMPRT: entropy of 100 bins, on the map's own grid.",
    direction="higher",
    measure=_measure(lambda comparison: comparison.entropy),
)
