"""Calls into plugins: parameters checked, errors wrapped, changes of the model noticed."""

from __future__ import annotations

import difflib
import logging
import threading
from asyncio import CancelledError
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from whylens.core.errors import CoreError, ExplainerFailed, InvalidParameter, wrong_value
from whylens.core.explainer import Explainer
from whylens.core.models.backbone import Backbone
from whylens.core.params import Params
from whylens.core.results import Examples, Heatmap, Partial, Prototypes
from whylens.core.storage.artifact_store import ArtifactStore
from whylens.core.storage.artifacts import Artifact
from whylens.core.subject import Subject

log = logging.getLogger(__name__)
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
    fields = schema.model_fields
    unknown = sorted(set(values) - set(fields))
    if unknown:
        matches = difflib.get_close_matches(unknown[0], fields, n=1)
        hint = f"Did you mean {matches[0]!r}? " if matches else ""
        raise InvalidParameter(
            f"{explainer.title} has no parameter {unknown[0]!r}. {hint}"
            f"It has: {', '.join(fields) or 'none'}."
        )
    try:
        return schema.model_validate(dict(values))
    except ValidationError as exc:
        where, words = wrong_value(exc)
        raise InvalidParameter(f"{explainer.title}: {where}: {words}.") from exc


@contextmanager
def wrap_plugin_errors(explainer: Explainer[Any]) -> Iterator[None]:
    """Return a context that turns whatever a plugin raises into `ExplainerFailed`, naming it.

    Nothing is yielded within it: to close the generator would be the plugin's error.
    """
    try:
        yield
    except CoreError:
        raise
    # What is meant for a generator, a process or its event loop: no plugin may decide of these.
    except (Exception, GeneratorExit, SystemExit, CancelledError) as exc:
        raise ExplainerFailed(explainer.name, exc) from exc
    except KeyboardInterrupt as exc:
        # Python raises that of a Ctrl-C in the main thread only; elsewhere it is the plugin's own.
        if threading.current_thread() is threading.main_thread():
            raise
        raise ExplainerFailed(explainer.name, exc) from exc


def steps_of(
    explainer: Explainer[Any], subject: Subject, params: Params
) -> Generator[Partial, None, None]:
    """Yield what an explainer answers, in one step or in many.

    Raises:
        ExplainerFailed: It raised something that is no `CoreError`, or yielded no `Partial`.
    """
    with wrap_plugin_errors(explainer):
        answer = explainer.explain(subject, params)
        if isinstance(answer, Heatmap | Examples | Prototypes):
            answer = iter([Partial(answer, 1.0)])
        steps = map(as_partial, answer)
    has_begun = False
    while True:
        with wrap_plugin_errors(explainer):
            partial = next(steps, None)
            if partial is None and not has_begun:
                raise TypeError("it yielded nothing; at least one Partial is needed, the last of 1")
        if partial is None:
            return
        has_begun = True
        yield partial


def as_partial(value: object) -> Partial:
    """Return what an explainer yielded, or raise TypeError where it is no Partial of usual size."""
    if not isinstance(value, Partial):
        raise TypeError(f"it yielded a {type(value).__name__}, not a Partial")
    heat = value.result
    if isinstance(heat, Heatmap) and heat.values.size > MOST_PLACES:
        raise TypeError(
            f"its map has {heat.values.size:,} values; at most {MOST_PLACES:,} are shown"
        )
    return value


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


def reason_and_artifact(
    explainer: Explainer[Any], backbone: Backbone, store: ArtifactStore, visitor: str
) -> tuple[str | None, Artifact | None]:
    """Return why a method does not run on a network, or None and what it was fitted with.

    Args:
        visitor: One whose own artifacts count, or "".
    """
    try:
        with wrap_plugin_errors(explainer):
            reason = backbone.why_not(explainer.needs) or plugin_reason(explainer, backbone)
        if reason or not explainer.artifact_kind:
            return reason, None
        return None, store.get(explainer, backbone, visitor)
    except CoreError as exc:
        if isinstance(exc, ExplainerFailed):
            # A stranger's fault is that method's own: the model and the others stay of use.
            log.exception("%s failed on %s", explainer.name, backbone.name)
        return str(exc), None


_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes: summed up as they lie


def model_state(backbone: Backbone, *, values: bool) -> tuple[int, ...]:
    """Return figures that change when a network was tampered with.

    Args:
        values: Sum up the bits of every parameter as well: a write through `.data` raises no
            version, but costs a read of the whole network.
    """
    hooks = training = grads = with_grad = versions = count = total = 0
    # Not module.parameters() and its like, which put names together: this is done twice an answer.
    parts, reachable = [backbone.module], {backbone.module}
    while parts:
        part = parts.pop()
        fresh = {child for child in part._modules.values() if child is not None} - reachable
        reachable |= fresh
        parts.extend(fresh)
        hooks += len(part._forward_hooks) + len(part._forward_pre_hooks)
        hooks += len(part._backward_hooks) + len(part._backward_pre_hooks)
        training += part.training
        for tensor in (*part._parameters.values(), *part._buffers.values()):
            if tensor is None:
                continue
            count += 1
            grads += tensor.grad is not None
            with_grad += tensor.requires_grad
            versions += tensor._version
            if values:
                bits = _BITS.get(tensor.element_size(), torch.uint8)
                total += int(tensor.detach().contiguous().flatten().view(bits).sum())
    return hooks, training, grads, with_grad, versions, count, total
