"""Where a network is cut into features and head; proposals are believed only once checked.

No hooks: networks are cut by calling their own two halves, by shallow clones whose parameters are
shared, or by splitting their traced graph. Those that cannot be traced are cut after a block.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from whylens.core.errors import NETWORK_ERRORS, NeedsNotMet
from whylens.core.models.layouts import Features, Layout, layout_of, proportional, weighted_sum
from whylens.core.models.stages import clone_with_outputs
from whylens.core.speed.folded import agree
from whylens.core.speed.fx_ops import RecordingInterpreter, trace

log = logging.getLogger(__name__)

Halves = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
Cut = Callable[[nn.Module], Halves]
Proposal = tuple[str, Cut]  # what a cut is called, and the cut

MOST_GRAPH_CUTS = 4
_AFTER_BLOCKS = "the map after its last blocks"
_HEAD_NAMES = ("classifier", "fc", "head", "heads")


@dataclass(frozen=True, slots=True)
class Split:
    """A network in two halves.

    Attributes:
        encoder: Input to raw features.
        raw_head: Raw features to logits.
        layout: How raw features become (N, K, *S) and back.
        description: Which features they are, in words.
        recut: Cuts a copy of the same network at the same place.
    """

    encoder: Callable[[Tensor], Tensor]
    raw_head: Callable[[Tensor], Tensor]
    layout: Layout
    description: str
    recut: Callable[[nn.Module], Split]

    def features(self, x: Tensor) -> Features:
        """Return the feature map of (N, C, *S) inputs."""
        return self.layout.read(self.encoder(x))

    def head(self, features: Features) -> Tensor:
        """Return (N, C) logits of a feature map."""
        return self.raw_head(self.layout.write(features))


def find_split(module: nn.Module, probe: Tensor, *, logits: Tensor | None = None) -> Split:
    """Return a split of `module` whose halves reproduce its logits and whose map is alive.

    A map with a single position is returned only where there is no better cut.

    Args:
        module: Frozen, in eval mode.
        probe: (2, C, *S) inputs of the size that will be used, not constant.
        logits: Of `probe`, where they are known already.

    Raises:
        NeedsNotMet: No cut gives a feature map on which the class score depends, with the reasons.
    """
    if logits is None:
        with torch.no_grad():
            logits = module(probe)
    reasons: list[str] = []
    single: Split | None = None
    for description, splitter in _proposals(module, probe):
        try:
            split, positions = _check(module, probe, logits, description, splitter)
        except NeedsNotMet as exc:
            if not (reasons and description == _AFTER_BLOCKS):  # a guess explains less
                reasons.append(str(exc))
        except NETWORK_ERRORS as exc:
            log.info("%s cannot be cut at %s: %s", type(module).__name__, description, exc)
        else:
            if positions > 1:
                return split
            single = single or split
    if single is not None:
        return single
    unique = list(dict.fromkeys(reasons)) or ["it cannot be cut into a feature map and a head"]
    raise NeedsNotMet(", and ".join(unique[:2]))


def same_split_on(
    split: Split, fast_module: nn.Module, probe: Tensor, *, tolerance: float = 1e-4
) -> Split:
    """Return a faster copy cut at the same place, or `split` itself where their features disagree.

    Args:
        probe: (N, C, *S) inputs that are not constant.
        tolerance: Largest accepted difference of features, relative to the largest feature.
    """
    with torch.no_grad():
        expected = split.features(probe)
        try:
            fast_split = split.recut(fast_module)
            features = fast_split.features(probe)
        except (*NETWORK_ERRORS, fx.proxy.TraceError) as exc:
            log.info("A copy of %s cannot be cut: %s", type(fast_module).__name__, exc)
            return split
    pairs = [(features.map, expected.map)]
    if features.prefix_tokens is not None and expected.prefix_tokens is not None:
        pairs.append((features.prefix_tokens, expected.prefix_tokens))
    same = (features.prefix_tokens is None) == (expected.prefix_tokens is None)
    if same and all(agree(value, reference, tolerance) for value, reference in pairs):
        return fast_split
    log.info("The features of a copy of %s disagree", type(fast_module).__name__)
    return split


def _check(
    module: nn.Module,
    probe: Tensor,
    logits: Tensor,
    description: str,
    splitter: Cut,
) -> tuple[Split, int]:
    encoder, raw_head = splitter(module)
    with torch.no_grad():
        raw = encoder(probe)
        layout = layout_of(raw, tuple(probe.shape[2:]), module)

    def recut(module_copy: nn.Module) -> Split:
        return Split(*splitter(module_copy), layout, description, recut)

    split = Split(encoder, raw_head, layout, description, recut)
    features = layout.read(raw)
    leaf = features.map.detach().requires_grad_()
    with torch.enable_grad():
        joined = split.head(Features(leaf, features.prefix_tokens))
        if not agree(joined.detach(), logits, 1e-3):
            raise NeedsNotMet("its two halves do not add up to the whole network")
        (gradient,) = torch.autograd.grad(weighted_sum(joined), leaf, allow_unused=True)
    n_live = 0 if gradient is None else int((gradient.abs().sum((0, 1)) > 0).sum())
    if n_live == 0:
        raise NeedsNotMet("its score is not read from the positions of its last feature map")
    if n_live == 1 < leaf[0, 0].numel():
        # A class token taken for a patch looks like this.
        raise NeedsNotMet("its score is read from a single position of its last feature map")
    return split, leaf[0, 0].numel()


def _proposals(module: nn.Module, probe: Tensor) -> Iterator[Proposal]:
    if offers(module, "features", "head"):
        yield "features", lambda m: _methods(m, "features", "head")
    if offers(module, "forward_features", "forward_head"):
        yield "last feature map", lambda m: _methods(m, "forward_features", "forward_head")
        if isinstance(getattr(module, "blocks", None), nn.Sequential | nn.ModuleList):
            dummy = torch.zeros_like(probe[:1])
            yield "tokens entering the last block", lambda m: _around_last_block(m, dummy)
    yield from _graph_proposals(module, probe)


def offers(module: nn.Module, *names: str) -> bool:
    """Return whether a network has methods of these names."""
    # A submodule called `features` is a stage of somebody's Sequential, not a promise.
    parts = [getattr(module, name, None) for name in names]
    return all(callable(part) for part in parts) and not isinstance(parts[0], nn.Module)


def _methods(module: nn.Module, encoder: str, head: str) -> Halves:
    return getattr(module, encoder), getattr(module, head)


class _RecordInput(nn.Module):
    """Stands in for a block and records what enters it; a new instance for every call."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        self.recorded = x
        return x


