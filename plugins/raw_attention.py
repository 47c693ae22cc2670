"""Raw attention: what one layer, or one of its heads, attends to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from whylens import Explainer, Heatmap, InvalidParameter, Need, Params, hookimpl
from whylens.plugins._arrays import as_array

if TYPE_CHECKING:
    from whylens import Backbone, Subject


class RawAttentionParams(Params):
    """Which layer, and which of its heads."""

    layer: int = Field(
        default=1, ge=1, le=64, description="Counted from the end: 1 is the last layer."
    )
    head: int = Field(default=0, ge=0, le=64, description="1 is the first; 0 averages all heads.")


class RawAttention(Explainer[RawAttentionParams]):
    """The plainest reading of a transformer, which all other methods of attention refine."""

    name = "raw-attention"
    title = "Raw Attention"
    family = "Attention"
    summary = (
        "How the tokens from which the scores are read share out their attention in one layer, or "
        "in one of its heads."
    )
    limits = (
        "It is the same for every class, and knows one layer only: what reached the tokens before, "
        "and what the network makes of them, is not seen."
    )
    when = "For transformers, to see what single heads do."
    source = (
        "Vaswani et al. 2017, Attention Is All You Need, eq. 1; as a map: Caron et al. 2021, "
        "Emerging Properties in Self-Supervised Vision Transformers, sec. 5"
    )
    cost = "1 forward pass"
    needs = frozenset({Need.SPATIAL_FEATURES})
    Params = RawAttentionParams
    class_blind = True

    def why_not(self, backbone: Backbone) -> str | None:
        """Return why this network's attention says nothing about places, or None."""
        layout = backbone.attention_layout
        return layout if isinstance(layout, str) else None

    def explain(self, subject: Subject, params: RawAttentionParams) -> Heatmap:
        """Return each place's share of the attention of the tokens that the head reads."""
        attention = subject.attention()
        layout, layers = attention.layout, len(attention.layers)
        if params.layer > layers:
            raise InvalidParameter(f"The network has {layers} layers: choose 1 to {layers}.")
        heads = attention.layers[-params.layer]
        if params.head > len(heads):
            raise InvalidParameter(
                f"That layer has {len(heads)} heads: choose 1 to {len(heads)}, or 0 for their mean."
            )
        shares = heads[params.head - 1] if params.head else heads.mean(0)
        values = shares[list(layout.readers)].mean(0)[layout.prefix :].reshape(layout.grid)
        diagnostics = {
            "layers": layers,
            "heads": len(heads),
            "share of all places": float(values.sum()),
        }
        return Heatmap(as_array(values), "share of the attention", False, diagnostics, _NOTE)


_NOTE = "The same for every class: it shows where one layer looks, not for what."


@hookimpl
def explainers() -> list[RawAttention]:
    """Return this file's explainer."""
    return [RawAttention()]
