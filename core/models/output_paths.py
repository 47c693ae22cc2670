"""Where in what a network gives its class scores are: a tensor, or one of several beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from whylens.core.errors import BadArtifact, BadInput

Path = tuple[Any, ...]


class ClassScores(nn.Module):
    """A network of which one output is read."""

    def __init__(self, network: nn.Module, path: Path) -> None:
        super().__init__()
        self.network = network
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) class scores."""
        return read_path(self.network(x), self.path)


class FunctionOfOutputs(nn.Module):
    """A network of which a function is read, whatever it gives: (N,) numbers."""

    def __init__(self, network: nn.Module, function: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return (N,) numbers."""
        return self.function(self.network(x))


# (N,) scores of one output become (N, 1), and (N, C, 1, 1) (N, C); no dict has such a key.
FLAT = None


def read_path(output: Any, path: Path) -> Tensor:
    """Return the (N, C) scores at a place in what a network gives."""
    for step in path:
        if step is FLAT:
            output = output.reshape(output.shape[0], -1)  # as a traced network can
        elif isinstance(step, str) and not isinstance(output, Mapping):
            output = getattr(output, step)
        else:
            output = output[step]
    return cast("Tensor", output)


def paths_to_scores(output: Any) -> list[Path]:
    """Return where (N, classes) scores may be in what a network gives, (N,) numbers of a tensor."""
    if isinstance(output, Tensor):
        return [(FLAT,) if _is_flat(output) else ()]
    parts = parts_of(output)
    if isinstance(logits := parts.get("logits"), Tensor):
        return [("logits", FLAT) if _is_flat(logits) else ("logits",)]
    return [(key,) for key, part in parts.items() if isinstance(part, Tensor) and part.ndim == 2]


def _is_flat(scores: Tensor) -> bool:
    # Networks of convolutions alone give a map of one position.
    return scores.ndim == 1 or (scores.ndim > 2 and scores[0, 0].numel() == 1)


def parts_of(output: Any) -> dict[Any, Any]:
    """Return the parts of what a network gives, by name or number."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, list | tuple):
        return dict(zip(getattr(output, "_fields", range(len(output))), output, strict=True))
    # Attributes, be they in slots, as of a dataclass with slots=True.
    slots = [vars(kind).get("__slots__", ()) for kind in type(output).__mro__]
    names = [name for s in reversed(slots) for name in ((s,) if isinstance(s, str) else s)]
    parts = {n: getattr(output, n) for n in names if n[:2] != "__" and hasattr(output, n)}
    return parts | dict(getattr(output, "__dict__", {}))


def path_to_scores(output: Any, name: str, *, key: str | int | None, classes: int) -> Path:
    """Return where in what a network gives the scores are.

    Args:
        key: Of the output that is meant, of several.
        classes: 0 where not known.

    Raises:
        BadArtifact: There are none, or several.
        BadInput: There is no such output.
    """
    if isinstance(output, Tensor) and output.ndim == 0:
        raise BadArtifact(
            f"{name} gives one number for all its inputs together. Return one row of scores for "
            "each."
        )
    path = _path_to_scores(output, name, key, classes)
    scores = read_path(output, path)
    if not scores.is_floating_point():
        raise BadArtifact(
            f"{name} gives {str(scores.dtype).removeprefix('torch.')}, as after an argmax, not "
            "scores. Return the scores before that."
        )
    return path


def _path_to_scores(output: Any, name: str, key: str | int | None, classes: int) -> Path:
    if key is not None:
        return _path_to_output(output, key, name)
    paths = paths_to_scores(output)
    if len(paths) > 1 and classes:
        paths = [path for path in paths if read_path(output, path).shape[1] == classes]
    if paths == [("pooler_output",)]:
        raise BadArtifact(
            f"{name} gives features, no class scores: it has no classifier. Give it with one, as "
            "in ...ForImageClassification, or explain a function of what it gives: target=."
        )
    if len(paths) == 1:
        return paths[0]
    if not paths:
        raise BadArtifact(
            f"{name} gives {_describe(output)}, in which no (N, classes) scores are found. Give a "
            "module whose forward returns them as a tensor, or explain a function of what it "
            "gives: target=."
        )
    shapes = [f"{path[0]!r} ({read_path(output, path).shape[1]} scores)" for path in paths]
    raise BadArtifact(
        f"{name} gives several outputs that may be meant: {', '.join(shapes)}. Say which, as in "
        f"output={paths[0][0]!r} for the first."
    )


def _path_to_output(output: Any, key: str | int, name: str) -> Path:
    parts = parts_of(output)
    if (
        isinstance(output, list | tuple)
        and isinstance(key, int)
        and -len(parts) <= key < len(parts)
    ):
        key = list(parts)[key]  # a named tuple's parts have numbers, too
    part = parts.get(key)
    if isinstance(part, Tensor) and part.ndim in (1, 2):
        return (key, FLAT) if part.ndim == 1 else (key,)
    if key in parts:
        shape = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
        raise BadInput(
            f"Output {key!r} of {name} is {shape}, not (N, classes) scores or (N,) numbers. A "
            "function of it can be explained: target=."
        )
    choices = ", ".join(map(repr, parts)) or "a single one, for which output= is left out"
    raise BadInput(f"{name} has no output {key!r}. It has: {choices}.")


def _describe(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"a dict with {', '.join(str(key) for key in output) or 'nothing'}"
    return f"a {type(output).__name__}"
