"""Cuts proposed from a network's traced graph, where it does not say itself where to cut.

May touch torch.fx and the layouts. Tracing is kept to its own thread: torch swaps the way every
module is called for its duration, which breaks any network that runs in another thread meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, fx, nn

from whylens.core.errors import NeedsNotMet
from whylens.core.models.layouts import layout_of, proportional
from whylens.core.models.network_errors import NETWORK_ERRORS
from whylens.core.speed.mkldnn import PackedLinear

log = logging.getLogger(__name__)

Halves = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]

# Two traces at once would undo each other's swap in the wrong order.
_TRACING = threading.Lock()
_TRIES = 4
_HEADS = ("classifier", "fc", "head", "heads")


class _Tracer(fx.Tracer):
    """Records the calls of its own thread; those of others pass as if nothing was swapped."""

    def __init__(self) -> None:
        super().__init__()
        self._own = threading.get_ident()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # What it asks about its input has no answer in a graph.
        packed = isinstance(m, PackedLinear)
        return packed or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._own:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._own:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


class _Watched(fx.Interpreter):
    """Runs a graph and keeps what every node gave."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.seen: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor) and result.requires_grad:
            self.seen[n] = result
        return result


def traced(module: nn.Module) -> fx.GraphModule:
    """Return the network as a graph that shares its parameters.

    Args:
        module: The network; other threads may run it, or others, meanwhile.
    """
    with _TRACING:
        return fx.GraphModule(module, _Tracer().trace(module))


def weighted_sum(logits: Tensor) -> Tensor:
    """Return one number that depends on every logit.

    Weighted, since a network whose logits sum to a constant would else look dead.

    Args:
        logits: (N, C).
    """
    weights = torch.linspace(1, -1, logits.shape[1], dtype=logits.dtype, device=logits.device)
    return (logits * weights).sum()


def graph_proposals(
    module: nn.Module, probe: Tensor
) -> Iterator[tuple[str, Callable[[nn.Module], Halves]]]:
    """Yield where to cut, deepest first: single tensors whose positions the score depends on.

    Args:
        module: A frozen network in eval mode.
        probe: (N, C, *S) inputs that are not constant.
    """
    try:
        places = _places(traced(module), module, probe)
    except (*NETWORK_ERRORS, fx.proxy.TraceError) as misfit:
        log.info("No graph of %s: %s", type(module).__name__, misfit)
        return
    for index in places:
        yield "the last map in its graph", lambda m, i=index: _halves(m, i)  # type: ignore[misc]


def _places(graph: fx.GraphModule, module: nn.Module, probe: Tensor) -> list[int]:
    nodes = list(graph.graph.nodes)
    watched = _Watched(graph)
    with torch.enable_grad():
        x = probe[:1].detach().clone().requires_grad_() * 1  # a leaf may not be changed in place
        logits = watched.run(x)
        cuts = [i for i in _cuts(graph) if nodes[i] in watched.seen]
        values = [watched.seen[nodes[i]] for i in cuts]
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            weighted_sum(logits), values, allow_unused=True
        )
    places = []
    for index, value, gradient in zip(cuts, values, gradients, strict=True):
        if gradient is None:
            continue
        try:
            layout = layout_of(value, tuple(probe.shape[2:]), module)
        except NeedsNotMet:
            continue
        found = layout.read(gradient).map
        if not proportional(tuple(found.shape[2:]), tuple(probe.shape[2:])):
            continue
        if found[0, 0].numel() > 1 and float(found.abs().max()) > 0:
            places.append(index)
    return places[:_TRIES]


def _cuts(graph: fx.GraphModule) -> list[int]:
    # A map early in the network shows edges, not what the decision rests on: before the cut must
    # lie at least half of the weights that come before the head.
    nodes = list(graph.graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    beyond = next(
        (i for i, n in enumerate(nodes) if str(n.target).split(".")[0] in _HEADS), len(nodes) - 1
    )
    weights = list(accumulate(_weights(graph, node) for node in nodes))
    found = []
    needed_until = 0  # by the index of its last reader, what came before node i and is no weight
    for i, node in enumerate(nodes[:beyond]):
        if needed_until <= i and 2 * weights[i] >= weights[beyond - 1]:
            found.append(i)
        if node.op != "get_attr":
            needed_until = max([needed_until, *(position[user] for user in node.users)])
    return found[::-1]


def _weights(graph: fx.GraphModule, node: fx.Node) -> int:
    if node.op == "call_module":
        return sum(p.numel() for p in graph.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        held = getattr(graph.get_submodule(owner), name)
        return held.numel() if isinstance(held, nn.Parameter) else 0
    return 0


def _halves(module: nn.Module, index: int) -> Halves:
    nodes = list(traced(module).graph.nodes)
    cut = nodes[index]
    front, back = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes[: index + 1]:
        copies[node] = front.node_copy(node, lambda n: copies[n])
    front.output(copies[cut])
    moved = {cut: back.placeholder("features")}
    for node in nodes[:index]:
        if node.op == "get_attr":
            moved[node] = back.node_copy(node, lambda n: moved[n])
    for node in nodes[index + 1 :]:
        moved[node] = back.node_copy(node, lambda n: moved[n])
    head = fx.GraphModule(module, back)
    head.graph.eliminate_dead_code()
    head.recompile()
    return fx.GraphModule(module, front), head
