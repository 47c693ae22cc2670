"""The public surface for plugins: the contract, the results, the errors.

Importing it costs no torch; what needs it is fetched when first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from core.errors import BadInput, CoreError, InvalidParameter, NeedsNotMet
from core.explainer import Explainer, Fitting, Need, NoParams, Params
from core.hookspecs import hookimpl
from core.results import Beside, Example, Examples, Heatmap, Mark, Partial, Prototypes, Result

if TYPE_CHECKING:
    from core.artifacts import Artifact
    from core.datasets.dataset import Dataset
    from core.datasets.inputs import (
        inputs_of,
        joined_views,
        kept_input,
        packed_views,
        pictures_of,
        view_pixels,
    )
    from core.estimates import MaskedMeans, expected_agreement
    from core.layers import Layer
    from core.models.backbone import Backbone
    from core.models.towers import Tower, tower
    from core.preprocess import column, normalised, pixel_space
    from core.subject import Subject

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

_LATER = {
    "Artifact": "core.artifacts",
    "Backbone": "core.models.backbone",
    "Dataset": "core.datasets.dataset",
    "Layer": "core.layers",
    "MaskedMeans": "core.estimates",
    "column": "core.preprocess",
    "expected_agreement": "core.estimates",
    "Subject": "core.subject",
    "Tower": "core.models.towers",
    "tower": "core.models.towers",
    "inputs_of": "core.datasets.inputs",
    "joined_views": "core.datasets.inputs",
    "kept_input": "core.datasets.inputs",
    "normalised": "core.preprocess",
    "packed_views": "core.datasets.inputs",
    "pictures_of": "core.datasets.inputs",
    "pixel_space": "core.preprocess",
    "view_pixels": "core.datasets.inputs",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'core' has no attribute {name!r}")
