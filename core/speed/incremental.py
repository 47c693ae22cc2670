"""Logits of an input changed in one place, computed only where the change can reach.

May touch torch and the traced graphs. Works for any network as far as its graph is local in space:
from the first operation that looks at a whole map on, everything is computed in full. Exact: what
a change cannot reach is read from the unchanged input's maps, kept for that purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from whylens.core.models.fx_split import traced
from whylens.core.speed.fx_ops import (
    Global,
    OpKind,
    Pointwise,
    ShapeOnly,
    Windowed,
    op_kind,
    out_of_place,
)
from whylens.core.speed.gather_patches import gather_patches
from whylens.core.speed.receptive_field import Kernel, Region, Span, union, whole

Box = tuple[slice, ...]
# What copying and calling cost is not counted as work, so less must be left to do than this.
WORTHWHILE = 0.7


class IncrementalNetwork:
    """A network's graph, and what each of its operations does to places.

    Made once per network and never changed; `on` starts the work on one input.
    """

    def __init__(self, module: nn.Module, like: Tensor) -> None:
        """Trace a network.

        Args:
            module: Frozen, in eval mode.
            like: (1, C, H, W) an input of the size that will be used.
        """
        self.graph = out_of_place(traced(module))
        self.inputs = [node for node in self.graph.graph.nodes if node.op == "placeholder"][:1]
        seen: dict[fx.Node, object] = {}
        _Recorder(self.graph, set(self.graph.graph.nodes), seen).run(like)
        self.steps: dict[fx.Node, OpKind] = {}
        self.shapes: dict[fx.Node, torch.Size] = {}
        self.work: dict[fx.Node, float] = {}
        self.fixed: set[fx.Node] = set()  # what does not depend on the values of the input
        for node in self.graph.graph.nodes:
            step = op_kind(node, self.graph, seen)
            self.steps[node] = step
            value = seen.get(node)
            if isinstance(value, Tensor):
                self.shapes[node] = value.shape
                self.work[node] = _work(node, self.graph, value)
            told = isinstance(step, ShapeOnly) or self.fixed.issuperset(node.all_input_nodes)
            if told and node not in self.inputs:
                self.fixed.add(node)
        self.kept = {node for node in self.graph.graph.nodes if self._read_again(node)}

    def on(self, x: Tensor) -> IncrementalRun:
        """Return what answers for changes of `x`.

        Args:
            x: (1, C, H, W).
        """
        return IncrementalRun(self, x)

    def _read_again(self, node: fx.Node) -> bool:
        # A map is needed unless all that read it do so cell by cell, on their own.
        if node in self.fixed or len(self.shapes.get(node, ())) != 4:
            return False
        return any(
            not _cell_by_cell(self.steps[user])
            or len([n for n in user.all_input_nodes if n not in self.fixed]) > 1
            for user in node.users
        )

    def size(self, node: fx.Node) -> tuple[int, int]:
        """Return the height and width of a node's map."""
        height, width = self.shapes[node][-2:]
        return height, width

    def plan(self, changed: Region) -> dict[fx.Node, Region]:
        """Return for each map that is to be computed in part, which part.

        Args:
            changed: Of the input.
        """
        count = len(changed[0])
        regions: dict[fx.Node, Region] = {}
        for node in self.graph.graph.nodes:
            if node in self.inputs:
                found: Region | None = changed
            elif node in self.fixed or isinstance(self.steps[node], Global | ShapeOnly):
                continue
            else:
                found = self._reached(node, regions)
            if found is not None and found != whole(self.size(node), count):
                regions[node] = found
        return regions

    def _reached(self, node: fx.Node, regions: dict[fx.Node, Region]) -> Region | None:
        sources = [source for source in node.all_input_nodes if source not in self.fixed]
        if not sources or not all(source in regions for source in sources):
            return None
        limits = self.size(node)
        step = self.steps[node]
        if isinstance(step, Windowed):
            rows, columns = (
                kernel.outputs_touching(span, limit)
                for kernel, span, limit in zip(
                    step.kernels, regions[sources[0]], limits, strict=True
                )
            )
        else:
            rows, columns = (
                union([regions[source][axis] for source in sources], limits[axis])
                for axis in (0, 1)
            )
        return rows, columns

    def share(self, regions: dict[fx.Node, Region]) -> float:
        """Return how much of the network's work a plan leaves to do, by estimate."""
        left = 0.0
        for node, work in self.work.items():
            part = 1.0
            if node in regions:
                rows, columns = regions[node]
                height, width = self.size(node)
                part = rows.length * columns.length / (height * width)
            left += part * work
        return left / sum(self.work.values())


