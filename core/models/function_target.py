"""A function of a network's outputs as what is explained, in place of a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from whylens.core.errors import NETWORK_ERRORS, BadInput, NeedsNotMet
from whylens.core.explainer import Explainer
from whylens.core.models.backbone import Backbone
from whylens.core.needs import Need
from whylens.core.targets import Target


def function_name(function: Callable[..., Any]) -> str:
    """Return the name of a function as it stands over its maps."""
    name = getattr(function, "__name__", type(function).__name__)
    return "the function" if name == "<lambda>" else str(name)


def function_target(
    function: Callable[[Tensor], Tensor],
    explainer: Explainer[Any],
    backbone: Backbone,
    logits: Tensor,
) -> Target:
    """Return the target that is a function of the outputs, after it was tried on this input.

    Raises:
        NeedsNotMet: The method explains classes only.
        BadInput: The function fails, or gives something else than one number for each input.
    """
    if explainer.question_kind != "where":
        raise NeedsNotMet(
            f"{explainer.title} explains a class, not a function of the outputs. Choose a method "
            "that says where the network looks."
        )

    def score(rows: Tensor) -> Tensor:
        # One score z was made two logits, -z/2 and z/2.
        return function(rows[:, 1:] - rows[:, :1] if backbone.has_single_score else rows)

    leaf = logits.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            values = score(leaf)
    except NETWORK_ERRORS as exc:
        raise BadInput(
            f"target= failed on outputs of shape {tuple(logits.shape)} "
            f"({type(exc).__name__}: {exc}). Give a function of (N, C) outputs."
        ) from exc
    if not isinstance(values, Tensor) or values.shape != (len(logits),):
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise BadInput(
            f"target= returns one number for each input, (N,) of N, not {shape}. Select or average "
            "what is left."
        )
    if not values.requires_grad and Need.GRADIENTS in explainer.needs:
        raise BadInput(
            f"{explainer.title} follows gradients, and target= has none. Write it with torch's "
            "differentiable functions, or choose a method that hides parts of the input."
        )
    return Target(int(logits[0].argmax()), "function", function=score)
