"""Metrics with one real mistake each, as seen in public code, beside the sound ones they spoil.

Each must fail the identity that is there for its mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from whylens.core.evaluation import brightness, in_mask, infidelity, randomised_weights, steadiness
from whylens.core.evaluation.agreement import cosine, on_grid
from whylens.core.evaluation.in_mask import MASS, POINTING_GAME
from whylens.core.evaluation.metric import Case, Metric, Score, require
from whylens.core.evaluation.ordering import strongest_first
from whylens.core.models.forward_pass import ForwardPass


class Sound:
    """Mean score as places are hidden by 0, the strongest first, in 12 steps and 4 orders."""

    def __call__(self, case: Case) -> Iterator[Score]:
        subject, generator = case.subject, case.subject.generator()
        values = torch.from_numpy(on_grid(case.heat.values, (4, 6))).flatten()
        means = []
        for _ in range(4):
            masks = torch.ones(12, 24)
            for row, count in zip(masks, range(0, 24, 2), strict=True):
                row[self.hidden(values, count, generator)] = 0
            full_masks = masks.view(-1, 1, 4, 6).repeat_interleave(4, 2).repeat_interleave(4, 3)
            means.append(float(self.scores(subject, subject.x * full_masks).mean()))
        empty_score = self.scores(subject, torch.zeros_like(subject.x))
        # The scores are linear in what is shown: on average each step takes as much.
        intact = float(self.scores(subject, subject.x))
        yield Score(np.mean(means).item(), intact + 11 / 24 * (float(empty_score) - intact))

    def hidden(self, values, count, generator):
        return strongest_first(values, generator)[:count]

    def scores(self, subject, inputs):
        return subject.scores(inputs)


def metric(measure, direction="lower", **changes) -> Metric:
    fields = {"name": "wrong", "title": "Wrong", "summary": "For tests.", "source": "None."}
    return Metric(**fields, direction=direction, measure=measure, **changes)


class RasterOrder(Sound):
    """Sorts, so that equal values go from the top left on (torch-cam, PnPXAI)."""

    def hidden(self, values, count, generator):
        return values.argsort(descending=True, stable=True)[:count]


class ReversedRasterOrder(Sound):
    """Sorts upwards and reads backwards: equal values go from the bottom right on (RISE)."""

    def hidden(self, values, count, generator):
        return values.argsort(stable=True).flip(0)[:count]


class Threshold(Sound):
    """Hides all that reach a quantile, equal values all at once (pytorch-grad-cam)."""

    def hidden(self, values, count, generator):
        if not count:
            return torch.zeros(24, dtype=torch.bool)
        return values >= values.sort(descending=True).values[count - 1]


class ChoosesTheClassAnew(Sound):
    """Follows whichever class is the best once places are hidden."""

    def scores(self, subject, inputs):
        return subject.fast_logits(inputs).max(-1).values


class LogitForProbability(Sound):
    """Takes the logit where a probability was asked about (torch-cam without logits_fn)."""

    def scores(self, subject, inputs):
        return subject.fast_logits(inputs)[:, subject.target.index]


class NormalisesOverTheBatch(Sound):
    """Divides by the largest score of each batch (Quantus, normalise_by_max)."""

    def scores(self, subject, inputs):
        pieces = [subject.scores(piece) for piece in inputs.split(subject.batch_size)]
        return torch.cat([piece / piece.abs().max() for piece in pieces])


class DividesByTheLargestSoFar(Sound):
    """Keeps the largest value of all maps that it has seen, and divides by it."""

    largest = 0.0

    def __call__(self, case):
        self.largest = max(self.largest, float(np.abs(case.heat.values).max()))
        for score in super().__call__(case):
            share = float(np.abs(case.heat.values).max()) / self.largest
            yield replace(score, value=score.value * share, chance=score.chance * share)


class DrawsFromNowhere(Sound):
    """Draws from a generator that nobody seeded."""

    def hidden(self, values, count, generator):
        noise = torch.from_numpy(np.random.default_rng().random(24))
        return (values + (values.std() + 1e-9) * noise).argsort(descending=True)[:count]


class SetsTheGlobalSeed(Sound):
    """Seeds the whole process."""

    def __call__(self, case):
        torch.manual_seed(0)
        yield from super().__call__(case)


def accumulates(case: Case) -> Iterator[Score]:
    """Fill window after window in one copy, which is never reset (Quantus, infidelity)."""
    subject, x = case.subject, case.subject.x.clone()
    fill, intact = subject.baseline("black"), float(subject.scores(subject.x))
    values, sums, losses = on_grid(case.heat.values, subject.size), [], []
    for row, column in zip(range(0, 12, 2), range(0, 24, 4), strict=True):
        box = (slice(row, row + 5), slice(column, column + 6))
        x[(..., *box)] = fill[(..., *box)]
        sums.append(values[box].sum())
        losses.append(intact - float(subject.scores(x)))
    yield Score(cosine(sums, losses))


def squared(case: Case) -> Iterator[Score]:
    """Forget the sign, so that a map turned over is perfect (captum, normalize=True)."""
    for score in infidelity.infidelity(case.subject, case.heat):
        yield replace(score, value=score.value**2, chance=None)


def in_units_of_its_own(case: Case) -> Iterator[Score]:
    """Compare sums in the map's unit with losses in the score's (Quantus, captum's default)."""
    subject, values = case.subject, on_grid(case.heat.values, case.subject.size)
    fill, intact = subject.baseline("black"), float(subject.scores(subject.x))
    errors, generator = [], subject.generator()
    for _ in range(8):
        row, column = (int(torch.randint(n - 4, (1,), generator=generator)) for n in subject.size)
        box, x = (slice(row, row + 5), slice(column, column + 5)), subject.x.clone()
        x[(..., *box)] = fill[(..., *box)]
        errors.append((values[box].sum() - intact + float(subject.scores(x))) ** 2)
    yield Score(float(np.mean(errors)))


def adds_up_exactly(case: Case) -> Iterator[Score]:
    """Ask for equality, of values that are normalised first (Quantus, Completeness)."""
    subject, baseline = case.subject, require(case, "baseline")
    values = case.heat.values / np.abs(case.heat.values).max()
    gain = float(subject.scores(subject.x)) - float(subject.scores(baseline))
    yield Score(float(values.sum() == gain))


def places_of_all_channels(case: Case) -> Iterator[Score]:
    """Take places in all channels for places in one (Quantus, ROAD on pictures in colour)."""
    subject = case.subject
    values = torch.from_numpy(on_grid(case.heat.values, subject.size))
    order = values.expand(subject.x.shape[1:]).flatten().argsort(descending=True)
    removed_places = torch.zeros(values.numel())
    removed_places[order[: values.numel() // 2]] = 1
    yield Score(float(subject.scores(subject.x * (1 - removed_places.view_as(values)))))


def any_maximum_hits(case: Case) -> Iterator[Score]:
    """Count a hit where any of several maxima lies inside (Quantus, PointingGame)."""
    values = on_grid(case.heat.values, case.mask.shape)
    mask = case.mask.numpy()
    yield Score(float(mask[values == values.max()].any()), float(mask.mean()))


def area_without_tolerance(case: Case) -> Iterator[Score]:
    """Print the mask's area as chance, though what lies a side off counts as well."""
    score = in_mask.pointing_game(case.heat, case.mask, tolerance=1.0)
    yield replace(score, chance=float(case.mask.float().mean()))


def signed_sums(case: Case) -> Iterator[Score]:
    """Divide sums of signed values: above 1, or by nearly nothing (Quantus, RelevanceMass)."""
    values = on_grid(case.heat.values, case.mask.shape)
    yield Score(
        float(values[case.mask.numpy()].sum() / values.sum()), float(case.mask.float().mean())
    )


def guarded(case: Case) -> Iterator[Score]:
    """Add a fixed number to a denominator, which may be smaller."""
    values = on_grid(case.heat.values, case.mask.shape).clip(min=0)
    mask = case.mask.numpy()
    yield Score(float(values[mask].sum() / (values.sum() + 0.1)), None)


def with_itself(case: Case) -> Iterator[Score]:
    """Take the map's likeness to itself into the mean (Quantus, MPRT's key "orig")."""
    for comparison in randomised_weights.random_weights(case):
        yield Score(float(np.mean([1.0, *comparison.signed])), 0.0)


def samples_alike(case: Case) -> Iterator[Score]:
    """Seed the generator in the loop, so that all samples are one (Quantus, infidelity)."""
    subject, explain, changes = case.subject, require(case, "method"), []
    for _ in range(8):
        noise = 0.02 * torch.rand(subject.x.shape, generator=subject.generator())
        noisy_subject = replace(
            subject, forward_pass=ForwardPass(subject.backbone, subject.x + noise)
        )
        changes.append(np.abs(explain(noisy_subject).values - case.heat.values).mean())
    yield Score(float(np.max(changes) / np.abs(case.heat.values).mean()))


def never_ends(case: Case) -> Iterator[Score]:
    """End at half of the work."""
    yield Score(0.5, 0.5, fraction=0.5)


METHOD, MASK = frozenset({"method"}), frozenset({"mask"})
# By what is wrong: the metric, and the number of the identity that is there for it.
WRONG: dict[str, tuple[Metric, int]] = {
    "raster order": (metric(RasterOrder()), 2),
    "reversed raster order": (metric(ReversedRasterOrder()), 2),
    "threshold": (metric(Threshold()), 2),
    "any maximum hits": (metric(any_maximum_hits, "higher", asks=MASK), 2),
    "class chosen anew": (metric(ChoosesTheClassAnew()), 5),
    "logit for probability": (metric(LogitForProbability()), 5),
    "normalised over the batch": (metric(NormalisesOverTheBatch()), 4),
    "largest so far": (metric(DividesByTheLargestSoFar()), 4),
    "unseeded": (metric(DrawsFromNowhere()), 6),
    "global seed": (metric(SetsTheGlobalSeed()), 6),
    "samples alike": (metric(samples_alike, asks=METHOD), 6),
    "perturbations accumulate": (metric(accumulates, "higher", best=1.0), 8),
    "sign forgotten": (metric(squared, "higher", best=1.0), 7),
    "area without tolerance": (metric(area_without_tolerance, "higher", asks=MASK), 3),
    "likeness to itself": (metric(with_itself, asks=frozenset({"method", "randomised"})), 3),
    "signed sums": (metric(signed_sums, "higher", asks=MASK), 7),
    "in units of its own": (metric(in_units_of_its_own), 1),
    "adds up exactly": (metric(adds_up_exactly, "higher", asks=frozenset({"baseline"})), 7),
    "places of all channels": (metric(places_of_all_channels), 1),
    "brightness called quality": (replace(brightness.AVERAGE_DROP, direction="lower"), 7),
    "guarded division": (metric(guarded, "higher", asks=MASK), 1),
    "inverted deletion": (metric(Sound(), "higher"), 7),
    "inverted mass": (replace(MASS, direction="lower"), 7),
    "inverted random weights": (replace(randomised_weights.SIGNED, direction="higher"), 7),
    "inverted largest change": (replace(steadiness.MAX_SENSITIVITY, direction="higher"), 7),
    "best not reached": (metric(Sound(), best=-5.0), 8),
    "never ends": (metric(never_ends), 1),
}
SOUND = (metric(Sound()), MASS, POINTING_GAME)
