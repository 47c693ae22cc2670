"""What a method was fitted with: arrays and facts, bound to one network's weights and transform.

Arrays stay on disk until they are read: a gallery of a million items is searched through a memory
map.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from whylens.core.errors import BadArtifact
from whylens.core.inputs.spec import InputSpec
from whylens.core.storage.files import (
    file_sha256,
    find_file,
    header_of,
    read_json_model,
    write_described,
)

ARRAYS, FACTS = "arrays.safetensors", "artifact.json"
# In the order in which safetensors writes them.
_KINDS: dict[str, Any] = {
    "I64": np.int64,
    "F32": np.float32,
    "I32": np.int32,
    "F16": np.float16,
    "U8": np.uint8,
}
_PIECE = 1 << 25  # bytes written at a time


class _Parts(dict[str, Any]):
    """What an artifact holds, by name: what is missing is the artifact's fault, not a method's."""

    def __missing__(self, name: str) -> Any:
        raise BadArtifact(f"What it was fitted with is damaged: {name!r} is missing. Fit it again.")


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """Everything a fitted explainer needs beside the network.

    Attributes:
        arrays: By name; float16, float32, uint8, int32 or int64.
        facts: JSON-able: where it came from, how good it is, names.
        digest: sha256 of its description on disk, which holds that of the arrays; "" in memory.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrays", MappingProxyType(_Parts(self.arrays)))
        object.__setattr__(self, "facts", MappingProxyType(_Parts(self.facts)))

    def __reduce__(self) -> tuple[object, ...]:
        # What cannot be written to cannot cross into another process; there it is made anew.
        arrays = {name: np.asarray(array) for name, array in self.arrays.items()}
        return type(self), (arrays, dict(self.facts), self.digest)

    @property
    def bytes(self) -> int:
        """Bytes of its arrays, wherever they lie."""
        return sum(a.nbytes for a in self.arrays.values())


class _Description(BaseModel):
    """The contents of artifact.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    model: str
    weights: str = Field(description="sha256 of the network's weights")
    transform: InputSpec
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the arrays' file")
    facts: dict[str, Any]


def write_artifact(
    folder: Path,
    artifact: Artifact,
    *,
    method: str,
    model: str,
    weights: str,
    input_spec: InputSpec,
) -> None:
    """Write an artifact; a reader finds the old one or the new one, whole.

    Args:
        folder: Where to write; made if absent.
        weights: sha256 of the network's weights.
    """

    def describe(sha256: str) -> bytes:
        description = _Description(
            method=method,
            model=model,
            weights=weights,
            transform=input_spec,
            sha256=sha256,
            facts=dict(artifact.facts),
        )
        return (json.dumps(description.model_dump(mode="json"), indent=1) + "\n").encode()

    folder.mkdir(parents=True, exist_ok=True)
    write_described(
        folder / ARRAYS,
        lambda stream: _write_arrays(stream, artifact.arrays),
        folder / FACTS,
        describe,
    )


def read_artifact(folder: Path, *, method: str, weights: str, input_spec: InputSpec) -> Artifact:
    """Return the artifact of a folder, its arrays memory-mapped and read-only.

    Args:
        weights: sha256 of the network in use.

    Raises:
        BadArtifact: It is damaged, of another method, or was made with other weights or another
            transform.
    """
    where = f"{folder.parent.name}/{folder.name}"
    description = read_json_model(folder / FACTS, _Description, "Fit it again.")
    try:
        digest, arrays = file_sha256(folder / FACTS), find_file(folder / ARRAYS, description.sha256)
    except OSError as exc:
        raise BadArtifact(f"{where} cannot be read: {exc.strerror}. Fit it again.") from exc
    if description.method != method:
        raise BadArtifact(f"{where} was fitted for {description.method!r}, not {method!r}.")
    if description.weights != weights:
        raise BadArtifact(
            f"{where} was made with other weights ({description.model}, sha256 "
            f"{description.weights[:12]}) than those in use ({weights[:12]}). Fit it again."
        )
    if description.transform != input_spec:
        raise BadArtifact(f"{where} was made with another image transform. Fit it again.")
    if arrays is None:
        raise BadArtifact(f"{where}/{ARRAYS} is damaged or was replaced. Fit it again.")
    return Artifact(_map_arrays(arrays, where), description.facts, digest)


def is_artifact(folder: Path) -> bool:
    """Return whether a folder claims to hold an artifact."""
    return (folder / FACTS).is_file() and (folder / ARRAYS).is_file()


def _write_arrays(stream: BinaryIO, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    # The file that safetensors writes, piece by piece: its own functions hold all of it in memory.
    kinds = {np.dtype(kind): name for name, kind in _KINDS.items()}
    rank = list(kinds)
    order = sorted(arrays, key=lambda name: (rank.index(arrays[name].dtype), name))
    header, begin = {}, 0
    for name in order:
        array = arrays[name]
        end = begin + array.nbytes
        header[name] = {
            "dtype": kinds[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the values lie on their own boundaries
    stream.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        rows = np.atleast_1d(arrays[name])
        step = max(1, _PIECE // max(1, rows[:1].nbytes))
        pieces = (rows[start : start + step] for start in range(0, len(rows), step))
        stream.writelines(np.ascontiguousarray(piece).tobytes() for piece in pieces)


def _map_arrays(path: Path, where: str) -> dict[str, npt.NDArray[Any]]:
    try:
        header, values = header_of(path)
        header.pop("__metadata__", None)
        mapped: dict[str, npt.NDArray[Any]] = {}
        for name, entry in header.items():
            kind, shape = np.dtype(_KINDS[entry["dtype"]]), tuple(entry["shape"])
            if 0 in shape:  # nothing can be mapped
                mapped[name] = np.zeros(shape, kind)
                continue
            begin = values + entry["data_offsets"][0]
            mapped[name] = np.memmap(path, kind, "r", begin, shape)
    except (ValueError, KeyError, TypeError) as exc:
        raise BadArtifact(f"{where}/{ARRAYS} is no safetensors file. Fit it again.") from exc
    return mapped
