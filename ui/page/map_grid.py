"""The grid of maps that are compared: one slider, one zoom and one place for all its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from whylens.core.explanation import Explanation
from whylens.core.outputs.example_images import sheet
from whylens.core.outputs.render import Scale, Style, render_explanation
from whylens.core.results import Heatmap
from whylens.core.words import percent
from whylens.ui.page import html
from whylens.ui.page.session import PRIVATE, Session

# A click opens a cell at the width of the page; dragging moves what all cells show. What a visitor
# chose outlives the drawing of further maps, which replaces everything inside the element.
GRID_JS = """
const root = element.closest('#compare-grid') || element;
let drag = null, moved = false;
const look = {x: 0, y: 0};
const zoom = () => Number(root.style.getPropertyValue('--zoom')) || 1;
const show = () => {
  const least = 100 * (1 - zoom());
  for (const axis of ['x', 'y']) {
    look[axis] = Math.min(0, Math.max(least, look[axis]));
    root.style.setProperty('--' + axis, look[axis] + '%');
  }
};
const open = () => element.querySelectorAll('[data-pane]').forEach(pane => {
  const large = pane.dataset.pane === element.dataset.open;
  pane.setAttribute('aria-expanded', large);
  pane.closest('figure').classList.toggle('wl-large', large);
});
element.addEventListener('pointerdown', event => {
  const pane = event.target.closest('[data-pane]');
  moved = false;
  if (!pane || zoom() === 1) return;
  drag = {x: event.clientX, y: event.clientY, from: {...look}, box: pane.getBoundingClientRect()};
});
element.addEventListener('pointermove', event => {
  if (!drag) return;
  moved = moved || Math.abs(event.clientX - drag.x) + Math.abs(event.clientY - drag.y) > 5;
  look.x = drag.from.x + 100 * (event.clientX - drag.x) / drag.box.width;
  look.y = drag.from.y + 100 * (event.clientY - drag.y) / drag.box.height;
  show();
});
for (const end of ['pointerup', 'pointerleave', 'pointercancel'])
  element.addEventListener(end, () => { drag = null; });
element.addEventListener('click', event => {
  const pane = event.target.closest('[data-pane]');
  if (!pane || moved) return;
  element.dataset.open = element.dataset.open === pane.dataset.pane ? '' : pane.dataset.pane;
  open();
});
root.addEventListener('wl-zoom', event => {
  const middle = {x: (50 - look.x) / zoom(), y: (50 - look.y) / zoom()};
  root.style.setProperty('--zoom', event.detail);
  for (const axis of ['x', 'y']) look[axis] = 50 - middle[axis] * event.detail;
  show();
});
new MutationObserver(open).observe(element, {childList: true, subtree: true});
"""
_SPLIT_JS = """share => {
  document.querySelector('#compare-grid').style.setProperty('--split', (100 - share) + '%');
}"""
_ZOOM_JS = """zoom => {
  document.querySelector('#compare-grid').dispatchEvent(new CustomEvent('wl-zoom', {detail: zoom}));
}"""


@dataclass(frozen=True)
class GridRow:
    """One network's answers.

    Attributes:
        words: The network and what it says.
        cells: Answers, each with the scale of its colours; None for what is no map.
    """

    words: str
    cells: Sequence[tuple[Explanation, Scale | None]]


@dataclass(frozen=True)
class _Cell:
    title: str
    caption: str
    word: str
    photo: str
    picture: str
    width: int
    height: int


def build_grid() -> Component:
    """Return the grid, built in the open tab with the controls of all its cells."""
    with gr.Row(elem_classes="wl-look"):
        split = gr.Slider(
            0, 100, value=100, step=1, label="Input | map", elem_id="compare-split", buttons=[]
        )
        zoom = gr.Slider(1, 6, value=1, step=0.5, label="Zoom", elem_id="compare-zoom", buttons=[])
    grid = gr.HTML("", elem_id="compare-grid", js_on_load=GRID_JS, padding=False)
    split.input(None, [split], None, js=_SPLIT_JS, **PRIVATE)
    zoom.input(None, [zoom], None, js=_ZOOM_JS, **PRIVATE)
    return grid


def grid_html(rows: Sequence[GridRow], style: Style, session: Session, grid: Component) -> str:
    """Return HTML of the grid's cells.

    Args:
        grid: The component that will hold it; its pictures are put where it may show them.
    """

    def address(path: str) -> str:
        return f"gradio_api/file={grid.move_resource_to_block_cache(path)}"

    grid_rows = []
    for row in rows:
        cells = []
        for answer, scale in row.cells:
            photo = ""
            if isinstance(answer.result, Heatmap):
                small = session.store.downscale(answer)
                picture = render_explanation(small, style, scale=scale)
                photo = session.store.input_image(small) or ""
            else:
                picture = sheet(answer.result)
            progress = "" if answer.finished else f" · {percent(answer.fraction)}"
            word = answer.verdict.word if answer.verdict else None
            cells.append(
                _Cell(
                    answer.title,
                    f"{html.duration(answer.seconds)}{progress}",
                    word or "",
                    address(photo) if photo else "",
                    address(session.store.save_image(picture)),
                    *picture.size,
                )
            )
        grid_rows.append((row.words, cells))
    return html.render("compare", "grid", rows=grid_rows)
