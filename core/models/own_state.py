"""Networks that change what they keep when they are called, each run from the state it came in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

KEEPS_STATE = (
    "It changes what it keeps whenever it is called, as observers of quantisation do: it answers "
    "every input from the state in which it was given, one call at a time."
)
_NUMBERS = (bool, int, float, str)
_OF_ANY_MODULE = frozenset(vars(nn.Module()))
_CALLS = threading.RLock()  # two at once would take each other's copies for what was there before


class Changes:
    """Whether a network changed what it keeps."""

    found = False


@contextmanager
def on_copies(network: nn.Module) -> Iterator[Changes]:
    """Let a network work on copies of its buffers and plain attributes, and put those back.

    What was there is never written to, so that gradients may still be followed afterwards. A
    module's `training` is left out: that a network changes it is an error of its own.
    """
    changes = Changes()
    with _CALLS:
        # TorchScript keeps its buffers where no Python reaches them.
        parts = [p for p in network.modules() if not isinstance(p, torch.jit.ScriptModule)]
        copies: dict[int, Tensor] = {}
        kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for table in (table for part in parts for table in (part._buffers, vars(part))):
            own = _own(table)
            kept.append((table, own))
            for key, value in own.items():
                if isinstance(value, Tensor):
                    if id(value) not in copies:
                        copies[id(value)] = value.detach().clone()
                    table[key] = copies[id(value)]
        try:
            yield changes
        finally:
            for table, own in kept:
                after = _own(table)
                if not changes.found:
                    changes.found = after.keys() != own.keys() or not all(
                        _same(after[key], value) for key, value in own.items()
                    )
                for key in after.keys() - own.keys():
                    del table[key]
                table.update(own)


def _own(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in _OF_ANY_MODULE}


def _same(after: Any, before: Any) -> bool:
    if not isinstance(after, Tensor) or not isinstance(before, Tensor):
        return after is before or (isinstance(after, _NUMBERS) and bool(after == before))
    if after.layout != torch.strided or before.layout != torch.strided:
        return after is before
    return (after.dtype, after.device) == (before.dtype, before.device) and torch.equal(
        after, before
    )


class OwnState(nn.Module):
    """A network that keeps state, called from the same one each time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        """Return what it gives."""
        if isinstance(x, fx.Proxy):
            raise fx.proxy.TraceError("a graph would write what the network keeps")
        with on_copies(self.network):
            return self.network(x)
