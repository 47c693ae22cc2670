"""Gradient-weighted attention: the attention that raises the score, followed through all layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from whylens import Explainer, Heatmap, Need, NoParams, hookimpl
from whylens.plugins._arrays import as_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from whylens import Backbone, Subject


class GradientAttention(Explainer[NoParams]):
    """Attention Rollout that asks about a class: what does not raise its score is left out.

    The paper's form for networks of self-attention alone. It reads the class token's row; where
    the head averages tokens, the mean of their rows is read.
    """

    name = "gradient-attention"
    title = "Gradient-weighted Attention"
    family = "Attention"
    summary = (
        "Which patches reach the tokens from which the scores are read through attention that "
        "raises the target score, in all layers."
    )
    limits = (
        "Keeps what speaks for the target only, and follows attention only. Chains through many "
        "layers weigh more the larger the scores are, so values cannot be compared between "
        "networks."
    )
    when = "For transformers of any kind, when the map should be about a class."
    source = (
        "Chefer et al. 2021, Generic Attention-model Explainability for Interpreting Bi-Modal and "
        "Encoder-Decoder Transformers, eqs. 5 and 6"
    )
    cost = "1 forward pass and 1 backward pass"
    needs = frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})
    Params = NoParams

    def why_not(self, backbone: Backbone) -> str | None:
        """Return why this network's attention says nothing about places, or None."""
        layout = backbone.attention_layout
        return layout if isinstance(layout, str) else None

    def explain(self, subject: Subject, params: NoParams) -> Heatmap:  # noqa: ARG002
        """Return the non-negative map of each place's relevance to what the head reads."""
        attention = subject.attention(gradients=True)
        layout = attention.layout
        flow = relevance(attention.layers, attention.gradients)
        values = flow[list(layout.readers)].mean(0)[layout.prefix :].reshape(layout.grid)
        return Heatmap(as_array(values), "relevance", diagnostics={"layers": layout.layers})


def relevance(layers: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Return (T, T) float64: how much of each first token (columns) counts in each last one (rows).

    Eqs. 5 and 6, less the identity that they start from: each token's share in itself says nothing
    about places, and a class token has none.

    Args:
        layers: (heads, T, T) attention, the first layer first.
        gradients: Likewise: derivative of the score with respect to it.
    """
    identity = torch.eye(layers[0].shape[-1], dtype=torch.float64, device=layers[0].device)
    flow = identity
    for attention, gradient in zip(layers, gradients, strict=True):
        flow = flow + (gradient.double() * attention).relu().mean(0) @ flow
    return flow - identity


@hookimpl
def explainers() -> list[GradientAttention]:
    """Return this file's explainer."""
    return [GradientAttention()]
