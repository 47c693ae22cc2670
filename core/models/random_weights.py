"""Seeded random weights under which every layer of a network is alive.

Used for the labelled untrained network and by tests of architectures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

_DRAWS = {
    Tensor.normal_,
    Tensor.uniform_,
    nn.init.normal_,
    nn.init.uniform_,
    nn.init.kaiming_uniform_,
}


class WithoutDraws(TorchFunctionMode):
    """A context in which this thread builds networks with zeros where weights would be drawn.

    For those whose weights come from a file at once: drawing takes most of the time of building.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Return what a function of torch returns, or the tensor that it was to fill."""
        kwargs = kwargs or {}
        if func not in _DRAWS:
            return func(*args, **kwargs)
        with torch.no_grad():
            filled: Tensor = args[0] if args else kwargs["tensor"]
            return filled.zero_()


@contextmanager
def shapes_only() -> Iterator[None]:
    """Return a context in which this thread builds networks of shapes, which take no memory."""
    with torch.device("meta"), WithoutDraws():
        yield


def randomize_weights(module: nn.Module, *, seed: int, probe: Tensor | None = None) -> nn.Module:
    """Return `module` with new random parameters and batch-norm statistics, in place.

    Fresh weights of some families are zeros or ones and make wrong code look right; these are not.

    Args:
        probe: (N, C, *S) inputs, at least two. With them, batch norms first take the statistics of
            what really reaches them: without, the signal of a deep network dies or explodes.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if _is_scale(name, parameter):
                parameter.copy_(1 + 0.1 * noise(parameter))
            elif parameter.ndim > 1:
                fan_in = max(1, parameter[0].numel())
                parameter.copy_(noise(parameter) * fan_in**-0.5)
            else:
                parameter.copy_(0.05 * noise(parameter))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * noise(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(1 + 0.2 * noise(buffer).abs())
        if probe is not None:
            _measure_statistics(module, probe)
            for norm in _batchnorms(module):
                mean, var = norm.running_mean, norm.running_var
                norm.running_mean = mean + 0.1 * noise(mean) * var.sqrt()
                norm.running_var = var * (1 + 0.2 * noise(var).abs())
    return module


def _is_scale(name: str, parameter: Tensor) -> bool:
    # One number per channel that multiplies: a norm's weight, a layer's scale, gamma or gain. Near
    # zero it would silence its layer.
    last = name.rpartition(".")[2]
    if last == "weight":
        return parameter.ndim == 1
    adds = any(word in last for word in ("bias", "beta", "token", "embed", "shift"))
    return parameter.numel() == max(parameter.shape, default=1) and not adds


def _batchnorms(module: nn.Module) -> list[Any]:
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    return [norm for norm in norms if norm.running_mean is not None]


def _measure_statistics(module: nn.Module, probe: Tensor) -> None:
    # Only the norms are put into training mode: momentum 1 takes over this batch's statistics.
    norms = _batchnorms(module)
    momenta = [(part, part.momentum) for part in norms]
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        for part in norms:
            part.training, part.momentum = True, 1.0
        module(probe)
    finally:
        for part, training in modes:
            part.training = training
        for part, momentum in momenta:
            part.momentum = momentum
