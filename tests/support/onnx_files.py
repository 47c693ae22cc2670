"""Small ONNX files, written byte by byte: the package that writes them is no dependency here.

Numbers are those of onnx.proto: 1 is a float, 7 an int64, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FLOAT, FLOAT16, UINT8 = 1, 10, 2


def _varint(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = number >> 7, number & 127
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_field(1, n) for n in values.shape)
    kind = {"float32": FLOAT, "float16": FLOAT16}[values.dtype.name]
    return dims + _field(2, kind) + _field(8, name) + _field(9, values.tobytes())


def _value(name: str, shape: Sequence[int | str], kind: int) -> bytes:
    dims = b"".join(_field(1, _field(1, n) if isinstance(n, int) else _field(2, n)) for n in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, dims)))


def _node(kind: str, inputs: Sequence[str], output: str, **numbers: int | Sequence[int]) -> bytes:
    out = b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, kind)
    for name, value in numbers.items():
        if isinstance(value, int):
            out += _field(5, _field(1, name) + _field(3, value) + _field(20, 2))
        else:
            ints = b"".join(_field(8, n) for n in value)
            out += _field(5, _field(1, name) + ints + _field(20, 7))
    return out


def onnx_file(
    kernel: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    *,
    shape: Sequence[int | str] = ("n", 3, "h", "w"),
    softmax: bool = False,
    heads: Sequence[str] = ("scores",),
    kind: int = FLOAT,
) -> bytes:
    """Return a file: convolution, ReLU, mean over places, linear layer, and perhaps a softmax.

    Args:
        kernel: (K, channels, s, s); the stride is s.
        weight: (classes, K).
        bias: (classes,).
        shape: Of the input; one that ends in the channels is turned first.
        heads: Names of the outputs, which are all the same.
    """
    first, nodes = "image", []
    if kind == UINT8:
        nodes.append(_node("Cast", [first], "float", to=FLOAT))
        first = "float"
    if shape[-1] in (1, 3):
        nodes.append(_node("Transpose", [first], "turned", perm=[0, 3, 1, 2]))
        first = "turned"
    stride = kernel.shape[-1]
    nodes += [
        _node("Conv", [first, "kernel"], "maps", strides=[stride, stride]),
        _node("Relu", ["maps"], "live"),
        _node("GlobalAveragePool", ["live"], "pooled"),
        _node("Flatten", ["pooled"], "vector"),
        _node("Gemm", ["vector", "weight", "bias"], "logits", transB=1),
    ]
    nodes += [_node("Softmax" if softmax else "Identity", ["logits"], head) for head in heads]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "toy")
    for name, values in (("kernel", kernel), ("weight", weight), ("bias", bias)):
        graph += _field(5, _tensor(name, values))
    graph += _field(11, _value("image", shape, kind))
    for head in heads:
        graph += _field(12, _value(head, (shape[0], len(bias)), FLOAT if kind == UINT8 else kind))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))
