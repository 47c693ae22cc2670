"""Python's collector of garbage, kept from walking through what stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def permanent_objects() -> Iterator[None]:
    """Make what stays, as modules that are imported, without looking through it for garbage.

    Python would do so again and again, a fifth of the time of what the page imports. What is there
    at the end is never looked at again, nor copied by a fork for the sake of being looked at.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
