"""Attention rollout: how much of each patch reaches the tokens from which the score is read."""

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

Fusion = Literal["mean", "max", "min"]


class AttentionRolloutParams(Params):
    """The fusion of a layer's heads."""

    fusion: Fusion = Field(
        default="mean",
        title="Heads",
        description="The paper averages a layer's heads; their largest or smallest attention is "
        "sharper.",
    )


class AttentionRollout(Explainer[AttentionRolloutParams]):
    """The product of all layers' attention, with skip connections."""

    name = "attention-rollout"
    title = "Attention Rollout"
    family = "Attention"
    summary = (
        "How much of each patch reaches the token from which the scores are read, through the "
        "attention of all layers and the skip connections between them."
    )
    limits = (
        "It is the same for every class, and it follows attention only: what the layers do with "
        "what they take in is not seen, so a bright patch need not have counted for anything."
    )
    when = "For transformers, to see where attention goes before asking about a class."
    source = (
        "Abnar and Zuidema 2020, Quantifying Attention Flow in Transformers, sec. 3, eq. 1; the "
        "largest or smallest of the heads is a common variant"
    )
    cost = "1 forward pass"
    needs = frozenset({Need.SPATIAL_FEATURES})
    Params = AttentionRolloutParams
    class_blind = True

    def why_not(self, backbone: Backbone) -> str | None:
        """Return why this network's attention says nothing about places, or None."""
        layout = backbone.attention_layout
        return layout if isinstance(layout, str) else None

    def explain(self, subject: Subject, params: AttentionRolloutParams) -> Heatmap:
        """Return each place's share of what reaches the tokens that the network's head reads."""
        attention = subject.attention()
        layout = attention.layout
        flow = rollout([fuse_heads(layer, params.fusion) for layer in attention.layers])
        row = flow[list(layout.readers)].mean(0)
        values = row[layout.prefix :].reshape(layout.grid)
        diagnostics = {"layers": layout.layers, "share of all places": float(values.sum())}
        return Heatmap(
            as_array(values), "share of what reaches the head's tokens", False, diagnostics, _NOTE
        )


_NOTE = "The same for every class: it shows where the network gathers from, not for what."


def fuse_heads(attention: Tensor, fusion: Fusion) -> Tensor:
    """Return (T, T): one attention for all heads of a layer.

    Args:
        attention: (heads, T, T), rows sum to 1.
        fusion: How heads become one; the rows of "max" and "min" no longer sum to 1.
    """
    if fusion == "mean":
        return attention.mean(0)
    return attention.amax(0) if fusion == "max" else attention.amin(0)


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """Return (T, T) float64: how much of each first token (columns) is in each last one (rows).

    Eq. 1: every layer is (A + I) / 2, the I for its skip connection, with rows that sum to 1; the
    layers are multiplied, the last one leftmost.

    Args:
        layers: (T, T) each, not negative, the first layer first.
    """
    identity = torch.eye(len(layers[0]), dtype=torch.float64, device=layers[0].device)
    flow = identity
    for attention in layers:
        layer_flow = 0.5 * attention.double() + 0.5 * identity
        flow = layer_flow / layer_flow.sum(-1, keepdim=True) @ flow
    return flow


@hookimpl
def explainers() -> list[AttentionRollout]:
    """Return this file's explainer."""
    return [AttentionRollout()]
