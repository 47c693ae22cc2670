"""The fold A network of your own: a file of weights on this computer becomes a chosen model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import gradio as gr
from gradio.events import Dependency

from whylens.core.engine import Engine
from whylens.core.errors import BadInput
from whylens.core.models.import_options import EXAMPLE_PHOTO, ImportOptions
from whylens.core.models.import_weights import import_weights
from whylens.core.targets import EACH_ITS_OWN, ClassScore
from whylens.ui.page.form import QuestionForm
from whylens.ui.page.long_events import MOST_EVENTS, NewModel, report_failure
from whylens.ui.page.session import model_choices

FAILED = "Not imported. "
SECONDS = 1800.0  # a file of gigabytes is read twice
# The fields by the options of the command that they stand for, whose names messages hold.
_FIELDS = {
    "name": ("Name of the new model", "that of the file"),
    "architecture": ("Architecture", "found out from the tensors"),
    "labels": ("Labels", "numbers; a file with one a line, or joined by commas"),
    "size": ("Size of its input", "as the architecture is usually fed"),
    "mean": ("Mean", "per channel, of values in 0 to 1, joined by commas"),
    "std": ("Standard deviation", "likewise"),
    "crop": ("Crop", "share of the resized photo that is seen, as 0.875"),
    "interpolation": ("Filter of the resize", "bilinear, bicubic, ..."),
}
_OUTPUTS = [
    ("Classes that exclude each other", "classes"),
    ("Labels, of which several may hold", "labels"),
    ("One number", "value"),
]


def build_import(engine: Engine, form: QuestionForm) -> NewModel:
    """Return an import, with its fold built in the open tab and wired.

    When its event succeeds it has put the new model into the form.
    """
    with gr.Accordion("A network of your own", open=False, elem_id="import"):
        gr.HTML(
            "<p class='wl-about'>A file of weights on this computer, or a network as ONNX, becomes "
            "a model. Leave empty what you do not know: it is worked out or assumed, and the "
            "status says which. No code in a file is "
            "run.</p>"
        )
        path = gr.Textbox(
            label="Path of the file",
            info=".safetensors, .pth, .pt, .ckpt, .bin, .pth.tar or .onnx",
            elem_id="import-path",
            max_lines=1,
        )
        fields = {}
        for names in (tuple(_FIELDS)[:3], tuple(_FIELDS)[3:]):
            with gr.Row():
                for name in names:
                    label, info = _FIELDS[name]
                    fields[name] = gr.Textbox(
                        label=label, info=info, elem_id=f"import-{name}", max_lines=1, min_width=150
                    )
        with gr.Row():
            outputs = gr.Radio(
                _OUTPUTS, value="classes", label="Its scores are of", elem_id="import-outputs"
            )
            unit = gr.Textbox(
                label="Unit of the number", elem_id="import-unit", max_lines=1, min_width=200
            )
        run = gr.Button("Import", variant="primary", elem_id="import-run")
        status = gr.Textbox(
            "Give the path of a file, then press Import.",
            label="Status",
            elem_id="import-status",
            max_lines=14,
        )
    inputs = {"path": path, **fields, "outputs": outputs, "unit": unit, "photo": form.photo}
    event = run.click(
        importer(engine),
        None,
        [status, form.model],
        inputs_kwargs=inputs,
        concurrency_id="training",
        concurrency_limit=MOST_EVENTS,
        trigger_mode="once",
        show_progress="hidden",
        api_visibility="private",
    )
    return NewModel(cast("Dependency", event))


def importer(engine: Engine) -> Callable[..., Iterator[Any]]:
    """Return the handler of an import: from the fold's values to its status and the model box."""

    @report_failure(FAILED, at=0, of=2)
    def run(**values: Any) -> Iterator[Any]:
        text = {key: (values[key] or "").strip() for key in ("path", "unit", *_FIELDS)}
        if not text["path"]:
            raise BadInput("There is no path yet. Give that of a file of weights on this computer.")
        yield "Reading the file ...", gr.skip()
        fields: dict[str, Any] = {name: text[name] or None for name in _FIELDS}
        if fields["crop"]:
            try:
                fields["crop"] = float(fields["crop"])
            except ValueError as exc:
                raise BadInput(f"“Crop” is a share such as 0.875, not {text['crop']!r}.") from exc
        options = ImportOptions(
            file=Path(text["path"]).expanduser(),
            photo=Path(values["photo"] or EXAMPLE_PHOTO),
            outputs=values["outputs"],
            unit=text["unit"],
            **fields,
        )
        try:
            ((name, predictions, notes),) = engine.run(_import, options, seconds=SECONDS)
        except BadInput as exc:
            raise BadInput(_in_fields(str(exc))) from exc
        lines = [f"Done: {name} is chosen. What it says of the photo:"]
        lines += [f"  {score}" for score in predictions]
        lines += [EACH_ITS_OWN] if values["outputs"] == "labels" else []
        lines += [_in_fields(note) for note in notes]
        yield "\n".join(lines), gr.Dropdown(model_choices(), value=name)

    return run


def _import(
    _: Engine, options: ImportOptions
) -> Iterator[tuple[str, tuple[ClassScore, ...], tuple[str, ...]]]:
    try:
        model = import_weights(options)
        yield model.model, model.predictions, model.notes
    except OSError as exc:
        raise BadInput(f"The model cannot be written: {exc.strerror}.") from exc


def _in_fields(message: str) -> str:
    """Return a message of the command in the words of the page's fields."""
    labels = {name: label for name, (label, _) in _FIELDS.items()}
    labels |= {"value": "One number", "photo": "Photo"}

    def field(match: re.Match[str]) -> str:
        return f"“{labels[match[1]]}”" if match[1] in labels else match[0]

    return re.sub(r"--([a-z]+)", field, message)
