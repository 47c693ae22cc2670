"""Calls into plugins: parameters checked, errors wrapped, changes of the model noticed."""

from __future__ import annotations

import difflib
from asyncio import CancelledError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from whylens.core.errors import CoreError, ExplainerFailed, InvalidParameter
from whylens.core.explainer import Explainer
from whylens.core.models.backbone import Backbone
from whylens.core.results import Heatmap, Partial

M = TypeVar("M", bound=BaseModel)
# A network of 4,096 x 4,096 pixels: beyond that a map is a mistake, and would fill the memory.
MOST_PLACES = 16_777_216


def validate_params(explainer: Explainer[Any], schema: type[M], values: Mapping[str, object]) -> M:
    """Return validated parameters.

    Args:
        schema: Its `Params` or `FitParams`.
        values: By name; the defaults where absent.

    Raises:
        InvalidParameter: A name is unknown or a value is refused.
    """
    known = schema.model_fields
    unknown = sorted(set(values) - set(known))
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise InvalidParameter(
            f"{explainer.title} has no parameter {unknown[0]!r}. {hint}"
            f"It has: {', '.join(known) or 'none'}."
        )
    try:
        return schema.model_validate(dict(values))
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidParameter(f"{explainer.title}: {where}: {first['msg']}.") from exc


@contextmanager
def wrap_plugin_errors(explainer: Explainer[Any]) -> Iterator[None]:
    """Return a context that turns whatever a plugin raises into `ExplainerFailed`, naming it."""
    try:
        yield
    except CoreError:
        raise
    # The last two are meant for a whole process or its event loop, of which no plugin may decide.
    except (Exception, SystemExit, CancelledError) as exc:
        raise ExplainerFailed(explainer.name, exc) from exc


def as_partial(yielded: object) -> Partial:
    """Return what an explainer yielded, or raise TypeError where it is no Partial of usual size."""
    if not isinstance(yielded, Partial):
        raise TypeError(f"it yielded a {type(yielded).__name__}, not a Partial")
    heat = yielded.result
    if isinstance(heat, Heatmap) and heat.values.size > MOST_PLACES:
        raise TypeError(
            f"its map has {heat.values.size:,} values; at most {MOST_PLACES:,} are shown"
        )
    return yielded


def plugin_reason(explainer: Explainer[Any], backbone: Backbone) -> str | None:
    """Return a reason beside its needs for which an explainer does not run on a network, or None.

    Raises:
        TypeError: What it gave is no sentence.
    """
    if backbone.outputs == "value" and explainer.question_kind != "where":
        return "it explains classes, and this network gives a number."
    reason: object = explainer.why_not(backbone)
    if not isinstance(reason, str | None):
        raise TypeError(f"its why_not returned {reason!r}, not words")
    return reason


def model_state(backbone: Backbone, *, values: bool) -> tuple[int, ...]:
    """Return figures that change when a network was tampered with.

    Args:
        values: Sum up the bits of every parameter as well: a write through `.data` raises no
            version, but costs a read of the whole network.
    """
    hooks = training = grads = with_grad = versions = total = 0
    for part in backbone.module.modules():
        hooks += len(part._forward_hooks) + len(part._forward_pre_hooks)
        hooks += len(part._backward_hooks) + len(part._backward_pre_hooks)
        training += part.training
    tensors: list[torch.Tensor] = [*backbone.module.parameters(), *backbone.module.buffers()]
    for tensor in tensors:
        grads += tensor.grad is not None
        with_grad += tensor.requires_grad
        versions += tensor._version
        if values:
            total += int(tensor.detach().contiguous().flatten().view(torch.uint8).sum())
    return hooks, training, grads, with_grad, versions, len(tensors), total
