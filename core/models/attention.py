"""What the layers of a transformer attend to, read from one forward pass of the network itself.

May touch torch and the files beside it. Nothing is hooked: torch hands the calls of one thread to
a `TorchFunctionMode` for as long as it is entered, and the network is left as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from whylens.core.errors import NeedsNotMet
from whylens.core.models.fx_split import weighted_sum
from whylens.core.models.layouts import Tokens
from whylens.core.models.network_errors import NETWORK_ERRORS

if TYPE_CHECKING:
    from whylens.core.models.backbone import Backbone

log = logging.getLogger(__name__)

Pooling = Literal["all tokens", "network"]
_SOFTMAX = (functional.softmax, torch.softmax, Tensor.softmax)
_UNLAYERED = "its layers cannot be scored one by one"


@dataclass(frozen=True, slots=True)
class AttentionLayout:
    """Where the tokens of a network lie that attends to all of them in every layer.

    Attributes:
        prefix: Tokens without a place, such as a class token, which come first.
        grid: Rows and columns (or samples) of the others, in order.
        layers: Number of layers.
        readers: Tokens of the last layer from which the scores are read.
        unlayered: Why the output of a single layer cannot be scored, or "" where it can.
    """

    prefix: int
    grid: tuple[int, ...]
    layers: int
    readers: tuple[int, ...]
    unlayered: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """The attention of every layer for one input.

    Attributes:
        layers: (heads, T, T) each, detached: how much each token (rows) takes from each (columns);
            rows sum to 1. T is the prefix and the places of the grid.
        layout: Where the tokens lie.
    """

    layers: tuple[Tensor, ...]
    layout: AttentionLayout


class _Recorder(TorchFunctionMode):
    """Keeps attention probabilities; acts on the thread that enters it, and on no other.

    The fused function never holds its probabilities, so it is replaced by its definition. Where
    gradients are enabled, what is kept is part of the graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.hidden = False  # attention inside a function that calls no other by name

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return self._attended(*args, **given)
        self.hidden |= func is functional.multi_head_attention_forward
        out = func(*args, **given)
        if func in _SOFTMAX and out.ndim == 4:
            axis = given.get("dim", args[1] if len(args) > 1 else None)
            return self._kept(out) if axis in (-1, 3) else out
        return out

    def _kept(self, probabilities: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not probabilities.requires_grad:
            probabilities.requires_grad_()
        self.seen.append(probabilities)
        return probabilities

    def _attended(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if enable_gqa:
            groups = query.shape[-3] // key.shape[-3]
            key = key.repeat_interleave(groups, -3)
            value = value.repeat_interleave(groups, -3)
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        raw = query @ key.transpose(-2, -1) * factor
        if is_causal:
            later = torch.ones(raw.shape[-2:], dtype=torch.bool, device=raw.device).triu(1)
            raw = raw.masked_fill(later, -torch.inf)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            raw = raw.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            raw = raw + attn_mask
        probabilities = self._kept(raw.softmax(-1))
        return functional.dropout(probabilities, dropout_p) @ value


def attention_of(backbone: Backbone, x: Tensor) -> Attention:
    """Return what every layer attends to for one input, without gradients.

    Args:
        backbone: A network with an `attention_layout`.
        x: (1, C, *S).

    Raises:
        NeedsNotMet: It does not attend to all of its tokens in every layer.
    """
    layout = usable_layout(backbone)
    with torch.no_grad(), _Recorder() as recorder:
        backbone.module(x)
    return Attention(tuple(layer[0] for layer in recorder.seen), layout)


def layer_gradients(
    backbone: Backbone, x: Tensor, score: Callable[[Tensor], Tensor], *, pooling: Pooling
) -> tuple[Tensor, ...]:
    """Return (heads, T, T) for every layer: how its own attention moves the score of its output.

    The output of each layer goes through the last norm and the classifier, as that of the last
    layer does in the network.

    Args:
        backbone: A network with an `attention_layout` that is not `unlayered`.
        x: (1, C, *S).
        score: (1, classes) logits to (1,) scores.
        pooling: Which tokens of a layer are scored: the mean of "all tokens", or what the
            "network" reads.

    Raises:
        NeedsNotMet: Its layers cannot be scored.
    """
    layout = usable_layout(backbone)
    if layout.unlayered:
        raise NeedsNotMet(layout.unlayered)
    with torch.enable_grad(), _Recorder() as recorder:
        outputs = _layer_outputs(backbone.module, x)
    found = []
    for attention, tokens in zip(recorder.seen, outputs, strict=True):
        with torch.enable_grad():
            total = score(_token_logits(backbone.module, tokens, pooling)).sum()
        (gradient,) = torch.autograd.grad(total, attention, retain_graph=True)
        found.append(gradient[0])
    return tuple(found)


def usable_layout(backbone: Backbone) -> AttentionLayout:
    """Return where the tokens of a network lie.

    Args:
        backbone: A loaded network.

    Raises:
        NeedsNotMet: It does not attend to all of its tokens in every layer.
    """
    layout = backbone.attention_layout
    if isinstance(layout, str):
        raise NeedsNotMet(layout)
    return layout


def layout_or_reason(backbone: Backbone) -> AttentionLayout | str:
    """Return where a network's tokens lie, or why its attention says nothing about places.

    Args:
        backbone: A loaded network; it is tried out on noise, its type plays no part.
    """
    probe = backbone.probe_inputs()[:1]
    try:
        with torch.no_grad():
            plain = backbone.logits(probe)
        with torch.enable_grad(), _Recorder() as recorder:
            logits = backbone.logits(probe)
    except NETWORK_ERRORS as misfit:
        log.info("%s cannot be watched: %s", backbone.name, misfit)
        return "its forward pass cannot be watched"
    seen = recorder.seen
    if recorder.hidden:
        return "its attention is computed inside torch's MultiheadAttention, which keeps it hidden"
    problem = _shape_problem(seen, len(probe))
    if problem:
        return problem
    tokens = seen[0].shape[-1]
    layout = None if backbone.split is None else backbone.split.layout
    if not isinstance(layout, Tokens):
        return f"the {tokens} tokens it attends to do not lie on the grid of a feature map"
    places = torch.Size(layout.grid).numel()
    if tokens != layout.prefix + places:
        return f"it attends to {tokens} tokens, but its feature map has {places} places"
    if not _agree(logits.detach(), plain):
        return "its scores change when its attention is written out"
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(weighted_sum(logits), seen[-1], allow_unused=True)
    if slope is None or not slope.any():
        return "its scores do not rest on its last attention"
    felt = slope.abs().sum((0, 1, 3)) > 0
    readers = tuple(int(i) for i in felt.nonzero()[:, 0])
    unlayered = _layer_problem(backbone, probe, plain, len(seen))
    return AttentionLayout(layout.prefix, layout.grid, len(seen), readers, unlayered)


def _shape_problem(seen: list[Tensor], count: int) -> str:
    if not seen:
        return "no attention between tokens was seen in its forward pass"
    shapes = list(dict.fromkeys(tuple(a.shape) for a in seen))
    if any(a.ndim != 4 or a.shape[0] != count for a in seen):
        side = shapes[0][-1]
        return f"its attention looks at windows of {side} tokens, not at all tokens at once"
    spans = list(dict.fromkeys(shape[-2:] for shape in shapes))
    if len(spans) > 1 or spans[0][0] != spans[0][1]:
        said = ", ".join(f"{rows} x {columns}" for rows, columns in spans[:4])
        return f"its layers do not all attend from all tokens to all of them ({said})"
    return ""


def _layer_outputs(module: Any, x: Tensor) -> list[Tensor]:
    # timm's own way to every layer's output; (patches, prefix) where there are prefix tokens.
    found = module.forward_intermediates(
        x, norm=False, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
    )
    return [
        torch.cat([item[1], item[0]], 1) if isinstance(item, tuple | list) else item
        for item in found
    ]


def _token_logits(module: Any, tokens: Tensor, pooling: Pooling) -> Tensor:
    if pooling == "all tokens":
        # Whichever tokens the head reads, it then reads the mean of all.
        tokens = tokens.mean(1, keepdim=True).expand_as(tokens)
    from whylens.core.models.backbone import as_two_logits  # which imports this file

    return as_two_logits(module.forward_head(module.norm(tokens)))


def _layer_problem(backbone: Backbone, probe: Tensor, plain: Tensor, layers: int) -> str:
    module: Any = backbone.module
    if not callable(getattr(module, "forward_intermediates", None)):
        return _UNLAYERED
    try:
        with torch.enable_grad(), _Recorder() as recorder:
            outputs = _layer_outputs(module, probe)
            logits = [_token_logits(module, tokens, "network") for tokens in outputs]
        if not len(outputs) == len(recorder.seen) == layers:
            return _UNLAYERED
        if not _agree(logits[-1].detach(), plain):
            return _UNLAYERED
        for attention, scores in zip(recorder.seen, logits, strict=True):
            total = weighted_sum(scores)
            (slope,) = torch.autograd.grad(total, attention, retain_graph=True, allow_unused=True)
            if slope is None:
                return _UNLAYERED
    except NETWORK_ERRORS as misfit:
        log.info("The layers of %s cannot be scored: %s", backbone.name, misfit)
        return _UNLAYERED
    return ""


def _agree(got: Tensor, wanted: Tensor) -> bool:
    if got.shape != wanted.shape:
        return False
    return float((got - wanted).abs().max()) <= 1e-3 * (float(wanted.abs().max()) + 1e-12)
