"""Where a network is cut into features and head; proposals are believed only once checked.

May touch torch and the layouts. No hooks: networks are cut by calling their own two halves, by
shallow clones whose parameters are shared, or by splitting their traced graph.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from core.errors import NeedsNotMet
from core.models.layouts import Features, Layout, layout_of

# What a network may raise when it is run in a way that it was not written for.
MISFITS = (
    AssertionError, AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Split:
    """A network in two halves.

    Attributes:
        trunk: Input to raw features.
        rest: Raw features to logits.
        layout: How raw features become (N, K, *S) and back.
        where: Which features they are, in words.
        again: Cuts a copy of the same network at the same place.
    """

    trunk: Callable[[Tensor], Tensor]
    rest: Callable[[Tensor], Tensor]
    layout: Layout
    where: str
    again: Callable[[nn.Module], Split]

    def features(self, x: Tensor) -> Features:
        """Return the feature map of (N, C, *S) inputs."""
        return self.layout.read(self.trunk(x))

    def head(self, features: Features) -> Tensor:
        """Return (N, C) logits of a feature map."""
        return self.rest(self.layout.write(features))


Halves = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def split_of(module: nn.Module, probe: Tensor) -> Split:
    """Return a split of `module` whose halves reproduce its logits and whose map is alive.

    Args:
        module: A frozen network in eval mode.
        probe: (2, C, *S) inputs of the size that will be used, not constant.

    Raises:
        NeedsNotMet: No cut gives a feature map on which the class score depends, with the reasons.
    """
    with torch.no_grad():
        whole = module(probe)
    reasons = []
    for where, halves in _proposals(module, probe):
        try:
            return _checked(module, probe, whole, where, halves)
        except NeedsNotMet as misfit:
            reasons.append(f"{where}: {misfit}")
        except MISFITS as misfit:
            reasons.append(f"{where}: {type(misfit).__name__}")
    raise NeedsNotMet("; ".join(dict.fromkeys(reasons)) or "it cannot be cut into two halves")


def _checked(
    module: nn.Module,
    probe: Tensor,
    whole: Tensor,
    where: str,
    halves: Callable[[nn.Module], Halves],
) -> Split:
    trunk, rest = halves(module)
    with torch.no_grad():
        raw = trunk(probe)
        layout = layout_of(raw, tuple(probe.shape[2:]), module)

    def again(other: nn.Module) -> Split:
        return Split(*halves(other), layout, where, again)

    split = Split(trunk, rest, layout, where, again)
    features = layout.read(raw)
    scale = float(whole.abs().max()) + 1e-12
    leaf = features.map.detach().requires_grad_()
    with torch.enable_grad():
        logits = split.head(Features(leaf, features.rest))
        if float((logits.detach() - whole).abs().max()) > 1e-3 * scale:
            raise NeedsNotMet("its two halves do not add up to the whole network")
        weights = torch.linspace(-1, 1, logits.shape[1], dtype=logits.dtype, device=logits.device)
        objective = ((logits * weights).sum() if logits.shape[1] > 1 else logits.sum())
        (gradient,) = torch.autograd.grad(objective, leaf, allow_unused=True)
    if gradient is None or not gradient.abs().max() > 0:
        raise NeedsNotMet("the class score does not depend on the positions of its feature map")
    return split


def _proposals(
    module: nn.Module, probe: Tensor
) -> Iterator[tuple[str, Callable[[nn.Module], Halves]]]:
    if hasattr(module, "features") and hasattr(module, "head") and callable(module.head):
        if not isinstance(module.features, nn.Module):
            yield "features", lambda m: (m.features, m.head)
    if hasattr(module, "forward_features") and hasattr(module, "forward_head"):
        yield "last feature map", lambda m: (m.forward_features, m.forward_head)  # type: ignore[return-value]
        if isinstance(getattr(module, "blocks", None), nn.Sequential | nn.ModuleList):
            stem = torch.zeros_like(probe[:1])
            yield "tokens entering the last block", lambda m: _around_last_block(m, stem)
        return
    yield from _graph_proposals(module, probe)


class _Tap(nn.Module):
    """Stands in for a block and keeps what enters it; made anew for every call."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        self.seen = x
        return x


class _Inject(nn.Module):
    """Stands in for all blocks: runs the last one on given tokens instead of what enters."""

    def __init__(self, block: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.block = block
        self.tokens = tokens

    def forward(self, _: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.block(self.tokens, *args, **kwargs)


def _with_blocks(module: nn.Module, blocks: list[nn.Module]) -> Any:
    clone = copy.copy(module)
    clone._modules = dict(module._modules)
    clone.blocks = type(module.blocks)(*blocks) if isinstance(
        module.blocks, nn.Sequential
    ) else nn.ModuleList(blocks)
    return clone


def _around_last_block(module: nn.Module, stem: Tensor) -> Halves:
    # Where only the class token is read, gradients of patch tokens after the last block are
    # exactly zero; the tokens that enter it are the last ones that matter. The clones share all
    # parameters and live for one call, so threads never meet. `stem` only gives the stages
    # before the blocks something to chew; its tokens are dropped.
    blocks = list(cast("nn.Sequential", module.blocks))

    def trunk(x: Tensor) -> Tensor:
        tap = _Tap()
        _with_blocks(module, [*blocks[:-1], tap]).forward_features(x)
        return tap.seen

    def rest(tokens: Tensor) -> Tensor:
        chaff = stem.to(tokens).expand(len(tokens), *stem.shape[1:])
        clone = _with_blocks(module, [_Inject(blocks[-1], tokens)])
        return cast("Tensor", clone.forward_head(clone.forward_features(chaff)))

    return trunk, rest


def _graph_proposals(
    module: nn.Module, probe: Tensor
) -> Iterator[tuple[str, Callable[[nn.Module], Halves]]]:
    try:
        graph = fx.symbolic_trace(module)
        with torch.no_grad():
            ShapeProp(graph).propagate(probe)
    except (*MISFITS, fx.proxy.TraceError) as misfit:
        name = type(misfit).__name__

        def untraceable(_: nn.Module) -> Halves:
            raise NeedsNotMet(
                f"it offers neither features() and head() nor a graph to cut ({name})"
            )

        yield "graph", untraceable
        return
    nodes = list(graph.graph.nodes)
    heads = ("classifier", "fc", "head", "heads")
    beyond = next(
        (i for i, n in enumerate(nodes) if str(n.target).split(".")[0] in heads), len(nodes) - 1
    )
    for index in range(beyond - 1, 0, -1):
        if _has_positions(nodes[index], probe) and _is_cut(nodes, index):
            yield f"graph node {nodes[index].name}", lambda m, i=index: _graph_halves(m, i)  # type: ignore[misc]


def _has_positions(node: fx.Node, probe: Tensor) -> bool:
    meta = node.meta.get("tensor_meta")
    shape = getattr(meta, "shape", ())
    if len(shape) == 3 and probe.ndim == 4:
        return bool(shape[1] > 1)
    positions = 1
    for n in shape[2:]:
        positions *= n
    return len(shape) == probe.ndim and positions > 1


def _is_cut(nodes: list[fx.Node], index: int) -> bool:
    earlier = {n for n in nodes[:index] if n.op != "get_attr"}
    return not any(used in earlier for n in nodes[index + 1 :] for used in n.all_input_nodes)


def _graph_halves(module: nn.Module, index: int) -> Halves:
    nodes = list(fx.symbolic_trace(module).graph.nodes)
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

