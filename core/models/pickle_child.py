"""The process that reads a pickle of weights, so that the one which asked never does.

Run as a script, by path, with nothing of this project imported: it reads with `weights_only`, under
limits of memory and time, and writes the tensors as safetensors and what it saw as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Averaged weights come first, as timm has it: they are what their author tested.
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "teacher",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "student",
)
_ARCHITECTURE_KEYS = ("arch", "architecture", "model_name", "model", "backbone")
SECONDS_OF_COMPUTING = 120
SPARE_BYTES = 2_000_000_000


def unwrap(content: Any, tensor_type: type) -> tuple[dict[str, Any], str]:
    """Return the dictionary of tensors inside what was saved, and the keys that lead to it.

    Raises:
        TypeError: There is none.
    """
    path: list[str] = []
    while isinstance(content, Mapping):
        key = next((k for k in WRAPPERS if _has_tensors(content.get(k), tensor_type)), None)
        if key is None:
            break
        content = content[key]
        path.append(key)
    if not _has_tensors(content, tensor_type):
        raise TypeError(type(content).__name__)
    tensors = {str(k): v for k, v in content.items() if isinstance(v, tensor_type)}
    if not tensors:
        raise TypeError(type(content).__name__)
    return tensors, ".".join(path)


def _has_tensors(content: Any, tensor_type: type) -> bool:
    if not isinstance(content, Mapping):
        return False
    return any(
        isinstance(value, tensor_type) or (key in WRAPPERS and _has_tensors(value, tensor_type))
        for key, value in content.items()
    )


def architecture_hints(content: Any) -> list[str]:
    """Return the names of architectures that a training noted beside its weights."""
    return list(dict.fromkeys(_hints(content)))


def _hints(content: Any) -> Iterator[str]:
    if not isinstance(content, Mapping):
        return
    places = [content, *(content.get(k) for k in ("args", "hyper_parameters", "config", "hparams"))]
    for place in places:
        fields = vars(place) if isinstance(place, argparse.Namespace) else place
        if isinstance(fields, Mapping):
            for key in _ARCHITECTURE_KEYS:
                if isinstance(fields.get(key), str):
                    yield fields[key][:100]


def _limit(size: int) -> None:
    """Bound the memory and time of this process, beyond what it took to import torch."""
    import torch  # noqa: F401 - its own memory is no matter of the file's

    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    statm = Path("/proc/self/statm")
    if statm.is_file():
        resident_bytes = int(statm.read_text().split()[0]) * resource.getpagesize()
        limit = resident_bytes + 4 * size + SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_OF_COMPUTING, SECONDS_OF_COMPUTING))


def main(source: str, target: str) -> None:
    """Read `source`; write `target`/weights.safetensors and `target`/report.json."""
    try:
        _limit(Path(source).stat().st_size)
        report = convert(source, Path(target) / "weights.safetensors")
    except Exception as exc:  # noqa: BLE001 - it goes to the other process, which puts it in words
        report = {"error": type(exc).__name__, "message": str(exc)[:4000]}
    (Path(target) / "report.json").write_text(json.dumps(report))


def convert(source: str, target: Path) -> dict[str, Any]:
    """Write the tensors of `source` to `target` and return how they lay there."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    # Plain data that trainings note beside the weights; nothing among it can be made to do harm.
    harmless: list[Any] = [
        argparse.Namespace,
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64")),
        np.float64(0).__reduce__()[0],
    ]
    # Opened here: by its name torch would take a pickle called .safetensors for what it is not.
    with torch.serialization.safe_globals(harmless), Path(source).open("rb") as stream:
        content = torch.load(stream, map_location="cpu", weights_only=True)
    tensors, path = unwrap(content, torch.Tensor)
    # Cloned, since safetensors refuses tensors that share memory.
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, target)
    return {"path": path, "hints": architecture_hints(content)}


if __name__ == "__main__":
    main(*sys.argv[1:3])
