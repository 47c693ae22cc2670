"""Cuts proposed from a network's traced graph, where it does not say itself where to cut.

May touch torch.fx and the layouts. Tracing is kept to its own thread: torch swaps the way every
module is called for its duration, which breaks any network that runs in another thread meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from core.errors import NeedsNotMet
from core.models.layouts import layout_of
from core.models.misfits import MISFITS

log = logging.getLogger(__name__)

Halves = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]

# Two traces at once would undo each other's swap in the wrong order.
_TRACING = threading.Lock()
_TRIES = 4


class _Tracer(fx.Tracer):
    """Records this thread's calls; those of other threads pass through as if nothing happened."""

    def __init__(self) -> None:
        super().__init__()
        self._own = threading.get_ident()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        if threading.get_ident() != self._own:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._own:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def traced(module: nn.Module) -> fx.GraphModule:
    """Return the network's graph; other threads may run networks meanwhile.

    Args:
        module: The network; its parameters are shared, not copied.
    """
    with _TRACING:
        tracer = _Tracer()
        return fx.GraphModule(tracer.root, tracer.trace(module)) if False else _graph(tracer, module)


def graph_proposals(
    module: nn.Module, probe: Tensor
) -> Iterator[tuple[str, Callable[[nn.Module], Halves]]]:
    """Yield places to cut, deepest first: single tensors with positions that the score depends on.

    Args:
        module: A frozen network in eval mode.
        probe: (N, C, *S) inputs that are not constant.
    """
    try:
        indices = _candidates(traced(module), module, probe)
    except (*MISFITS, fx.proxy.TraceError) as misfit:
        log.info("No graph of %s: %s", type(module).__name__, misfit)
        return
    for index in indices[:_TRIES]:
        yield "the last map in its graph", lambda m, i=index: _halves(m, i)  # type: ignore[misc]
