"""Networks of which only answers are known: a function of inputs, or a file of ONNX."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from whylens.core.errors import BadArtifact, NotInstalled
from whylens.core.storage.files import find_file

ONNX = "onnx"  # the architecture of a manifest, and the ending of a file
ONNX_FILE = "model.onnx"
_KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class BlackBox(nn.Module):
    """A function as a network: it has no layers to look into and no gradients.

    Args:
        function: (N, C, *S) float32 inputs to an array or tensor of N rows, or several in a dict
            or tuple.
    """

    def __init__(self, function: Callable[[Tensor], Any], name: str = "") -> None:
        super().__init__()
        self.function = function
        self.name = name or str(getattr(function, "__name__", type(function).__name__))

    def forward(self, x: Tensor) -> Any:
        """Return what the function gives, as float32 tensors without gradients."""
        if not isinstance(x, Tensor):
            raise TypeError(f"{self.name} is a black box, which cannot be traced")
        try:
            with torch.no_grad():
                output = self.function(x.detach())
        except Exception as exc:
            # Any kind: the network of a caller fails as a module of theirs would.
            raise RuntimeError(f"{type(exc).__name__}: {exc}") from exc

        def to_tensor(leaf: Any) -> Any:
            if not isinstance(leaf, np.ndarray | Tensor):
                return leaf
            return torch.as_tensor(leaf).detach().to(x.device, torch.float32)

        return tree_map(to_tensor, output)


def answers_sha256(scores: Tensor) -> str:
    """Return the hex sha256 of answers, which stands for that of weights where none are known."""
    return hashlib.sha256(scores.detach().cpu().numpy().tobytes()).hexdigest()


class OnnxNetwork(nn.Module):
    """A network of an ONNX file, run by onnxruntime.

    Attributes:
        channels: That it reads; None where any will do.
        size: (height, width) that it reads; None where any will do.
        scores: Of each output of shape (N, classes), by name: its classes, None where not stated.
    """

    def __init__(self, path: Path, *, sha256: str | None = None, output: str = "") -> None:
        """Open a file.

        Args:
            sha256: Its expected hash; None skips the check where none is known.
            output: Name of the output to read, of several.

        Raises:
            NotInstalled: onnxruntime is not there.
            BadArtifact: It is damaged, has another hash, or reads no pictures.
        """
        super().__init__()
        try:
            import onnxruntime
        except ImportError as exc:
            raise NotInstalled(
                f"{path.name} takes onnxruntime, which is not installed. Install Whylens with its "
                "extra [onnx]."
            ) from exc
        file = path if sha256 is None else find_file(path, sha256)
        if file is None:
            raise BadArtifact(f"{path.name} is damaged or was replaced: it has another sha256.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        try:
            # From bytes: parts of it that lie in other files are not found, and not read.
            session = onnxruntime.InferenceSession(
                file.read_bytes(), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:  # its errors have no base of their own
            reason = " ".join(str(exc).split())[:160]
            raise BadArtifact(
                f"{path.name} cannot be read as a single file of ONNX: {reason}"
            ) from exc
        self._session = session
        self._name = path.name
        inputs = [(i.name, i.shape, i.type) for i in session.get_inputs()]
        if len(inputs) != 1 or len(inputs[0][1]) != 4 or inputs[0][2] not in _KINDS:
            inputs_text = ", ".join(f"{name} {shape} {kind}" for name, shape, kind in inputs)
            raise BadArtifact(
                f"{path.name} reads {inputs_text}, not pictures: one input (N, channels, height, "
                "width) of floats. Export it anew without what lies before that."
            )
        self._input, shape, kind = inputs[0]
        self._kind = _KINDS[kind]
        self._last = shape[3] in (1, 3) and shape[1] not in (1, 3)
        sizes = [n if isinstance(n, int) and n > 0 else None for n in shape]
        self._batch = sizes[0]
        self.channels = sizes[3] if self._last else sizes[1]
        height, width = sizes[1:3] if self._last else sizes[2:4]
        self.size = (height, width) if height is not None and width is not None else None
        self.scores: Mapping[str, int | None] = {
            o.name: o.shape[1] if isinstance(o.shape[1], int) else None
            for o in session.get_outputs()
            if len(o.shape) == 2 and o.type in _KINDS
        }
        self.output = output or next(iter(self.scores), "")
        if self.output not in self.scores:
            raise BadArtifact(
                f"{path.name} has no output {self.output!r} of shape (N, classes). It has: "
                f"{', '.join(self.scores) or 'none'}."
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) scores, without gradients."""
        if not isinstance(x, Tensor):
            raise TypeError(f"{self._name} is a black box, which cannot be traced")
        pictures = x.detach().movedim(1, -1) if self._last else x.detach()
        with np.errstate(over="ignore"):  # inputs of any size are tried, and 16 bits end early
            array = np.ascontiguousarray(pictures.cpu().numpy(), self._kind)
        rows = self._batch or max(1, len(array))
        answers = [self._run(array[i : i + rows], rows) for i in range(0, len(array), rows)]
        return torch.from_numpy(np.concatenate(answers).astype(np.float32)).to(x.device)

    def _run(self, array: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
        count = len(array)
        if self._batch is not None and count < rows:  # it takes so many rows and no others
            array = np.concatenate([array, np.repeat(array[-1:], rows - count, axis=0)])
        try:
            (answer,) = self._session.run([self.output], {self._input: array})
        except Exception as exc:  # its errors have no base of their own
            raise RuntimeError(" ".join(str(exc).split())[:200]) from exc
        scores: np.ndarray[Any, Any] = answer[:count]
        return scores
