"""A button that packs answers once it is pressed, and the browser's download of what it packed.

Nothing is packed before: the files of one large photo take seconds and hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.errors import BadInput, NotInstalled
from whylens.core.explanation import Explanation
from whylens.core.outputs.export import bundle_files, covering_files
from whylens.core.outputs.figure import FigureLayout, save_figure
from whylens.core.outputs.render import Style
from whylens.core.storage.files import temporary_folder
from whylens.ui.page.form import StyleControls
from whylens.ui.page.long_events import PACKING, report_failure
from whylens.ui.page.session import PRIVATE, Session, visitor_id

FETCH_JS = """file => {
  if (!file) return;
  const link = document.createElement('a');
  link.href = file.url;
  link.download = file.orig_name || '';
  link.click();
}"""


def stored_answer(session: Session, slot: str) -> Callable[..., list[Explanation]]:
    """Return what returns the visitor's answer in a slot, as `build_download` wants it."""

    def answers(request: gr.Request, **_: Any) -> list[Explanation]:
        answer = session.store.answer(visitor_id(request), slot)
        return [] if answer is None else [answer]

    return answers


def build_download(
    label: str, session: Session, answers_of: Callable[..., Sequence[Explanation]],
    inputs: Mapping[str, Component], *, stem: str, same_values: str = "", **options: Any,
) -> gr.Button:  # fmt: skip
    """Return the button, built in the open column and wired.

    Args:
        answers_of: Returns what to pack, of the request and `inputs` by name.
        inputs: "photo" and those of the style among them.
        stem: Of the file's name.
        same_values: Of a grid, what its "scaling" holds where one colour is one raw value.
        options: Of the button.
    """
    button = gr.Button(label, size="sm", **options)
    file = gr.DownloadButton(visible=False)

    @report_failure("Nothing was packed. ", at=1, of=2, show=lambda text, _: gr.Button(text))
    def pack(request: gr.Request, **values: Any) -> Iterator[Any]:
        answers = answers_of(request, **values)
        if not answers:
            raise BadInput("There is no answer to download yet. Ask, then press again.")
        source = Path(values["photo"]).name if values["photo"] else "photo"
        with session.engine.slot():
            style, shares = StyleControls.read(values), values.get("scaling") == same_values
            sheet = _sheet(answers, style, same_values=shares) if same_values else (None, "")
            files = _files(answers, source, style, *sheet)
            path = session.store.save_zip(files, stem=stem)
        yield path, gr.Button(label)

    pack_event = button.click(pack, None, [file, button], inputs_kwargs=inputs, **PACKING)
    pack_event.success(None, [file], None, js=FETCH_JS, **PRIVATE)
    return button


def _files(
    answers: Sequence[Explanation], source: str, style: Style, sheet: bytes | None, note: str
) -> Iterator[tuple[str, bytes]]:
    if sheet is not None:
        yield "sheet.png", sheet
    yield from covering_files(answers, source=source, notes=[note])
    several = len({answer.model.name for answer in answers}) > 1
    inputs = set()
    for answer in answers:
        place = f"{answer.model.name.replace('/', '-').replace(':', '-')}/" if several else ""
        key = place, answer.question.digest()
        for name, content in bundle_files(
            answer, source=source, style=style, with_input=key not in inputs
        ):
            if not name.endswith("/methods.bib"):  # there is one of all
                yield f"{place}{name}", content
        inputs.add(key)


def _sheet(
    answers: Sequence[Explanation], style: Style, *, same_values: bool
) -> tuple[bytes | None, str]:
    """Return the grid as a PNG for a paper, or None, and a sentence on it."""
    with temporary_folder() as folder:
        path, layout = folder / "sheet.png", FigureLayout()
        try:
            save_figure([(a, style) for a in answers], path, layout, same_values=same_values)
        except NotInstalled as exc:
            return None, f"There is no sheet.png: {exc}"
        words = (
            f"sheet.png has all of them, {layout.width:g} mm wide at {layout.dpi} dots per inch."
        )
        return path.read_bytes(), words
