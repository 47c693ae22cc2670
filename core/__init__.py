"""The public surface for plugins: the contract, the results, the errors.

Importing it costs no torch; `Subject` and `Backbone` are fetched when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.errors import BadInput, CoreError, InvalidParameter, NeedsNotMet
from core.explainer import Explainer, Need, NoParams, Params
from core.hookspecs import hookimpl
from core.results import Example, Examples, Heatmap, Partial, Prototypes, Result

if TYPE_CHECKING:
    from core.models.backbone import Backbone
    from core.subject import Subject

__all__ = [
    "Backbone",
    "BadInput",
    "CoreError",
    "Example",
    "Examples",
    "Explainer",
    "Heatmap",
    "InvalidParameter",
    "Need",
    "NeedsNotMet",
    "NoParams",
    "Params",
    "Partial",
    "Prototypes",
    "Result",
    "Subject",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    if name == "Subject":
        from core.subject import Subject

        return Subject
    if name == "Backbone":
        from core.models.backbone import Backbone

        return Backbone
    raise AttributeError(f"module 'core' has no attribute {name!r}")
