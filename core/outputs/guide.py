"""Which method should I use: the registry's own words and our measurements, in one list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from whylens.core.explainer import QuestionKind, is_single_step
from whylens.core.registry import Registry
from whylens.core.storage.files import read_json_model

QUESTIONS: dict[QuestionKind, str] = {
    "where": "Where does it look?",
    "like what": "What does the picture resemble, to the network?",
    "what if": "What would have to be different?",
}
# Forward passes that a visitor waits for without noticing, and while watching.
AT_ONCE, A_MOMENT = 20.0, 400.0


class Measured(BaseModel):
    """What a method costs and finds, measured with its defaults.

    Attributes:
        forwards: Its time as a multiple of one forward pass of the same network, median.
        hits: Objects on which its map peaks.
        objects: Objects asked about.
        inside: Share of the positive evidence that lies in the object's box, mean.
        unmoved: Rank correlation between its maps of the trained and of the randomised network,
            mean of its size; near 0 passes the sanity check.
        beaten: Share of random maps as smooth as its own whose deletion and insertion are worse,
            on the first network of the benchmark on which it was asked.
        cells: Positions of its map.
        network: On what it was measured, where not on the network of all others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    forwards: float = Field(gt=0)
    hits: int | None = None
    objects: int | None = None
    inside: float | None = None
    unmoved: float | None = None
    beaten: float | None = None
    cells: int | None = None
    network: str = ""


class Measurements(BaseModel):
    """Measurements of all methods.

    Attributes:
        setting: On what they were taken, in a sentence.
        methods: By name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: str
    methods: dict[str, Measured]


@dataclass(frozen=True, slots=True)
class GuideEntry:
    """One method as a guide shows it.

    Attributes:
        name: Id.
        title: Label.
        family: Its type.
        question_kind: The question that it answers.
        shows: What it shows.
        cannot: What it cannot show.
        when: When to use it, may be empty.
        needs: In words, what the model must offer; empty if nothing.
        artifact_kind: What must be fitted before, in words, or "".
        class_blind: Whether it knows no class.
        cost: Work in words.
        quick: Whether it answers at once.
        source: Paper.
        measured: Or None for one that was not.
    """

    name: str
    title: str
    family: str
    question_kind: QuestionKind
    shows: str
    cannot: str
    when: str
    needs: tuple[str, ...]
    artifact_kind: str
    class_blind: bool
    cost: str
    quick: bool
    source: str
    measured: Measured | None


def measurements(path: Path) -> Measurements:
    """Return what was measured; nothing where the file is absent.

    Args:
        path: A JSON file written by `benchmarks.guide`.

    Raises:
        BadArtifact: It is of another kind.
    """
    if not path.is_file():
        return Measurements(setting="", methods={})
    return read_json_model(path, Measurements, "Write the measurements anew.")


def entries(registry: Registry, measured: Measurements) -> tuple[GuideEntry, ...]:
    """Return every method, in the registry's order.

    Args:
        measured: By name; some may be missing.
    """
    return tuple(
        GuideEntry(
            name,
            e.title,
            e.family,
            e.question_kind,
            e.summary,
            e.limits,
            e.when,
            tuple(sorted(need.value for need in e.needs)),
            e.artifact_kind,
            e.class_blind,
            e.cost,
            is_single_step(e),
            e.source,
            measured.methods.get(name),
        )
        for name, e in registry.explainers.items()
    )


def recommend(
    guide: Sequence[GuideEntry],
    *,
    question_kind: QuestionKind,
    inside: bool,
    forwards: float,
    available: Collection[str],
    most: int = 3,
) -> list[str]:
    """Return the names of the methods to begin with, the best first; empty where none fits.

    Of those that fit, one per family comes first, by how many random maps its maps beat and then
    by how well they find objects.

    Args:
        inside: Whether a method may use more than the network's scores.
        most: How many at most.
    """

    def fits(entry: GuideEntry) -> bool:
        cost = entry.measured.forwards if entry.measured else (1.0 if entry.quick else A_MOMENT)
        return (
            entry.name in available
            and entry.question_kind == question_kind
            and (inside or not (entry.needs or entry.artifact_kind))
            and cost <= forwards
        )

    def rank(entry: GuideEntry) -> tuple[float, ...]:
        m = entry.measured
        if m is None:
            return (1.0, 0.0, 0.0, 0.0)
        hit_rate = 0.0 if m.hits is None or not m.objects else m.hits / m.objects
        return (float(entry.class_blind), -(m.beaten or 0.0), -hit_rate, -(m.inside or 0.0))

    best = sorted(filter(fits, guide), key=rank)
    first = {entry.family: entry for entry in reversed(best)}
    ahead = [entry for entry in best if first[entry.family] is entry]
    rest = [entry for entry in best if first[entry.family] is not entry]
    return [entry.name for entry in [*ahead, *rest][:most]]
