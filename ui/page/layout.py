"""The page: photo, model and target on the left; one tab per registered explainer on the right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from whylens.core.engine import Engine
from whylens.core.explainer import Explainer
from whylens.core.outputs.render import colour_names
from whylens.core.registry import Registry
from whylens.ui.page import html
from whylens.ui.page.compare import Compare, build_compare
from whylens.ui.page.form import QuestionForm, StyleControls
from whylens.ui.page.guide import build_guide
from whylens.ui.page.html import COMPARE, GUIDE, PLUGINS, REPORT, TRAIN, family_tab, slug
from whylens.ui.page.page_store import PageStore
from whylens.ui.page.panel import Panel, build_panel
from whylens.ui.page.photo_input import photo_input
from whylens.ui.page.report import Report, build_report
from whylens.ui.page.session import (
    PREDICTED,
    PRIVATE,
    QUANTITIES,
    RUNNER_UP,
    Session,
    model_choices,
)
from whylens.ui.page.signal_input import build_signal_input
from whylens.ui.page.training import build_training, is_public, training_allowed
from whylens.ui.page.wiring import LeftColumn, Page, wire

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
GROUPED_ABOVE = 8


def build_page(
    engine: Engine, *, store: PageStore | None = None, public: bool = False
) -> gr.Blocks:
    """Return the page; nothing is loaded until a visitor opens it.

    Args:
        store: By default a new one.
        public: Whether others than the one who runs it can reach it; they may not train.
    """
    session = Session(engine, store or PageStore())
    with gr.Blocks(
        title="Whylens: why did it say that?", delete_cache=(300, 3600), analytics_enabled=False
    ) as blocks:
        gr.HTML(
            "<header class='wl-head'><h1>Whylens</h1><p>Why does an image classifier decide as it "
            "does? Ask several methods, on one scale.</p></header>"
        )
        banner = gr.HTML(html.banner("Loading the model ..."), elem_id="banner")
        with gr.Row(elem_classes="wl-columns"):
            with gr.Column(scale=4, min_width=320):
                form, left = _left()
            with gr.Column(scale=8, min_width=320):
                style = _style()
                tabs = _tabs(session, form, style, public=public)
        wire(blocks, Page(session, banner, form, left, style, *tabs))
    return blocks


def _left() -> tuple[QuestionForm, LeftColumn]:
    photo = photo_input(
        label="Photo",
        sources=["upload", "clipboard", "webcam"],
        elem_id="photo",
        height=300,
        buttons=["fullscreen"],
        alt_text="The photo to explain",
    )
    examples = [[str(path)] for path in sorted(EXAMPLES.glob("*/*.jpg"))]
    if examples:
        gr.Examples(examples, [photo], label="Examples")
    signal = build_signal_input()
    with gr.Row(elem_classes="wl-model"):
        model = gr.Dropdown(
            model_choices(),
            value=None,
            label="Model",
            info="Choose, or type any timm name",
            allow_custom_value=True,
            elem_id="model",
            scale=4,
        )
        load = gr.Button("Load", elem_id="model-load", scale=0, min_width=80)
    card = gr.HTML("", elem_id="model-card")
    predictions = gr.Label(label="Predictions", num_top_classes=5, elem_id="predictions")
    target = gr.Dropdown(
        [("the predicted class", PREDICTED)],
        value=PREDICTED,
        label="Explain the class (A)",
        allow_custom_value=True,
        elem_id="target",
    )
    with gr.Accordion("What about this class?", open=False, elem_id="more"):
        quantity = gr.Radio(
            list(QUANTITIES.items()), value="logit", label="Explain its", elem_id="quantity"
        )
        versus = gr.Dropdown(
            [("the runner-up", RUNNER_UP)],
            value=RUNNER_UP,
            label="Rather than (B)",
            allow_custom_value=True,
            elem_id="versus",
            visible=False,
        )
    quantity.change(
        lambda value: gr.Dropdown(visible=value == "contrast"), [quantity], [versus], **PRIVATE
    )
    form = QuestionForm(photo, model, target, quantity, versus)
    return form, LeftColumn(predictions, card, load, signal)


def _style() -> StyleControls:
    with gr.Row(elem_classes="wl-look"):
        colours = gr.Dropdown(
            list(colour_names()), value=colour_names()[0], label="Colours", elem_id="colours"
        )
        opacity = gr.Slider(
            0, 1, value=0.7, step=0.05, label="Opacity of the map", elem_id="opacity", buttons=[]
        )
        sure = gr.Checkbox(
            value=False,
            label="Hide what may be chance",
            info="Where a sampled map does not differ from 0 at 95 %",
            elem_id="sure",
        )
    return StyleControls(colours, opacity, sure)


def _tabs(
    session: Session, form: QuestionForm, style: StyleControls, *, public: bool
) -> tuple[gr.Tabs, dict[str, gr.Tabs], Compare, dict[str, Panel], Report, Dependency | None]:
    registry = session.engine.registry
    training = None
    trainable = training_allowed(public=public)
    panels: dict[str, Panel] = {}
    groups: dict[str, gr.Tabs] = {}

    def method_tab(explainer: Explainer[Any]) -> None:
        with gr.Tab(
            explainer.title, id=slug(explainer.name), elem_id=f"tab-{slug(explainer.name)}"
        ):
            panels[explainer.name] = build_panel(explainer, session, form, style)

    with gr.Tabs(elem_id="tabs") as tabs:
        with gr.Tab("Compare", id=COMPARE, elem_id="tab-compare"):
            compare = build_compare(session, form, style)
        with gr.Tab("Guide", id=GUIDE, elem_id="tab-guide"):
            build_guide(session, form, tabs, compare.methods)
        explainers = list(registry.explainers.values())
        if len(explainers) <= GROUPED_ABOVE:
            for explainer in explainers:
                method_tab(explainer)
        else:
            # Families in the order in which the table first names them, and methods likewise.
            for family in dict.fromkeys(e.family for e in explainers):
                key = family_tab(family)
                with (
                    gr.Tab(family, id=key, elem_id=f"tab-{key}"),
                    gr.Tabs(elem_id=f"tabs-{key}") as groups[key],
                ):
                    for explainer in explainers:
                        if explainer.family == family:
                            method_tab(explainer)
        with gr.Tab("Model report", id=REPORT, elem_id="tab-report"):
            report = build_report(session, form, style, trainable=trainable)
        if trainable:
            with gr.Tab("Your folder", id=TRAIN, elem_id="tab-train"):
                training = build_training(session, form, local=not is_public(public=public))
        with gr.Tab("Plugins", id=PLUGINS, elem_id="tab-plugins"):
            _plugins(registry)
    return tabs, groups, compare, panels, report, training


def _plugins(registry: Registry) -> None:
    gr.HTML(html.plugin_table(registry), elem_id="plugins")
    if not registry.problems:
        gr.HTML("<p class='wl-source'>No problems: every plugin that was found has loaded.</p>")
    for problem in registry.problems:
        head = f"{problem.plugin} of {problem.distribution} ({problem.stage})"
        gr.Textbox(
            problem.message, label=f"Problem: {head}", elem_classes="wl-problem", max_lines=8
        )
        if problem.details:
            with gr.Accordion("Traceback", open=False):
                gr.Code(problem.details, language=None, interactive=False, label=head)
