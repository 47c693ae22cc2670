"""What a benchmark measures: inputs of a data set, and the methods that see each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from whylens.core.bench.columns import CHEAP, REPEATING, groups_of, metrics_of
from whylens.core.bench.rows import Row
from whylens.core.datasets.boxes import BOXES, BoxedPhotos
from whylens.core.datasets.by_name import load_dataset
from whylens.core.datasets.dataset import Dataset, SplitName
from whylens.core.errors import BadInput
from whylens.core.explainer import is_single_step
from whylens.core.explanation import Question
from whylens.core.inputs.photo import photo_of

if TYPE_CHECKING:
    from whylens.core.engine import Engine
    from whylens.core.models.backbone import Backbone
    from whylens.core.registry import Registry

FORMAT = 5
TRUE_MASK, RANDOM_MAP, EDGES = (
    "(true mask)",
    "(random map)",
    "(edges)",
)  # no method may be called so
REFERENCES = (TRUE_MASK, RANDOM_MAP, EDGES)


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        model: The network's name.
        data: A data set by name, or a folder of photos with boxes; its classes are the network's.
        methods: Names; each is asked with its default parameters.
        pictures: How many of the test split at most.
        few: The costly metrics, and the methods that take many steps, see so many of them.
        repeats: Methods of many steps are asked the figures that repeat a method about so many.
        fit: How many of the validation split thresholds are fitted on, where there are any.
        random_maps: How many the row of random maps is the mean of, all inputs together, where they
            are compared with others: 600 tell 50 % from 53 %.
    """

    model: str
    data: str
    methods: tuple[str, ...]
    pictures: int = 200
    few: int = 20
    repeats: int = 0
    fit: int = 40
    random_maps: int = 600


@dataclass(frozen=True)
class Sight:
    """An input of the data set as the benchmark comes to it.

    Attributes:
        index: Position in the data set's items.
        position: Among the chosen ones of its split.
    """

    index: int
    position: int
    split: SplitName


class BenchPlan:
    """A benchmark laid out: its inputs, and who sees which."""

    def __init__(
        self, engine: Engine, bench: Bench, sights: tuple[Sight, ...] | None = None
    ) -> None:
        """Read the data set and choose inputs.

        Args:
            sights: Those that another process chose: to see which have evidence, all are drawn.

        Raises:
            CoreError: Of the kind that says what is wrong. What is wrong with one method is no
                error.
        """
        self.engine, self.bench = engine, bench
        registry = engine.registry
        for name in bench.methods:
            registry.explainer(name)
        self.backbone: Backbone = engine.backbone(bench.model)
        self.dataset = bench_data(bench.data, engine, self.backbone.labels)
        if tuple(self.backbone.labels) != tuple(self.dataset.labels):
            raise BadInput(
                f"{bench.model} has other classes than {self.dataset.name}. Choose the data set "
                "that it was trained on."
            )
        self.unavailable: dict[str, str] = dict(engine.unavailable(bench.model))
        for name in bench.methods:
            kind = registry.explainer(name).question_kind
            if kind != "where":
                self.unavailable.setdefault(name, f"It has no map: it answers {kind!r}, not where.")
        self.available = tuple(name for name in bench.methods if name not in self.unavailable)
        self.owners: Mapping[str, str] = {name: _owner(registry, name) for name in bench.methods}
        self.metrics = metrics_of(registry.metrics)
        self.sights = self._choose_sights() if sights is None else sights

    def _choose_sights(self) -> tuple[Sight, ...]:
        test = _with_evidence(self.dataset, "test", self.bench.pictures)
        if not test:
            raise BadInput(f"No test picture of {self.dataset.name} has known evidence.")
        fit: tuple[int, ...] = ()
        if self.bench.fit and self.dataset.dissection(test[0]) is not None:
            fit = _with_evidence(self.dataset, "val", self.bench.fit)
        return (
            *(Sight(index, i, "val") for i, index in enumerate(fit)),
            *(Sight(index, i, "test") for i, index in enumerate(test)),
        )

    def question(self, sight: Sight) -> Question:
        """Return the question why an input belongs to its own class."""
        # A seed of its own: the random maps of one input are not those of the next.
        label = self.dataset.items[sight.index].label
        question = Question(self.bench.model, target=label, seed=sight.index)
        if len(self.backbone.input_spec.size) == 1:
            return replace(question, signal=self.dataset.signal(sight.index))
        return replace(question, photo=photo_of(self.dataset.pixels(sight.index)))

    def is_single_step(self, name: str) -> bool:
        """Return whether a method, or a reference, gives its map in one step."""
        return name in REFERENCES or is_single_step(self.engine.registry.explainers[name])

    def pairs(self, sight: Sight) -> list[tuple[str, str]]:
        """Return the methods that see an input, with their owners; references come first."""
        names = [
            name
            for name in (*REFERENCES, *self.available)
            if sight.position < self.bench.few or self.is_single_step(name)
        ]
        return [(name, self.owners.get(name, "")) for name in names]

    def asks(self, name: str, metric: str, sight: Sight) -> bool:
        """Return whether a figure is asked of a method about an input."""
        if metric not in CHEAP and sight.position >= self.bench.few:
            return False
        often = sight.position < self.bench.repeats
        return metric not in REPEATING or often or self.is_single_step(name)

    def head(self) -> Row:
        """Return what all rows of a file rest on."""
        return {
            "format": FORMAT,
            "model_sha256": self.backbone.identity.digest,
            "data": self.dataset.name,
            "contents": [self.dataset.content_digest(s.index)[:16] for s in self.sights],
            "metrics": [
                column.name
                for group in groups_of(self.engine.registry.metrics)
                for column in group.columns
            ],
            "few": self.bench.few,
            "repeats": self.bench.repeats,
            "random_maps": self.bench.random_maps,
        }


