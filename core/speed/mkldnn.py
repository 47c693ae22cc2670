"""Linear layers whose weights also lie in the order in which the processor's library reads them.

May touch torch only. Used in private copies of networks that answer without gradients; where a
gradient is asked for, and wherever the library is not there, they are plain linear layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_ROWS = 256  # of inputs at a time, for which the order is chosen; others work as well


class PackedLinear(nn.Linear):
    """A linear layer that shares the weights of another and keeps them packed besides."""

    def __init__(self, plain: nn.Linear) -> None:
        """Pack a layer's weights.

        Args:
            plain: Frozen, of 32-bit floats on the processor; never changed.
        """
        super().__init__(plain.in_features, plain.out_features, device="meta")
        self.weight, self.bias = plain.weight, plain.bias
        self.train(plain.training)
        # A plain attribute: what is packed is no part of the network's state.
        self.packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(plain.weight.detach(), _ROWS)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) of (..., in) inputs."""
        if torch.is_grad_enabled() and x.requires_grad:
            return super().forward(x)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return out


def weights_kept(module: nn.Module) -> dict[int, nn.Parameter]:
    """Return by their `id` the parameters that `pack` will read: a copy may share them.

    Args:
        module: What will be copied.
    """
    parts = filter(_can_be_packed, module.modules())
    return {id(held): held for part in parts for held in part.parameters(recurse=False)}


def pack(private: nn.Module) -> None:
    """Replace the linear layers of a private copy by packed ones with the same weights.

    Args:
        private: Changed; its weights are not.
    """
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
