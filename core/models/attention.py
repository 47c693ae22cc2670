"""What the layers of a transformer attend to, read from one forward pass of the network itself.

Nothing is hooked: torch hands the calls of a thread to a `TorchFunctionMode` for as long as it is
entered, and the network is left as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from whylens.core.errors import NETWORK_ERRORS, NeedsNotMet
from whylens.core.models.layouts import Tokens, as_two_logits, weighted_sum
from whylens.core.models.split import Split
from whylens.core.speed.folded import agree

log = logging.getLogger(__name__)

Pooling = Literal["all tokens", "network"]
_SOFTMAX = (functional.softmax, torch.softmax, Tensor.softmax)
_NOT_SCORED = "its layers cannot be scored one by one"


@dataclass(frozen=True, slots=True)
class AttentionLayout:
    """The tokens of a network that attends to all of them in every layer.

    Attributes:
        prefix: Number of tokens without a place, such as a class token, which come first.
        grid: Rows and columns (or samples) of the tokens that follow.
        layers: Number of layers.
        readers: Tokens of the last layer from which the scores are read.
        layer_problem: Why the output of a single layer cannot be scored, or "" where it can.
    """

    prefix: int
    grid: tuple[int, ...]
    layers: int
    readers: tuple[int, ...]
    layer_problem: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """The attention of every layer for one input.

    Attributes:
        layers: (heads, T, T) each, detached: how much each token (rows) takes from each (columns);
            rows sum to 1. T is the prefix and the places of the grid.
        layout: Where the tokens lie.
        gradients: (heads, T, T) each: derivative of the network's score with respect to them; none
            unless asked for.
    """

    layers: tuple[Tensor, ...]
    layout: AttentionLayout
    gradients: tuple[Tensor, ...] = ()


class AttentionRecorder(TorchFunctionMode):
    """Records attention probabilities; acts on the thread that enters it, and on no other.

    The fused function never holds its probabilities, so it is replaced by its definition. Where
    gradients are enabled, the recorded tensors are part of the graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[Tensor] = []
        self.hidden = False  # attention inside a function that calls no other by name

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        self.hidden |= func is functional.multi_head_attention_forward
        out = func(*args, **kwargs)
        if func in _SOFTMAX and out.ndim == 4:
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            return self._record(out) if axis in (-1, 3) else out
        return out

    def _record(self, probabilities: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not probabilities.requires_grad:
            probabilities.requires_grad_()
        self.recorded.append(probabilities)
        return probabilities

    def _attention(
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
        probabilities = self._record(raw.softmax(-1))
        return functional.dropout(probabilities, dropout_p) @ value


def attention_of(
    module: nn.Module,
    layout: AttentionLayout | str,
    x: Tensor,
    score: Callable[[Tensor], Tensor] | None = None,
) -> Attention:
    """Return what every layer attends to for one input, and how that moves a score.

    Args:
        module: Frozen, in eval mode.
        layout: As `layout_or_reason` returns it.
        x: (1, C, *S).
        score: (1, classes) logits to (1,) scores; by default no gradients are taken.

    Raises:
        NeedsNotMet: It does not attend to all of its tokens in every layer.
    """
    layout = _usable(layout)
    with torch.set_grad_enabled(score is not None), AttentionRecorder() as recorder:
        logits = as_two_logits(module(x))
    layers, gradients = tuple(layer.detach()[0] for layer in recorder.recorded), ()
    if score is not None:
        with torch.enable_grad():
            total = score(logits).sum()
        # A layer on which the score does not rest has a gradient of zero.
        slopes = torch.autograd.grad(
            total, recorder.recorded, allow_unused=True, materialize_grads=True
        )
        gradients = tuple(slope[0] for slope in slopes)
    return Attention(layers, layout, gradients)


def layer_gradients(
    module: nn.Module,
    layout: AttentionLayout | str,
    x: Tensor,
    score: Callable[[Tensor], Tensor],
    *,
    pooling: Pooling,
) -> tuple[Tensor, ...]:
    """Return (heads, T, T) for every layer: how its own attention moves the score of its output.

    The output of each layer goes through the last norm and the classifier, as that of the last
    layer does in the network.

    Args:
        module: As for `attention_of`.
        layout: As `layout_or_reason` returns it.
        x: (1, C, *S).
        score: (1, classes) logits to (1,) scores.
        pooling: Which tokens of a layer are scored: the mean of "all tokens", or what the
            "network" reads.

    Raises:
        NeedsNotMet: Its layers cannot be scored.
    """
    layout = _usable(layout)
    if layout.layer_problem:
        raise NeedsNotMet(layout.layer_problem)
    with torch.enable_grad(), AttentionRecorder() as recorder:
        outputs = _layer_outputs(module, x)
    gradients = []
    for attention, tokens in zip(recorder.recorded, outputs, strict=True):
        with torch.enable_grad():
            total = score(_token_logits(module, tokens, pooling)).sum()
        (gradient,) = torch.autograd.grad(total, attention, retain_graph=True)
        gradients.append(gradient[0])
    return tuple(gradients)


def _usable(layout: AttentionLayout | str) -> AttentionLayout:
    if isinstance(layout, str):
        raise NeedsNotMet(layout)
    return layout


def layout_or_reason(
    module: nn.Module, split: Split | None, probe: Tensor
) -> AttentionLayout | str:
    """Return where a network's tokens lie, or why its attention says nothing about places.

    Args:
        module: Frozen, in eval mode; its type plays no part.
        probe: (1, C, *S) an input that is not constant.
    """
    try:
        with torch.no_grad():
            plain = as_two_logits(module(probe))
        with torch.enable_grad(), AttentionRecorder() as recorder:
            logits = as_two_logits(module(probe))
    except NETWORK_ERRORS as exc:
        log.info("The attention of %s cannot be recorded: %s", type(module).__name__, exc)
        return "its forward pass cannot be watched"
    recorded = recorder.recorded
    if recorder.hidden:
        return "its attention is computed inside torch's MultiheadAttention, which keeps it hidden"
    problem = _shape_problem(recorded, len(probe))
    if problem:
        return problem
    tokens = recorded[0].shape[-1]
    layout = None if split is None else split.layout
    if not isinstance(layout, Tokens):
        return f"the {tokens} tokens it attends to do not lie on the grid of a feature map"
    places = torch.Size(layout.grid).numel()
    if tokens != layout.prefix + places:
        return f"it attends to {tokens} tokens, but its feature map has {places} places"
    if not agree(logits.detach(), plain, 1e-3):
        return "its scores change when its attention is written out"
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(weighted_sum(logits), recorded[-1], allow_unused=True)
    if slope is None or not slope.any():
        return "its scores do not rest on its last attention"
    live = slope.abs().sum((0, 1, 3)) > 0
    readers = tuple(int(i) for i in live.nonzero()[:, 0])
    layer_problem = _layer_problem(module, probe, plain, len(recorded))
    return AttentionLayout(layout.prefix, layout.grid, len(recorded), readers, layer_problem)


def _shape_problem(recorded: list[Tensor], count: int) -> str:
    if not recorded:
        return "no attention between tokens was seen in its forward pass"
    shapes = list(dict.fromkeys(tuple(a.shape) for a in recorded))
    if any(a.ndim != 4 or a.shape[0] != count for a in recorded):
        side = shapes[0][-1]
        return f"its attention looks at windows of {side} tokens, not at all tokens at once"
    spans = list(dict.fromkeys(shape[-2:] for shape in shapes))
    if len(spans) > 1 or spans[0][0] != spans[0][1]:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in spans[:4])
        return f"its layers do not all attend from all tokens to all of them ({sizes})"
    return ""


def _layer_outputs(module: Any, x: Tensor) -> list[Tensor]:
    # timm's own way to every layer's output; (patches, prefix) where there are prefix tokens.
    outputs = module.forward_intermediates(
        x, norm=False, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
    )
    return [
        torch.cat([output[1], output[0]], 1) if isinstance(output, tuple | list) else output
        for output in outputs
    ]


def _token_logits(module: Any, tokens: Tensor, pooling: Pooling) -> Tensor:
    if pooling == "all tokens":
        # Whichever tokens the head reads, it then reads the mean of all.
        tokens = tokens.mean(1, keepdim=True).expand_as(tokens)
    return as_two_logits(module.forward_head(module.norm(tokens)))


def _layer_problem(module: Any, probe: Tensor, plain: Tensor, layers: int) -> str:
    if not callable(getattr(module, "forward_intermediates", None)):
        return _NOT_SCORED
    try:
        with torch.enable_grad(), AttentionRecorder() as recorder:
            outputs = _layer_outputs(module, probe)
            logits = [_token_logits(module, tokens, "network") for tokens in outputs]
        if not len(outputs) == len(recorder.recorded) == layers:
            return _NOT_SCORED
        if not agree(logits[-1].detach(), plain, 1e-3):
            return _NOT_SCORED
        for attention, scores in zip(recorder.recorded, logits, strict=True):
            total = weighted_sum(scores)
            (slope,) = torch.autograd.grad(total, attention, retain_graph=True, allow_unused=True)
            if slope is None:
                return _NOT_SCORED
    except NETWORK_ERRORS as exc:
        log.info("The layers of %s cannot be scored: %s", type(module).__name__, exc)
        return _NOT_SCORED
    return ""
