"""An engine whose work is done in processes that can be killed.

It answers like any engine, but holds no network: whatever needs one is run where the networks are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, TypeVar

from torch import Tensor

from whylens.core.datasets.dataset import Dataset
from whylens.core.datasets.reading import PicturesReader
from whylens.core.engine import Engine
from whylens.core.errors import (
    BadArtifact,
    CoreError,
    ExplainerFailed,
    NeedsNotMet,
    TooSlow,
    WorkerLost,
)
from whylens.core.evaluation.verdict import Verdict
from whylens.core.explainer import Explainer, is_single_step
from whylens.core.explanation import Explanation, ModelCard, Prediction, Question
from whylens.core.models.checkpoints import checkpoint_folders
from whylens.core.plugin_calls import validate_params
from whylens.core.progress import Progress, ProgressCallback, last_of
from whylens.core.registry import Registry
from whylens.core.storage.artifacts import Artifact
from whylens.core.storage.cache import ByteLRU
from whylens.core.storage.memory import memory_for, memory_limit
from whylens.core.workers.failures import Failures, resting_words
from whylens.core.workers.pool import SECONDS_OF_WORK, WorkerPool
from whylens.core.workers.process import MOST_STEP_BYTES, EngineFactory, Work

T = TypeVar("T")
# Whether a method runs on a network, and whether it knows an input, are asked of every method while
# a page waits.
SECONDS_TO_SAY = 10.0
# Judging asks a method many times over, in the background.
SECONDS_OF_JUDGING = 300.0
SECONDS_OF_FITTING = 3600.0
SECONDS_OF_LOADING = 1800.0
MOST_CARDS = 64  # of networks, whose descriptions are kept
TIMES_ITS_COST = 3  # other machines are slower, and busier
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
        self._cards: ByteLRU[str, tuple[ModelCard, float]] = ByteLRU(MOST_CARDS, lambda _: 1)
        self._own: ByteLRU[tuple[str, str, str], Artifact] = ByteLRU(
            memory_for("own"), lambda artifact: artifact.bytes
        )
        self._failures = Failures()
        self._unfamiliar = Failures()  # of those that were asked whether they know an input

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
                work = Work(_load, (name,), tells_progress=True, alone="load")
                seconds = max(self._seconds, SECONDS_OF_LOADING)
                with _loading(name):
                    for _ in self._pool.run(work, seconds=seconds, progress=progress):
                        pass
            with _loading(name):
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

    def unavailable(
        self, model: str, *, visitor: str = "", methods: Iterable[str] | None = None
    ) -> dict[str, str]:
        """Return, for every method that cannot be used on a model, the reason."""
        names = list(self.registry.explainers if methods is None else methods)
        rest = self._failures.resting()
        resting = {name: resting_words(name) for name in names if name in rest}
        own = self._artifacts_of(visitor, model)
        method_names = [name for name in names if name not in {*resting, *own[2]}]
        replies = self._ask_each(_reasons, model, method_names, visitor, model, visitor)
        reasons: dict[str, str] = {}
        for name, reason in replies.items():
            if isinstance(reason, ExplainerFailed):
                self._failures.add(name)
            if reason:
                reasons[name] = f"{reason}"
        return reasons | resting

    def _ask_each(
        self,
        function: Callable[..., Iterator[Any]],
        model: str,
        methods: list[str],
        visitor: str,
        *arguments: Any,
    ) -> dict[str, Any]:
        """Return what each method says to a question, or the `ExplainerFailed` of one that fails.

        One that takes longer than `SECONDS_TO_SAY`, or ends its process, is not asked again, and
        those after it are asked in the next process.

        Args:
            function: Called with an engine, the methods and the arguments, it yields once the
                network is there, and then what one method after the other says. It may end early.
        """
        replies: dict[str, Any] = {}
        while missing_methods := [name for name in methods if name not in replies]:
            names = iter(missing_methods)
            name = None
            steps = self._pool.run(
                Work(function, (missing_methods, *arguments)),
                visitor=visitor,
                quick=True,
                seconds=self._seconds,
                step_seconds=SECONDS_TO_SAY,
            )
            try:
                for step in steps:
                    if name is not None:
                        replies[name] = step
                    name = next(names, None)
            except (WorkerLost, TooSlow, RuntimeError) as exc:
                if name is None:
                    with _loading(model):
                        raise
                words = f"{exc.__cause__ or exc}"
                if isinstance(exc, TooSlow):
                    words = f"it took longer than {exc.seconds:.0f} s to say whether it can be used"
                replies[name] = ExplainerFailed(name, words)
                continue
            return replies
        return replies

    def failures(self) -> dict[str, str]:
        """Return how often methods have failed or taken too long, in words, by name."""
        return self._failures.words()

    def predict(self, question: Question, *, top: int = 5) -> Prediction:
        """Return the most probable classes."""
        return self._ask(Engine.predict, question, visitor=question.visitor, top=top)

    def familiarity(
        self, question: Question, *, methods: Iterable[str] | None = None
    ) -> float | None:
        """Return how usual an input is for a network, from the first method that knows, or None."""
        visitor, model = question.visitor, question.model
        resting = self._failures.resting() | self._unfamiliar.resting()
        explainers = self.registry.explainers
        method_names = [
            name
            for name in (explainers if methods is None else methods)
            if type(explainers[name]).familiarity is not Explainer.familiarity
            and name not in resting
        ]
        own = self._artifacts_of(visitor, model)
        share: float | None = None
        for name, reply in self._ask_each(
            _shares, model, method_names, visitor, question, own
        ).items():
            if isinstance(reply, ExplainerFailed):
                self._failures.add(name, in_a_row=False)
                self._unfamiliar.add(name)
            else:
                share = reply if share is None else share
        return share

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
        quick = is_single_step(explainer)
        steps = self._run_method(work, question, params or {}, quick=quick)
        for answer in steps:
            yield replace(answer, question=question)

    def judge(self, explanation: Explanation) -> Iterator[Explanation]:
        """Yield the explanation with ever more known of whether its map is to be believed."""
        question, method = explanation.question, explanation.method
        own = self._artifacts_of(question.visitor, question.model, method)
        work = Work(_judge, (explanation, own), method, is_background=True)
        for verdict in self._run_method(work, question, explanation.params, quick=False):
            yield replace(explanation, verdict=verdict)

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

        Raises:
            CoreError: Of the kind that says what is wrong.
        """
        arguments = (model, method, dataset, dict(params or {}), visitor)
        work = Work(_fit, arguments, method, alone="fit", most_bytes=_most_fitted())
        steps = self._pool.run(
            work, visitor=visitor, seconds=max(self._seconds, SECONDS_OF_FITTING)
        )
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
        arguments = (model, method, action, chosen, text)
        after = self._ask(edit, *arguments, visitor=visitor, own=own, method=method)
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
        cached = {k[2]: self._own.peek(k) for k in keys if method in ("", k[2])}
        artifacts = {name: artifact for name, artifact in cached.items() if artifact is not None}
        return model, visitor, artifacts

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
        arguments = (function, own, arguments, keywords)
        work = Work(_call, arguments, method, most_bytes=_most_fitted())
        answer: T = last_of(self._pool.run(work, visitor=visitor, quick=True))
        return answer

    def _run_method(
        self, work: Work, question: Question, params: Mapping[str, object], *, quick: bool
    ) -> Iterator[Any]:
        """Yield a method's steps; it rests once it has failed too often."""
        method = work.method
        if method in self._failures.resting():
            raise NeedsNotMet(resting_words(method))
        seconds = max(self._seconds, SECONDS_OF_JUDGING) if work.is_background else self._seconds
        if method in self._costs:
            cost = self._costs[method] * self.forward_seconds(question.model)
            seconds = max(seconds, TIMES_ITS_COST * cost)
        steps = self._pool.run(work, visitor=question.visitor, quick=quick, seconds=seconds)
        try:
            yield from steps
        except CoreError as exc:
            hangs = isinstance(exc, TooSlow) and not work.is_background
            if hangs or (isinstance(exc, ExplainerFailed) and exc.plugin == method):
                # By parameters anybody can make a sound method take any time and memory: so
                # nobody takes it away from the others.
                self._failures.add(method, in_a_row=self._are_defaults(method, params))
            raise
        self._failures.end_row(method)

    def _are_defaults(self, method: str, params: Mapping[str, object]) -> bool:
        explainer = self.registry.explainer(method)
        return bool(validate_params(explainer, explainer.Params, params) == explainer.Params())


def _most_fitted() -> int:
    """Return how many bytes of what was fitted cross at most: as many as are kept."""
    return max(MOST_STEP_BYTES, memory_for("own"))


@contextmanager
def _loading(model: str) -> Iterator[None]:
    """Return a context in which an error of a kind unknown is the network's own."""
    try:
        yield
    except RuntimeError as exc:  # as a process sends whatever is no CoreError
        raise BadArtifact(f"{model} cannot be used here ({exc}). Choose another model.") from exc


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


def _reasons(engine: Engine, methods: list[str], model: str, visitor: str) -> Iterator[str | None]:
    engine.backbone(model)
    yield None
    for name in methods:
        yield engine.unavailable(model, visitor=visitor, methods=[name]).get(name)


def _shares(
    engine: Engine, methods: list[str], question: Question, own: _Own
) -> Iterator[float | None]:
    _put(engine, own)
    engine.subject(question)
    yield None
    for name in methods:
        share = engine.familiarity(question, methods=[name])
        yield share
        if share is not None:
            return


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
    dataset: Dataset | PicturesReader,
    params: Mapping[str, object],
    visitor: str,
) -> Iterator[Progress]:
    yield from engine.fit(model, method, dataset, params, visitor=visitor)
