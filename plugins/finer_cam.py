"""Finer-CAM: what speaks for a class rather than for the classes most like it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

from whylens import Explainer, Heatmap, Need, NeedsNotMet, hookimpl
from whylens.plugins._layers import SignedLayerParams, mean_gradients, weighted_features

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject


class FinerCAMParams(SignedLayerParams):
    """Which feature map, and what the class is compared with."""

    rivals: int = Field(
        default=3, ge=1, le=20, description="How many classes to compare with: the best others."
    )
    alpha: float = Field(
        default=1.0,
        ge=0,
        le=1,
        multiple_of=0.05,
        title="Strength",
        description="How much of the rivals' mean score is taken away; 0 is Grad-CAM.",
    )


class FinerCAM(Explainer[FinerCAMParams]):
    """Grad-CAM of the score less the mean of its rivals'; with one rival, that of a contrast."""

    name = "finer-cam"
    title = "Finer-CAM"
    family = "Class activation"
    summary = (
        "Where a feature map holds what raises the target's score above those of the classes that "
        "come closest to it."
    )
    limits = (
        "Coarse and first-order. What the target shares with its rivals cancels out, so that the "
        "object itself may stay dark, and all of it where rivals score higher; which classes are "
        "rivals changes with the picture."
    )
    when = "To see what tells look-alikes apart, as breeds and makes."
    source = "Zhang et al. 2025, Finer-CAM: Spotting the Difference Reveals Finer Details, sec. 3.2"
    cost = "1 forward pass and 1 backward pass through the head"
    needs = frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})
    Params = FinerCAMParams

    def explain(self, subject: Subject, params: FinerCAMParams) -> Heatmap:
        """Return the map in units of the difference between the target and its rivals."""
        target = subject.target
        if target.quantity in ("value", "function"):
            raise NeedsNotMet(f"a {target.quantity} has no rivals: it compares classes")
        logits = subject.forward_pass.logits[0]
        if target.versus is None:
            rivals, own = rivals_of(logits, target.index, params.rivals), target
        else:
            rivals, own = [target.versus], replace(target, quantity="logit", versus=None)

        def margin(logits: Tensor) -> Tensor:
            competitor_scores = [replace(own, index=rival).score(logits) for rival in rivals]
            mean = sum(competitor_scores) / len(competitor_scores)
            return own.score(logits) - params.alpha * mean

        contrast = replace(
            subject, target=replace(own, quantity="function", function=margin, versus=None)
        )
        heat = weighted_features(
            contrast,
            params,
            lambda layer: mean_gradients(layer.gradients),
            "margin over the rivals per position",
        )
        names = ", ".join(subject.backbone.labels[rival] for rival in rivals)
        difference = float(margin(logits[None])[0])
        return replace(
            heat, diagnostics={"margin over the rivals": difference}, note=f"Rivals: {names}."
        )


def rivals_of(logits: Tensor, index: int, count: int) -> list[int]:
    """Return the classes with the largest scores but for one, best first; fewer if there are.

    Args:
        logits: (C,).
    """
    class_order = logits.argsort(descending=True, stable=True).tolist()
    return [rival for rival in class_order if rival != index][:count]


@hookimpl
def explainers() -> list[FinerCAM]:
    """Return this file's explainer."""
    return [FinerCAM()]
