"""What a browser has to do for the page's events, made little.

Its work grows with the page: each step of an event is told to every component that shows its
progress, each of these is looked for from the top of the page on, and each component asks all
events whether it sets them off. With every step Gradio also copies each input of the events so far,
of a list of classes each label.
"""

from __future__ import annotations

import gradio as gr
from gradio.components import Component

# What is no object is its own copy, and of a function, which cannot be copied, Gradio takes the
# original after all: asking the browser for either takes most of the time of a copy.
LIGHT_COPIES_JS = """
  const copy = window.structuredClone;
  window.structuredClone = (value, options) =>
    typeof value === 'object' && value !== null ? copy(value, options) : value;
"""


def build_quiet_place() -> gr.Button:
    """Return the place for `quieten_events`, built at the top of the page."""
    # Of all components, buttons have no clock of their own that runs while they wait.
    return gr.Button("Quiet", visible="hidden", elem_id="quiet")


def quieten_events(blocks: gr.Blocks, place: Component) -> None:
    """Let events tell one place of progress that they do not show, instead of all their outputs.

    What another event sets off names nothing on the page that does: Gradio would look for nothing
    on the whole of it.

    Args:
        place: Of `build_quiet_place`.
    """
    for event in blocks.fns.values():
        if event.show_progress == "hidden" and event.outputs and not event.show_progress_on:
            event.show_progress_on = [place]
        if event.trigger_after is not None:
            event.targets = []