class IncrementalRun:
    """One input through an `IncrementalNetwork`, with the maps into which changes are pasted."""

    def __init__(self, network: IncrementalNetwork, x: Tensor) -> None:
        self.network = network
        self.x = x
        self.maps: dict[fx.Node, Tensor] = {}
        seen: dict[fx.Node, object] = {}
        with torch.no_grad():
            _Recorder(network.graph, network.kept, seen).run(x)
        for node, value in seen.items():
            if isinstance(value, Tensor):
                self.maps[node] = value

    def logits(self, boxes: Sequence[Box], fill: Tensor) -> Tensor | None:
        """Return (N, C) raw outputs for `x` with each box filled, or None where little is saved.

        Args:
            boxes: N boxes of one size, as slices of the spatial axes.
            fill: (1, C, H, W) what is shown inside the boxes.
        """
        changed = _region(boxes)
        if changed is None:
            return None
        plan = self.network.plan(changed)
        if self.network.share(plan) > WORTHWHILE:
            return None
        shown = torch.cat([fill[(slice(None), slice(None), *box)] for box in boxes])
        shown = shown.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            out: Tensor = _PartialInterpreter(self, plan, shown).run(shown)
        return out


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps what chosen nodes gave."""

    def __init__(
        self, graph: fx.GraphModule, chosen: set[fx.Node], seen: dict[fx.Node, object]
    ) -> None:
        super().__init__(graph)
        self.chosen = chosen
        self.seen = seen

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.chosen:
            self.seen[n] = result
        return result


class _PartialInterpreter(fx.Interpreter):
    """Runs a graph on the parts of its maps that a plan names, and in full beyond."""

    def __init__(self, done: IncrementalRun, plan: dict[fx.Node, Region], shown: Tensor) -> None:
        super().__init__(done.network.graph)
        self.done = done
        self.plan = plan
        self.shown = shown

    def run_node(self, n: fx.Node) -> Any:
        network = self.done.network
        if n in network.inputs and n in self.plan:
            return self.shown
        step = network.steps[n]
        if n in self.plan and isinstance(step, Windowed):
            (source,) = (node for node in n.all_input_nodes if node not in network.fixed)
            rows, columns = (
                kernel.inputs_read(span)
                for kernel, span in zip(step.kernels, self.plan[n], strict=True)
            )
            return step.run(self._crop(source, (rows, columns), step.padding))
        if n in self.plan:
            return self._call(n, lambda source: self._crop(source, self.plan[n], 0.0))
        if isinstance(step, ShapeOnly):
            return self._call(n, self._hollow)
        return self._call(n, lambda source: self._crop(source, self._all_of(source), 0.0))

    def _call(self, n: fx.Node, value: Any) -> Any:
        def given(source: fx.Node) -> Any:
            return value(source) if source in self.plan else self.env[source]

        args, kwargs = (fx.node.map_arg(held, given) for held in (n.args, n.kwargs))
        return getattr(self, n.op)(n.target, args, kwargs)

    def _all_of(self, source: fx.Node) -> Region:
        return whole(self.done.network.size(source), len(self.shown))

    def _hollow(self, source: fx.Node) -> Tensor:
        shape = self.done.network.shapes[source]
        return torch.empty(
            (len(self.shown), *shape[1:]), device="meta", dtype=self.env[source].dtype
        )

    def _crop(self, source: fx.Node, wanted: Region, padding: float) -> Tensor:
        """Return (N, K, h, w): the wanted part of a map, the change pasted into it."""
        patch: Tensor = self.env[source]
        held = self.plan[source]
        if wanted == held:
            return patch
        return gather_patches(self.done.maps[source], patch, held, wanted, padding)


def _cell_by_cell(step: OpKind) -> bool:
    if isinstance(step, Windowed):
        return step.kernels == (Kernel(), Kernel())
    return isinstance(step, Pointwise | ShapeOnly)


def _region(boxes: Sequence[Box]) -> Region | None:
    """Return the boxes as a region, or None where they are not all of one size."""
    spans = []
    for axis in zip(*boxes, strict=True):
        lengths = {place.stop - place.start for place in axis}
        if len(lengths) != 1:
            return None
        spans.append(Span(tuple(place.start for place in axis), lengths.pop()))
    return (spans[0], spans[1]) if len(spans) == 2 else None


def _work(node: fx.Node, graph: fx.GraphModule, value: Tensor) -> float:
    # Multiplications, and a handful for every number that is written at all.
    each = 8.0
    if node.op == "call_module":
        weight = getattr(graph.get_submodule(str(node.target)), "weight", None)
        if isinstance(weight, Tensor) and weight.ndim > 1:
            each += weight[0].numel()
    return each * value.numel()
