"""Class activation mapping: the class's own weights on the last feature map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whylens import Explainer, Heatmap, Need, NoParams, hookimpl
from whylens.plugins._arrays import as_array, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject


class CAM(Explainer[NoParams]):
    """Exact where the head averages the feature map and applies one linear layer."""

    name = "cam"
    title = "CAM"
    family = "Class activation"
    summary = (
        "How much each place adds to, or takes from, the class score: the mean of the map plus the "
        "class's bias is the score itself."
    )
    limits = (
        "Exists only for heads that pool and apply one linear layer, and is as coarse as the last "
        "feature map."
    )
    when = "First, on any network with a plain pooled head: free, exact and signed."
    source = "Zhou et al. 2016, Learning Deep Features for Discriminative Localization, eq. 2"
    cost = "1 forward pass"
    needs = frozenset({Need.SPATIAL_FEATURES, Need.POOLED_LINEAR_HEAD})
    Params = NoParams

    def explain(self, subject: Subject, params: NoParams) -> Heatmap:  # noqa: ARG002
        """Return the signed map in units of the score."""
        head = subject.linear_head
        # Any target that is linear in the logits has one row of weights; a probability has not,
        # so its row is the derivative at this input: a first-order statement, said in the note.
        row = subject.target_row
        values = class_activation_map(row @ head.weight, subject.features)
        bias = float(row @ head.bias)
        gap = float(values.mean()) + bias - subject.score
        diagnostics, note = {"mean of map": float(values.mean()), "bias": bias}, ""
        if subject.target.quantity in ("probability", "function"):
            name = subject.target.quantity
            note = f"For a {name} the map is its first-order change; its mean is not its value."
        else:
            diagnostics["identity gap"] = gap
        return Heatmap(as_array(values), subject.unit, True, diagnostics, note)


def class_activation_map(weights: Tensor, features: Tensor) -> Tensor:
    """Return (*S) in score units: sum over k of w_k A_k. Zhou et al. 2016, eq. 2.

    We divide nothing: the mean over positions, not the sum, adds up to the score.

    Args:
        weights: (K,) of one class.
        features: (1, K, *S).
    """
    return weighted_sum(weights, features)


@hookimpl
def explainers() -> list[CAM]:
    """Return this file's explainer."""
    return [CAM()]
