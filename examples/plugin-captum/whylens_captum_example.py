"""captum's Input x Gradient as an explainer of Whylens.

captum wants a function from inputs to one score per row, and the inputs. Both come from the
subject; nothing is hooked and nothing is set on the network, so there is nothing to restore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field
from whylens import Explainer, Heatmap, Need, Params, denormalize, hookimpl, normalize

if TYPE_CHECKING:
    from torch import Tensor
    from whylens import Subject


class InputXGradientParams(Params):
    """What of a place's channels is shown."""

    value: Literal["sum", "magnitude"] = Field(
        default="sum",
        description="sum: of the channels' shares, signed; magnitude: the sum of their sizes.",
    )


class CaptumInputXGradient(Explainer[InputXGradientParams]):
    """Three things captum leaves to its caller: which score, which zero, and what to show."""

    name = "captum-input-x-gradient"
    title = "Input x Gradient (captum)"
    family = "Gradient"
    summary = "How much each pixel's light adds to the score, to first order, computed by captum."
    limits = (
        "A gradient holds nearby only: where the score saturates, what matters gets nothing; and "
        "what is black gets nothing whatever it means."
    )
    source = "Shrikumar et al. 2016, Not Just a Black Box, sec. 2; captum.attr.InputXGradient"
    cost = "1 forward pass and 1 backward pass"
    needs = frozenset({Need.GRADIENTS})
    Params = InputXGradientParams

    def explain(self, subject: Subject, params: InputXGradientParams) -> Heatmap:
        """Return the map in units of the score per pixel, signed unless sizes are asked for."""
        # Here: it takes seconds, and the page starts without it.
        from captum.attr import InputXGradient

        backbone = subject.backbone

        def score(pixels: Tensor) -> Tensor:
            # The question's own target, not captum's: it may be a probability or a contrast, and
            # a network with one output has two sides.
            return subject.target.score(backbone.logits(normalize(pixels, backbone.input_spec)))

        # In pixel space 0 is black. In the network's own units it would be the data's mean colour.
        pixels = denormalize(subject.x, backbone.input_spec).requires_grad_()
        shares = InputXGradient(score).attribute(pixels).detach()[0]
        signed = params.value == "sum"
        values = shares.sum(0) if signed else shares.abs().sum(0)
        return Heatmap(values.cpu().numpy(), subject.unit_per_place, signed=signed)


@hookimpl
def explainers() -> list[CaptumInputXGradient]:
    """Return this package's explainers, in tab order."""
    return [CaptumInputXGradient()]
