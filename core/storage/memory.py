"""How much memory a server may take, from one variable, and how it is shared out."""

from __future__ import annotations

import ctypes
import gc
import os
import re
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from whylens.core.errors import BadInput, quote

MEMORY_VARIABLE = "WHYLENS_MEMORY"
DEFAULT_SHARE = 0.6  # of the machine or the container
Purpose = Literal["models", "work", "random models", "answers", "photos", "forward passes", "own"]
# The program itself, about 1.2 GB, comes on top: it is what the default leaves.
SHARES: MappingProxyType[Purpose, float] = MappingProxyType(
    {
        "models": 0.45,  # with their faster copies, and what is being loaded
        "work": 0.25,  # what one batch of inputs takes inside a network
        "random models": 0.05,  # to compare maps with
        "answers": 0.06,
        "photos": 0.12,
        "forward passes": 0.04,
        "own": 0.03,  # what visitors fitted to pictures of their own
    }
)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", re.IGNORECASE)
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_for(purpose: Purpose) -> int:
    """Return how many bytes may be taken for one purpose."""
    return int(SHARES[purpose] * memory_limit())


def memory_limit() -> int:
    """Return how many bytes models, photos, answers and maps may take together.

    By WHYLENS_MEMORY, as in "4 GB"; else 60 % of what the machine or the container has.

    Raises:
        BadInput: The variable is no size.
    """
    text = os.environ.get(MEMORY_VARIABLE, "").strip()
    if not text:
        return int(DEFAULT_SHARE * machine_memory())
    return parse_size(text, MEMORY_VARIABLE)


def parse_size(text: str, name: str) -> int:
    """Return the bytes that a text such as "4 GB" stands for.

    Args:
        name: Of what it is about, for the message.

    Raises:
        BadInput: It is no size.
    """
    size = _SIZE.fullmatch(text)
    if size is None:
        raise BadInput(f"{name} is {quote(text)}, which is no size such as '4 GB'.")
    return int(float(size[1]) * _UNITS[size[2].lower()])


def machine_memory() -> int:
    """Return how many bytes this machine has, or its container where that has less."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, _CGROUPS):
        try:
            sizes.append(int(path.read_text()))
        except (OSError, ValueError):  # there is no such limit
            continue
    return min(sizes)


def release_memory() -> None:
    """Give back to the machine what nobody holds any more, in circles of objects as well."""
    gc.collect()
    trim_memory()


def trim_memory() -> None:
    """Give back to the machine what was freed; the C library would keep it for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
