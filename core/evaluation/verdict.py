"""One word on whether a map is to be believed, with the scores that it rests on.

The rule, from first to last:

- *cannot be judged here*: the map is blank or the same all over, or hiding the whole input moves
  the score by less than `LEAST_FALL` under every fill: then no order of hiding can be better.
- *no better than chance*: over the fills together it beats fewer than `CHANCE` of 20 random maps
  as smooth, or networks with random weights get a map that correlates with it by
  `SAME_WITHOUT_LEARNING` or more: then it shows the input and not what was learnt.
- *holds*: over the fills together it does better than random maps by at least `LEAD` times their
  own spread, as 1 random map in 20 does, and under none it beats fewer than `CHANCE` of them; the
  correlation with random weights is below `CHANGED` and that of two seeds at least `STEADY`, where
  they can be asked; a method that takes long is not asked twice, but taken by its word if it
  foretells the latter.
- *mixed*: everything else; the reason says what failed.

docs/which-map-to-believe.md has the table of what true masks, random maps and edges get by it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from whylens.core.errors import CoreError
from whylens.core.evaluation.curves import (
    beats_random_maps,
    deletion,
    insertion,
    margins_over_random_maps,
    mean_over_fills,
    share_beaten,
)
from whylens.core.evaluation.hiding import FILLS, Floats, HidingFill, Setting
from whylens.core.evaluation.metric import Case, Score
from whylens.core.evaluation.ordering import cells
from whylens.core.evaluation.random_maps import random_maps
from whylens.core.evaluation.randomised_weights import random_weights
from whylens.core.evaluation.steadiness import SEED_AGREEMENT
from whylens.core.results import Heatmap
from whylens.core.subject import Subject

Word = Literal["holds", "mixed", "no better than chance", "cannot be judged here"]
LEAST_FALL = 0.05  # of a probability
# What 1 random map in 20 reaches: Student's t of nine pairs of a map and its negative, whose mean
# is known to be 0. To beat all 20 is as rare, but where the evidence is wide, and random maps as
# smooth have few places to be, one of 20 often covers it by chance, however far a map leads.
LEAD, CHANCE = 1.83, 0.75
CHANGED, SAME_WITHOUT_LEARNING = 0.5, 0.8
STEADY = 0.5
NETWORKS = 3  # with random weights
UNKNOWN = Score(None)
# What is good of each score.
GOOD = {
    "deletion": "low",
    "insertion": "high",
    "beats random maps": "high",
    "random weights": "near 0",
    "seeds": "high",
}
# The diagnostic by which a method that samples says how far another seed's map is like this one.
FORETOLD = "expected agreement of seeds"
STEPS = 4  # at which a map is compared with random ones; its own curves have 32


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a map is to be believed, as far as is known yet.

    Attributes:
        word: None until all is asked.
        reason: Why, in one or two sentences.
        deletion: Area as the strongest places are hidden, mean and span over fills; low is good.
        insertion: Area as they are shown; high is good.
        beaten: Share of random maps that do worse, over the fills together, with its span.
        lead: By how many times random maps' own spread it does better than they do on average, over
            the fills together; None until that is known.
        random_weights: Correlation with the maps of networks with random weights.
        seeds: Correlation of the maps of two seeds, or the one that the method foretells.
        fraction: Share of the work done, 0 to 1.
    """

    word: Word | None = None
    reason: str = ""
    deletion: Score = UNKNOWN
    insertion: Score = UNKNOWN
    beaten: Score = UNKNOWN
    random_weights: Score = UNKNOWN
    seeds: Score = UNKNOWN
    fraction: float = 0.0
    lead: float | None = None

    @property
    def passes(self) -> float:
        """Forward passes spent, those inside the method's own repetitions not counted."""
        return self.deletion.passes + self.insertion.passes + self.beaten.passes

    @property
    def scores(self) -> dict[str, Score]:
        """All scores by name."""
        return {
            "deletion": self.deletion,
            "insertion": self.insertion,
            "beats random maps": self.beaten,
            "random weights": self.random_weights,
            "seeds": self.seeds,
        }

    @property
    def figures(self) -> dict[str, float]:
        """The scores that have a value, by name."""
        return {name: s.value for name, s in self.scores.items() if s.value is not None}

    def as_dict(self) -> dict[str, object]:
        """Return all that is known as plain data, with what is good of each score."""
        scores: dict[str, object] = {
            name: {
                "value": score.value,
                "span": None if score.span is None else list(score.span),
                "chance": score.chance,
                "good": GOOD[name],
                "note": score.note,
                "shares": list(score.shares),
                "curve": list(score.curve),
            }
            for name, score in self.scores.items()
        }
        return {"verdict": self.word, "reason": self.reason, "lead": self.lead, **scores}