def knows_evidence(dataset: Dataset) -> bool:
    """Return whether a set says where the evidence for a picture's label lies."""
    return type(dataset).evidence is not Dataset.evidence


def quick_methods(registry: Registry) -> tuple[str, ...]:
    """Return the names of the methods that give a map in a single step."""
    return tuple(name for name in map_methods(registry) if is_single_step(registry.explainer(name)))


def map_methods(registry: Registry) -> tuple[str, ...]:
    """Return the names of the methods that give a map."""
    return tuple(n for n, e in registry.explainers.items() if e.question_kind == "where")


def bench_data(text: str, engine: Engine, labels: tuple[str, ...]) -> Dataset:
    """Return a data set by name, or photos with boxes by their folder.

    Args:
        labels: Of the network.

    Raises:
        BadInput: There is none, or it says of no input where the evidence lies.
    """
    folder = Path(text)
    if (folder / BOXES).is_file():
        return BoxedPhotos(folder, labels)
    dataset = load_dataset(text, engine.registry.datasets)
    if not knows_evidence(dataset):
        raise BadInput(
            f"{dataset.name} does not say where the evidence lies. Choose a data set that has "
            f"evidence(), or a folder of photos with {BOXES}, with --data, or another model."
        )
    return dataset


def _owner(registry: Registry, name: str) -> str:
    entry = registry.entries[name]
    return f"{entry.distribution} {entry.version}"


def _with_evidence(dataset: Dataset, split: SplitName, count: int) -> tuple[int, ...]:
    """Return inputs of a split with known evidence, of all classes in turn."""
    by_label: dict[int, list[int]] = {}
    for index in dataset.of(split):
        by_label.setdefault(dataset.items[index].label, []).append(index)
    sample: list[int] = []
    for turn in zip_longest(*(by_label[label] for label in sorted(by_label))):
        for index in turn:
            if len(sample) == count:
                return tuple(sample)
            evidence = None if index is None else dataset.evidence(index)
            if evidence is not None and evidence.any():
                sample.append(index)
    return tuple(sample)
