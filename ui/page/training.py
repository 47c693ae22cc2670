"""The Your folder tab: pictures of one's own become a model that every method can explain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from pydantic import ValidationError

from whylens.core.datasets.by_name import Sources, load_dataset
from whylens.core.datasets.dataset import Dataset
from whylens.core.datasets.resplit import resplit
from whylens.core.datasets.zip import pictures_in_zip
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, CoreError
from whylens.core.models.checkpoints import checkpoint_folders
from whylens.core.models.model_names import check_public_model
from whylens.core.progress import result_of
from whylens.core.train.progress import Step
from whylens.core.train.recipe import PRETRAINED, Recipe
from whylens.core.train.report import read_report
from whylens.core.train.training_jobs import Reader, Tell, Workshop, place_for, start_of
from whylens.ui.page.html import duration
from whylens.ui.page.long_events import saying
from whylens.ui.page.panel import Question
from whylens.ui.page.session import QUIET, Session, model_choices, visitor

TRAINING_VARIABLE = "WHYLENS_TRAINING"
LOADED, RANDOM = "loaded", "random"
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
    ("Pretrained weights of the backbone", PRETRAINED),
    ("The loaded model, if it is a local checkpoint", LOADED),
    ("Random numbers", RANDOM),
]
MODES = [
    ("The last layer, then all (best for photos)", "head-then-full"),
    ("The last layer only (quickest)", "head"),
    ("All layers", "full"),
]
IDLE = "Give pictures and a name, then press Train."
FAILED = "Not trained; the message at the top right says why."


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
    said = os.environ.get(TRAINING_VARIABLE, "").strip()
    if said in ("0", "1"):
        return said == "1"
    return not is_public(public=public)


@dataclass(frozen=True)
class Training:
    """What other events need of the tab.

    Attributes:
        done: The event that has put a new model into the drop-down when it succeeds.
    """

    done: Any


def build_training(session: Session, question: Question, *, local: bool) -> Training:
    """Return the Your folder tab, drawn into the open tab and wired.

    Args:
        session: Engine and shelf.
        question: The left side; the new model is chosen there.
        local: Whether visitors may name folders of this machine.
    """
    gr.HTML(
        "<p class='wl-about'>Train a network on pictures of your own. It is then on the list of "
        "models, its mistakes are on the tab Model report, and the methods that rest on training "
        "pictures are made for it. Keep this page open meanwhile; after every epoch the best "
        "network so far is kept.</p>"
    )
    upload, folder = _pictures(session.engine.registry.datasets, local=local)
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
        )
    start = gr.Radio(STARTS, value=PRETRAINED, label="Start from", elem_id="train-start")
    mode = gr.Radio(MODES, value="head-then-full", label="What to train", elem_id="train-mode")
    epochs = gr.Slider(
        1, 50, value=8, step=1, label="Epochs (for all layers)", elem_id="train-epochs", buttons=[]
    )
    with gr.Row(elem_classes="wl-actions"):
        run = gr.Button("Train", variant="primary", elem_id="train-run")
        stop = gr.Button("Stop", variant="stop", elem_id="train-stop", min_width=90, scale=0)
    status = gr.Textbox(IDLE, label="Status", elem_id="train-status", max_lines=5)
    log = gr.Textbox(
        label="Epochs and what was made", elem_id="train-log", max_lines=14, visible=False
    )
    workshop = Workshop()
    event = run.click(
        _trainer(session, workshop, local=local),
        [upload, folder, name, backbone, start, mode, epochs, question.model],
        [status, log, question.model],
        concurrency_id="training",
        concurrency_limit=4,
        trigger_mode="once",
        show_progress="hidden",
        api_visibility="private",
    )

    def stopped(request: gr.Request) -> Any:
        mine = workshop.stop(visitor(request))
        return "Stopping; what is best so far is kept ..." if mine else gr.skip()

    stop.click(stopped, None, [status], queue=False, **QUIET)
    return Training(event)


def _pictures(sources: Sources, *, local: bool) -> tuple[Component, Component]:
    pictures = [source for source in sources.values() if source.kind == "pictures"]
    names = [name for source in pictures for name in source.names]
    with gr.Row():
        upload = gr.File(
            label="ZIP with a folder per class, up to 12 MB",
            file_types=[".zip"],
            type="filepath",
            elem_id="train-zip",
            height=160,
        )
        folder = gr.Textbox(
            label="Or a folder of this computer",
            info=", ".join(["One subfolder per class", *names]),
            elem_id="train-folder",
            max_lines=1,
            visible=local,
            min_width=240,
        )
    return upload, folder


def _trainer(session: Session, workshop: Workshop, *, local: bool) -> Callable[..., Iterator[Any]]:
    @saying(FAILED, at=0, of=3)
    def trained(
        path: str | None,
        folder: str | None,
        name: str | None,
        backbone: str | None,
        start: str,
        mode: str,
        epochs: float,
        model: str | None,
        request: gr.Request,
    ) -> Iterator[Any]:
        # What is not drawn can still be sent.
        read = _reader(path, folder if local else None, session.engine.registry.datasets)
        called = (name or "").strip()
        out = place_for(called)
        recipe = _recipe(backbone or "", start, mode, int(epochs), model)
        lines: list[str] = []

        def methods(dataset: Dataset) -> Iterator[Step]:
            return fitted(session.engine, called, dataset)

        for step in workshop.run(visitor(request), read, recipe, out, methods):
            if {"val_accuracy", "made"} & step.figures.keys() and step.fraction < 1:
                lines.append(step.message)
            shown = gr.Textbox("\n".join(lines), visible=bool(lines))
            yield _told(step), shown, gr.skip()
        shown = gr.Textbox("\n".join(lines), visible=True)
        yield _ended(out), shown, gr.Dropdown(model_choices(), value=called)

    return trained


def _told(step: Step) -> str:
    left = step.seconds_left
    rest = f", about {duration(left)} left" if left else ""
    loss = step.figures.get("loss")
    so_far = f" (loss {loss:.3f})" if loss is not None else ""
    return f"{step.fraction:.0%}: {step.message}{so_far}{rest}"


def _ended(out: Path) -> str:
    report = read_report(out)
    if report is None:
        return f"Done: {out.name} is chosen on the left."
    split, figures = ("test", report.test) if report.test else ("validation", report.val)
    early = "" if report.complete else " It was stopped early."
    return (
        f"Done: {out.name} recognises {figures.accuracy:.1%} of {figures.count} {split} pictures "
        f"and is chosen on the left.{early} The tab Model report shows its mistakes."
    )


def fitted(engine: Engine, model: str, dataset: Dataset) -> Iterator[Step]:
    """Yield the steps of fitting every method that is fitted, for all visitors of the model.

    A method that cannot be fitted says why and leaves the others alone.

    Args:
        engine: Knows the methods.
        model: Name of the new model.
        dataset: What it learnt.
    """
    wanted = [e for e in engine.registry.explainers.values() if e.artifact_kind]
    for number, explainer in enumerate(wanted):
        told = f"{explainer.artifact_kind} for {explainer.title}"
        try:
            for step in engine.fit(model, explainer.name, dataset):
                share = (number + step.fraction) / len(wanted)
                yield Step(min(share, 0.99), f"{told}: {step.message}")
        except CoreError as exc:
            said = f"Without {told}: {exc}"
        else:
            said = f"Made {told}"
        yield Step(min((number + 1) / len(wanted), 0.99), said, figures={"made": 1.0})


def _reader(path: str | None, folder: str | None, sources: Sources) -> Reader:
    named = (folder or "").strip()
    if path and named:
        raise BadInput("Give a ZIP or a folder, not both. Empty one of the two.")
    if named:
        return lambda tell: load_dataset(named, sources, progress=tell)
    if not path:
        raise BadInput("There are no pictures yet. Give a ZIP with one folder per class.")
    return lambda tell: _unpacked(Path(path), tell)


def _unpacked(path: Path, tell: Tell) -> Dataset:
    pictures = result_of(pictures_in_zip(path), lambda share: tell(share, "reading pictures"))
    return result_of(resplit(pictures), lambda share: tell(share, "looking for copies"))


def _recipe(backbone: str, start: str, mode: str, epochs: int, model: str | None) -> Recipe:
    if start == LOADED:
        folder = checkpoint_folders().get(model or "")
        if folder is None:
            raise BadInput(
                f"{model or 'The loaded model'} is no local checkpoint. Start from pretrained "
                "weights instead."
            )
        said = start_of(folder)
    else:
        wanted = backbone.strip()
        if wanted not in BACKBONES and check_public_model(wanted, ()).kind != "timm":
            raise BadInput(f"Choose a backbone such as {BACKBONES[0]}.")
        said = {"backbone": wanted, "weights": None if start == RANDOM else PRETRAINED}
    try:
        return Recipe.model_validate({**said, "mode": mode, "epochs": epochs})
    except ValidationError as exc:
        first = exc.errors()[0]
        raise BadInput(f"{first['loc'][0]}: {first['msg']}.") from exc
