"""Logits of an input changed in a box, computed only where the change can reach.

Works for any network as far as its graph is local in space: from the first operation that looks at
a whole map on, everything is computed in full. Exact: what a change cannot reach is read from the
unchanged input's maps. Whether it agrees with the network is checked by numbers before it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from whylens.core.errors import NETWORK_ERRORS
from whylens.core.speed.folded import agree
from whylens.core.speed.fx_ops import (
    Global,
    OpKind,
    Pointwise,
    RecordingInterpreter,
    ShapeOnly,
    Windowed,
    op_kind,
    out_of_place,
    trace,
)
from whylens.core.speed.receptive_field import (
    Kernel,
    Region,
    Span,
    full_region,
    gather_patches,
    union,
)

log = logging.getLogger(__name__)

Box = tuple[slice, ...]
# What copying and calling cost is not counted as work, so less must be left to do than this.
WORTHWHILE = 0.7


def occluded_logits(
    module: nn.Module, reference: nn.Module, probe: Tensor
) -> Callable[[Tensor, Tensor], Callable[[Sequence[Box]], Tensor]]:
    """Return a function of an input and a fill, which returns a function of N boxes to logits.

    The input and the fill are (1, C, *S), boxes are slices of the spatial axes, logits (N, C),
    without gradients. What no box can change is computed once per input, where the network allows.

    Args:
        module: A frozen network in eval mode.
        reference: The same network as its author wrote it, which decides whether that is right.
        probe: (2, C, *S) inputs that are not constant.
    """
    network = incremental_network(module, reference, probe)

    def occlude(x: Tensor, fill: Tensor) -> Callable[[Sequence[Box]], Tensor]:
        run = None if network is None else network.start(x)

        def logits(boxes: Sequence[Box]) -> Tensor:
            partial = None if run is None else run.logits(boxes, fill)
            if partial is not None:
                return partial
            with torch.no_grad():
                full: Tensor = module(fill_boxes(x, fill, boxes))
            return full

        return logits

    return occlude


def fill_boxes(x: Tensor, fill: Tensor, boxes: Sequence[Box]) -> Tensor:
    """Return (N, C, *S): `x` with each of N boxes filled.

    Args:
        x: (1, C, *S).
        fill: (1, C, *S) what is shown inside the boxes.
        boxes: Slices of the spatial axes.
    """
    out = x.repeat(len(boxes), *(1,) * (x.ndim - 1))
    for row, box in enumerate(boxes):
        out[row][(slice(None), *box)] = fill[0][(slice(None), *box)]
    return out


def incremental_network(
    module: nn.Module, reference: nn.Module, probe: Tensor, *, tolerance: float = 1e-4
) -> IncrementalNetwork | None:
    """Return the incremental form of a network, or None where it has none or does not agree.

    Args:
        module: A frozen network in eval mode.
        reference: Gives the logits to agree with.
        probe: (2, C, H, W): the second is shown in boxes of the first.
        tolerance: Largest accepted difference of logits, relative to the largest logit.
    """
    if probe.ndim != 4:
        return None
    x, fill = probe[:1], probe[1:2]
    comparisons = 0
    try:
        network = IncrementalNetwork(module, x)
        run = network.start(x)
        for boxes in _probe_boxes(x.shape[2], x.shape[3]):
            logits = run.logits(boxes, fill)
            if logits is None:
                continue
            with torch.no_grad():
                expected = reference(fill_boxes(x, fill, boxes))
            comparisons += 1
            if not agree(logits, expected, tolerance):
                log.info("The incremental form of %s disagrees", type(module).__name__)
                return None
    except (*NETWORK_ERRORS, fx.proxy.TraceError) as exc:
        log.info("No incremental form of %s: %s", type(module).__name__, exc)
        return None
    return network if comparisons else None


def _probe_boxes(height: int, width: int) -> list[list[Box]]:
    # At two corners and an odd place in the usual size; elsewhere, once, a small box.
    usual = (max(1, height // 7), max(1, width // 7))
    small = (max(1, height // 16), max(1, width // 16))
    corner = (height - usual[0], width - usual[1])
    odd = (corner[0] // 3, corner[1] // 2 + corner[1] % 2)
    return [
        [_box(start, usual) for start in ((0, 0), corner, odd)],
        [_box((height - small[0], (width - small[1]) // 3), small)],
    ]


def _box(start: tuple[int, int], size: tuple[int, int]) -> Box:
    return tuple(slice(low, low + length) for low, length in zip(start, size, strict=True))


class IncrementalNetwork:
    """A network's graph, and what each of its operations does to places; never changed."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        """Trace a network.

        Args:
            module: Frozen, in eval mode.
            example: (1, C, H, W) an input of the size that will be used.
        """
        self.graph = out_of_place(trace(module))
        self.inputs = [node for node in self.graph.graph.nodes if node.op == "placeholder"][:1]
        recording = RecordingInterpreter(self.graph)
        recording.run(example)
        tensors = recording.tensors
        self.shapes = {node: tensor.shape for node, tensor in tensors.items()}
        self.work = {node: _work(node, self.graph, tensor) for node, tensor in tensors.items()}
        self.kinds: dict[fx.Node, OpKind] = {}
        self.constant: set[fx.Node] = set()  # what does not depend on the values of the input
        for node in self.graph.graph.nodes:
            kind = self.kinds[node] = op_kind(node, self.graph, tensors)
            constant = isinstance(kind, ShapeOnly) or self.constant.issuperset(node.all_input_nodes)
            if constant and node not in self.inputs:
                self.constant.add(node)
        self.recorded = {node for node in self.graph.graph.nodes if self._read_again(node)}

    def start(self, x: Tensor) -> IncrementalRun:
        """Return what answers for changes of `x`, of shape (1, C, H, W)."""
        return IncrementalRun(self, x)

    def _read_again(self, node: fx.Node) -> bool:
        # A map is needed unless all that read it do so cell by cell, on their own.
        if node in self.constant or len(self.shapes.get(node, ())) != 4:
            return False
        return any(
            not _cell_by_cell(self.kinds[user])
            or len([n for n in user.all_input_nodes if n not in self.constant]) > 1
            for user in node.users
        )

    def size(self, node: fx.Node) -> tuple[int, int]:
        """Return the height and width of a node's map."""
        height, width = self.shapes[node][-2:]
        return height, width

    def plan(self, changed: Region) -> dict[fx.Node, Region]:
        """Return for each map that needs computing in part, which part."""
        count = len(changed[0])
        regions: dict[fx.Node, Region] = {}
        for node in self.graph.graph.nodes:
            if node in self.inputs:
                region: Region | None = changed
            elif node in self.constant or isinstance(self.kinds[node], Global | ShapeOnly):
                continue
            else:
                region = self._affected_region(node, regions)
            if region is not None and region != full_region(self.size(node), count):
                regions[node] = region
        return regions

    def _affected_region(self, node: fx.Node, regions: dict[fx.Node, Region]) -> Region | None:
        sources = [source for source in node.all_input_nodes if source not in self.constant]
        if not sources or not all(source in regions for source in sources):
            return None
        limits = self.size(node)
        kind = self.kinds[node]
        if isinstance(kind, Windowed):
            rows, columns = (
                kernel.outputs_touching(span, limit)
                for kernel, span, limit in zip(
                    kind.kernels, regions[sources[0]], limits, strict=True
                )
            )
        else:
            rows, columns = (
                union([regions[source][axis] for source in sources], limits[axis])
                for axis in (0, 1)
            )
        return rows, columns

    def work_left(self, regions: dict[fx.Node, Region]) -> float:
        """Return the share of the network's work that a plan leaves to do, by estimate, 0 to 1."""
        remaining = 0.0
        for node, work in self.work.items():
            share = 1.0
            if node in regions:
                rows, columns = regions[node]
                height, width = self.size(node)
                share = rows.length * columns.length / (height * width)
            remaining += share * work
        return remaining / sum(self.work.values())


