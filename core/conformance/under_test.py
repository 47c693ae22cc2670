"""An explainer under test: asked as the engine asks it, without the engine's protection.

The engine would refuse any answer of an explainer that leaves a mark on the network; here each test
sees its own matter alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel
from torch import Tensor

from whylens.core.conformance.outcome import CheckFailed, NotApplicable
from whylens.core.conformance.toy_inputs import Bumps, Tinted, noise
from whylens.core.conformance.toy_networks import ToyNetworks
from whylens.core.datasets.dataset import Dataset
from whylens.core.errors import CoreError, ExplainerFailed, NeedsNotMet
from whylens.core.explainer import Explainer
from whylens.core.models.backbone import Backbone
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.params import Params
from whylens.core.plugin_calls import plugin_reason, steps_of, validate_params, wrap_plugin_errors
from whylens.core.results import Heatmap, Partial, Result
from whylens.core.storage.artifacts import Artifact
from whylens.core.subject import Subject
from whylens.core.targets import Target, target_of


@dataclass(frozen=True)
class Answer:
    """What an explainer answered with.

    Attributes:
        result: Its last result.
        subject: What it was asked.
        partials: All that it yielded.
    """

    result: Result
    subject: Subject
    partials: tuple[Partial, ...]

    @property
    def heat(self) -> Heatmap:
        """The result, where it is a map.

        Raises:
            NotApplicable: It is none.
        """
        if isinstance(self.result, Heatmap):
            return self.result
        raise NotApplicable("it answers with pictures, not with a map")

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The figures of a result of any kind."""
        return figures(self.result)


def figures(result: Result) -> npt.NDArray[np.float64]:
    """Return the figures of a result of any kind.

    Those of pictures are others where other pictures come, or the same in another order.
    """
    if isinstance(result, Heatmap):
        return np.asarray(result.values, np.float64)
    # White counts as 0: the plots of two signals are white almost everywhere.
    weighted = [
        rank * item.value * (255 - np.asarray(item.image, np.float64))
        for rank, item in enumerate(result.items, 1)
    ]
    return np.sum(weighted, axis=0) if weighted else np.zeros(1)


