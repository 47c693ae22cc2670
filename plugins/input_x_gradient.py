"""Input x Gradient: the gradient of the score times the input that it is taken at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whylens import Explainer, Heatmap, Need, NoParams, hookimpl
from whylens.plugins._arrays import as_array

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject


class InputXGradient(Explainer[NoParams]):
    """Integrated Gradients with a single step, from an input of zeros."""

    name = "input-x-gradient"
    title = "Input x Gradient"
    family = "Gradient"
    summary = (
        "How much each pixel adds to the target score or takes from it, to first order, counted "
        "from the input that the network reads as zeros."
    )
    limits = (
        "Zero is the training pictures' mean colour for most networks: what has that colour gets "
        "nothing. The shares add up to the score only where the network is linear."
    )
    when = "As a cheap first look at single pixels; Integrated Gradients is the exact form."
    source = (
        "Shrikumar et al. 2016, Not Just a Black Box: Learning Important Features Through "
        "Propagating Activation Differences, sec. 3"
    )
    cost = "1 forward pass and 1 backward pass"
    needs = frozenset({Need.GRADIENTS})
    Params = NoParams

    def explain(self, subject: Subject, params: NoParams) -> Heatmap:  # noqa: ARG002
        """Return the signed map in units of the score per pixel."""
        values = input_times_gradient(subject.x, subject.input_gradients(subject.x))
        diagnostics = {"sum of map": float(values.sum()), "score": subject.score}
        return Heatmap(as_array(values), subject.unit_per_place, True, diagnostics)


def input_times_gradient(x: Tensor, gradients: Tensor) -> Tensor:
    """Return (*S): the sum over channels of input times gradient.

    Args:
        x: (1, C, *S) as the network reads it.
        gradients: (1, C, *S) derivative of the score with respect to it.
    """
    return (x * gradients)[0].sum(0)


@hookimpl
def explainers() -> list[InputXGradient]:
    """Return this file's explainer."""
    return [InputXGradient()]