class IncrementalRun:
    """One input through an `IncrementalNetwork`, with the maps into which changes are pasted."""

    def __init__(self, network: IncrementalNetwork, x: Tensor) -> None:
        self.network = network
        recording = RecordingInterpreter(network.graph, network.recorded)
        with torch.no_grad():
            recording.run(x)
        self.maps = recording.tensors

    def logits(self, boxes: Sequence[Box], fill: Tensor) -> Tensor | None:
        """Return (N, C) raw outputs for the input with each box filled, or None to run in full.

        Args:
            boxes: N boxes; of several sizes they are not answered.
            fill: (1, C, H, W) what is shown inside the boxes.
        """
        region = _region(boxes)
        if region is None:
            return None
        plan = self.network.plan(region)
        if self.network.work_left(plan) > WORTHWHILE:
            return None
        patches = torch.cat([fill[(slice(None), slice(None), *box)] for box in boxes])
        patches = patches.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            out: Tensor = _PartialInterpreter(self, plan, patches).run(patches)
        return out


class _PartialInterpreter(fx.Interpreter):
    """Runs a graph on the parts of its maps that a plan names, and in full beyond."""

    def __init__(self, run: IncrementalRun, plan: dict[fx.Node, Region], patches: Tensor) -> None:
        super().__init__(run.network.graph)
        self.network = run.network
        self.maps = run.maps
        self.plan = plan
        self.patches = patches

    def run_node(self, n: fx.Node) -> Any:
        network = self.network
        if n in network.inputs and n in self.plan:
            return self.patches
        kind = network.kinds[n]
        if n in self.plan and isinstance(kind, Windowed):
            (source,) = (node for node in n.all_input_nodes if node not in network.constant)
            rows, columns = (
                kernel.inputs_read(span)
                for kernel, span in zip(kind.kernels, self.plan[n], strict=True)
            )
            return kind.run(self._crop(source, (rows, columns), kind.padding))
        if n in self.plan:
            return self._call(n, lambda source: self._crop(source, self.plan[n], 0.0))
        if isinstance(kind, ShapeOnly):
            return self._call(n, self._shape_of_full_map)
        return self._call(n, lambda source: self._crop(source, self._full(source), 0.0))

    def _call(self, n: fx.Node, value: Callable[[fx.Node], Tensor]) -> Any:
        def argument(source: fx.Node) -> Any:
            return value(source) if source in self.plan else self.env[source]

        args, kwargs = (fx.node.map_arg(arguments, argument) for arguments in (n.args, n.kwargs))
        return getattr(self, n.op)(n.target, args, kwargs)

    def _full(self, source: fx.Node) -> Region:
        return full_region(self.network.size(source), len(self.patches))

    def _shape_of_full_map(self, source: fx.Node) -> Tensor:
        shape = (len(self.patches), *self.network.shapes[source][1:])
        return torch.empty(shape, device="meta", dtype=self.env[source].dtype)

    def _crop(self, source: fx.Node, crop: Region, padding: float) -> Tensor:
        # (N, K, h, w): part of a map, the change pasted into it.
        patches: Tensor = self.env[source]
        region = self.plan[source]
        if crop == region:
            return patches
        return gather_patches(self.maps[source], patches, region, crop, padding)


def _cell_by_cell(kind: OpKind) -> bool:
    if isinstance(kind, Windowed):
        return kind.kernels == (Kernel(), Kernel())
    return isinstance(kind, Pointwise | ShapeOnly)


def _region(boxes: Sequence[Box]) -> Region | None:
    # None where the boxes are not all of one size.
    spans = []
    for axis in zip(*boxes, strict=True):
        lengths = {stretch.stop - stretch.start for stretch in axis}
        if len(lengths) != 1:
            return None
        spans.append(Span(tuple(stretch.start for stretch in axis), lengths.pop()))
    return (spans[0], spans[1]) if len(spans) == 2 else None


def _work(node: fx.Node, graph: fx.GraphModule, value: Tensor) -> float:
    # Multiplications, and a handful for every number that is written at all.
    each = 8.0
    if node.op == "call_module":
        weight = getattr(graph.get_submodule(str(node.target)), "weight", None)
        if isinstance(weight, Tensor) and weight.ndim > 1:
            each += weight[0].numel()
    return each * value.numel()
