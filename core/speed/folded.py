"""A private copy of a network that computes the same, faster: norms folded, weights in good order.

May touch torch only. The copy is checked against the original when it is built; where the check
fails the original is used.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from whylens.core.models.network_errors import NETWORK_ERRORS
from whylens.core.speed.mkldnn import pack, weights_kept

log = logging.getLogger(__name__)


def fold_batchnorm(module: nn.Module, probe: Tensor, *, tolerance: float = 1e-4) -> nn.Module:
    """Return a faster network with the same logits, or `module` itself where none can be made.

    Args:
        module: A frozen network in eval mode; never modified.
        probe: (N, C, *S) inputs that are not constant.
        tolerance: Largest accepted difference of logits, relative to the largest logit.
    """
    with torch.no_grad():
        expected = module(probe)
        try:
            private = copy.deepcopy(module, weights_kept(module))
            _fold_batch_norms(private, probe)
            _channels_last(private)
            pack(private)
            got = private(probe)
        except NETWORK_ERRORS as misfit:
            log.info("No folded copy of %s: %s", type(module).__name__, misfit)
            return module
    scale = float(expected.abs().max()) + 1e-12
    if got.shape != expected.shape or not float((got - expected).abs().max()) <= tolerance * scale:
        log.info("Folded copy of %s disagrees; the plain one is used", type(module).__name__)
        return module
    return private


def _channels_last(module: nn.Module) -> None:
    # Not module.to(memory_format=...): that refuses a network with a single 3-d convolution.
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and not parametrize.is_parametrized(part):
            part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)


class _Readers(TorchDispatchMode):
    """Counts the operations that read each of some tensors; acts on its own thread only."""

    def __init__(self, watched: Mapping[int, object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watched = watched
        self.count: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs or {})):
            if isinstance(value, Tensor) and id(value) in self.watched:
                self.count[id(value)] += 1
        return func(*args, **(kwargs or {}))


def _fold_batch_norms(module: nn.Module, probe: Tensor) -> None:
    # Which norm reads which convolution is observed on the private copy, not guessed from names:
    # the very tensor that one returned enters the other, and nothing else reads it.
    came_from: dict[int, tuple[nn.Module, Tensor]] = {}
    outputs: dict[nn.Module, int] = {}
    readers: dict[nn.Module, list[nn.Module]] = {}
    calls: dict[nn.Module, int] = {}

    def after_conv(conv: nn.Module, _: object, out: Tensor) -> None:
        calls[conv] = calls.get(conv, 0) + 1
        came_from[id(out)] = (conv, out)  # holding `out` keeps its id from being used again
        outputs[conv] = id(out)

    def before_norm(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        calls[norm] = calls.get(norm, 0) + 1
        source = came_from.get(id(args[0]))
        if source is not None:
            readers.setdefault(source[0], []).append(norm)

    handles = []
    for part in module.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d) and not parametrize.is_parametrized(
            part
        ):
            handles.append(part.register_forward_hook(after_conv))
        elif isinstance(part, _BatchNorm):
            handles.append(part.register_forward_pre_hook(before_norm))
    reads = _Readers(came_from)
    try:
        with reads:
            module(probe[:1])
    finally:
        for handle in handles:
            handle.remove()
    for conv, norms in readers.items():
        once = calls[conv] == 1 and len(norms) == 1 and calls[norms[0]] == 1
        if once and reads.count[outputs[conv]] == 1:
            _fold(module, conv, norms[0])


def _fold(module: nn.Module, conv: nn.Module, norm: nn.Module) -> None:
    if not isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or norm.running_var is None:
        return
    what_remains = _without_norm(norm)
    if what_remains is None:
        return
    mean, var, scale, shift = norm.running_mean, norm.running_var, norm.weight, norm.bias
    conv.weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, mean, var, norm.eps, scale, shift
    )
    conv.bias = bias
    conv.requires_grad_(False)
    for parent in module.modules():
        for name, child in parent.named_children():
            if child is norm:
                setattr(parent, name, what_remains)


def _without_norm(norm: nn.Module) -> nn.Module | None:
    if type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return nn.Identity()
    drop, act = getattr(norm, "drop", None), getattr(norm, "act", None)
    if isinstance(drop, nn.Module) and isinstance(act, nn.Module):  # timm's norm with activation
        return nn.Sequential(drop, act)
    return None
