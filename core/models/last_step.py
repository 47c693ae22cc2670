"""What a network does last, by its own graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from whylens.core.errors import NETWORK_ERRORS

_VIEWS = (
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Select", "Slice", "Clone",
    "ToCopy", "Alias", "T", "Transpose", "Permute", "Expand", "AsStrided", "Cat", "Stack",
    "Unbind", "Split", "Index",
)  # fmt: skip
# Sums and shares of linear maps are linear, of what is positive positive; of sigmoids they are no
# sigmoids.
_MEANS = ("Mean", "Sum", "AdaptiveAvgPool2D", "AvgPool2D", "MkldnnAdaptiveAvgPool2D")
_SCALED = ("Add", "Sub", "Rsub", "Mul", "Div", "Neg")
_LINEAR = ("Addmm", "Mm", "Bmm", "Baddbmm", "Mv", "Convolution", "MkldnnConvolution")
LAST_STEPS = {
    "Sigmoid": "sigmoid",
    "LogSigmoid": "log sigmoid",
    "Tanh": "tanh",
    "Relu": "positive",
    "Softplus": "positive",
    "Exp": "positive",
    "Abs": "positive",
    "Pow": "power",
}


def last_step(read: Callable[[Tensor], Tensor], x: Tensor) -> str:
    """Return what a network does last: "linear", "sigmoid", "tanh" and so on; "" if not known.

    Args:
        x: (N, C, *S) inputs.
    """
    try:
        with torch.enable_grad():
            # A leaf may not be changed in place.
            node = read(x.detach().clone().requires_grad_() * 1).grad_fn
    except NETWORK_ERRORS:
        return ""
    node = _past(node, _VIEWS)
    name = _name(node)
    if name in LAST_STEPS:
        return LAST_STEPS[name]
    if name == "Log":
        return "log sigmoid" if _name(_past(node.next_functions[0][0], _VIEWS)) == "Sigmoid" else ""
    if LAST_STEPS.get(_name(_past(node, (*_VIEWS, *_MEANS)))) == "positive":
        return "positive"
    return "linear" if _name(_past(node, (*_VIEWS, *_MEANS, *_SCALED))) in _LINEAR else ""


def _past(node: Any, names: tuple[str, ...]) -> Any:
    # Several parts that are joined all come from the same step, or it is not known.
    while node is not None and _name(node) in names:
        parts = [part for part, _ in node.next_functions if part is not None]
        if not parts or len({_name(_past(part, names)) for part in parts}) > 1:
            return None
        if len(parts) > 1 and _name(node) in _SCALED:
            return None
        node = parts[0]
    return node


def _name(node: Any) -> str:
    return "" if node is None else str(node.name()).partition("Backward")[0]
