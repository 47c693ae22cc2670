"""A network as a graph: tracing it, and what each operation does to places.

Operations are known by what they are in torch, networks not at all; what is not known here counts
as looking at the whole map.
"""

from __future__ import annotations

import copy
import operator
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from whylens.core.speed.folded import PackedLinear
from whylens.core.speed.receptive_field import Kernel, Span

# Two traces at once would undo each other's swap in the wrong order.
_TRACING = threading.Lock()


class _Tracer(fx.Tracer):
    """Records the calls of its own thread; those of others pass as if nothing was swapped.

    For the time of a trace torch swaps the way every module is called, which would break any
    network that runs in another thread meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # What these ask about their input, some convolutions its size, has no answer in a graph.
        asks = isinstance(m, PackedLinear | nn.Conv2d)
        return asks or super().is_leaf_module(m, module_qualified_name)

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **named: Any
    ) -> Any:
        # A hook on a tensor is for its owner's eyes, and fails where no gradient is followed.
        if (kind, target) == ("call_method", "register_hook"):
            return None
        return super().create_proxy(kind, target, args, kwargs, *more, **named)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def trace(module: nn.Module) -> fx.GraphModule:
    """Return the network as a graph that shares its parameters; other threads may run it."""
    with _TRACING, _attributes_of(module):
        graph = _Tracer().trace(module)
    return fx.GraphModule(module, graph)


@contextmanager
def _attributes_of(module: nn.Module) -> Iterator[None]:
    """Put back what a forward assigns to its modules: of a trace, symbols that are no tensors."""
    tables = [table for part in module.modules() for table in (part._buffers, vars(part))]
    kept = [(table, dict(table)) for table in tables]
    try:
        yield
    finally:
        for table, before in kept:
            for key in table.keys() - before.keys():
                del table[key]
            # Only what changed: another thread may run the network.
            changed = {k: v for k, v in before.items() if k not in table or table[k] is not v}
            table.update(changed)


class RecordingInterpreter(fx.Interpreter):
    """Runs a graph and records the tensors that its nodes, or chosen ones, return."""

    def __init__(self, graph: fx.GraphModule, nodes: Collection[fx.Node] | None = None) -> None:
        super().__init__(graph)
        self.nodes = nodes
        self.tensors: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Return what the node returns."""
        result = super().run_node(n)
        if isinstance(result, Tensor) and (self.nodes is None or n in self.nodes):
            self.tensors[n] = result
        return result


@dataclass(frozen=True, slots=True)
class Windowed:
    """Each output cell reads a window of the input's; `run` takes padded inputs."""

    kernels: tuple[Kernel, Kernel]
    padding: float
    run: Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Pointwise:
    """Each output cell reads the same cell of the inputs."""


@dataclass(frozen=True, slots=True)
class ShapeOnly:
    """The output depends on the input's shape alone."""


@dataclass(frozen=True, slots=True)
class Global:
    """Anything else."""


OpKind = Windowed | Pointwise | ShapeOnly | Global

# In training these mix places or inputs.
_POINTWISE_IN_EVAL = (nn.BatchNorm2d, nn.Dropout, nn.Dropout2d)
_POINTWISE_MODULES = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU,
    nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh,
    nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid,
)  # fmt: skip
_ACTIVATIONS = (
    functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.selu,
    functional.celu, functional.silu, functional.mish, functional.hardtanh, functional.hardswish,
    functional.hardsigmoid, functional.dropout,
)  # fmt: skip
_FUNCTIONS = (
    *_ACTIVATIONS, functional.gelu, functional.sigmoid, functional.tanh, functional.softplus,
    functional.batch_norm, operator.add, operator.sub, operator.mul, operator.truediv,
    operator.neg, torch.add, torch.sub, torch.mul, torch.div, torch.relu, torch.sigmoid,
    torch.tanh, torch.clamp,
)  # fmt: skip
_METHODS = ("add", "sub", "mul", "div", "relu", "sigmoid", "tanh", "clamp", "clone", "contiguous")
_IN_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    torch.relu_: torch.relu,
}


def out_of_place(graph: fx.GraphModule) -> fx.GraphModule:
    """Return the graph, changed so that no operation writes into its input.

    Its maps serve the next batch too. The modules that it shares with the network stay unchanged.
    """
    for node in graph.graph.nodes:
        if node.op == "call_module" and getattr(
            graph.get_submodule(str(node.target)), "inplace", False
        ):
            activation: Any = copy.copy(graph.get_submodule(str(node.target)))
            activation.inplace = False
            graph.add_submodule(str(node.target), activation)
        elif node.op == "call_function":
            node.target = _IN_PLACE.get(node.target, node.target)
            if node.target in _ACTIVATIONS and node.kwargs.get("inplace"):
                node.kwargs = {**node.kwargs, "inplace": False}
        elif node.op == "call_method" and str(node.target).removesuffix("_") in _METHODS:
            node.target = str(node.target).removesuffix("_")
    graph.recompile()
    return graph


