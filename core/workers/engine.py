"""An engine whose work is done in processes that can be killed.

It answers like any engine, but holds no network: whatever needs one is run where the networks are.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, TypeVar

from torch import Tensor

from whylens.core.datasets.dataset import Dataset
from whylens.core.engine import Engine
from whylens.core.errors import CoreError, NeedsNotMet, TooSlow
from whylens.core.evaluation.verdict import Verdict
from whylens.core.explainer import is_single_step
from whylens.core.explanation import Explanation, ModelCard, Prediction, Question
from whylens.core.models.checkpoints import checkpoint_folders
from whylens.core.progress import Progress, ProgressCallback, last_of
from whylens.core.registry import Registry
from whylens.core.storage.artifacts import Artifact
from whylens.core.storage.cache import ByteLRU
from whylens.core.storage.memory import memory_for, memory_limit
from whylens.core.workers.pool import SECONDS_OF_WORK, WorkerPool
from whylens.core.workers.process import EngineFactory, Work

T = TypeVar("T")
# A method that ended its process or its time so often in a row is not asked for a while: somebody
# may have asked for more than any machine can do.
FAILURES_IN_A_ROW = 3
REST_SECONDS = 600.0
# Judging asks a method many times over, in the background.
SECONDS_OF_JUDGING = 300.0
# A network, a visitor, and what was fitted to it for them, by method.
_Own = tuple[str, str, Mapping[str, Artifact]]


class WorkerEngine(Engine):
    """Answers questions by processes of its own; one instance serves all visitors of a page."""

    def __init__(
        self,
        factory: EngineFactory = Engine,
        registry: Registry | None = None,
        *,
        size: int = 1,
        memory: int | None = None,
        seconds: float = SECONDS_OF_WORK,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        """Make an engine; its processes start with the first question.

        Args:
            factory: A function of a module, which makes the engine of a process.
            registry: The same explainers as those of the processes; by default all that are found.
            size: Processes for quick work, and again for slow work.
            memory: Bytes that all of them may take for their networks and their work; by default
                WHYLENS_MEMORY.
            seconds: How long an answer may take.
            costs: What methods are known to take, by name, in forward passes: a method may take
                three times as long where that is more.
        """
        super().__init__(registry)
        self.places, self.factory = size, factory
        self._pool = WorkerPool(factory, size=size, memory=memory or memory_limit())
        self._seconds, self._costs = seconds, costs or {}
        self._cards: ByteLRU[str, tuple[ModelCard, float]] = ByteLRU(64, lambda _: 1)
        self._own: ByteLRU[tuple[str, str, str], Artifact] = ByteLRU(
            memory_for("own"), lambda artifact: artifact.bytes
        )
        self._failed: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()  # in a row
        self._failed_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the processes."""
        self._pool.close()

    def load_public_models_only(self) -> None:
        """From now on load by name only what strangers may; before the first question."""
        self._pool.public = True

    def stop(self, visitor: str, method: str = "") -> None:
        """End what is being computed for a visitor.

        Args:
            method: Only by this method; "" is all.
        """
        self._pool.stop(visitor, method)

    def ahead(self, method: str) -> int:
        """Return how many answers go before one by a method that is asked for now."""
        return self._pool.ahead(quick=is_single_step(self.registry.explainer(method)))

    def run(
        self,
        work: Callable[..., Iterator[T]],
        *arguments: Any,
        visitor: str = "",
        quick: bool = False,
        seconds: float = 0.0,
    ) -> Iterator[T]:
        """Yield what a function of a module yields in a process, called with the engine there.

        Args:
            arguments: Its others; they and the steps are copied between the processes.
            quick: For what takes well below a second.
            seconds: How long it may take, where that is more than for an answer.

        Raises:
            CoreError: What the function raised; or it took too long, or the process was lost.
        """
        seconds = max(self._seconds, seconds)
        return self._pool.run(Work(work, arguments), visitor=visitor, quick=quick, seconds=seconds)

    def backbone(self, name: str, *, progress: ProgressCallback | None = None) -> NoReturn:  # noqa: ARG002
        """Raise RuntimeError: the networks are elsewhere, where `run` takes what needs one."""
        raise RuntimeError(f"The network {name} is in another process: use run()")

    def card(self, name: str, *, progress: ProgressCallback | None = None) -> ModelCard:
        """Return what is known of a model, loading it if need be."""
        return self._card(name, progress)[0]

    def _card(self, name: str, progress: ProgressCallback | None = None) -> tuple[ModelCard, float]:
        def ask() -> tuple[ModelCard, float]:
            if name not in checkpoint_folders():
                # Fetching weights takes minutes: it is no quick work.
                work = Work(_load, (name,), tells_progress=True)
                seconds = max(self._seconds, 1800.0)
                for _ in self._pool.run(work, seconds=seconds, progress=progress):
                    pass
            return self._ask(Engine.card, name), self._ask(Engine.forward_seconds, name)

        return self._cards.get(name, ask)

    def prepare(self, name: str) -> None:
        """Load a network ahead of the first question that takes long.

        Raises:
            CoreError: It cannot be loaded.
        """
        for _ in self._pool.run(Work(_load, (name,), tells_progress=True, is_background=True)):
            pass

    def forward_seconds(self, model: str) -> float:
        """Return how long one forward pass of a network takes here, measured at the first call."""
        return self._card(model)[1]

    def unavailable(self, model: str, *, visitor: str = "") -> dict[str, str]:
        """Return, for every method that cannot be used on a model, the reason."""
        reasons = self._ask(Engine.unavailable, model, visitor=visitor)
        _, _, own = self._artifacts_of(visitor, model)
        reasons = {name: reason for name, reason in reasons.items() if name not in own}
        return reasons | {name: _resting_words(name) for name in self._resting()}

    def _resting(self) -> set[str]:
        now = time.monotonic()
        with self._lock:
            return {
                name
                for name, count in self._failures.items()
                if count >= FAILURES_IN_A_ROW and now - self._failed_at[name] < REST_SECONDS
            }

    def failures(self) -> dict[str, str]:
        """Return how often methods have ended their process or their time, in words, by name."""
        resting = self._resting()
        with self._lock:
            return {
                name: f"{count}; resting" if name in resting else f"{count}"
                for name, count in self._failed.items()
            }

    def predict(self, question: Question, *, top: int = 5) -> Prediction:
        """Return the most probable classes."""
        return self._ask(Engine.predict, question, visitor=question.visitor, top=top)

    def familiarity(self, question: Question) -> float | None:
        """Return how usual an input is for a network, from the first method that knows, or None."""
        visitor = question.visitor
        own = self._artifacts_of(visitor, question.model)
        return self._ask(Engine.familiarity, question, visitor=visitor, own=own)

    def explain(
        self,
        question: Question,
        method: str,
        params: Mapping[str, object] | None = None,
        *,
        function: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[Explanation]:
        """Yield answers as Engine does; closing the iterator ends the work.

        Raises:
            CoreError: As in Engine; or the method took too long, or ended its process.
        """
        if function is not None:
            raise NeedsNotMet("A function of the outputs is explained in its own process only.")
        explainer = self.registry.explainer(method)
        own = self._artifacts_of(question.visitor, question.model, method)
        work = Work(_explain, (question, method, dict(params or {}), own), method)
        steps = self._run_method(work, question, quick=is_single_step(explainer))
        for answer in steps:
            yield replace(answer, question=question)

    def judge(self, explanation: Explanation) -> Iterator[Explanation]:
        """Yield the explanation with ever more known of whether its map is to be believed."""
        question, method = explanation.question, explanation.method
        own = self._artifacts_of(question.visitor, question.model, method)
        work = Work(_judge, (explanation, own), method, is_background=True)
        for verdict in self._run_method(work, question, quick=False):
            yield replace(explanation, verdict=verdict)

    def fit(
        self,
        model: str,
        method: str,
        dataset: Dataset,
        params: Mapping[str, object] | None = None,
        *,
        visitor: str = "",
    ) -> Iterator[Progress]:
        """Yield the steps of fitting a method to pictures; the last leaves the artifact in place.

        Raises:
            CoreError: Of the kind that says what is wrong.
        """
        work = Work(_fit, (model, method, dataset, dict(params or {}), visitor), method)
        steps = self._pool.run(work, visitor=visitor, seconds=max(self._seconds, 3600.0))
        for step in steps:
            if step.artifact is not None and visitor:
                self._own.put((visitor, model, method), step.artifact)
            yield step

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
        own = self._artifacts_of(visitor, model, method)
        edit = partial(Engine.edit, visitor=visitor)
        asked = (model, method, action, chosen, text)
        after = self._ask(edit, *asked, visitor=visitor, own=own, method=method)
        self._own.put((visitor, model, method), after)
        return after

    def artifact(self, model: str, method: str, *, visitor: str = "") -> Artifact:
        """Return what a method was fitted with for a network.

        Raises:
            CoreError: There is nothing, or it is damaged.
        """
        _, _, own = self._artifacts_of(visitor, model, method)
        if method in own:
            return own[method]
        return self._ask(Engine.artifact, model, method)

    def forget(self, visitor: str) -> None:
        """Drop all that belongs to one visitor, and end what is being computed for them."""
        self.stop(visitor)
        for key in self._own.cached_keys():
            if key[0] == visitor:
                self._own.forget(key)

    def _artifacts_of(self, visitor: str, model: str, method: str = "") -> _Own:
        keys = [k for k in self._own.cached_keys() if k[:2] == (visitor, model) and visitor]
        own = {k[2]: self._own.peek(k) for k in keys if method in ("", k[2])}
        there = {name: artifact for name, artifact in own.items() if artifact is not None}
        return model, visitor, there

    def _ask(
        self,
        function: Callable[..., T],
        *arguments: Any,
        visitor: str = "",
        own: _Own | None = None,
        method: str = "",
        **keywords: Any,
    ) -> T:
        """Return what a method of an engine returns, called on that of a process for quick work.

        Args:
            own: As `_artifacts_of` returns it, where it matters.
            method: The method that it runs, for messages.
        """
        work = Work(_call, (function, own, arguments, keywords), method)
        answer: T = last_of(self._pool.run(work, visitor=visitor, quick=True))
        return answer

    def _run_method(self, work: Work, question: Question, *, quick: bool) -> Iterator[Any]:
        """Yield a method's steps; it rests once it has ended its process too often."""
        method = work.method
        if method in self._resting():
            raise NeedsNotMet(_resting_words(method))
        seconds = max(self._seconds, SECONDS_OF_JUDGING) if work.is_background else self._seconds
        if method in self._costs:
            cost = self._costs[method] * self.forward_seconds(question.model)
            seconds = max(seconds, 3 * cost)
        steps = self._pool.run(work, visitor=question.visitor, quick=quick, seconds=seconds)
        try:
            yield from steps
        except CoreError as exc:
            hangs = isinstance(exc, TooSlow) and not work.is_background
            if hangs or exc.__cause__ is not None:
                with self._lock:
                    self._failures[method] += 1
                    self._failed[method] += 1
                    self._failed_at[method] = time.monotonic()
            raise
        with self._lock:
            self._failures[method] = 0


def _resting_words(method: str) -> str:
    return (
        f"{method!r} rests: {FAILURES_IN_A_ROW} times in a row it ended its process or took too "
        f"long. It is asked again {REST_SECONDS / 60:.0f} minutes later; its owner is "
        "named under Plugins."
    )


# What follows runs where the networks are. Answers go back without the input that came with the
# question: it may be large, and is still where it came from.
_NOTHING = Question("")


def _put(engine: Engine, own: _Own) -> None:
    model, visitor, artifacts = own
    for name, artifact in artifacts.items():
        explainer = engine.registry.explainer(name)
        engine.artifact_store.put_for_visitor(explainer, engine.backbone(model), visitor, artifact)


def _load(engine: Engine, name: str, progress: ProgressCallback) -> Iterator[ModelCard]:
    yield engine.card(name, progress=progress)


def _call(
    engine: Engine,
    function: Callable[..., T],
    own: _Own | None,
    arguments: tuple[Any, ...],
    keywords: Mapping[str, Any],
) -> Iterator[T]:
    if own is not None:
        _put(engine, own)
    yield function(engine, *arguments, **keywords)


def _explain(
    engine: Engine, question: Question, method: str, params: Mapping[str, object], own: _Own
) -> Iterator[Explanation]:
    _put(engine, own)
    for answer in engine.explain(question, method, params):
        yield replace(answer, question=_NOTHING)


def _judge(engine: Engine, explanation: Explanation, own: _Own) -> Iterator[Verdict | None]:
    _put(engine, own)
    for answer in engine.judge(explanation):
        yield answer.verdict


def _fit(
    engine: Engine,
    model: str,
    method: str,
    dataset: Dataset,
    params: Mapping[str, object],
    visitor: str,
) -> Iterator[Progress]:
    yield from engine.fit(model, method, dataset, params, visitor=visitor)