class ExplainerUnderTest:
    """An explainer under test, what was fitted for it, and what it answered already."""

    def __init__(
        self,
        explainer: Explainer[Any],
        networks: ToyNetworks | None = None,
        *,
        brief: bool = False,
    ) -> None:
        """Take an explainer.

        Args:
            networks: Those that it shares with others; by default its own. An explainer that leaves
                a mark on a network leaves it to all that share it.
            brief: Whether costly tests put fewer questions, on one network each where else they ask
                about every one.
        """
        self.explainer = explainer
        self.brief = brief
        self.network = (networks or ToyNetworks()).get
        self.params: Params = validate_params(
            explainer, explainer.Params, _changed_params(explainer.test_params)
        )
        self._fitted: dict[str, Artifact | NotApplicable] = {}
        self._plain_answers: dict[tuple[int, int | None], Answer] = {}

    def refusal(self, backbone: Backbone) -> str | None:
        """Return why it does not run on a network, or None."""
        unmet = backbone.why_not(self.explainer.needs)
        return unmet or plugin_reason(self.explainer, backbone)

    def subject(
        self,
        backbone: Backbone,
        x: Tensor,
        target: int | Target | None = None,
        *,
        seed: int = 0,
        batch_size: int = 16,
    ) -> Subject:
        """Return a question.

        Args:
            x: (1, C, *S) its input.
            target: A class, what about it, or None for the predicted one.
            batch_size: Largest number of inputs in one forward pass.

        Raises:
            NotApplicable: It does not run on this network.
        """
        reason = self.refusal(backbone)
        if reason:
            raise NotApplicable(f"it refuses the network of this test: {reason}")
        forward_pass = ForwardPass(backbone.prepare(), x.to(backbone.device))
        if not isinstance(target, Target):
            target = target_of(forward_pass.logits[0], target, "logit", None)
        artifact = self.artifact(backbone) if self.explainer.artifact_kind else None
        return Subject(forward_pass, target, batch_size, seed, artifact)

    def artifact(self, backbone: Backbone) -> Artifact:
        """Return what it is fitted with for a network, made from seeded noise.

        Raises:
            NotApplicable: The network takes other inputs, or fitting is refused in words.
            CheckFailed: It fails in any other way, or ends without an artifact.
        """
        key = backbone.identity.digest
        if key not in self._fitted:
            try:
                self._fitted[key] = self._fit(backbone)
            except NotApplicable as refusal:
                self._fitted[key] = refusal
        fitted = self._fitted[key]
        if isinstance(fitted, NotApplicable):
            raise fitted
        return fitted

    def _fit(self, backbone: Backbone) -> Artifact:
        dataset = _dataset_for(backbone)
        values = _changed_params(self.explainer.test_fit_params)
        params = validate_params(self.explainer, self.explainer.FitParams, values)
        artifact = None
        try:
            with wrap_plugin_errors(self.explainer):
                for step in self.explainer.fit(dataset, backbone, params):
                    artifact = step.artifact or artifact
        except ExplainerFailed as exc:
            why = exc.__cause__
            raise CheckFailed(
                f"fit() raised {type(why).__name__}: {why}, on 36 inputs of noise. Refuse what "
                "cannot be fitted by a whylens.CoreError with the reason."
            ) from why
        except CoreError as exc:
            raise NotApplicable(f"it refuses to be fitted for this network: {exc}") from exc
        if artifact is None:
            raise CheckFailed("The last step that fit() yields must carry the artifact.")
        return artifact

    def fails_on_axes_of(self, backbone: Backbone) -> bool:
        """Return whether it fails on a network that takes no pictures: the matter of test 17."""
        if len(backbone.input_spec.size) == 2 or self.refusal(backbone):
            return False
        try:
            self.plain_answer(backbone)
        except CheckFailed:
            return True
        return False

    def steps(self, subject: Subject, params: Params | None = None) -> Iterator[Partial]:
        """Return what it answers in steps, as the engine would take it.

        Raises:
            ExplainerFailed: It raised something that is no `CoreError`, or yielded no `Partial`.
        """
        return steps_of(self.explainer, subject, params or self.params)

    def answer_to(self, subject: Subject, params: Params | None = None) -> Answer:
        """Return the answer to a question.

        Raises:
            NotApplicable: It refuses, in words.
            CheckFailed: It fails in any other way.
        """
        try:
            partials = tuple(self.steps(subject, params))
        except NeedsNotMet as exc:
            raise NotApplicable(f"it refuses the network of this test: {exc}") from exc
        except ExplainerFailed as exc:
            why = exc.__cause__
            raise CheckFailed(
                f"explain() raised {type(why).__name__}: {why}. It must answer this question, or "
                "refuse it by raising whylens.NeedsNotMet with the reason."
            ) from why
        except CoreError as exc:
            raise CheckFailed(f"explain() gave what cannot be shown. {exc}") from exc
        if partials[-1].fraction < 1:
            raise CheckFailed(
                f"explain() ended at a fraction of {partials[-1].fraction:g}. The last Partial "
                "must have fraction 1, or the page waits for more."
            )
        return Answer(partials[-1].result, subject, partials)

    def answer(
        self, backbone: Backbone, x: Tensor, target: int | Target | None = None, **options: int
    ) -> Answer:
        """Return its answer to a question, put as to `subject`; raises as `asked` does."""
        return self.answer_to(self.subject(backbone, x, target, **options))

    def plain_answer(self, backbone: Backbone, target: int | None = None) -> Answer:
        """Return its answer to seeded noise, asked once for each network and class.

        Raises as `asked` does.
        """
        key = id(backbone), target  # the answer holds the network, so that no other has its id
        if key not in self._plain_answers:
            self._plain_answers[key] = self.answer(backbone, noise(backbone.input_spec), target)
        return self._plain_answers[key]

    def needs_places(self) -> None:
        """Raise `NotApplicable` unless a map of it should point at what the score is read from."""
        if self.explainer.class_blind:
            raise NotApplicable("it declares class_blind: it does not ask what the score rests on")
        if self.explainer.question_kind != "where":
            raise NotApplicable(f'it answers "{self.explainer.question_kind}", not "where"')


def _changed_params(params: BaseModel | None) -> dict[str, object]:
    return {} if params is None else params.model_dump(exclude_unset=True)


def _dataset_for(backbone: Backbone) -> Dataset:
    shape = (backbone.input_spec.channels, len(backbone.input_spec.size))
    if shape not in ((3, 2), (2, 1)):
        raise NotApplicable("it is fitted with pictures or signals that this network does not take")
    return Tinted() if shape == (3, 2) else Bumps()
