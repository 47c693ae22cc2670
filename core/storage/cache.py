"""A least-recently-used cache bounded by bytes, in which each key is made once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteLRU(Generic[K, V]):
    """Values by key; the longest unused go first once their bytes exceed the budget.

    What a caller still holds stays alive; the cache merely forgets it.
    """

    def __init__(self, budget: int, size: Callable[[V], int]) -> None:
        """Make an empty cache.

        Args:
            budget: Bytes. A single value above it is returned but not kept.
        """
        self.budget = budget
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[K, threading.Lock] = {}

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of `key`, made at most once however many threads ask.

        Args:
            make: Makes the value; what it raises is raised here and nothing is kept.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
            try:
                value = make()
                self.put(key, value)
            finally:
                with self._lock:
                    self._making.pop(key, None)
            return value

    def put(self, key: K, value: V) -> None:
        """Keep `value`, forgetting the longest unused where needed; too large ones are not kept."""
        with self._lock:
            self._values.pop(key, None)
            if self._size(value) > self.budget:
                return
            self._values[key] = value
            while self._total() > self.budget:
                self._values.popitem(last=False)

    def peek(self, key: K) -> V | None:
        """Return the value of `key` if it is kept, and count that as a use."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def forget(self, key: K) -> None:
        """Forget `key` if it is there."""
        with self._lock:
            self._values.pop(key, None)

    def cached_keys(self) -> list[K]:
        """Return the keys, longest unused first."""
        with self._lock:
            return list(self._values)

    @property
    def bytes(self) -> int:
        """Bytes of what is kept."""
        with self._lock:
            return self._total()

    def _total(self) -> int:
        return sum(self._size(value) for value in self._values.values())
