"""A method's parameters, and how a screen can draw each of them."""

from __future__ import annotations

import math
import types
import typing
from functools import lru_cache
from typing import Annotated, Any, Literal

import annotated_types
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from whylens.core.errors import InvalidParameter, wrong_value


class Params(BaseModel):
    """Base of a method's parameters: frozen, nothing extra, defaults for every field.

    A field is an int or float with both bounds, a bool, or a Literal of strings: four kinds, for
    which every screen has a control. `title` and `description` label the control.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class NoParams(Params):
    """For a method without parameters."""


class ControlSpec(BaseModel):
    """A parameter as a screen needs it: exactly one of four kinds.

    Attributes:
        name: Field name.
        kind: Which of the four.
        title: Label.
        help: One sentence, may be empty.
        default: The default value.
        low: Smallest value of a number.
        high: Largest value of a number.
        step: Step of a number.
        choices: Values of a choice.
    """

    name: str
    kind: Literal["int", "float", "bool", "choice"]
    title: str
    help: str
    default: int | float | bool | str
    low: float = 0
    high: float = 0
    step: float = 0
    choices: tuple[str, ...] = ()


def _bounds(info: FieldInfo) -> tuple[float, float, float | None] | None:
    low = high = step = None
    for item in info.metadata:
        match item:
            case annotated_types.Ge(ge=bound):
                low = bound
            case annotated_types.Le(le=bound):
                high = bound
            case annotated_types.MultipleOf(multiple_of=bound):
                step = bound
    if low is None or high is None:
        return None
    return float(typing.cast("float", low)), float(typing.cast("float", high)), step  # type: ignore[return-value]


@lru_cache(maxsize=1000)  # a registry is loaded for every engine, and asks all of them
def _checker(bounded: Any) -> TypeAdapter[Any]:
    return TypeAdapter(bounded)


def _default(name: str, info: FieldInfo) -> Any:
    # pydantic does not check defaults, so a screen would start with a value that is refused.
    default = info.get_default(call_default_factory=True, validated_data={})
    bounded: Any = Annotated[(info.annotation, *(info.metadata or [None]))]
    try:
        checker = _checker(bounded)
    except TypeError:  # a bound of a plugin's own kind, which cannot be looked up
        checker = TypeAdapter(bounded)
    try:
        return checker.validate_python(default, strict=True)
    except ValidationError as exc:
        raise InvalidParameter(
            f"Parameter {name!r} has the default {default!r}, which it refuses itself: "
            f"{wrong_value(exc)[1]}."
        ) from exc


def control_of(name: str, info: FieldInfo) -> ControlSpec:
    """Return how a screen can draw one field.

    Raises:
        InvalidParameter: The field is of a kind for which there is no control.
    """
    label = info.title or name.replace("_", " ").capitalize()
    common: dict[str, Any] = {
        "name": name,
        "title": label,
        "help": info.description or "",
    }
    if info.is_required():
        raise InvalidParameter(f"Parameter {name!r} needs a default, so that a click is enough.")
    kind: Any = info.annotation
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if all(isinstance(c, str) for c in choices):
            default = _default(name, info)
            return ControlSpec(kind="choice", choices=choices, default=default, **common)
    if kind is bool:
        return ControlSpec(kind="bool", default=_default(name, info), **common)
    if kind is int or kind is float:
        bounds = _bounds(info)
        if bounds is None:
            raise InvalidParameter(
                f"Parameter {name!r} needs both ge= and le=: a slider has two ends."
            )
        low, high, step = bounds
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InvalidParameter(
                f"Parameter {name!r} goes from {low:g} to {high:g}; a slider needs two finite "
                "ends, the smaller first."
            )
        fallback = 1.0 if kind is int else (high - low) / 100
        number: Literal["int", "float"] = "int" if kind is int else "float"
        return ControlSpec(
            kind=number,
            low=low,
            high=high,
            step=step or fallback,
            default=_default(name, info),
            **common,
        )
    words = kind if isinstance(kind, types.UnionType) else getattr(kind, "__name__", kind)
    raise InvalidParameter(
        f"Parameter {name!r} is of type {words}; use a bounded int or float, a bool or a Literal "
        "of strings."
    )


def controls_of(params: type[Params]) -> tuple[ControlSpec, ...]:
    """Return every field of `params` as a screen needs it, in order.

    Raises:
        InvalidParameter: A field cannot be drawn.
    """
    return tuple(control_of(name, info) for name, info in params.model_fields.items())
