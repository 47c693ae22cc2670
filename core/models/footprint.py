"""What a network takes in memory: its weights, and what one input leaves inside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from whylens.core.errors import NETWORK_ERRORS
from whylens.core.models.random_weights import shapes_only
from whylens.core.speed.eager_mode import EagerMode

# Of all that a forward pass writes, a method that follows gradients holds so much at once:
# measured of Integrated Gradients on ResNet-50, the one that holds most.
HELD_SHARE = 0.4
MOST_PARAMETERS = 1_000_000_000


@dataclass(frozen=True)
class Footprint:
    """What a network takes.

    Attributes:
        parameters: Their number.
        per_input: Bytes that one input leaves inside it, where gradients are followed.
    """

    parameters: int
    per_input: int


class _WrittenBytes(EagerMode):
    """Adds up the results of operations that are not views of what they read."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        input_storages = set(_storages((args, kwargs or {})))
        for value in tree_leaves(results):
            if isinstance(value, Tensor) and not input_storages.issuperset(_storages(value)):
                self.total += value.numel() * value.element_size()
        return results


def _storages(tree: Any) -> Iterable[int]:
    for value in tree_leaves(tree):
        # What oneDNN packed has no storage of its own.
        if isinstance(value, Tensor) and value.layout == torch.strided:
            yield value.untyped_storage()._cdata


def bytes_per_input(module: nn.Module, x: Tensor) -> int:
    """Return what one input leaves inside a network where gradients are followed, in bytes.

    Args:
        x: (1, C, *S).
    """
    counter = _WrittenBytes()
    with torch.no_grad(), counter:
        module(x)
    return int(HELD_SHARE * counter.total)


@lru_cache(maxsize=2000)
def footprint(architecture: str) -> Footprint:
    """Return what a timm architecture takes at the input size that it is used with.

    Nothing is allocated.

    Args:
        architecture: With its tag or without.
    """
    import timm
    from timm.data import resolve_model_data_config

    with shapes_only():
        module = timm.create_model(architecture, pretrained=False)
    size = resolve_model_data_config(module, use_test_size=True)["input_size"]
    return meta_footprint(module, size)


def meta_footprint(module: nn.Module, size: Sequence[int]) -> Footprint:
    """Return what a network takes that lies on the device "meta", where tensors have no content.

    Where it cannot run there, an input is taken to leave nothing.

    Args:
        size: Of an input, (C, *S).
    """
    count, per_input = sum(p.numel() for p in module.parameters()), 0
    if count <= MOST_PARAMETERS:  # of larger ones nobody wants to know
        with torch.device("meta"), suppress(*NETWORK_ERRORS):
            per_input = bytes_per_input(module.eval(), torch.empty(1, *size))
    return Footprint(count, per_input)
