"""The one way in: questions to answers, for every screen, script and process.

Wires registry, models and subjects; holds no maths and no widgets. Safe under many threads: the
networks are frozen, and a semaphore held by the working thread bounds concurrent work.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from whylens.core.datasets.dataset import Dataset
from whylens.core.datasets.reading import PicturesReader, dataset_of
from whylens.core.errors import (
    NETWORK_ERRORS,
    BadArtifact,
    Busy,
    ExplainerFailed,
    InvalidParameter,
    NeedsNotMet,
)
from whylens.core.evaluation.metric import Case
from whylens.core.evaluation.randomised_weights import randomised_subjects
from whylens.core.evaluation.verdict import judge
from whylens.core.explainer import Explainer, is_single_step
from whylens.core.explanation import Explanation, ModelCard, Prediction, Question
from whylens.core.hookspecs import PROJECT
from whylens.core.inputs.framing import framing_text
from whylens.core.inputs.preprocess import photo_tensor, signal_tensor
from whylens.core.inputs.signal import fit_signal
from whylens.core.inputs.view import View
from whylens.core.models.backbone import Backbone
from whylens.core.models.checkpoints import checkpoint_places
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.models.function_target import function_name, function_target
from whylens.core.models.load import load
from whylens.core.models.public_models import expected_bytes, load_public
from whylens.core.params import Params
from whylens.core.plugin_calls import (
    model_state,
    plugin_reason,
    reason_and_artifact,
    steps_of,
    validate_params,
    wrap_plugin_errors,
)
from whylens.core.progress import Progress, ProgressCallback, last_of
from whylens.core.registry import Registry, load_registry
from whylens.core.results import Heatmap
from whylens.core.storage.artifact_store import ArtifactStore
from whylens.core.storage.artifacts import Artifact
from whylens.core.storage.cache import ByteLRU
from whylens.core.storage.memory import memory_for, release_memory
from whylens.core.subject import Subject
from whylens.core.targets import Target, class_scores, target_of

log = logging.getLogger(__name__)

Loader = Callable[[str, ProgressCallback | None], Backbone]
T = TypeVar("T")
SECONDS_TO_WAIT = 120.0  # for a place to compute in


class Engine:
    """Answers questions; one instance serves all visitors of a process."""

    def __init__(
        self,
        registry: Registry | None = None,
        *,
        loader: Loader | None = None,
        batch_size: int = 16,
        slots: int | None = None,
        model_bytes: int | None = None,
        forward_pass_bytes: int | None = None,
        busy_timeout: float = SECONDS_TO_WAIT,
    ) -> None:
        """Make an engine; nothing is loaded yet.

        Args:
            registry: The explainers; by default all that are found.
            loader: Makes a backbone from a name; by default `whylens.core.models.load.load`.
            batch_size: Largest number of inputs in one forward pass; fewer where a network takes
                more memory than there is.
            slots: How many threads may compute at once; by default one per two cores.
            model_bytes: Budget of loaded models; by default their share of WHYLENS_MEMORY.
            forward_pass_bytes: Budget of what is known of inputs; likewise.
            busy_timeout: Seconds after which a waiting question is told that all slots are taken.
        """
        self.registry = registry or load_registry()
        self._load: Callable[..., Backbone] = load
        self._loader = loader or (lambda name, progress: self._load(name, progress=progress))
        self._expected = (lambda _: 0) if loader else expected_bytes
        self.batch_size = batch_size
        count = slots or max(1, (os.cpu_count() or 2) // 2)
        self._slots = threading.BoundedSemaphore(count)
        # What answers in one step has slots of its own: it never waits for what takes minutes.
        self._quick_slots = threading.BoundedSemaphore(count)
        self.places = count  # how many slow answers are computed at a time
        self._busy_timeout = busy_timeout
        self.models: ByteLRU[str, Backbone] = ByteLRU(
            model_bytes or memory_for("models"), lambda b: b.bytes, self._forget_passes
        )
        self._forward_passes: ByteLRU[tuple[str, str], tuple[ForwardPass, View | None]] = ByteLRU(
            forward_pass_bytes or memory_for("forward passes"), lambda item: item[0].bytes
        )
        # Copies with random weights, for the question whether a map shows what was learnt.
        self.random_networks: ByteLRU[tuple[str, int], Backbone] = ByteLRU(
            memory_for("random models"), lambda b: b.bytes
        )
        self.artifact_store = ArtifactStore(checkpoint_places)

    def backbone(self, name: str, *, progress: ProgressCallback | None = None) -> Backbone:
        """Return a loaded network, from memory if it is there.

        Args:
            name: As in `whylens.core.models.load.load`.
            progress: Called while weights are fetched.
        """
        with torch.inference_mode(False):  # else its weights could never take part in gradients
            return self.models.get(
                name,
                lambda: self._loader(name, progress).prepare(),
                expected=lambda: self._expected(name),
            )

    @property
    def cached_bytes(self) -> int:
        """Bytes of what it keeps for later questions."""
        return sum(c.bytes for c in (self.models, self._forward_passes, self.random_networks))

    def load_public_models_only(self) -> None:
        """From now on load by name only what strangers may: no paths, nothing that is too large.

        A loader of the caller's own decides by itself which names there are.
        """
        self._load = load_public

    def _forget_passes(self, backbone: Backbone) -> None:
        # What is known of an input holds the network that it went through.
        for key in self._forward_passes.cached_keys():
            if key[0] == f"{id(backbone)}":
                self._forward_passes.forget(key)
        release_memory()

    def _batch_size(self, backbone: Backbone) -> int:
        """Return how many inputs one forward pass takes: no more than memory and cache bear."""
        in_memory = memory_for("work") // max(1, backbone.per_input_bytes)
        return max(1, min(self.batch_size, in_memory, backbone.inputs_in_cache))

    def card(self, name: str, *, progress: ProgressCallback | None = None) -> ModelCard:
        """Return what is known of a model, loading it if need be.

        Args:
            progress: Called while weights are fetched.
        """
        return _card_of(self.backbone(name, progress=progress), name)

    def prepare(self, name: str) -> None:
        """Load a network ahead of the first question that takes long.

        Raises:
            CoreError: It cannot be loaded.
        """
        self.backbone(name)

    def unavailable(
        self, model: str, *, visitor: str = "", methods: Iterable[str] | None = None
    ) -> dict[str, str]:
        """Return, for every method that cannot be used on a model, the reason.

        Args:
            visitor: One whose own artifacts count, or "".
            methods: Of these; by default of all.
        """
        backbone, explainers = self.backbone(model), self.registry.explainers
        reasons = {
            name: self._reason_and_artifact(explainers[name], backbone, visitor)[0]
            for name in (explainers if methods is None else methods)
        }
        return {name: reason for name, reason in reasons.items() if reason}

    def _reason_and_artifact(
        self, explainer: Explainer[Any], backbone: Backbone, visitor: str
    ) -> tuple[str | None, Artifact | None]:
        return reason_and_artifact(explainer, backbone, self.artifact_store, visitor)

    def predict(self, question: Question, *, top: int = 5) -> Prediction:
        """Return the most probable classes."""
        backbone = self.backbone(question.model)
        began = time.perf_counter()
        forward_pass, _ = self._forward_pass(question, backbone)
        classes = class_scores(
            forward_pass.logits[0], backbone.labels, backbone.outputs, backbone.unit, top=top
        )
        seconds = time.perf_counter() - began
        return Prediction(question.model, classes, seconds, backbone.outputs)

    def familiarity(
        self, question: Question, *, methods: Iterable[str] | None = None
    ) -> float | None:
        """Return how usual an input is for a network, from the first method that knows, or None.

        The share, 0 to 1, of what the method was fitted with that is at least as unlike the rest of
        it as this input is.

        Args:
            methods: Those that are asked; by default all. One that fails knows nothing.
        """
        backbone, explainers = self.backbone(question.model), self.registry.explainers
        for name in explainers if methods is None else methods:
            explainer = explainers[name]
            if type(explainer).familiarity is Explainer.familiarity:
                continue
            reason, artifact = self._reason_and_artifact(explainer, backbone, question.visitor)
            if reason is not None:
                continue
            subject = replace(self.subject(question), stored_artifact=artifact)
            try:
                with self.slot(quick=True), wrap_plugin_errors(explainer):
                    share = explainer.familiarity(subject)
            except ExplainerFailed:
                log.exception("%s knows no input", name)  # the answer is of use without
                continue
            if share is not None:
                return share
        return None

    def forward_seconds(self, model: str) -> float:
        """Return how long one forward pass of a network takes here, measured at the first call."""

        def measure(backbone: Backbone) -> float:
            x, times = backbone.probe_inputs()[:1], []
            for _ in range(3):
                began = time.perf_counter()
                with self.slot(quick=True):
                    backbone.fast_logits(x)
                times.append(time.perf_counter() - began)
            return min(times)

        return self.backbone(model).once("forward seconds", measure)

    def subject(self, question: Question) -> Subject:
        """Return a question with its forward pass, for whoever asks more of the same input.

        It carries nothing that was fitted.
        """
        backbone = self.backbone(question.model)
        forward_pass, _ = self._forward_pass(question, backbone)
        target = _target(question, backbone, forward_pass)
        return Subject(forward_pass, target, self._batch_size(backbone), question.seed)

    def explain(
        self,
        question: Question,
        method: str,
        params: Mapping[str, object] | None = None,
        *,
        function: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[Explanation]:
        """Yield answers, each better than the one before; the last is finished.

        Closing the iterator stops the work at once; what was yielded stays valid.

        Args:
            params: Parameters by name; the defaults where absent.
            function: From the network's (N, C) outputs to the (N,) numbers that are explained, in
                place of a class.

        Raises:
            CoreError: Of the kind that says what is wrong: name, parameter, need, input or plugin.
        """
        explainer = self.registry.explainer(method)
        parameters: Params = validate_params(explainer, explainer.Params, params or {})
        backbone = self.backbone(question.model)
        if question.signal is not None and len(backbone.input_spec.size) == 1:
            fitted_signal = fit_signal(
                question.signal, backbone.input_spec.channels, backbone.input_spec.size[0]
            )
            question = replace(question, signal=fitted_signal)
        reason, artifact = self._reason_and_artifact(explainer, backbone, question.visitor)
        if reason:
            raise NeedsNotMet(f"{explainer.title} is not available on {backbone.name}: {reason}")
        began = time.perf_counter()
        forward_pass, view = self._forward_pass(question, backbone)
        if function is None:
            target = _target(question, backbone, forward_pass)
            names = tuple(
                backbone.labels[i] for i in (target.index, target.versus) if i is not None
            )
        else:
            target = function_target(function, explainer, backbone, forward_pass.logits)
            names = (function_name(function),)
        batch_size = self._batch_size(backbone)
        subject = Subject(forward_pass, target, batch_size, question.seed, artifact)
        entry = self.registry.entries[method]
        # Built-ins are held to this by tests; strangers' values are summed up as well.
        stranger = entry.distribution != PROJECT
        before = model_state(backbone, values=stranger)
        seconds = time.perf_counter() - began
        card = _card_of(backbone, question.model)
        probability = None
        if target.quantity not in ("value", "function"):
            probabilities = backbone.probabilities(forward_pass.logits)[0]
            probability = float(probabilities[target.index])
        work = steps_of(explainer, subject, parameters)
        try:
            while True:
                with self.slot(quick=is_single_step(explainer)):
                    began = time.perf_counter()
                    partial = next(work, None)
                    seconds += time.perf_counter() - began
                if partial is None:
                    return
                yield Explanation(
                    method=method,
                    title=explainer.title,
                    plugin=f"{entry.distribution} {entry.version}",
                    model=card,
                    question=question,
                    target=target,
                    labels=names,
                    score=subject.score,
                    probability=probability,
                    result=partial.result,
                    view=view,
                    params=parameters.model_dump(),
                    fraction=partial.fraction,
                    seconds=seconds,
                    finished=partial.fraction >= 1,
                    reference=explainer.source,
                )
        finally:
            work.close()
            if model_state(backbone, values=stranger) != before:
                # The copy in memory can no longer be trusted; the next question loads it anew.
                self.models.forget(question.model)
                self._forward_passes.forget(_input_key(question, backbone))
                raise ExplainerFailed(method, RuntimeError("it changed the model"))

    def case(self, explanation: Explanation, *, mask: Tensor | None = None) -> Case:
        """Return what metrics ask of a map: its question, and its method for other questions.

        Args:
            mask: (*S) bool on the input, where the evidence is known to lie.

        Raises:
            NeedsNotMet: The result is no map.
            CoreError: The network or the method is gone.
        """
        if not isinstance(explanation.result, Heatmap):
            raise NeedsNotMet(f"{explanation.title} shows examples: there is no map to score.")
        explainer = self.registry.explainer(explanation.method)
        params = validate_params(explainer, explainer.Params, explanation.params)
        subject = self.subject(explanation.question)
        backbone, visitor = subject.backbone, explanation.question.visitor
        _, artifact = self._reason_and_artifact(explainer, backbone, visitor)
        subject = replace(subject, target=explanation.target, stored_artifact=artifact)

        def explain(changed: Subject) -> Heatmap:
            last = last_of(steps_of(explainer, changed, params))
            if not isinstance(last.result, Heatmap):
                raise ExplainerFailed(explainer.name, TypeError("it gave a map, and now none"))
            return last.result

        with wrap_plugin_errors(explainer):
            baselines = explainer.baselines(subject, params)
        key = f"scores of {explainer.name} {params.model_dump_json()}"
        return Case(
            subject,
            explanation.result,
            explain,
            randomised_subjects(subject, self.random_networks),
            mask,
            baseline=baselines,
            class_blind=explainer.class_blind,
            cache=backbone.once(key, lambda _: {}),
        )

    def judge(self, explanation: Explanation) -> Iterator[Explanation]:
        """Yield the explanation with ever more known of whether its map is to be believed.

        The last has a verdict with its word. Closing the iterator stops the work at once.

        Raises:
            CoreError: As `case`.
        """
        explainer = self.registry.explainer(explanation.method)
        work = judge(self.case(explanation), repeats=is_single_step(explainer))
        while True:
            with self.slot():
                step = next(work, None)
            if step is None:
                return
            yield replace(explanation, verdict=step)

    def fit(
        self,
        model: str,
        method: str,
        dataset: Dataset | PicturesReader,
        params: Mapping[str, object] | None = None,
        *,
        visitor: str = "",
    ) -> Iterator[Progress]:
        """Yield the steps of fitting a method to pictures; the last leaves the artifact in place.

        Closing the iterator stops the work and leaves what was there before.

        Args:
            params: Of its `FitParams`, by name.
            visitor: For whom it is; "" writes it for all, beside the checkpoint.

        Raises:
            CoreError: Of the kind that says what is wrong.
        """
        explainer = self.registry.explainer(method)
        if not explainer.artifact_kind:
            raise NeedsNotMet(f"{explainer.title} needs nothing but the model: just explain.")
        parameters = validate_params(explainer, explainer.FitParams, params or {})
        backbone = self.backbone(model)
        with wrap_plugin_errors(explainer):
            reason = backbone.why_not(explainer.needs) or plugin_reason(explainer, backbone)
        if reason:
            raise NeedsNotMet(f"{explainer.title} is not available on {backbone.name}: {reason}")
        pictures = yield from dataset_of(dataset)
        work = explainer.fit(pictures, backbone, parameters)
        while True:
            with self.slot(), wrap_plugin_errors(explainer):
                step = next(work, None)
            if step is None:
                return
            if step.artifact is not None:
                if visitor:
                    self.artifact_store.put_for_visitor(explainer, backbone, visitor, step.artifact)
                else:
                    self.artifact_store.save(explainer, backbone, step.artifact)
            yield replace(step, pictures=len(pictures.items))

    def edit(
        self,
        model: str,
        method: str,
        action: str,
        chosen: tuple[str, ...],
        text: str = "",
        *,
        visitor: str,
    ) -> Artifact:
        """Return what was fitted, changed for one visitor; later questions of theirs use it.

        Raises:
            CoreError: Of the kind that says what is wrong.
        """
        explainer, backbone = self.registry.explainer(method), self.backbone(model)
        if action not in explainer.actions:
            raise InvalidParameter(
                f"{explainer.title} has no action {action!r}. It has: "
                f"{', '.join(explainer.actions) or 'none'}."
            )
        before = self.artifact_store.get(explainer, backbone, visitor)
        with self.slot(), wrap_plugin_errors(explainer):
            after = explainer.edit(before, action, chosen, text)
        self.artifact_store.put_for_visitor(explainer, backbone, visitor, after)
        return after

    def artifact(self, model: str, method: str, *, visitor: str = "") -> Artifact:
        """Return what a method was fitted with for a network.

        Args:
            visitor: One whose own comes first, or "".

        Raises:
            CoreError: There is nothing, or it is damaged.
        """
        explainer = self.registry.explainer(method)
        return self.artifact_store.get(explainer, self.backbone(model), visitor)

    def run(
        self,
        work: Callable[..., Iterator[T]],
        *arguments: Any,
        visitor: str = "",  # noqa: ARG002 - for engines that can stop what a visitor asked for
        quick: bool = False,  # noqa: ARG002 - for engines that have processes for it
        seconds: float = 0.0,  # noqa: ARG002 - for engines that end what takes too long
    ) -> Iterator[T]:
        """Yield what a function yields that is called with the engine where the networks are.

        Args:
            work: A function of a module.
            arguments: Its others, plain data.
            visitor: Who asks, or "".
            quick: For what takes well below a second.
            seconds: How long it may take, where that is more than for an answer.
        """
        return work(self, *arguments)

    def forget(self, visitor: str) -> None:
        """Drop all that belongs to one visitor."""
        self.artifact_store.forget(visitor)

    def stop(self, visitor: str, method: str = "") -> None:
        """End what is computed for a visitor, where that can be: here, by closing the iterator."""

    def ahead(self, method: str) -> int:  # noqa: ARG002 - for engines that have a line
        """Return how many answers go before one by a method that is asked for now: here, none."""
        return 0

    def failures(self) -> dict[str, str]:
        """Return what is to be said of methods that failed, by name: here, none."""
        return {}

    def close(self) -> None:
        """End what computes for it beside this process: here there is nothing."""

    def _forward_pass(
        self, question: Question, backbone: Backbone
    ) -> tuple[ForwardPass, View | None]:
        def make() -> tuple[ForwardPass, View | None]:
            view = None
            if question.photo is not None and question.signal is None:
                x, view = photo_tensor(question.photo, backbone.input_spec)
            else:
                x = signal_tensor(np.asarray(question.array, np.float32), backbone.input_spec)
            with self.slot(quick=True):
                try:
                    return ForwardPass(backbone, x.to(backbone.device)), view
                except NETWORK_ERRORS as exc:
                    raise BadArtifact(
                        f"{backbone.name} failed on this input ({type(exc).__name__}: {exc}). "
                        "Choose another model."
                    ) from exc

        with torch.inference_mode(False):
            return self._forward_passes.get(_input_key(question, backbone), make)

    @contextmanager
    def slot(self, *, quick: bool = False) -> Iterator[None]:
        """Return a context in which the calling thread may compute.

        Args:
            quick: For what takes well below a second.

        Raises:
            Busy: All slots stayed taken.
        """
        slots = self._quick_slots if quick else self._slots
        if not slots.acquire(timeout=self._busy_timeout):
            raise Busy(
                f"All working slots stayed taken for {self._busy_timeout:.0f} s. Try again shortly."
            )
        try:
            with torch.inference_mode(False):  # what is computed is kept for whoever asks next
                yield
        finally:
            slots.release()


def _card_of(backbone: Backbone, name: str) -> ModelCard:
    identity = backbone.identity
    return ModelCard(
        name=name,
        digest=identity.digest,
        licence=identity.licence,
        source=identity.source,
        trained=identity.trained,
        notes=identity.notes,
        labels=backbone.labels,
        input=backbone.input_spec.model_dump(mode="json"),
        outputs=backbone.outputs,
        unit=backbone.unit,
        output=identity.output,
    )


def _target(question: Question, backbone: Backbone, forward_pass: ForwardPass) -> Target:
    return target_of(
        forward_pass.logits[0],
        question.target,
        question.quantity,
        question.versus,
        backbone.outputs,
        backbone.unit,
    )


def _input_key(question: Question, backbone: Backbone) -> tuple[str, str]:
    framing = framing_text(question.photo.framing) if question.photo is not None else ""
    return f"{id(backbone)}", f"{question.digest()} {framing}"