def judge(case: Case, *, repeats: bool = True) -> Iterator[Verdict]:
    """Yield what is known of a map, more and more; the last has its word.

    Args:
        repeats: False for a method that takes long: it is repeated on one network with random
            weights and with no second seed, for each costs as much as the map: what it foretells of
            other seeds stands for them.
    """
    verdict = Verdict()
    reason = case.heat.blank_reason()
    if reason:
        yield replace(verdict, word="cannot be judged here", reason=reason, fraction=1.0)
        return
    by_fill: list[tuple[Score, Score, Score]] = []
    margins: list[Floats] = []
    falls: list[float] = []
    for number, fill in enumerate(FILLS):
        end = 0.7 * (number + 1) / len(FILLS)
        fall, scores = yield from _under(case, fill, verdict, end)
        falls.append(abs(fall))
        if _moves(case.subject, fall):
            by_fill.append(scores)
            # They are there already.
            setting = Setting(fill, steps=STEPS)
            *_, (margin, _, _) = margins_over_random_maps(case.subject, case.heat, setting)
            margins.append(margin)
            verdict = _with_fills(verdict, by_fill, np.mean(margins, axis=0))
        verdict = replace(verdict, fraction=end)
        yield verdict
    if not by_fill:
        yield replace(
            verdict,
            word="cannot be judged here",
            reason=f"Hiding all of the input moves it by no more than {max(falls):.2g}: "
            "no place of it can matter much.",
            fraction=1.0,
        )
        return
    verdict = yield from _random_weights(case, verdict, NETWORKS if repeats else 1)
    verdict = replace(verdict, seeds=_seeds(case) if repeats else _foretold_seeds(case.heat))
    word, reason = word_of(verdict)
    yield replace(verdict, word=word, reason=reason, fraction=1.0)


def _under(
    case: Case, fill: HidingFill, verdict: Verdict, end: float
) -> Generator[Verdict, None, tuple[float, tuple[Score, Score, Score]]]:
    """Yield progress up to `end`; return how far the score falls in all, and its three scores."""
    subject, heat, last = case.subject, case.heat, []
    measures = (
        deletion(subject, heat, fill=fill, chance=False),
        insertion(subject, heat, fill=fill, chance=False),
        beats_random_maps(subject, heat, fill=fill, steps=STEPS),
    )
    for number, (measure, share) in enumerate(zip(measures, (0.25, 0.25, 0.5), strict=True)):
        score = UNKNOWN
        for score in measure:
            fraction_of_fill = 0.25 * number + share * score.fraction
            fraction = verdict.fraction + (end - verdict.fraction) * fraction_of_fill
            yield replace(verdict, fraction=min(end, fraction))
        last.append(score)
    removed, inserted, beaten = last
    # They are there already: the percentile rests on them.
    *_, random = random_maps(subject, cells(heat, subject.size), Setting(fill, steps=STEPS))
    removed = replace(removed, chance=float(random.deletion.mean()))
    inserted = replace(inserted, chance=float(random.insertion.mean()))
    return removed.curve[0] - removed.curve[-1], (removed, inserted, beaten)


