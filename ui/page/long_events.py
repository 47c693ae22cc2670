"""How the page's long events end: done, failed or stopped, each with its word in the status."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

import gradio as gr
from gradio.components import Component
from gradio.context import get_blocks_context
from gradio.events import Dependency

from whylens.core.engine import Engine
from whylens.core.errors import WorkStopped
from whylens.core.explainer import Explainer, is_single_step
from whylens.ui.page.session import PRIVATE, errors_as_messages, visitor_id

Work = TypeVar("Work", bound=Callable[..., Iterator[Any]])
T = TypeVar("T")

# How a status begins that says why something failed.
FAILED = "That did not work. "
# How many events of one kind run at a time, and how many of what is done beside the answers.
MOST_EVENTS, MOST_EVENTS_BESIDE = 4, 2
# For events that compute: a trigger runs once at a time. What answers in one step has a queue of
# its own, so that nobody waits for a map of 30 ms behind one of a minute.
QUICK: dict[str, Any] = {**PRIVATE, "concurrency_id": "quick", "concurrency_limit": MOST_EVENTS}
SLOW: dict[str, Any] = {**PRIVATE, "concurrency_id": "slow", "concurrency_limit": MOST_EVENTS}
# Maps are tested in the background: no map waits for that.
JUDGING: dict[str, Any] = {
    **PRIVATE, "concurrency_id": "judging", "concurrency_limit": MOST_EVENTS_BESIDE,
}  # fmt: skip
# What a visitor takes home of a large photo takes seconds and hundreds of megabytes to pack.
PACKING: dict[str, Any] = {
    **PRIVATE, "concurrency_id": "packing", "concurrency_limit": MOST_EVENTS_BESIDE,
    "trigger_mode": "once",
}  # fmt: skip
LONG: dict[str, Any] = {**SLOW, "trigger_mode": "once"}
# As a visitor's last event ends, Gradio closes the connection over which its queue answers, and
# what is due then is lost. Clicks that are answered at once, and what follows an event that can be
# stopped, go past the queue.
UNQUEUED: dict[str, Any] = {**PRIVATE, "queue": False}

# Drawing an answer and sending it takes longer than many a step of computing it.
SECONDS_BETWEEN_UPDATES = 0.5


def throttle(steps: Iterable[T], clock: Callable[[], float] = time.monotonic) -> Iterator[T]:
    """Yield the first step, the last, and between them one for each half second of work."""
    pending: list[T] = []
    due = clock()
    for step in steps:
        pending = [step]
        if clock() >= due:
            pending = []
            yield step
            due = clock() + SECONDS_BETWEEN_UPDATES
    yield from pending


def tracked_on(status: Component, queue: Mapping[str, Any] = LONG) -> dict[str, Any]:
    """Return how an event waits; its place in line and the time are on its line of status."""
    progress = {"show_progress": "minimal", "show_progress_on": [status]}
    return {**queue, **progress, "trigger_mode": "once"}


def queue_of(explainer: Explainer[Any], status: Component) -> dict[str, Any]:
    """Return how a method's event waits."""
    return tracked_on(status, QUICK if is_single_step(explainer) else SLOW)


def report_failure(
    prefix: str,
    *,
    at: int,
    of: int,
    show: Callable[[str, BaseException | None], Any] = lambda text, _: text,
    blank: Callable[[], Sequence[Any]] | None = None,
) -> Callable[[Work], Work]:
    """Return a decorator after which a handler that fails says why in its line of status.

    The reason stays there, once: no message pops up beside it.

    Args:
        prefix: Words before the reason.
        of: Number of its outputs.
        show: Returns what the line is given for the words and what was raised.
        blank: Returns what all outputs are given but for the line; by default they stay.
    """

    def decorate(work: Work) -> Work:
        @functools.wraps(work)
        def reporting(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                with errors_as_messages():
                    yield from work(*args, **kwargs)
            except gr.Error as exc:
                if isinstance(exc.__cause__, WorkStopped):  # what stopped it says so
                    raise gr.Error(exc.message, visible=False, print_exception=False) from exc
                updates = list(blank()) if blank else [gr.skip() for _ in range(of)]
                updates[at] = show(f"{prefix}{exc.message}", exc.__cause__)
                yield tuple(updates)
                raise gr.Error(exc.message, visible=False, print_exception=False) from exc

        return cast(Work, reporting)

    return decorate


def forget_failure(inputs: Iterable[Component], status: Component, failed: str, idle: str) -> None:
    """Let a failure leave the status once what it was about is given anew."""

    def forget(words: str) -> Any:
        return idle if words.startswith(failed) else gr.skip()

    gr.on([component.change for component in inputs], forget, [status], [status], **UNQUEUED)


class NewModel(NamedTuple):
    """An event that puts a new model into the form, and what is to follow once it is loaded.

    Attributes:
        event: It succeeds when the model is in the form.
        wire_next: Given the event that loads the model, wires what comes after; None of nothing.
    """

    event: Dependency
    wire_next: Callable[[Dependency], object] | None = None


def wire_stop(
    stop: gr.Button,
    event: Dependency,
    status: Component,
    stop_message: Callable[[str], str],
    engine: Engine,
    *,
    method: str = "",
    failed: str = FAILED,
    extra_output: Component | None = None,
    update: Callable[..., Any] | None = None,
    inputs: Mapping[str, Component] = MappingProxyType({}),
) -> Dependency:
    """Return the event that follows one that failed or was stopped; its status then says which.

    Gradio counts as failed what a visitor stopped, and is the only one to know when it ended: what
    follows the click itself would be overwritten by the last that the event had to say.

    Args:
        event: Of a handler that `report_failure` decorates.
        engine: Ends the step that is being computed, for which Gradio would wait.
        method: The only one whose work is ended; "" is all of the visitor's.
        extra_output: What is updated with the status, or None.
        update: Returns its update, for the request and `inputs` by name.
    """

    def end_work(request: gr.Request) -> None:
        engine.stop(visitor_id(request), method)

    def after(request: gr.Request, *, words: str, **values: Any) -> Any:
        text = gr.skip() if words.startswith(failed) else stop_message(visitor_id(request))
        return text if update is None else (text, update(request, **values))

    # Gradio's `cancels=event` would make an event of its own for it.
    stop_event = stop.click(end_work, None, None, **UNQUEUED)
    context = get_blocks_context()
    assert context is not None  # noqa: S101 - a button is built in one
    context.fns[stop_event["id"]].cancels = [event["id"]]
    outputs = [status] if extra_output is None else [status, extra_output]
    values = {"words": status, **inputs}
    return cast(Dependency, event.failure(after, None, outputs, inputs_kwargs=values, **UNQUEUED))