class _ReplaceInput(nn.Module):
    """Stands in for all blocks: runs the last of them on other tokens than those that enter."""

    def __init__(self, block: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.block = block
        self.tokens = tokens

    def forward(self, _: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.block(self.tokens, *args, **kwargs)


def _with_blocks(module: nn.Module, blocks: list[nn.Module]) -> Any:
    clone = copy.copy(module)
    clone._modules = dict(module._modules)
    sequential = isinstance(module.blocks, nn.Sequential)
    clone.blocks = nn.Sequential(*blocks) if sequential else nn.ModuleList(blocks)
    return clone


def _around_last_block(module: nn.Module, dummy: Tensor) -> Halves:
    # Where only the class token is read, gradients of patch tokens after the last block are
    # exactly zero; the tokens that enter it are the last ones that matter. The clones share all
    # parameters and live for one call, so threads never meet. `dummy` runs through what comes
    # before the blocks; its tokens are dropped.
    blocks = list(cast("nn.Sequential", module.blocks))

    def encoder(x: Tensor) -> Tensor:
        entry = _RecordInput()
        _with_blocks(module, [*blocks[:-1], entry]).forward_features(x)
        return entry.recorded

    def head(tokens: Tensor) -> Tensor:
        dummies = dummy.to(tokens).expand(len(tokens), *dummy.shape[1:])
        clone = _with_blocks(module, [_ReplaceInput(blocks[-1], tokens)])
        return cast("Tensor", clone.forward_head(clone.forward_features(dummies)))

    return encoder, head


def _block_proposals(module: nn.Module, probe: Tensor) -> Iterator[Proposal]:
    # After the blocks of which a network consists, the last first.
    paths: list[str] = []
    for name, part in module.named_modules():
        inside = any(name.startswith(f"{path}.") for path in paths)
        if isinstance(part, nn.ModuleList | nn.Sequential) and not inside:
            paths += [f"{name}.{key}" if name else key for key, b in part.named_children()
                      if list(b.children())]  # fmt: skip
    sizes = [sum(p.numel() for p in module.get_submodule(path).parameters()) for path in paths]
    # As for graphs: a map before half of the weights is not what the decision rests on.
    deep = [path for path, size in zip(paths, accumulate(sizes), strict=True)
            if 2 * size >= sum(sizes)]  # fmt: skip
    dummy = torch.zeros_like(probe[:1])
    for path in deep[::-1][:MOST_GRAPH_CUTS]:
        yield _AFTER_BLOCKS, lambda m, p=path: _around_block(m, p, dummy)  # type: ignore[misc]


def _around_block(module: nn.Module, path: str, dummy: Tensor) -> Halves:
    # As `_around_last_block`: the dummy runs through what comes before, and is dropped.
    def encoder(x: Tensor) -> Tensor:
        outputs: list[Tensor] = []

        def record(output: Any) -> Any:
            outputs.append(output[0] if isinstance(output, tuple) else output)
            return output

        clone_with_outputs(module, {path: record})(x)
        return outputs[-1]

    def head(features: Tensor) -> Tensor:
        def replace(output: Any) -> Any:
            return (features, *output[1:]) if isinstance(output, tuple) else features

        dummies = dummy.to(features).expand(len(features), *dummy.shape[1:])
        return cast("Tensor", clone_with_outputs(module, {path: replace})(dummies))

    return encoder, head


def _graph_proposals(module: nn.Module, probe: Tensor) -> Iterator[Proposal]:
    # Deepest first: single tensors whose positions the score depends on.
    try:
        graph = trace(module)
        indices = _live_cuts(graph, module, probe)
    except (*NETWORK_ERRORS, fx.proxy.TraceError) as exc:
        log.info("No graph of %s: %s", type(module).__name__, exc)
        yield from _block_proposals(module, probe)
        return
    for index in indices:
        yield "the last map in its graph", partial(_on_graphs, _halves(graph.graph, index))


def _live_cuts(graph: fx.GraphModule, module: nn.Module, probe: Tensor) -> list[int]:
    nodes = list(graph.graph.nodes)
    recording = RecordingInterpreter(graph)
    with torch.enable_grad():
        x = probe[:1].detach().clone().requires_grad_() * 1  # a leaf may not be changed in place
        logits = recording.run(x)
        tensors = recording.tensors
        cuts = [i for i in _cuts(graph) if nodes[i] in tensors and tensors[nodes[i]].requires_grad]
        values = [tensors[nodes[i]] for i in cuts]
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            weighted_sum(logits), values, allow_unused=True
        )
    live = []
    for index, value, gradient in zip(cuts, values, gradients, strict=True):
        if gradient is None:
            continue
        try:
            layout = layout_of(value, tuple(probe.shape[2:]), module)
        except NeedsNotMet:
            continue
        slope = layout.read(gradient).map
        if not proportional(tuple(slope.shape[2:]), tuple(probe.shape[2:])):
            continue
        if slope[0, 0].numel() > 1 and float(slope.abs().max()) > 0:
            live.append(index)
    return live[:MOST_GRAPH_CUTS]


def _cuts(graph: fx.GraphModule) -> list[int]:
    # A map early in the network shows edges, not what the decision rests on: before the cut must
    # lie at least half of the weights that come before the head.
    nodes = list(graph.graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    head = next(
        (i for i, n in enumerate(nodes) if str(n.target).split(".")[0] in _HEAD_NAMES),
        len(nodes) - 1,
    )
    weights = list(accumulate(_weights(graph, node) for node in nodes))
    cuts = []
    needed_until = 0  # by the index of its last reader, what came before node i and is no weight
    for i, node in enumerate(nodes[:head]):
        if needed_until <= i and 2 * weights[i] >= weights[head - 1]:
            cuts.append(i)
        if node.op != "get_attr":
            needed_until = max([needed_until, *(position[user] for user in node.users)])
    return cuts[::-1]


def _weights(graph: fx.GraphModule, node: fx.Node) -> int:
    if node.op == "call_module":
        return sum(p.numel() for p in graph.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        value = getattr(graph.get_submodule(owner), name)
        return value.numel() if isinstance(value, nn.Parameter) else 0
    return 0


def _halves(graph: fx.Graph, index: int) -> tuple[fx.Graph, fx.Graph]:
    # Not fx's split_module: it hands weights that both halves read to the second as inputs.
    nodes = list(graph.nodes)
    cut_node = nodes[index]
    front, back = fx.Graph(), fx.Graph()
    in_front: dict[fx.Node, fx.Node] = {}
    for node in nodes[: index + 1]:
        in_front[node] = front.node_copy(node, lambda n: in_front[n])
    front.output(in_front[cut_node])
    in_back = {cut_node: back.placeholder("features")}
    for node in nodes[:index]:
        if node.op == "get_attr":
            in_back[node] = back.node_copy(node, lambda n: in_back[n])
    for node in nodes[index + 1 :]:
        in_back[node] = back.node_copy(node, lambda n: in_back[n])
    return front, back


def _on_graphs(graphs: tuple[fx.Graph, fx.Graph], module: nn.Module) -> Halves:
    # A graph stays with the first module that it is run on: each gets copies.
    encoder, head = (fx.GraphModule(module, copy.deepcopy(graph)) for graph in graphs)
    head.graph.eliminate_dead_code()
    head.recompile()
    return encoder, head
