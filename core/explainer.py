"""The contract between the engine and an explainer: identity, needs, parameters, one obligation.

May touch pydantic and the results; never torch, so that a plugin's metadata is cheap to read.
"""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, TypeVar

import annotated_types
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from whylens.core.errors import InvalidParameter
from whylens.core.needs import Need
from whylens.core.progress import Progress
from whylens.core.results import Partial, Result

if TYPE_CHECKING:
    from whylens.core.datasets.dataset import Dataset
    from whylens.core.models.backbone import Backbone
    from whylens.core.storage.artifacts import Artifact
    from whylens.core.subject import Subject

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\+{0,2}")

Answers = Literal["where", "like what", "what if"]


class Params(BaseModel):
    """Base of a method's parameters: frozen, nothing extra, defaults for every field.

    A field is an int or float with both bounds, a bool, or a Literal of strings: four kinds, for
    which every screen has a control. `title` and `description` label the control.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class NoParams(Params):
    """For a method without parameters."""


P = TypeVar("P", bound=Params)


class Explainer(ABC, Generic[P]):
    """One method of explanation: stateless, and named for good.

    Attributes:
        name: Id in addresses, files and the API: kebab-case, never reused.
        title: The tab's label.
        family: Group in the page once there are many methods, as in "Class activation".
        question_kind: The question that it answers: where the network looks, what the input is
            like to it, or what would change its mind.
        summary: One sentence: what it shows.
        limits: One sentence: what it cannot show.
        when: One sentence: when to use it; may be empty.
        source: Paper and equation.
        cost: Work in words, as in "one forward pass".
        needs: What the model must offer.
        Params: The parameters' schema.
        class_blind: Whether the answer is the same whichever class is asked about; then `limits`
            says so, and the contract's tests hold the method to it.
        artifact_kind: What `fit` makes, in words, as in "a gallery of training pictures"; empty for
            a method that needs nothing but the model.
        FitParams: The schema of `fit`'s parameters.
        actions: What `edit` can do to what was fitted, as in "delete"; empty if nothing.
        test_params: Parameters for an input of 32 by 48 pixels, where the defaults suit larger
            ones; the conformance tests ask with them. None for the defaults.
        test_fit_params: Likewise for `fit`, on 36 pictures.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    family: ClassVar[str]
    summary: ClassVar[str]
    limits: ClassVar[str]
    source: ClassVar[str]
    cost: ClassVar[str]
    needs: ClassVar[frozenset[Need]]
    Params: type[P]
    question_kind: ClassVar[Answers] = "where"
    when: ClassVar[str] = ""
    class_blind: ClassVar[bool] = False
    artifact_kind: ClassVar[str] = ""
    FitParams: ClassVar[type[BaseModel]] = NoParams
    actions: ClassVar[tuple[str, ...]] = ()
    test_params: ClassVar[BaseModel | None] = None
    test_fit_params: ClassVar[BaseModel | None] = None

    def why_not(self, backbone: Backbone) -> str | None:  # noqa: ARG002 - the default has no condition
        """Return a reason not to run on this model that no `Need` expresses, or None.

        Args:
            backbone: The loaded model.
        """
        return None

    @abstractmethod
    def explain(self, subject: Subject, params: P) -> Result | Iterator[Partial]:
        """Return the explanation, or yield it in parts, the last with fraction 1.

        A method that takes more than a moment must yield, about twice a second: Stop, time left
        and deadlines rest on it.

        Args:
            subject: One question to one model.
            params: Validated parameters.
        """

    def fit(self, dataset: Dataset, backbone: Backbone, params: Any) -> Iterator[Progress]:
        """Yield the steps of fitting, the last with the artifact.

        A generator, so that progress, cancel and deadlines work as they do for `explain`.

        Args:
            dataset: Labelled pictures.
            backbone: The network whose decisions will be explained.
            params: Of type `FitParams`.
        """
        raise NotImplementedError(f"{type(self).__name__} says what it needs but has no fit().")

    def edit(self, artifact: Artifact, action: str, chosen: tuple[str, ...], text: str) -> Artifact:
        """Return what was fitted, changed by a visitor; `facts["edited"]` says what it did.

        Args:
            artifact: As `fit` made it, or as an earlier edit left it.
            action: One of `actions`.
            chosen: Keys of the items it acts on.
            text: What the visitor typed, as for a new name.

        Raises:
            InvalidParameter: The choice does not fit the action.
        """
        raise NotImplementedError(f"{type(self).__name__} names actions but has no edited().")


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