def op_kind(node: fx.Node, graph: fx.GraphModule, tensors: dict[fx.Node, Tensor]) -> OpKind:
    """Return what a node does to places.

    Args:
        node: Of a graph without operations in place.
    """
    if node.op == "call_method" and node.target in ("size", "dim"):
        return ShapeOnly()
    if node.target is getattr and node.args[1:] in (("shape",), ("ndim",), ("dtype",)):
        return ShapeOnly()
    out = tensors.get(node)
    if out is None or out.ndim != 4:
        return Global()
    kind = _module_kind(node, graph, tensors) if node.op == "call_module" else _function_kind(node)
    if isinstance(kind, Pointwise) and not _same_places(node, out, tensors):
        return Global()
    return kind


def _module_kind(node: fx.Node, graph: fx.GraphModule, tensors: dict[fx.Node, Tensor]) -> OpKind:
    module = graph.get_submodule(str(node.target))
    if len(node.args) != 1 or node.kwargs:
        return Global()
    if type(module) in _POINTWISE_MODULES or (
        type(module) in _POINTWISE_IN_EVAL and not module.training
    ):
        return Pointwise()
    if isinstance(module, nn.Conv2d):
        return _convolution(module, tensors[node.all_input_nodes[0]], tensors[node])
    if type(module) is nn.MaxPool2d and not module.return_indices:
        return _max_pool(module)
    if type(module) is nn.AvgPool2d:
        return _average_pool(module)
    return Global()


def _function_kind(node: fx.Node) -> OpKind:
    if node.target in (torch.cat, torch.concat) and node.op == "call_function":
        axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        return Pointwise() if axis in (1, -3) else Global()
    if node.op == "call_function" and node.target in _FUNCTIONS:
        drops = node.target is functional.dropout and _training(node, position=2, default=True)
        updates = node.target is functional.batch_norm and _training(
            node, position=5, default=False
        )
        return Global() if drops or updates else Pointwise()
    if node.op == "call_method" and node.target in _METHODS:
        return Pointwise()
    return Global()


def _training(node: fx.Node, *, position: int, default: bool) -> bool:
    if len(node.args) > position:
        return bool(node.args[position])
    return bool(node.kwargs.get("training", default))


def _same_places(node: fx.Node, out: Tensor, tensors: dict[fx.Node, Tensor]) -> bool:
    # What is broadcast over places is the same everywhere; what has places must have the output's.
    if node.target is functional.batch_norm:
        return True
    for source in node.all_input_nodes:
        value = tensors.get(source)
        if value is None:
            continue
        places = tuple(value.shape[-2:])
        if set(places) <= {1}:
            continue
        if value.ndim != 4 or places != tuple(out.shape[-2:]):
            return False
    return True


def _convolution(module: nn.Conv2d, x: Tensor, out: Tensor) -> OpKind:
    # Subclasses pad as they like, some as much as the input's size asks for; the output tells.
    def run(x: Tensor) -> Tensor:
        return functional.conv2d(
            x, module.weight, module.bias, module.stride, 0, module.dilation, module.groups
        )

    own_padding = () if isinstance(module.padding, str) else (_pair(module.padding),)
    for padding in dict.fromkeys((*own_padding, _padding_to_keep_size(module, x))):
        kernels = _kernels(module.kernel_size, module.stride, padding, module.dilation)
        after = [
            kernel.inputs_read(Span((0,), length)).length - kernel.padding - size
            for kernel, length, size in zip(kernels, out.shape[2:], x.shape[2:], strict=True)
        ]
        (top, left), (bottom, right) = padding, after
        padded = functional.pad(x, (left, right, top, bottom))
        if module.padding_mode == "zeros" and torch.allclose(run(padded), out, 1e-4, 1e-5):
            return Windowed(kernels, 0.0, run)
    return Global()


def _padding_to_keep_size(module: nn.Conv2d, x: Tensor) -> tuple[int, int]:
    # TensorFlow's "same": ceil(size / stride) outputs, and the odd cell of padding behind.
    rows, columns = (
        max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size) // 2
        for size, kernel, stride, dilation in zip(
            x.shape[2:], module.kernel_size, module.stride, module.dilation, strict=True
        )
    )
    return rows, columns


def _max_pool(module: nn.MaxPool2d) -> OpKind:
    def run(x: Tensor) -> Tensor:
        pooled: Tensor = functional.max_pool2d(
            x, module.kernel_size, module.stride, 0, module.dilation
        )
        return pooled

    return Windowed(
        _kernels(module.kernel_size, module.stride, module.padding, module.dilation),
        -torch.inf,
        run,
    )


def _average_pool(module: nn.AvgPool2d) -> OpKind:
    # At an edge these divide by the number of cells that are really there.
    padded = _pair(module.padding) != (0, 0)
    if module.ceil_mode or (padded and not module.count_include_pad):
        return Global()

    def run(x: Tensor) -> Tensor:
        return functional.avg_pool2d(
            x, module.kernel_size, module.stride, divisor_override=module.divisor_override
        )

    return Windowed(_kernels(module.kernel_size, module.stride, module.padding, 1), 0.0, run)


def _kernels(size: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Kernel, Kernel]:
    rows, columns = zip(*map(_pair, (size, stride, padding, dilation)), strict=True)
    return Kernel(*rows), Kernel(*columns)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
