"""Saliency: the size of the score's gradient at every pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whylens import Explainer, Heatmap, Need, NoParams, hookimpl
from whylens.plugins._arrays import as_array

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject


class Saliency(Explainer[NoParams]):
    """The first of the gradient methods, and the reference for the others."""

    name = "saliency"
    title = "Saliency"
    family = "Gradient"
    summary = (
        "How strongly the target score reacts to a small change of each pixel, in the colour "
        "channel to which it reacts most."
    )
    limits = (
        "Shows how strongly, not in which direction: a pixel that speaks against the target is as "
        "bright as one that speaks for it. Grainy, and blind to evidence that the score has had "
        "enough of."
    )
    when = "As the plain gradient, to compare others with; SmoothGrad is easier to read."
    source = "Simonyan et al. 2013, Deep Inside Convolutional Networks, sec. 3.1"
    cost = "1 forward pass and 1 backward pass"
    needs = frozenset({Need.GRADIENTS})
    Params = NoParams
    sign_blind = True

    def explain(self, subject: Subject, params: NoParams) -> Heatmap:  # noqa: ARG002
        """Return the non-negative map, in units of the score per unit of the network's input."""
        values = largest_size(subject.input_gradients(subject.x))
        return Heatmap(as_array(values), f"{subject.unit} per network unit, without its sign")


def largest_size(gradients: Tensor) -> Tensor:
    """Return (*S): the size of the gradient in the channel where it is largest.

    Args:
        gradients: (1, C, *S) derivative of the score with respect to the input.
    """
    return gradients[0].abs().amax(0)


@hookimpl
def explainers() -> list[Saliency]:
    """Return this file's explainer."""
    return [Saliency()]
