"""What of the photo the network is shown: its own crop, all of it, or a part that is dragged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from whylens.core.inputs.framing import NETWORK, WHOLE, parse_framing
from whylens.core.inputs.view import shrunk
from whylens.ui.page import html
from whylens.ui.page.long_events import UNQUEUED
from whylens.ui.page.session import PRIVATE, Session, errors_as_messages, takes_signals

PART = "part"
KINDS = [("Its own crop", NETWORK), ("The whole photo", WHOLE), ("A part: drag the frame", PART)]
_SIDE = 480  # pixels of the longer side of the photo under the frame
_FIRST_SHARE = 0.7  # of the largest frame, that a frame has at first

# Moves and sizes the frame by pointer or keys, and tells its place once it rests.
FRAME_JS = """
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const place = frame => ['left', 'top', 'width'].map(key => parseFloat(frame.style[key]));
const put = (frame, left, top, width) => {
  const ratio = Number(frame.dataset.ratio);
  width = clamp(width, 8, Math.min(100, 100 / ratio));
  const height = width * ratio;
  frame.style.width = width + '%'; frame.style.height = height + '%';
  frame.style.left = clamp(left, 0, 100 - width) + '%';
  frame.style.top = clamp(top, 0, 100 - height) + '%';
};
const tell = frame => {
  const [left, top, width] = place(frame);
  const height = width * Number(frame.dataset.ratio);
  const edges = [left, top, left + width, top + height];
  trigger('click', {cell: edges.map(edge => clamp(edge / 100, 0, 1).toFixed(4)).join()});
};
let drag = null;
element.addEventListener('pointerdown', event => {
  const frame = event.target.closest('.wl-frame');
  if (!frame) return;
  event.preventDefault(); frame.focus(); frame.setPointerCapture(event.pointerId);
  const size = Boolean(event.target.closest('.wl-corner'));
  drag = {frame, size, x: event.clientX, y: event.clientY, from: place(frame)};
});
element.addEventListener('pointermove', event => {
  if (!drag) return;
  const area = drag.frame.parentElement.getBoundingClientRect();
  const across = 100 * (event.clientX - drag.x) / area.width;
  const down = 100 * (event.clientY - drag.y) / area.height;
  const [left, top, width] = drag.from;
  if (drag.size) put(drag.frame, left, top, width + across);
  else put(drag.frame, left + across, top + down, width);
});
element.addEventListener('pointerup', () => {
  if (drag) tell(drag.frame);
  drag = null;
});
const moves = {ArrowLeft: [-3, 0, 0], ArrowRight: [3, 0, 0], ArrowUp: [0, -3, 0],
  ArrowDown: [0, 3, 0], '+': [-2, -2, 4], '-': [2, 2, -4]};
element.addEventListener('keydown', event => {
  const frame = event.target.closest('.wl-frame'), move = moves[event.key];
  if (!frame || !move) return;
  event.preventDefault();
  const [left, top, width] = place(frame);
  put(frame, left + move[0], top + move[1], width + move[2]);
});
element.addEventListener('keyup', event => {
  const frame = event.target.closest('.wl-frame');
  if (frame && moves[event.key]) tell(frame);
});
"""


@dataclass(frozen=True)
class FramingInput:
    """The choice of what the network is shown.

    Attributes:
        value: As `parse_framing` reads it; not to be seen.
        fold: What the choice lies in.
    """

    value: Component
    fold: gr.Accordion
    kind: Component
    frame: Component


def framing_value() -> Component:
    """Return the component that holds the framing, on the open page and not to be seen."""
    return gr.Textbox(NETWORK, visible=False, label="Framing", elem_id="framing")


def build_framing(value: Component) -> FramingInput:
    """Return the choice, built in the open column.

    Args:
        value: From `framing_value`.
    """
    with gr.Accordion("What the network is shown", open=False, elem_id="framing-fold") as fold:
        kind = gr.Radio(
            KINDS, value=NETWORK, label="Of the photo", elem_id="framing-kind", show_label=False
        )
        frame = gr.HTML("", visible=False, elem_id="framing-frame", js_on_load=FRAME_JS)
    return FramingInput(value, fold, kind, frame)


def wire_framing(
    session: Session, framing: FramingInput, photo: Component, model: Component, byline: Component
) -> None:
    """Let choice, frame and photo decide what is shown.

    Args:
        byline: The part of the answer card that offers the whole photo.
    """

    def show(kind: str, path: str | None, name: str | None) -> tuple[Any, Any]:
        if kind != PART:
            return kind, gr.HTML("", visible=False)
        with errors_as_messages():
            if not path or not name:
                return NETWORK, gr.HTML("Give a photo first.", visible=True)
            card = session.engine.card(session.model_name(name))
            if takes_signals(card):
                return NETWORK, gr.HTML("A signal is always read whole.", visible=True)
            shape = card.input["size"]
            picture = session.store.photo(path)
            part = _first_part(picture.size, shape)  # type: ignore[arg-type]
            image = Image.fromarray(shrunk(picture.pixels, _SIDE))
            text = ",".join(f"{share:.4f}" for share in part)
            return text, gr.HTML(html.frame(image, part), visible=True)

    inputs, outputs = [framing.kind, photo, model], [framing.value, framing.frame]
    gr.on([framing.kind.change, photo.change], show, inputs, outputs, **PRIVATE)

    def take(event: gr.EventData) -> Any:
        with errors_as_messages():
            text = str(getattr(event, "cell", ""))
            parse_framing(text)
            return text

    framing.frame.click(take, None, [framing.value], **UNQUEUED)
    byline.click(lambda: WHOLE, None, [framing.kind], **UNQUEUED)


def _first_part(size: tuple[int, int], shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return a frame of the network's shape in the middle of a photo.

    Args:
        size: Width and height of the photo.
        shape: Height and width of the network's input.
    """
    scale = _FIRST_SHARE * min(size[0] / shape[1], size[1] / shape[0])
    wide, tall = scale * shape[1] / size[0], scale * shape[0] / size[1]
    return (1 - wide) / 2, (1 - tall) / 2, (1 + wide) / 2, (1 + tall) / 2
