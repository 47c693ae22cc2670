"""Numbers in words."""

from __future__ import annotations


def number_of(count: int, noun: str, plural: str = "") -> str:
    """Return "1 file", "2 files" or "1,234 files".

    Args:
        plural: Of a noun that does not only take an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def are(count: int) -> str:
    """Return "is" of one and "are" of others."""
    return "is" if count == 1 else "are"


def was(count: int) -> str:
    """Return "was" of one and "were" of others."""
    return "was" if count == 1 else "were"


def percent(share: float, digits: int = 0) -> str:
    """Return a share in words: "83 %", or "83.1 %" with a digit behind the point."""
    return f"{100 * share:.{digits}f} %"
