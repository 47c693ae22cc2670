"""What a network may raise when it is run in a way that it was not written for.

May touch nothing. Kept apart so that every file that tries networks out catches the same list.
"""

from __future__ import annotations

NETWORK_ERRORS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    UnboundLocalError,
    ValueError,
)
