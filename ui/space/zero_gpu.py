"""Where the page computes: in working processes or, on a ZeroGPU Space, on a lent GPU.

The only place that knows of Hugging Face's `spaces` package. Elsewhere, and wherever no GPU can be
had, the processor computes: nothing else depends on a GPU.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import gradio as gr
import torch

from whylens.core.engine import Engine
from whylens.core.errors import CoreError
from whylens.core.explainer import is_single_step
from whylens.core.explanation import Explanation, Question
from whylens.core.models.load import load
from whylens.core.registry import Registry, load_registry
from whylens.core.workers.engine import WorkerEngine
from whylens.core.workers.plugin_trial import harmful_plugins

log = logging.getLogger(__name__)
F = TypeVar("F", bound=Callable[..., Any])
GpuDecorator = Callable[[F], F]

CORES_VARIABLE = "CPU_CORES"  # set by Spaces: the machine has more cores than a Space may use
WORKERS_VARIABLE = "WHYLENS_WORKERS"  # processes for quick work, and again for slow work
ZERO_GPU_VARIABLE = "SPACES_ZERO_GPU"
_UNBOUNDED = (
    "%s, so all is computed in the process that serves: no answer has a deadline or a bound of "
    "memory of its own, plugins are not tried out first, and one that crashes or hangs ends the "
    "page for everybody. %s"
)
# A visitor's daily two minutes must have this much left; slow methods take seconds.
GPU_SECONDS = 30


def local_engine(costs: Mapping[str, float] | None = None) -> Engine:
    """Return the engine that suits this machine: working processes, or a lent GPU where lent.

    Where WHYLENS_WORKERS is 0, all is computed in this process. Whoever sets it is served so, on a
    public page as well: it means nothing else. But it says at the start what is not bounded then.

    Args:
        costs: What methods are known to take, by name, in forward passes.
    """
    workers = _workers()
    if on_zero_gpu():
        log.warning(_UNBOUNDED, "ZeroGPU lends its GPU to one process", "Take sound plugins only.")
        slots = _use_allotted_cores()
        return ZeroGpuEngine(on_gpu=gpu_decorator(GPU_SECONDS), slots=slots)
    if workers == 0:
        remedy = "Do not set it where strangers are served."
        log.warning(_UNBOUNDED, f"{WORKERS_VARIABLE} is 0", remedy)
        return engine_in_process()
    size = workers or _default_slots()
    harmful = harmful_plugins()
    factory = partial(engine_in_process, harmful)
    return WorkerEngine(factory, load_registry(blocked=harmful), size=size, costs=costs)


def _workers() -> int | None:
    text = os.environ.get(WORKERS_VARIABLE, "").strip()
    if text and not text.isdecimal():
        log.warning("%s is %r, which is no number; it is ignored", WORKERS_VARIABLE, text)
    return int(text) if text.isdecimal() else None


def engine_in_process(blocked: Mapping[str, str] | None = None) -> Engine:
    """Return an engine that uses the allotted cores of this process.

    Args:
        blocked: Entry points to leave out, and why.
    """
    return Engine(load_registry(blocked=blocked), slots=_use_allotted_cores())


def _use_allotted_cores() -> int | None:
    cores = allotted_cores()
    if cores is None:
        return None
    torch.set_num_threads(cores)
    return max(1, cores // 2)


def _default_slots() -> int:
    return max(1, (allotted_cores() or os.cpu_count() or 2) // 2)


def allotted_cores() -> int | None:
    """Return how many cores CPU_CORES allots, at least one; None where it says nothing."""
    text = os.environ.get(CORES_VARIABLE, "").strip()
    try:
        return max(1, int(float(text))) if text else None
    except (ValueError, OverflowError):
        log.warning("%s is %r, which is no number; it is ignored", CORES_VARIABLE, text)
        return None


def on_zero_gpu() -> bool:
    """Return whether this is a Space that lends a GPU call by call."""
    return os.environ.get(ZERO_GPU_VARIABLE, "").strip().lower() in ("1", "t", "true")


def gpu_decorator(seconds: int) -> GpuDecorator[Any]:
    """Return the decorator that runs a generator on a lent GPU; without `spaces` the identity."""
    try:
        from spaces import GPU
    except ImportError:
        return lambda function: function
    decorator: GpuDecorator[Any] = GPU(duration=seconds)
    return decorator


class ZeroGpuEngine(Engine):
    """An engine that computes slow methods on a GPU lent for each question.

    Quick methods answer on the processor before a GPU could be lent, and cost visitors nothing of
    their daily share. What rests on a visitor's own pictures stays here, where those pictures are.
    """

    def __init__(
        self,
        registry: Registry | None = None,
        *,
        on_gpu: GpuDecorator[Any],
        device: str = "cuda",
        slots: int | None = None,
    ) -> None:
        """Make an engine; nothing is lent yet.

        Args:
            on_gpu: `spaces.GPU`, or what does the same.
        """
        super().__init__(registry, slots=slots)
        self._explain_on_gpu = on_gpu(_GpuWorker(self.registry, device).answers)

    def explain(
        self,
        question: Question,
        method: str,
        params: Mapping[str, object] | None = None,
        *,
        function: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> Iterator[Explanation]:
        """Yield answers as Engine does; where no GPU can be had, from the processor.

        Raises:
            CoreError: As in Engine.
        """
        explainer = self.registry.explainer(method)
        slow = not is_single_step(explainer) and not explainer.artifact_kind
        if slow and function is None:  # a function stays in its own process
            work = self._explain_on_gpu(question, method, dict(params or {}))
            try:
                while True:
                    try:
                        answer = next(work, None)
                    except gr.Error as exc:  # the only kind that `spaces` raises
                        log.warning("No GPU for %s: %s", method, exc.message)
                        gr.Warning(
                            f"{exc.message} The processor computes instead, which takes longer."
                        )
                        break
                    if answer is None:
                        return
                    if isinstance(answer, str):
                        raise CoreError(answer)
                    yield answer
            finally:
                work.close()
        yield from super().explain(question, method, params, function=function)


class _GpuWorker:
    """Answers in the process that holds the GPU.

    That process is forked while other threads may hold locks of the page's engine, which nobody
    would ever release there. It makes an engine of its own instead.
    """

    def __init__(self, registry: Registry, device: str) -> None:
        self._registry, self._device = registry, device
        self._engine: Engine | None = None

    def answers(
        self, question: Question, method: str, params: dict[str, object]
    ) -> Iterator[Explanation | str]:
        # An OpenMP pool does not survive a fork: more than one thread would wait for ever.
        torch.set_num_threads(1)
        if self._engine is None:
            device = self._device
            self._engine = Engine(
                self._registry,
                loader=lambda name, progress: load(name, progress=progress, device=device),
            )
        try:
            yield from self._engine.explain(question, method, params)
        except CoreError as exc:
            # `spaces` carries an error's kind across, but not what it says.
            yield str(exc)
