"""The single hook through which built-ins and strangers alike offer explainers.

May touch pluggy only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from whylens.core.explainer import Explainer

PROJECT = "whylens"
GROUP = "whylens.explainers"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def explainers() -> Iterable[Explainer[Any]]:  # type: ignore[empty-body]
    """Return the explainers that this plugin offers, in tab order."""
