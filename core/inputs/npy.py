"""Arrays in NumPy's files, of which none is larger than what the file holds."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from whylens.core.errors import FILE_ERRORS, BadInput

NUMBERS = "biuf"
TEXT = "U"


def read_npy(data: bytes, kinds: str = NUMBERS) -> npt.NDArray[Any]:
    """Return the array in the bytes of an .npy file, read-only and without a copy.

    Args:
        kinds: Kinds of NumPy's types that it may hold.

    Raises:
        ValueError: It is none, holds less than its header says, or something else than these
            kinds; says which.
    """
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"it is of version {version[0]}.{version[1]}")
    try:
        shape, is_fortran, dtype = readers[version](stream)
    except FILE_ERRORS as exc:  # a header is a Python literal, and fails like one
        raise ValueError(f"its header is damaged: {exc}") from exc
    if dtype.kind not in kinds:
        raise ValueError(f"it holds {dtype}, not {'real numbers' if kinds == NUMBERS else 'that'}")
    # What a header says is allocated before it is read.
    if math.prod(shape) * dtype.itemsize > len(data) - stream.tell() or any(n < 0 for n in shape):
        raise ValueError("it holds less than its header says")
    flat = np.frombuffer(data, dtype, math.prod(shape), stream.tell())
    if dtype.kind == "U":
        codes = flat.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any():
            raise ValueError("it holds characters that there are not")
    return flat.reshape(shape, order="F" if is_fortran else "C")


class NpzFile(Mapping[str, npt.NDArray[Any]]):
    """The arrays of an .npz file by name, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        """List them.

        Raises:
            BadInput: It cannot be read.
        """
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except FILE_ERRORS as exc:
            raise self._unreadable(exc) from exc
        self._names = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        try:
            with zipfile.ZipFile(self._path) as archive:
                return read_npy(archive.read(f"{name}.npy"), NUMBERS + TEXT)
        except FILE_ERRORS as exc:
            raise self._unreadable(exc) from exc

    def _unreadable(self, exc: Exception) -> BadInput:
        if isinstance(exc, OSError) and exc.strerror:
            return BadInput(f"{self._path} cannot be read: {exc.strerror}.")
        return BadInput(f"{self._path} is not a readable .npz file ({exc}). Write it again.")
