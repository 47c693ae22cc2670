"""The contract between the engine and an explainer; read without torch, so that it is cheap."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel

from whylens.core.errors import InvalidParameter
from whylens.core.needs import Need
from whylens.core.params import NoParams, Params, control_of
from whylens.core.progress import Progress
from whylens.core.results import Partial, Result

if TYPE_CHECKING:
    from torch import Tensor

    from whylens.core.datasets.dataset import Dataset
    from whylens.core.models.backbone import Backbone
    from whylens.core.storage.artifacts import Artifact
    from whylens.core.subject import Subject

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\+{0,2}")

QuestionKind = Literal["where", "like what", "what if"]


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
        sign_blind: Whether its map shows how strongly the score reacts to a place and not in which
            direction, as the size of a gradient does; then `limits` says "not in which direction".
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
    question_kind: ClassVar[QuestionKind] = "where"
    when: ClassVar[str] = ""
    class_blind: ClassVar[bool] = False
    sign_blind: ClassVar[bool] = False
    artifact_kind: ClassVar[str] = ""
    FitParams: ClassVar[type[BaseModel]] = NoParams
    actions: ClassVar[tuple[str, ...]] = ()
    test_params: ClassVar[BaseModel | None] = None
    test_fit_params: ClassVar[BaseModel | None] = None

    def why_not(self, backbone: Backbone) -> str | None:  # noqa: ARG002 - the default has no condition
        """Return a reason not to run on this model that no `Need` expresses, or None."""
        return None

    @abstractmethod
    def explain(self, subject: Subject, params: P) -> Result | Iterator[Partial]:
        """Return the explanation, or yield it in parts, the last with fraction 1.

        A method that takes more than a moment must yield, about twice a second: Stop, time left
        and deadlines rest on it.

        """

    def fit(self, dataset: Dataset, backbone: Backbone, params: Any) -> Iterator[Progress]:
        """Yield the steps of fitting, the last with the artifact.

        A generator, so that progress, cancel and deadlines work as they do for `explain`.

        Args:
            params: Of type `FitParams`.

        Raises:
            NotImplementedError: The method is fitted with nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} says what it needs but has no fit().")

    def familiarity(self, subject: Subject) -> float | None:  # noqa: ARG002 - the default knows nothing
        """Return how usual the input is among what the method was fitted with, or None.

        The share, 0 to 1, of what it was fitted with that is at least as unlike the rest of it as
        the input is; near 0, the network has learnt nothing like the input.
        """
        return None

    def baselines(self, subject: Subject, params: P) -> Tensor | None:  # noqa: ARG002 - by default none
        """Return (N, C, *S) inputs over whose mean score the map shares out the gain, or None.

        For methods whose values add up to that gain; the metric of completeness asks it.
        """
        return None

    def edit(self, artifact: Artifact, action: str, chosen: tuple[str, ...], text: str) -> Artifact:
        """Return what was fitted, changed by a visitor; `facts["edited"]` says what it did.

        Args:
            artifact: As `fit` made it, or as an earlier edit left it.
            action: One of `actions`.

        Raises:
            InvalidParameter: The choice does not fit the action.
        """
        raise NotImplementedError(f"{type(self).__name__} names actions but has no edited().")


def is_single_step(explainer: Explainer[Any]) -> bool:
    """Return whether a method answers at once rather than in parts."""
    return not inspect.isgeneratorfunction(type(explainer).explain)


def contract_errors(explainer: object) -> list[str]:
    """Return what is wrong with a would-be explainer, one sentence each; empty if all is well."""
    if not isinstance(explainer, Explainer):
        return [f"explainers() returned a {type(explainer).__name__}, not an Explainer."]
    errors = []
    for attribute in ("name", "title", "family", "summary", "limits", "source", "cost"):
        value = getattr(explainer, attribute, None)
        if not isinstance(value, str) or not value.strip():
            errors.append(f"{type(explainer).__name__}.{attribute} must be a non-empty string.")
    name = getattr(explainer, "name", "")
    if isinstance(name, str) and name and not _ID.fullmatch(name):
        errors.append(f"The name {name!r} must be kebab-case: lower-case words joined by '-'.")
    needs = getattr(explainer, "needs", None)
    if not isinstance(needs, frozenset) or not all(isinstance(n, Need) for n in needs):
        errors.append(f"{type(explainer).__name__}.needs must be a frozenset of Need.")
    params = getattr(explainer, "Params", None)
    if not (isinstance(params, type) and issubclass(params, Params)):
        errors.append(f"{type(explainer).__name__}.Params must be a subclass of whylens.Params.")
        return errors
    if explainer.artifact_kind and type(explainer).fit is Explainer.fit:
        errors.append(
            f"{type(explainer).__name__} rests on {explainer.artifact_kind} but has no fit()."
        )
    if explainer.actions and type(explainer).edit is Explainer.edit:
        errors.append(f"{type(explainer).__name__} names actions but has no edited().")
    for attribute, kind in (("test_params", params), ("test_fit_params", explainer.FitParams)):
        if not isinstance(getattr(explainer, attribute), kind | None):
            errors.append(
                f"{type(explainer).__name__}.{attribute} must be a {kind.__name__} or None."
            )
    for field_name, info in params.model_fields.items():
        try:
            control_of(field_name, info)
        except InvalidParameter as problem:
            errors.append(str(problem))
    return errors
