"""Which methods failed whom they were asked by, how often, and which of them rest a while."""

from __future__ import annotations

import threading
import time
from collections import Counter

# A method that failed so often in a row is not asked for a while: most likely it harms the next
# one as well, at the cost of a process or of its whole time.
FAILURES_IN_A_ROW = 3
REST_SECONDS = 600.0


class Failures:
    """Counts of failures by method; safe under many threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._all: Counter[str] = Counter()
        self._in_a_row: Counter[str] = Counter()
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, method: str, *, in_a_row: bool = True) -> None:
        """Count one.

        Args:
            in_a_row: Whether it counts towards a rest.
        """
        with self._lock:
            self._all[method] += 1
            if in_a_row:
                self._in_a_row[method] += 1
                self._last[method] = time.monotonic()

    def end_row(self, method: str) -> None:
        """Begin a new row: the method answered."""
        with self._lock:
            self._in_a_row[method] = 0

    def resting(self) -> set[str]:
        """Return the methods that are not to be asked now."""
        now = time.monotonic()
        with self._lock:
            return {
                name
                for name, count in self._in_a_row.items()
                if count >= FAILURES_IN_A_ROW and now - self._last[name] < REST_SECONDS
            }

    def words(self) -> dict[str, str]:
        """Return how often methods failed, in words, by name."""
        resting = self.resting()
        with self._lock:
            return {
                name: f"{count}; resting" if name in resting else f"{count}"
                for name, count in self._all.items()
            }


def resting_words(method: str) -> str:
    """Return why a method is not asked, in words for whoever asked."""
    return (
        f"{method!r} rests: {FAILURES_IN_A_ROW} times in a row it failed or took too long. It is "
        f"asked again {REST_SECONDS / 60:.0f} minutes later; its owner is named under Plugins."
    )
