"""A private copy of a network that computes the same, faster: norms folded, weights in good order.

The copy is checked against the original when it is built; where the check fails the original is
used.
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
from torch.utils._pytree import tree_leaves

from whylens.core.errors import NETWORK_ERRORS
from whylens.core.speed.eager_mode import EagerMode

log = logging.getLogger(__name__)

_PACKED_ROWS = 256  # of inputs at a time, for which the order is chosen; others work as well


def faster(module: nn.Module, probe: Tensor, *, tolerance: float = 1e-4) -> nn.Module:
    """Return a faster network with the same logits, or `module` itself where none can be made.

    Args:
        module: A frozen network in eval mode; never modified.
        probe: (N, C, *S) inputs that are not constant.
        tolerance: Largest accepted difference of logits, relative to the largest logit.
    """
    with torch.no_grad():
        expected = module(probe)
        try:
            private = copy.deepcopy(module, shared_weights(module))
            _fold_batchnorms(private, probe)
            _channels_last(private)
            pack(private)
            logits = private(probe)
        except NETWORK_ERRORS as exc:
            log.info("No faster copy of %s: %s", type(module).__name__, exc)
            return module
    if not agree(logits, expected, tolerance):
        log.info("The faster copy of %s disagrees and is not used", type(module).__name__)
        return module
    return private


def agree(value: Tensor, reference: Tensor, tolerance: float) -> bool:
    """Return whether two tensors differ by no more than a share of the reference's largest value.

    Tensors of different shapes, or with values that are not numbers, do not agree.
    """
    if value.shape != reference.shape or not reference.numel():
        return value.shape == reference.shape
    scale = float(reference.abs().max()) + 1e-12
    return float((value - reference).abs().max()) <= tolerance * scale


def _channels_last(module: nn.Module) -> None:
    # Not module.to(memory_format=...): that refuses a network with a single 3-d convolution.
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and not parametrize.is_parametrized(part):
            part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)


class _ReadCounter(EagerMode):
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


def _fold_batchnorms(module: nn.Module, probe: Tensor) -> None:
    if not any(isinstance(part, _BatchNorm) for part in module.modules()):
        return
    # Which norm reads which convolution is observed on the private copy, not guessed from names:
    # the very tensor that the convolution returned enters the norm, and nothing else reads it.
    conv_of_output: dict[int, tuple[nn.Module, Tensor]] = {}
    outputs: dict[nn.Module, int] = {}
    readers: dict[nn.Module, list[nn.Module]] = {}
    calls: Counter[nn.Module] = Counter()

    def after_conv(conv: nn.Module, _: object, out: Tensor) -> None:
        calls[conv] += 1
        conv_of_output[id(out)] = (conv, out)  # holding `out` keeps its id from being used again
        outputs[conv] = id(out)

    def before_norm(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        calls[norm] += 1
        source = conv_of_output.get(id(args[0]))
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
    reads = _ReadCounter(conv_of_output)
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
    remainder = _without_norm(norm)
    if remainder is None:
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
                setattr(parent, name, remainder)


def _without_norm(norm: nn.Module) -> nn.Module | None:
    if type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return nn.Identity()
    drop, act = getattr(norm, "drop", None), getattr(norm, "act", None)
    if isinstance(drop, nn.Module) and isinstance(act, nn.Module):  # timm's norm with activation
        return nn.Sequential(drop, act)
    return None


class PackedLinear(nn.Linear):
    """A linear layer whose weights also lie in the order in which oneDNN reads them.

    Without gradients oneDNN computes it; where a gradient is asked for it is a plain linear layer.
    Both operations are private to torch: `faster` tries the copy and does without where they fail.
    torch.utils.mkldnn would be public, but copies every input and output from one layout to the
    other, and is written in TorchScript, which torch deprecates.
    """

    def __init__(self, plain: nn.Linear) -> None:
        """Pack a layer's weights, which stay shared with it.

        Args:
            plain: Frozen, of 32-bit floats on the processor; never changed.
        """
        nn.Module.__init__(self)  # without weights of its own
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight, self.bias = plain.weight, plain.bias
        self.train(plain.training)
        # A plain attribute: the packed copy is no part of the network's state.
        self.packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(
            plain.weight.detach(), _PACKED_ROWS
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) of (..., in) inputs."""
        if torch.is_grad_enabled() and x.requires_grad:
            return super().forward(x)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return out


def packed_weights(module: nn.Module) -> list[Tensor]:
    """Return the weights that lie in the order of oneDNN beside those of a network's own."""
    return [part.packed for part in module.modules() if isinstance(part, PackedLinear)]


def shared_weights(module: nn.Module) -> dict[int, nn.Parameter]:
    """Return by their `id` the parameters that `pack` only reads: a copy may share them."""
    layers = filter(_can_be_packed, module.modules())
    return {id(p): p for layer in layers for p in layer.parameters(recurse=False)}


def pack(private: nn.Module) -> None:
    """Replace the linear layers of a private copy by packed ones with the same weights."""
    if not torch.backends.mkldnn.is_available() or not hasattr(
        torch.ops.mkldnn, "_linear_pointwise"
    ):
        return
    for name, part in list(private.named_modules()):
        if name and _can_be_packed(part):
            private.set_submodule(name, PackedLinear(part))


def _can_be_packed(part: nn.Module) -> bool:
    if type(part) is not nn.Linear or parametrize.is_parametrized(part):
        return False
    weight = part.weight
    return (
        weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.requires_grad
    )
