"""A least-recently-used cache bounded by bytes, in which each key is made once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteLRU(Generic[K, V]):
    """Values by key; the longest unused go first once their bytes exceed the budget.

    What a caller still holds stays alive; the cache merely forgets it.
    """

    def __init__(
        self,
        budget: int,
        size: Callable[[V], int],
        on_removal: Callable[[V], None] = lambda _: None,
    ) -> None:
        """Make an empty cache.

        Args:
            budget: Bytes. A single value above it is returned but not kept.
            on_removal: Called with each value that is no longer kept.
        """
        self.budget = budget
        self._size = size
        self._on_removal = on_removal
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._making: dict[K, threading.Lock] = {}
        self._reserved: dict[K, int] = {}

    def get(self, key: K, make: Callable[[], V], *, expected: Callable[[], int] = int) -> V:
        """Return the value of `key`, made at most once however many threads ask.

        Args:
            make: Makes the value; what it raises is raised here and nothing is kept.
            expected: Returns the bytes that making it will take: so much is made free before, and
                whoever makes another waits while there is no room for both.
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
                self._reserve(key, expected())
                value = make()
                self.put(key, value)
            finally:
                with self._lock:
                    self._making.pop(key, None)
                    self._reserved.pop(key, None)
                    self._room.notify_all()
            return value

    def _reserve(self, key: K, count: int) -> None:
        with self._lock:
            while self._reserved and sum(self._reserved.values()) + count > self.budget:
                self._room.wait()
            self._reserved[key] = count
            removed_values = self._shrink()
        self._tell(removed_values)

    def put(self, key: K, value: V) -> None:
        """Keep `value`, forgetting the longest unused where needed; too large ones are not kept."""
        size = self._size(value)
        with self._lock:
            self._reserved.pop(key, None)
            before = self._values.pop(key, None)
            removed = [] if before is None or before is value else [before]
            if size <= self.budget:
                self._values[key] = value
                removed += self._shrink()
        self._tell(removed)

    def _shrink(self) -> list[V]:
        # What others still make has its place already.
        removed = []
        while self._values and self._total() + sum(self._reserved.values()) > self.budget:
            removed.append(self._values.popitem(last=False)[1])
        return removed

    def _tell(self, removed: Iterable[V]) -> None:
        for value in removed:
            self._on_removal(value)

    def peek(self, key: K) -> V | None:
        """Return the value of `key` if it is kept, and count that as a use."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def forget(self, key: K) -> None:
        """Forget `key` if it is there."""
        with self._lock:
            value = self._values.pop(key, None)
        self._tell([] if value is None else [value])

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
