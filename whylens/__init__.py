"""See why an image classifier decides as it does: the public names, for scripts and for plugins.

Importing this costs no torch; what needs it is fetched when a name is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

_HERE = Path(__file__).parent
if not (_HERE / "core").is_dir():
    # A checkout: the rooms lie beside this folder; an installed copy has them inside.
    __path__.append(str(_HERE.parent))

if TYPE_CHECKING:
    from whylens.core.datasets.dataset import Dataset
    from whylens.core.datasets.tensors import (
        inputs_of,
        joined_views,
        kept_input,
        packed_views,
        pictures_of,
        view_pixels,
    )
    from whylens.core.errors import BadInput, CoreError, InvalidParameter, NeedsNotMet
    from whylens.core.explainer import Explainer, Fitting, Need, NoParams, Params
    from whylens.core.hookspecs import hookimpl
    from whylens.core.inputs.preprocess import column, normalised, pixel_space
    from whylens.core.models.backbone import Backbone
    from whylens.core.models.feature_layer import Layer
    from whylens.core.models.image_encoder import Tower, tower
    from whylens.core.outputs.masked_mean import MaskedMeans, expected_agreement
    from whylens.core.results import (
        Beside,
        Example,
        Examples,
        Heatmap,
        Mark,
        Partial,
        Prototypes,
        Result,
    )
    from whylens.core.storage.artifacts import Artifact
    from whylens.core.subject import Subject

__all__ = [
    "Artifact",
    "Backbone",
    "BadInput",
    "Beside",
    "CoreError",
    "Dataset",
    "Example",
    "Examples",
    "Explainer",
    "Fitting",
    "Heatmap",
    "InvalidParameter",
    "Layer",
    "Mark",
    "MaskedMeans",
    "Need",
    "NeedsNotMet",
    "NoParams",
    "Params",
    "Partial",
    "Prototypes",
    "Result",
    "Subject",
    "Tower",
    "column",
    "expected_agreement",
    "hookimpl",
    "inputs_of",
    "joined_views",
    "kept_input",
    "normalised",
    "packed_views",
    "pictures_of",
    "pixel_space",
    "tower",
    "view_pixels",
]

_NAMES_BY_MODULE = {
    "whylens.core.datasets.dataset": ("Dataset",),
    "whylens.core.datasets.tensors": (
        "inputs_of",
        "joined_views",
        "kept_input",
        "packed_views",
        "pictures_of",
        "view_pixels",
    ),
    "whylens.core.errors": (
        "BadInput",
        "CoreError",
        "InvalidParameter",
        "NeedsNotMet",
    ),
    "whylens.core.explainer": (
        "Explainer",
        "Fitting",
        "Need",
        "NoParams",
        "Params",
    ),
    "whylens.core.hookspecs": ("hookimpl",),
    "whylens.core.inputs.preprocess": (
        "column",
        "normalised",
        "pixel_space",
    ),
    "whylens.core.models.backbone": ("Backbone",),
    "whylens.core.models.feature_layer": ("Layer",),
    "whylens.core.models.image_encoder": (
        "Tower",
        "tower",
    ),
    "whylens.core.outputs.masked_mean": (
        "MaskedMeans",
        "expected_agreement",
    ),
    "whylens.core.results": (
        "Beside",
        "Example",
        "Examples",
        "Heatmap",
        "Mark",
        "Partial",
        "Prototypes",
        "Result",
    ),
    "whylens.core.storage.artifacts": ("Artifact",),
    "whylens.core.subject": ("Subject",),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'whylens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