def _default(name: str, info: FieldInfo) -> Any:
    # pydantic does not check defaults, so a screen would start with a value that is refused.
    default = info.get_default(call_default_factory=True, validated_data={})
    bounded: Any = Annotated[(info.annotation, *(info.metadata or [None]))]
    try:
        return TypeAdapter(bounded).validate_python(default, strict=True)
    except ValidationError as exc:
        raise InvalidParameter(
            f"Parameter {name!r} has the default {default!r}, which it refuses itself: "
            f"{exc.errors()[0]['msg']}."
        ) from exc


def control_of(name: str, info: FieldInfo) -> ControlSpec:
    """Return how a screen can draw one field.

    Args:
        name: The field's name.
        info: Its pydantic description.

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
    shown = kind if isinstance(kind, types.UnionType) else getattr(kind, "__name__", kind)
    raise InvalidParameter(
        f"Parameter {name!r} is of type {shown}; use a bounded int or float, a bool or a Literal "
        "of strings."
    )


def controls_of(params: type[Params]) -> tuple[ControlSpec, ...]:
    """Return every field of `params` as a screen needs it, in order.

    Args:
        params: A parameters class.

    Raises:
        InvalidParameter: A field cannot be drawn.
    """
    return tuple(control_of(name, info) for name, info in params.model_fields.items())


def is_single_step(explainer: Explainer[Any]) -> bool:
    """Return whether a method answers at once rather than in parts.

    Args:
        explainer: A registered explainer.
    """
    return not inspect.isgeneratorfunction(type(explainer).explain)


def contract_errors(explainer: object) -> list[str]:
    """Return what is wrong with a would-be explainer, one sentence each; empty if all is well.

    Args:
        explainer: What a plugin handed over.
    """
    if not isinstance(explainer, Explainer):
        return [f"explainers() returned a {type(explainer).__name__}, not an Explainer."]
    found = []
    for attribute in ("name", "title", "family", "summary", "limits", "source", "cost"):
        value = getattr(explainer, attribute, None)
        if not isinstance(value, str) or not value.strip():
            found.append(f"{type(explainer).__name__}.{attribute} must be a non-empty string.")
    name = getattr(explainer, "name", "")
    if isinstance(name, str) and name and not _ID.fullmatch(name):
        found.append(f"The name {name!r} must be kebab-case: lower-case words joined by '-'.")
    needs = getattr(explainer, "needs", None)
    if not isinstance(needs, frozenset) or not all(isinstance(n, Need) for n in needs):
        found.append(f"{type(explainer).__name__}.needs must be a frozenset of Need.")
    params = getattr(explainer, "Params", None)
    if not (isinstance(params, type) and issubclass(params, Params)):
        found.append(f"{type(explainer).__name__}.Params must be a subclass of core.Params.")
        return found
    if explainer.artifact_kind and type(explainer).fit is Explainer.fit:
        found.append(
            f"{type(explainer).__name__} rests on {explainer.artifact_kind} but has no fit()."
        )
    if explainer.actions and type(explainer).edit is Explainer.edit:
        found.append(f"{type(explainer).__name__} names actions but has no edited().")
    for attribute, kind in (("test_params", params), ("test_fit_params", explainer.FitParams)):
        if not isinstance(getattr(explainer, attribute), kind | None):
            found.append(
                f"{type(explainer).__name__}.{attribute} must be a {kind.__name__} or None."
            )
    for field_name, info in params.model_fields.items():
        try:
            control_of(field_name, info)
        except InvalidParameter as problem:
            found.append(str(problem))
    return found
