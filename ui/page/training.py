"""Training: pictures of one's own become a model that every method can explain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency
from pydantic import ValidationError

from whylens.core.datasets.by_name import Sources, load_dataset
from whylens.core.datasets.dataset import Dataset
from whylens.core.datasets.folder import ProgressCallback
from whylens.core.datasets.resplit import resplit
from whylens.core.datasets.zip import MOST_FILES, pictures_in_zip
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, CoreError, quote, wrong_value
from whylens.core.models.checkpoints import checkpoint_folders, default_model, read_manifest
from whylens.core.models.public_models import check_public_model
from whylens.core.progress import TrainingProgress, run
from whylens.core.train.recipe import PRETRAINED, Recipe
from whylens.core.train.report import read_report
from whylens.core.train.training_jobs import (
    new_model_folder,
    start_fields,
)
from whylens.core.words import number_of, percent
from whylens.core.workers.training import EngineDatasetReader, TrainingRunner
from whylens.ui.page.folder_input import build_folder_input
from whylens.ui.page.form import QuestionForm
from whylens.ui.page.html import duration
from whylens.ui.page.long_events import (
    MOST_EVENTS,
    UNQUEUED,
    NewModel,
    forget_failure,
    report_failure,
)
from whylens.ui.page.session import (
    PREDICTED,
    PRIVATE,
    RUNNER_UP,
    Session,
    model_choices,
    visitor_id,
)
from whylens.ui.page.set_preview import BOTH, build_set_preview, held_out_picture

TRAINING_VARIABLE = "WHYLENS_TRAINING"
SHIPPED, LOADED, RANDOM = "here", "loaded", "random"
BACKBONES = (
    "resnet18.a1_in1k",
    "mobilenetv3_small_100.lamb_in1k",
    "efficientnet_b0.ra_in1k",
    "regnety_004.tv2_in1k",
    "convnext_atto.d2_in1k",
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "torchvision:squeezenet1_0",
)
STARTS = [
    ("The network that is loaded", LOADED),
    ("A backbone's pretrained weights, fetched", PRETRAINED),
    ("Random numbers: for many thousand pictures", RANDOM),
]
MODES = [
    ("The last layer, then all (best for photos)", "head-then-full"),
    ("The last layer only (quickest)", "head"),
    ("All layers", "full"),
]
IDLE = "Give pictures and a name, then press Train."
FAILED = "Not trained. "


def is_public(*, public: bool) -> bool:
    """Return whether strangers can reach the page: on a Space, or where the demo says so.

    Args:
        public: What the demo says: it listens on an address that is not loopback.
    """
    return public or "SPACE_ID" in os.environ


def training_allowed(*, public: bool = False) -> bool:
    """Return whether visitors may train: by default on a page that strangers cannot reach.

    WHYLENS_TRAINING=1 or =0 decides otherwise.

    Args:
        public: Whether the demo listens on an address that is not loopback.
    """
    choice = os.environ.get(TRAINING_VARIABLE, "").strip()
    if choice in ("0", "1"):
        return choice == "1"
    return not is_public(public=public)


def build_training(session: Session, form: QuestionForm, *, local: bool) -> NewModel:
    """Return a training, built in the open tab and wired.

    Once its model is loaded, a picture that it was tested with is in the form.

    Args:
        local: Whether visitors may name folders of this machine.
    """
    gr.HTML(
        "<p class='wl-about'>Train a network on pictures of your own. It is then on the list of "
        "networks, its mistakes are on the tab This network, and the methods that rest on training "
        "pictures are made for it. Keep this page open meanwhile; after every epoch the best "
        "network so far is kept.</p>"
    )
    starts = _starts()
    upload, folder = _data_inputs(session.engine.registry.datasets, local=local)
    build_set_preview(session, upload, folder, local=local)
    with gr.Row():
        name = gr.Textbox(
            label="Name of the new model", elem_id="train-name", max_lines=1, min_width=240
        )
        backbone = gr.Dropdown(
            list(BACKBONES),
            value=BACKBONES[0],
            label="Backbone",
            info="Choose, or type any timm name",
            allow_custom_value=True,
            elem_id="train-backbone",
            min_width=240,
            visible=starts[0][1] == PRETRAINED,
        )
    start = gr.Radio(starts, value=starts[0][1], label="Start from", elem_id="train-start")
    mode = gr.Radio(MODES, value="head-then-full", label="What to train", elem_id="train-mode")
    epochs = gr.Slider(
        1, 50, value=8, step=1, label="Epochs (for all layers)", elem_id="train-epochs", buttons=[]
    )
    with gr.Row(elem_classes="wl-actions wl-running"):
        run = gr.Button("Train", variant="primary", elem_id="train-run")
        stop = gr.Button("Stop", variant="stop", elem_id="train-stop", min_width=90, scale=0)
    status = gr.Textbox(IDLE, label="Status", elem_id="train-status", max_lines=5)
    log = gr.Textbox(
        label="Epochs and what was made", elem_id="train-log", max_lines=14, visible=False
    )
    forget_failure([upload, folder, name], status, FAILED, IDLE)
    runner = TrainingRunner(session.engine)
    inputs = {
        "path": upload,
        "folder": folder,
        "name": name,
        "backbone": backbone,
        "start": start,
        "mode": mode,
        "epochs": epochs,
        "model": form.model,
    }
    start.change(
        lambda value: gr.Dropdown(visible=value in (PRETRAINED, RANDOM)),
        [start],
        [backbone],
        **PRIVATE,
    )
    # One after the other: what says that a training runs must not come after what says it ended.
    event = run.click(
        lambda: gr.Button("A training runs ...", interactive=False), None, [run], **UNQUEUED
    ).then(
        _trainer(runner, local=local),
        None,
        [status, log, form.model],
        inputs_kwargs=inputs,
        concurrency_id="training",
        concurrency_limit=MOST_EVENTS,
        show_progress="minimal",
        show_progress_on=[status],
        api_visibility="private",
    )
    for ended in (event.success, event.failure):  # a refused one ends as well
        ended(lambda: gr.Button("Train", interactive=True), None, [run], **UNQUEUED)

    def show_one(path: str | None, place: str | None, model: str, request: gr.Request) -> Any:
        visitor, place = visitor_id(request), (place or "").strip() if local else ""
        picture = held_out_picture(session, path, place, (model or "").strip(), visitor)
        return (gr.skip(),) * 3 if picture is None else (picture, PREDICTED, RUNNER_UP)

    # A network is met by what it says of a picture that it was tested with: not before it is
    # loaded, or the one before it would be asked.
    fields = [form.photo, form.target, form.versus]
    places = [upload, folder, name]

    def stop_training(request: gr.Request) -> Any:
        stopped_training = runner.stop(visitor_id(request))
        return "Stopping; what is best so far is kept ..." if stopped_training else gr.skip()

    stop.click(stop_training, None, [status], **UNQUEUED)
    return NewModel(
        cast("Dependency", event),
        lambda loading: loading.success(show_one, places, fields, **PRIVATE),
    )


def _starts() -> list[tuple[str, str]]:
    # What is here comes first: nothing is fetched, and it knows photos already.
    name = _trained_here()
    return [*([(f"Everyday photos ({name}, here)", SHIPPED)] if name else []), *STARTS]


def _trained_here() -> str | None:
    name = default_model()
    return name if name and read_manifest(checkpoint_folders()[name]).trained else None


def _data_inputs(sources: Sources, *, local: bool) -> tuple[Component, Component]:
    pictures = [source for source in sources.values() if source.kind == "pictures"]
    names = [name for source in pictures for name in source.names]
    with gr.Row():
        with gr.Column(min_width=240):
            upload = gr.File(
                label="A folder with one per class in it, or a ZIP of that, up to 12 MB",
                file_types=[".zip"],
                type="filepath",
                elem_id="train-zip",
                height=160,
            )
            build_folder_input("train-zip", most=MOST_FILES, several=False)
        folder = gr.Textbox(
            label="Or the path of a folder of this computer",
            info=", ".join(["One subfolder per class", *names]),
            elem_id="train-folder",
            max_lines=1,
            visible=local,
            min_width=240,
        )
    return upload, folder


def _trainer(runner: TrainingRunner, *, local: bool) -> Callable[..., Iterator[Any]]:
    @report_failure(FAILED, at=0, of=3)
    def train(request: gr.Request, **values: Any) -> Iterator[Any]:
        # What is not shown can still be sent.
        folder = values["folder"] if local else None
        read = _reader(values["path"], folder)
        model = (values["name"] or "").strip()
        out, recipe = new_model_folder(model), _recipe(values)
        lines: list[str] = []
        follow_up = partial(fit_all, model=model)
        for step in runner.run(visitor_id(request), read, recipe, out, follow_up):
            if {"val_accuracy", "made"} & step.figures.keys() and step.fraction < 1:
                lines.append(step.message)
            log = gr.Textbox("\n".join(lines), visible=bool(lines))
            yield _status(step), log, gr.skip()
        log = gr.Textbox("\n".join(lines), visible=True)
        yield _summary(out), log, gr.Dropdown(model_choices(), value=model)

    return train


def _status(step: TrainingProgress) -> str:
    seconds = step.seconds_left
    rest = f", about {duration(seconds)} left" if seconds else ""
    loss = step.figures.get("loss")
    loss_text = f" (loss {loss:.3f})" if loss is not None else ""
    return f"{percent(step.fraction)}: {step.message}{loss_text}{rest}"


def _summary(out: Path) -> str:
    report = read_report(out)
    if report is None:
        return f"Done: {out.name} is chosen."
    split, figures = ("test", report.test) if report.test else ("validation", report.val)
    early = "" if report.complete else " It was stopped early."
    return (
        f"Done: {out.name} recognises {percent(figures.accuracy, 1)} of "
        f"{number_of(figures.count, f'{split} picture')} and is chosen.{early} The tab "
        "This network shows its mistakes."
    )


def fit_all(engine: Engine, dataset: Dataset, *, model: str) -> Iterator[TrainingProgress]:
    """Yield the steps of fitting every method that is fitted, for all visitors of the model.

    A method that cannot be fitted says why and leaves the others alone.
    """
    explainers = [e for e in engine.registry.explainers.values() if e.artifact_kind]
    for number, explainer in enumerate(explainers):
        name = f"{explainer.artifact_kind} for {explainer.title}"
        try:
            for step in engine.fit(model, explainer.name, dataset):
                fraction = (number + step.fraction) / len(explainers)
                yield TrainingProgress(min(fraction, 0.99), f"{name}: {step.message}")
        except CoreError as exc:
            outcome = f"Without {name}: {exc}"
        else:
            outcome = f"Made {name}"
        yield TrainingProgress(
            min((number + 1) / len(explainers), 0.99), outcome, figures={"made": 1.0}
        )


def _reader(path: str | None, folder: str | None) -> EngineDatasetReader:
    name = (folder or "").strip()
    if path and name:
        raise BadInput(BOTH)
    if name:
        return partial(_read_folder, name)
    if not path:
        raise BadInput("There are no pictures yet. Give a ZIP with one folder per class.")
    return partial(_read_zip, Path(path))


def _read_folder(name: str, engine: Engine, progress: ProgressCallback) -> Dataset:
    return load_dataset(name, engine.registry.datasets, progress=progress)


def _read_zip(path: Path, _: Engine, progress: ProgressCallback) -> Dataset:
    images = run(pictures_in_zip(path), lambda share: progress(share, "reading pictures"))
    return run(resplit(images), lambda share: progress(share, "looking for copies"))


def _recipe(values: Mapping[str, Any]) -> Recipe:
    model = (_trained_here() if values["start"] == SHIPPED else values["model"]) or ""
    folder = checkpoint_folders().get(model)
    if values["start"] in (SHIPPED, LOADED) and folder is not None:
        network = start_fields(folder)
    else:
        # A network that was fetched has the weights that its name stands for.
        own = values["start"] in (SHIPPED, LOADED)
        backbone = (model if own else values["backbone"] or "").strip()
        if backbone not in BACKBONES and check_public_model(backbone, ()).kind != "timm":
            what = f"{quote(backbone)} has no weights to start from. " if own else ""
            raise BadInput(f"{what}Choose a backbone such as {BACKBONES[0]}.")
        weights = None if values["start"] == RANDOM else PRETRAINED
        network = {"backbone": backbone, "weights": weights}
    try:
        return Recipe.model_validate(
            {**network, "mode": values["mode"], "epochs": int(values["epochs"])}
        )
    except ValidationError as exc:
        raise BadInput(": ".join(wrong_value(exc)) + ".") from exc
