"""How good prototypes and twins are on data whose evidence is known, over several seeds.

`python -m benchmarks.prototypes --write docs/prototypes.md` measures and writes the tables.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.table import markdown
from whylens.core.datasets.by_name import load_dataset
from whylens.core.datasets.dataset import Dataset, Pixels
from whylens.core.datasets.tensors import iter_tensors
from whylens.core.engine import Engine
from whylens.core.models.backbone import Backbone
from whylens.core.words import percent
from whylens.plugins._near_duplicates import same_picture, thumbnail
from whylens.plugins.twin.cosine_search import cosines, top_positions

SEEDS = (0, 1, 2)
HEAD = """# Prototypes and twins, measured

Written by `python -m benchmarks.prototypes --write docs/prototypes.md`: mean and, in brackets, the
spread (largest minus smallest) over the seeds {seeds}. Test accuracy is on pictures that neither
the network nor the prototypes have seen; prototypes and galleries are made from at most {limit}
training pictures.
Other pairs can be named: `squeezenet=FOLDER cats-dogs=FOLDER` measured the rows of cats_dogs, 700
photos for training and 300 for validation, without a test split. `squeezenet` has its ImageNet
weights, its trunk untouched; `cats-dogs` is what
`whylens train FOLDER --backbone torchvision:squeezenet1_0 --weights squeezenet` made of it.
Purity, consistency and stability are judged against the painted parts: a prototype's ten strongest
test pictures must hold the same part in a box of 32/224 of the side (purity), of 72/224 (the other
two). Duplicates are prototypes of one class with a cosine above 0.95.
"""


class CachedDataset(Dataset):
    """A data set whose pictures are made once."""

    def __init__(self, inner: Dataset) -> None:
        """Keep the pictures of `inner` as they are asked for."""
        self.name, self.labels, self.items = inner.name, inner.labels, inner.items
        self.licence, self._inner = inner.licence, inner
        self._pixels: dict[int, Pixels] = {}

    def pixels(self, index: int) -> Pixels:
        """Return a picture."""
        if index not in self._pixels:
            self._pixels[index] = self._inner.pixels(index)
        return self._pixels[index]

    def parts(self, index: int) -> Any:
        """Return the masks of a picture."""
        return self._inner.parts(index)

    def content_digest(self, index: int) -> str:
        """Return the inner digest."""
        return self._inner.content_digest(index)


def main() -> None:
    """Measure and print or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--limit", type=int, default=800)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("pairs", nargs="*", help="model=data")
    args = parser.parse_args()
    pairs = args.pairs or [
        "painted-cats-breed=painted-cats:breed",
        "painted-cats-genuine=painted-cats:genuine",
    ]
    engine = Engine()
    rows, twins = [], []
    for pair in pairs:
        model, _, data = pair.partition("=")
        dataset = CachedDataset(load_dataset(data, engine.registry.datasets))
        reports = []
        for seed in args.seeds:
            report = _report(engine, model, dataset, seed, args.limit)
            print(model, data, seed, report, flush=True)
            reports.append(report)
        rows.append(_row(model, Path(data).name, reports))
        twins.append(_twins(engine, model, dataset, args.limit))
        print(twins[-1], flush=True)
    text = "\n".join(
        [
            HEAD.format(seeds=", ".join(map(str, args.seeds)), limit=args.limit),
            "## Prototypes\n",
            _table(rows),
            "\n## Twins\n",
            "Share of the five nearest training pictures with the label of the test picture:\n",
            _table(twins),
            "",
        ]
    )
    if args.write:
        args.write.write_text(text, encoding="utf-8")
    print(text)


def _report(engine: Engine, model: str, dataset: Dataset, seed: int, limit: int) -> dict[str, Any]:
    steps = engine.fit(
        model, "protopnet", dataset, {"seed": seed, "limit": limit}, visitor=f"seed {seed}"
    )
    *_, last = steps
    assert last.artifact is not None
    report = dict(last.artifact.facts["report"])
    unit = np.asarray(last.artifact.arrays["patches"])
    owner = np.asarray(last.artifact.arrays["owner"])
    duplicate_pairs = (
        (unit @ unit.T > 0.95) & (owner[:, None] == owner[None]) & ~np.eye(len(unit), dtype=bool)
    )
    report["duplicates"] = int(duplicate_pairs.sum() // 2)
    return report


def _row(model: str, data: str, reports: list[dict[str, Any]]) -> dict[str, str]:
    def of(name: str, *, share: bool = True) -> str:
        values = [r[name] for r in reports if name in r]
        if not values:
            return "-"
        mean, spread = float(np.mean(values)), max(values) - min(values)
        if share:
            return f"{percent(mean, 1)} ({percent(spread, 1)})"
        return f"{mean:.1f} ({spread:.1f})"

    for report in reports:
        if "test_recall_each" in report:
            report["lowest_recall"] = min(report["test_recall_each"])
    return {
        "Model": f"`{model}`",
        "Data": data,
        "Prototypes": of("prototypes", share=False),
        "Test accuracy": of("test_accuracy"),
        "Validation accuracy": of("validation_accuracy"),
        "Black box, test": of("black_box_test_accuracy"),
        "Linear probe, validation": of("linear_probe_accuracy"),
        "Lowest recall": of("lowest_recall"),
        "Purity": of("purity"),
        "Consistency": of("consistency"),
        "Stability": of("stability"),
        "For 90 % of a decision": of("prototypes_for_90_percent_of_a_decision", share=False),
        "Duplicates": of("duplicates", share=False),
    }


def _twins(engine: Engine, model: str, dataset: Dataset, limit: int) -> dict[str, str]:
    *_, last = engine.fit(model, "twin", dataset, {"limit": limit}, visitor="twins")
    assert last.artifact is not None
    arrays, backbone = last.artifact.arrays, engine.backbone(model)
    test = list(dataset.of("test") or dataset.of("val"))[:400]
    shares: dict[str, list[float]] = {"Plain cosine": [], "Class-weighted cosine": []}
    for i in test:
        ((_, x),) = iter_tensors(dataset, [i], backbone.input_spec)
        query, weights = _question(backbone, x)
        allowed = ~same_picture(arrays["tinies"], thumbnail(dataset.pixels(i)))
        label = dataset.items[i].label
        for name, weighting in (("Plain cosine", None), ("Class-weighted cosine", weights)):
            neighbours = top_positions(cosines(arrays["vectors"], query, weighting), allowed, 5)
            shares[name].append(float(np.mean(np.asarray(arrays["labels"])[neighbours] == label)))
    means = {name: percent(float(np.mean(values)), 1) for name, values in shares.items()}
    return {"Model": f"`{model}`", "Data": Path(dataset.name).name, **means}


def _question(backbone: Backbone, x: torch.Tensor) -> tuple[Any, Any]:
    from whylens.core.models.forward_pass import ForwardPass
    from whylens.core.subject import Subject
    from whylens.core.targets import target_of

    trace = ForwardPass(backbone, x)
    subject = Subject(trace, target_of(trace.logits[0], None, "logit", None))
    return subject.embedding.numpy(), subject.embedding_weights.numpy()


def _table(rows: list[dict[str, str]]) -> str:
    return markdown(list(rows[0]), [list(row.values()) for row in rows])


if __name__ == "__main__":
    main()