def _moves(subject: Subject, fall: float) -> bool:
    target = subject.target.as_probability()
    least = LEAST_FALL if target.quantity != "value" else 100 * subject.rounding
    return abs(fall) >= least


def _with_fills(
    verdict: Verdict, by_fill: list[tuple[Score, Score, Score]], margins: Floats
) -> Verdict:
    """Return the verdict with the scores of several fills.

    Args:
        margins: By how much it does better than each random map over these fills together.
    """
    # They spread as the random maps' own scores do, whose mean is 0: one hides what another shows.
    spread = float(margins.std())
    removed, inserted, beaten = ([scores[i] for scores in by_fill] for i in range(3))
    return replace(
        verdict,
        deletion=mean_over_fills(removed),
        insertion=mean_over_fills(inserted),
        beaten=replace(mean_over_fills(beaten), value=share_beaten(margins)),
        lead=float(margins.mean()) / spread if spread else 0.0,
    )


def _random_weights(
    case: Case, verdict: Verdict, networks: int
) -> Generator[Verdict, None, Verdict]:
    """Yield progress up to 0.95; return what is known then."""
    try:
        for number, comparison in enumerate(random_weights(case), 1):
            score = Score(float(np.mean(comparison.signed)), 0.0)
            fraction = 0.7 + 0.25 * number / networks
            verdict = replace(verdict, random_weights=score, fraction=fraction)
            yield verdict
            if number == networks:
                break
    except CoreError as exc:
        return replace(verdict, random_weights=Score(None, note=str(exc)))
    return verdict


def _seeds(case: Case) -> Score:
    try:
        return SEED_AGREEMENT.score(case)
    except CoreError as exc:
        return Score(None, note=str(exc))


def _foretold_seeds(heat: Heatmap) -> Score:
    if FORETOLD in heat.diagnostics:
        return Score(heat.diagnostics[FORETOLD], 0.0, "Expected, from its own samples.")
    return Score(
        None,
        note="Not asked of a method that takes long: another seed's map costs as much as this one, "
        "which does not foretell it.",
    )


def word_of(verdict: Verdict) -> tuple[Word, str]:
    """Return the word for what was measured, and the reason.

    Args:
        verdict: With `beaten` and `lead`; the others may lack a value.
    """
    share, span, lead = verdict.beaten.value, verdict.beaten.span, verdict.lead
    if share is None or span is None or lead is None:
        return "cannot be judged here", "Nothing could be measured."
    among = f"{20 * share:.3g} of 20 random maps as smooth"
    weights, seeds = verdict.random_weights.value, verdict.seeds.value
    if weights is not None and weights >= SAME_WITHOUT_LEARNING:
        return (
            "no better than chance",
            f"Networks with random weights get the same map (correlation {weights:.2f}): it shows "
            "the input, not what was learnt.",
        )
    if share < CHANCE:
        return (
            "no better than chance",
            f"Hiding its strongest places beats only {among}; chance beats 10.",
        )
    doubts = []
    if lead < LEAD:
        doubts.append(f"it beats random maps by only {lead:.1f} times their spread")
    if span[0] < CHANCE:
        doubts.append(f"under one way of hiding it beats only {20 * span[0]:.3g} of 20")
    if weights is not None and weights >= CHANGED:
        doubts.append(f"random weights change it little ({weights:.2f})")
    if seeds is not None and seeds < STEADY:
        foretold = "is expected to give" if verdict.seeds.note else "gives"
        doubts.append(f"another seed {foretold} another map ({seeds:.2f})")
    if doubts:
        text = ", and ".join(doubts)
        return "mixed", f"{text[0].upper()}{text[1:]}."
    if weights is None:
        note = verdict.random_weights.note
        unasked = note and f" Not tried with random weights: {note[0].lower()}{note[1:]}"
        return "holds", f"Better than {among}.{unasked}"
    return (
        "holds",
        f"Better than {among}, and networks with random weights get another map (correlation "
        f"{weights:.2f}).",
    )
