"""LeGrad: how each layer's attention to a patch would raise the score of that layer's output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from whylens import Explainer, Heatmap, Need, Params, hookimpl
from whylens.plugins._arrays import as_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from whylens import Backbone, Subject


class LeGradParams(Params):
    """The layers, and which of their tokens are scored."""

    layers: int = Field(
        default=64,
        ge=1,
        le=64,
        title="Last layers",
        description="How many of the last layers are averaged; all where there are fewer.",
    )
    pooling: Literal["all tokens", "network"] = Field(
        default="all tokens",
        title="Scored tokens",
        description="The authors score the mean of all tokens of a layer; 'network' scores what "
        "the network's head reads, as the class token.",
    )


class LeGrad(Explainer[LeGradParams]):
    """Gradients of every layer's own score with respect to its own attention.

    It departs from the authors' code in three ways: the score is the target's (a logit, a
    probability, a contrast) rather than the cosine with a text; the map is neither enlarged nor
    scaled to [0, 1]; and the columns of all prefix tokens are dropped, not of a class token alone.
    """

    name = "legrad"
    title = "LeGrad"
    family = "Attention"
    summary = (
        "Which patches would raise the target score if a vision transformer's layers attended to "
        "them more, averaged over the layers."
    )
    limits = (
        "Keeps what speaks for the target only; early layers are read by a classifier that was "
        "made for the last one, and a patch that is fully attended to already may get little."
    )
    when = "For vision transformers, in place of Grad-CAM."
    source = (
        "Bousselham et al. 2024, LeGrad: An Explainability Method for Vision Transformers via "
        "Feature Formation Sensitivity, sec. 3.2; scored tokens as in the authors' code"
    )
    cost = "1 forward pass and, per layer, 1 backward pass through that layer"
    needs = frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})
    Params = LeGradParams

    def why_not(self, backbone: Backbone) -> str | None:
        """Return why the layers of this network cannot be scored one by one, or None."""
        layout = backbone.attention_layout
        return layout if isinstance(layout, str) else layout.layer_problem or None

    def explain(self, subject: Subject, params: LeGradParams) -> Heatmap:
        """Return the map in units of the score per unit of attention."""
        gradients = subject.attention_gradients(params.pooling)[-params.layers :]
        grid = tuple(subject.features.shape[2:])
        places = torch.Size(grid).numel()
        # Prefix tokens come first; they have no place.
        values = mean_positive_gradient(gradients)[-places:].reshape(grid)
        diagnostics = {"layers": len(gradients)}
        return Heatmap(
            as_array(values), f"{subject.unit} per unit of attention", False, diagnostics
        )


def mean_positive_gradient(gradients: Sequence[Tensor]) -> Tensor:
    """Return (T,): the positive part of the gradients, averaged over layers, heads and rows.

    Args:
        gradients: (heads, T, T) for each layer: derivative of a score with respect to what each
            token (rows) takes from each (columns).
    """
    layers = [gradient.relu().mean((0, 1)) for gradient in gradients]
    return torch.stack(layers).mean(0)


@hookimpl
def explainers() -> list[LeGrad]:
    """Return this file's explainer."""
    return [LeGrad()]
