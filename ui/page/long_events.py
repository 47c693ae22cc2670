"""How the page's long events end: done, failed or stopped, each with its word in the status."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from whylens.ui.page.session import PRIVATE, errors_as_messages, visitor_id

Work = TypeVar("Work", bound=Callable[..., Iterator[Any]])
T = TypeVar("T")

FAILED = "That did not work; the message at the top right says why."
# For events that compute: they share one queue, and a trigger runs once at a time.
LONG: dict[str, Any] = {**PRIVATE, "concurrency_id": "work", "trigger_mode": "once"}
# As a visitor's last event ends, Gradio closes the connection over which its queue answers, and
# what is due then is lost. What follows an event that can be stopped goes past the queue.
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


def report_failure(message: str, *, at: int, of: int) -> Callable[[Work], Work]:
    """Return a decorator after which a handler that fails also says so in its line of status.

    Args:
        of: Number of its outputs.
    """

    def decorate(work: Work) -> Work:
        @functools.wraps(work)
        def reporting(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with errors_as_messages():
                try:
                    yield from work(*args, **kwargs)
                except Exception:
                    yield tuple(message if place == at else gr.skip() for place in range(of))
                    raise

        return cast(Work, reporting)

    return decorate


def wire_stop(
    stop: gr.Button,
    event: Dependency,
    status: Component,
    stop_message: Callable[[str], str],
    *,
    failed: str = FAILED,
) -> Dependency:
    """Return the event that follows one that failed or was stopped; its status then says which.

    Gradio counts as failed what a visitor stopped, and is the only one to know when it ended: what
    follows the click itself would be overwritten by the last that the event had to say.

    Args:
        event: Of a handler that `report_failure` decorates.
    """

    def after(text: str, request: gr.Request) -> Any:
        return gr.skip() if text == failed else stop_message(visitor_id(request))

    stop.click(None, cancels=[event], api_visibility="private")
    return cast(Dependency, event.failure(after, [status], [status], **UNQUEUED))
