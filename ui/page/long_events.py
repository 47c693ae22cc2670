"""How the page's long events end: done, failed or stopped, each with its word in the status."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from whylens.ui.page.session import QUIET, errors_as_messages, visitor

Work = TypeVar("Work", bound=Callable[..., Iterator[Any]])

FAILED = "That did not work; the message at the top right says why."
# As a visitor's last event ends, Gradio closes the line over which its queue answers, and what is
# due at that moment is lost. What follows an event that can be stopped goes past the queue.
AT_ONCE: dict[str, Any] = {**QUIET, "queue": False}


def saying(failed: str, *, at: int, of: int) -> Callable[[Work], Work]:
    """Return a decorator after which a handler that fails also says so in its line of status.

    Args:
        failed: What the line then says; the red message tells why.
        at: Place of the line among the handler's outputs.
        of: Number of its outputs.
    """

    def decorated(work: Work) -> Work:
        @functools.wraps(work)
        def told(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with errors_as_messages():
                try:
                    yield from work(*args, **kwargs)
                except Exception:
                    yield tuple(failed if place == at else gr.skip() for place in range(of))
                    raise

        return cast(Work, told)

    return decorated


def stopped_by(
    stop: gr.Button,
    event: Dependency,
    status: Component,
    stopped: Callable[[str], str],
    *,
    failed: str = FAILED,
) -> Dependency:
    """Return the event that follows one that failed or was stopped; its status then says which.

    Gradio counts as failed what a visitor stopped, and is the only one to know when it ended: what
    follows the click itself would be overwritten by the last that the event had to say.

    Args:
        stop: The button.
        event: Of a handler that `saying` decorates.
        status: Its line of status.
        stopped: What the line says once the visitor, whose key it is given, stopped it.
        failed: What it says when the event failed.
    """

    def ended(said: str, request: gr.Request) -> Any:
        return gr.skip() if said == failed else stopped(visitor(request))

    stop.click(None, cancels=[event], api_visibility="private")
    return cast(Dependency, event.failure(ended, [status], [status], **AT_ONCE))
