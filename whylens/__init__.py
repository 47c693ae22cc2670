"""See why an image classifier decides as it does: the public names, for scripts and for plugins.

`explain`, `compare`, `explain_steps`, `predict`, `methods`, `models` and `load_model` are for
scripts and notebooks; the other names are for plugins.

Importing this costs no torch; what needs it is fetched when a name is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whylens.light_imports import skip_compiler

_FOLDER = Path(__file__).parent
if not (_FOLDER / "core").is_dir():
    # A checkout: the rooms lie beside this folder; an installed copy has them inside.
    __path__.append(str(_FOLDER.parent))
skip_compiler()  # before anything imports torchvision or timm

if TYPE_CHECKING:
    from whylens.api import (
        compare,
        explain,
        explain_steps,
        load_model,
        methods,
        models,
        predict,
    )
    from whylens.core.datasets.dataset import Dataset, DatasetSource, Item
    from whylens.core.datasets.dissection import Dissection, Hybrid, Shortcut
    from whylens.core.datasets.tensors import (
        concat_views,
        decode_images,
        decode_tensor,
        encode_views,
        iter_tensors,
        view_pixels,
    )
    from whylens.core.errors import BadInput, CoreError, InvalidParameter, NeedsNotMet, UnknownName
    from whylens.core.evaluation.metric import Case, Metric, Score
    from whylens.core.explainer import Explainer
    from whylens.core.hookspecs import hookimpl
    from whylens.core.inputs.preprocess import denormalize, normalize, per_channel
    from whylens.core.inputs.signal import plot_signal
    from whylens.core.models.backbone import Backbone
    from whylens.core.models.feature_layer import FeatureLayer
    from whylens.core.models.image_encoder import ImageEncoder, load_encoder
    from whylens.core.needs import Need
    from whylens.core.outputs.masked_mean import MaskedMeans, expected_agreement
    from whylens.core.params import NoParams, Params
    from whylens.core.progress import Progress
    from whylens.core.results import (
        Comparison,
        Example,
        Examples,
        Heatmap,
        NumberedBox,
        Partial,
        Prototypes,
        Result,
    )
    from whylens.core.storage.artifacts import Artifact
    from whylens.core.subject import Subject
    from whylens.why import ExplainedClass, SideBySide, Why

__all__ = [
    "Artifact",
    "Backbone",
    "BadInput",
    "Case",
    "Comparison",
    "CoreError",
    "Dataset",
    "DatasetSource",
    "Dissection",
    "Example",
    "Examples",
    "ExplainedClass",
    "Explainer",
    "FeatureLayer",
    "Heatmap",
    "Hybrid",
    "ImageEncoder",
    "InvalidParameter",
    "Item",
    "MaskedMeans",
    "Metric",
    "Need",
    "NeedsNotMet",
    "NoParams",
    "NumberedBox",
    "Params",
    "Partial",
    "Progress",
    "Prototypes",
    "Result",
    "Score",
    "Shortcut",
    "SideBySide",
    "Subject",
    "UnknownName",
    "Why",
    "compare",
    "concat_views",
    "decode_images",
    "decode_tensor",
    "denormalize",
    "encode_views",
    "expected_agreement",
    "explain",
    "explain_steps",
    "hookimpl",
    "iter_tensors",
    "load_encoder",
    "load_model",
    "methods",
    "models",
    "normalize",
    "per_channel",
    "plot_signal",
    "predict",
    "view_pixels",
]

_NAMES_BY_MODULE = {
    "whylens.api": (
        "compare",
        "explain",
        "explain_steps",
        "load_model",
        "methods",
        "models",
        "predict",
    ),
    "whylens.core.datasets.dataset": ("Dataset", "DatasetSource", "Item"),
    "whylens.core.datasets.dissection": ("Dissection", "Hybrid", "Shortcut"),
    "whylens.core.datasets.tensors": (
        "iter_tensors",
        "concat_views",
        "decode_tensor",
        "encode_views",
        "decode_images",
        "view_pixels",
    ),
    "whylens.core.errors": (
        "BadInput",
        "CoreError",
        "InvalidParameter",
        "NeedsNotMet",
        "UnknownName",
    ),
    "whylens.core.evaluation.metric": ("Case", "Metric", "Score"),
    "whylens.core.explainer": ("Explainer",),
    "whylens.core.params": ("NoParams", "Params"),
    "whylens.core.hookspecs": ("hookimpl",),
    "whylens.core.inputs.preprocess": (
        "per_channel",
        "normalize",
        "denormalize",
    ),
    "whylens.core.inputs.signal": ("plot_signal",),
    "whylens.core.models.backbone": ("Backbone",),
    "whylens.core.models.feature_layer": ("FeatureLayer",),
    "whylens.core.models.image_encoder": (
        "ImageEncoder",
        "load_encoder",
    ),
    "whylens.core.needs": ("Need",),
    "whylens.core.outputs.masked_mean": (
        "MaskedMeans",
        "expected_agreement",
    ),
    "whylens.core.progress": ("Progress",),
    "whylens.core.results": (
        "Comparison",
        "Example",
        "Examples",
        "Heatmap",
        "NumberedBox",
        "Partial",
        "Prototypes",
        "Result",
    ),
    "whylens.core.storage.artifacts": ("Artifact",),
    "whylens.core.subject": ("Subject",),
    "whylens.why": ("ExplainedClass", "SideBySide", "Why"),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


if not TYPE_CHECKING:  # else every name would pass for one of ours

    def __getattr__(name: str) -> Any:
        if name in _MODULE_OF:
            return getattr(import_module(_MODULE_OF[name]), name)
        raise AttributeError(f"module 'whylens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
