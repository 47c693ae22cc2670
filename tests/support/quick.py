"""Which cases of a test the quick suite runs, and which only `make test-long`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def some_quick(cases: Iterable[Any], quick: Callable[[int, Any], bool]) -> list[Any]:
    """Return all cases for `parametrize`, those that are not quick marked as slow.

    Args:
        cases: The values of one argument, or the tuples that `itertools.product` makes of several.
        quick: Told the number of a case, from 0, and the case.
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if quick(number, case) else pytest.mark.slow,
        )
        for number, case in enumerate(cases)
    ]
