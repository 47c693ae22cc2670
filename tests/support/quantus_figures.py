"""What Quantus says of small seeded maps, stored: `tests/evaluation/quantus.json`.

Its metadata says GPL and its licence file LGPL, and it brings OpenCV, so that no extra holds it.
Made anew, with this package importable, in an environment of its own:

    pip install quantus==0.6.0 && python -m tests.support.quantus_figures
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tests.support.cases import contributions, linear_case
from whylens.core.evaluation.metric import Case
from whylens.core.evaluation.steadiness import max_sensitivity
from whylens.core.models.forward_pass import ForwardPass

FILE = Path(__file__).parents[1] / "evaluation" / "quantus.json"
MASK = torch.zeros(8, 8, dtype=torch.bool)
MASK[2:5, 3:7] = True
SEEDS = range(3)


def cases() -> Iterator[Case]:
    """Yield three questions to a linear network with their exact maps, all values different."""
    for seed in SEEDS:
        x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        yield replace(linear_case(8, 8, x=x, seed=seed), mask=MASK)


def positive(case: Case) -> np.ndarray:
    """Return (8, 8) a map's positive part: of signed values Quantus' shares add up to no whole."""
    return np.asarray(case.heat.values, np.float64).clip(0)


def noisy_inputs(case: Case) -> list[torch.Tensor]:
    """Return the inputs that `max_sensitivity` asks about."""
    inputs = []

    def explain(subject):
        inputs.append(subject.x)
        return contributions(subject)

    list(max_sensitivity(case.subject, case.heat, explain))
    return inputs


def figures(case: Case) -> dict[str, object]:
    """Return what Quantus says of a map."""
    import quantus

    subject = case.subject
    module, x = subject.backbone.module, subject.x.numpy()
    arguments = {"model": module, "x_batch": x, "y_batch": np.array([subject.target.index])}
    signed = np.asarray(case.heat.values, np.float64)[None, None]
    mask = case.mask.numpy()[None, None].astype(int)
    plain = {"normalise": False, "disable_warnings": True}
    inputs = iter(noisy_inputs(case))

    def perturb(arr, **_):
        return next(inputs).numpy().reshape(arr.shape)

    def explain(model, inputs, targets, **_):
        passes = (ForwardPass(subject.backbone, torch.as_tensor(x)[None]) for x in inputs)
        noisy_subjects = (replace(subject, forward_pass=forward_pass) for forward_pass in passes)
        return np.stack([contributions(variant).values[None] for variant in noisy_subjects])

    sizes = {"sparseness": quantus.Sparseness, "complexity": quantus.Complexity}
    masked = {
        "mass-in-mask": (quantus.RelevanceMassAccuracy, positive(case)[None, None]),
        "rank-in-mask": (quantus.RelevanceRankAccuracy, signed),
        "pointing-game": (quantus.PointingGame, signed),
    }
    flipping = quantus.PixelFlipping(features_in_step=4, perturb_baseline=float(x.mean()), **plain)
    moving = quantus.MaxSensitivity(nr_samples=10, perturb_func=perturb, **plain)
    values_by_name = {
        "deletion": flipping(**arguments, a_batch=signed.copy(), softmax=True)[0],
        "max-sensitivity": moving(**arguments, a_batch=signed.copy(), explain_func=explain)[0],
    }
    for name, metric in sizes.items():
        (values_by_name[name],) = metric(abs=True, **plain)(**arguments, a_batch=signed.copy())
    for name, (metric, values) in masked.items():
        (values_by_name[name],) = metric(**plain)(**arguments, a_batch=values.copy(), s_batch=mask)
    return {
        name: np.asarray(value, np.float64).round(7).tolist()
        for name, value in values_by_name.items()
    }


def main() -> None:
    """Write the file."""
    import quantus

    content = {"quantus": quantus.__version__, "figures": [figures(case) for case in cases()]}
    FILE.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
