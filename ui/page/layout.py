"""The page: an answer and the photo on top, what else can be asked in tabs below."""

from __future__ import annotations

import gradio as gr

from whylens.core.engine import Engine
from whylens.core.outputs.render import colour_names
from whylens.core.registry import Registry
from whylens.ui.page import html
from whylens.ui.page.answer import build_answer
from whylens.ui.page.compare import Compare, build_compare
from whylens.ui.page.examples import build_examples
from whylens.ui.page.form import QuestionForm, StyleControls
from whylens.ui.page.framing import build_framing, framing_value
from whylens.ui.page.guide import Guide, build_guide
from whylens.ui.page.html import COMPARE, METHODS, PHOTOS, PICTURES, REPORT, TRAIN, WHAT_IF
from whylens.ui.page.import_model import build_import
from whylens.ui.page.light_events import build_quiet_place, quieten_events
from whylens.ui.page.long_events import NewModel
from whylens.ui.page.many_photos import build_many_photos
from whylens.ui.page.methods import Methods, build_methods
from whylens.ui.page.page_store import PageStore
from whylens.ui.page.photo_input import photo_input
from whylens.ui.page.report import Report, build_report
from whylens.ui.page.session import (
    PREDICTED,
    PRIVATE,
    QUANTITIES,
    RUNNER_UP,
    PlainBlocks,
    Session,
    model_choices,
    speak_plainly,
)
from whylens.ui.page.signal_input import PHOTO, SOURCES, build_signal_input
from whylens.ui.page.training import build_training, is_public, training_allowed
from whylens.ui.page.truth import truth_parts
from whylens.ui.page.what_if import build_what_if
from whylens.ui.page.wiring import Page, SideColumn, Tabs, wire


def build_page(
    engine: Engine,
    *,
    store: PageStore | None = None,
    public: bool = False,
    judges: bool = True,
) -> gr.Blocks:
    """Return the page; nothing is loaded until a visitor opens it.

    Args:
        store: By default a new one.
        public: Whether others than the one who runs it can reach it; they may not train. Nobody
            can load by the page what is not open to all: an address may bring others to it.
        judges: Whether every map is tested once it is shown: some hundreds of forward passes.
    """
    engine.load_public_models_only()
    session = Session(engine, store or PageStore(), judges)
    with PlainBlocks(
        title="Whylens: why did it say that?", delete_cache=(300, 3600), analytics_enabled=False
    ) as blocks:
        quiet = build_quiet_place()
        with gr.Row(elem_classes="wl-top"):
            gr.HTML(
                "<header class='wl-head'><h1>Whylens</h1><p>Why did the network say that?</p>"
                "</header>"
            )
            model = gr.Dropdown(
                model_choices(),
                value=None,
                label="Network",
                info="Choose, or type a timm name or hf:OWNER/NAME",
                allow_custom_value=True,
                elem_id="model",
                min_width=260,
            )
        banner = gr.HTML(html.banner("Loading the network ..."), elem_id="banner")
        notice = gr.HTML("", elem_id="model-notice", visible=False)
        photo, quantity, target, versus = _question_parts()
        form = QuestionForm(photo, model, target, quantity, versus, framing_value())
        style = _style()
        truth = truth_parts()
        with gr.Row(elem_classes="wl-columns"):
            with gr.Column(scale=7, min_width=320):
                answer = build_answer(session, form, style, truth)
                with gr.Row(elem_classes="wl-ask"):
                    target.render()
                with gr.Accordion(
                    "What counts: score, probability or a difference", open=False, elem_id="more"
                ):
                    quantity.render()
                    versus.render()
            with gr.Column(scale=4, min_width=300):
                photo.render()
                examples = build_examples()
                truth.render()
                framing = build_framing(form.framing)
                signal = build_signal_input()
                card = gr.HTML("", elem_id="model-card", padding=False)
                with gr.Accordion("Colours", open=False, elem_id="look"):
                    style.colormap.render()
                    style.opacity.render()
                    style.under.render()
                    style.significant_only.render()
        side = SideColumn(examples, card, notice, gr.State(""), signal, framing)
        tabs, compare, methods, guide, report, new_models = _tabs(
            session, form, style, public=public
        )
        above = (session, banner, form, side, style, answer)
        wire(blocks, Page(*above, tabs, compare, methods, guide, report, new_models))
        quieten_events(blocks, quiet)
    speak_plainly(blocks)
    return blocks


def _question_parts() -> tuple[gr.Image, gr.Radio, gr.Dropdown, gr.Dropdown]:
    # Not yet on the page: they stand on both sides of the answer.
    photo = photo_input(
        label=PHOTO,
        sources=SOURCES,
        elem_id="photo",
        height=230,
        buttons=["fullscreen"],
        alt_text="The photo to explain",
        render=False,
    )
    quantity = gr.Radio(
        list(QUANTITIES.items()),
        value="logit",
        label="What counts",
        elem_id="quantity",
        render=False,
    )
    target = gr.Dropdown(
        [("the predicted class", PREDICTED)],
        value=PREDICTED,
        label="Why this class",
        allow_custom_value=True,
        elem_id="target",
        render=False,
    )
    versus = gr.Dropdown(
        [("the runner-up", RUNNER_UP)],
        value=RUNNER_UP,
        label="rather than",
        allow_custom_value=True,
        elem_id="versus",
        visible=False,
        render=False,
    )
    return photo, quantity, target, versus


def _style() -> StyleControls:
    return StyleControls(
        gr.Radio(
            [(name.capitalize(), name) for name in colour_names()],
            value=colour_names()[0],
            label="Colours",
            elem_id="colormap",
            render=False,
        ),
        gr.Slider(
            0,
            1,
            value=0.7,
            step=0.05,
            label="Strength of the map",
            elem_id="opacity",
            buttons=[],
            render=False,
        ),
        gr.Checkbox(
            value=False,
            label="Hide what another seed could undo",
            info="Where a sampled map does not differ from 0 at 95 %",
            elem_id="significant",
            render=False,
        ),
        gr.Radio(
            [
                ("What suits it", "auto"),
                ("The input", "photo"),
                ("The input in faded grey", "faded"),
                ("Nothing", "alone"),
            ],
            value="auto",
            label="Under the map",
            elem_id="under",
            render=False,
        ),
    )


def _tabs(
    session: Session, form: QuestionForm, style: StyleControls, *, public: bool
) -> tuple[Tabs, Compare, Methods, Guide, Report, list[NewModel]]:
    new_models = []
    trainable, local = training_allowed(public=public), not is_public(public=public)
    form.quantity.change(
        lambda value: gr.Dropdown(visible=value == "contrast"),
        [form.quantity],
        [form.versus],
        **PRIVATE,
    )
    with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as outer:
        with gr.Tab("Compare", id=COMPARE, elem_id="tab-compare"):
            compare = build_compare(session, form, style)
        with gr.Tab("What if", id=WHAT_IF, elem_id="tab-what-if") as what_if:
            build_what_if(session, form, what_if)
        with gr.Tab("All methods", id=METHODS, elem_id="tab-methods") as all_methods:
            with gr.Accordion("Help me choose", open=False, elem_id="guide") as fold:
                guide = build_guide(session, form, outer, compare.methods, fold)
            methods = build_methods(session, form, style, compare.methods, all_methods)
            plugins = _build_plugins(session.engine)
        with gr.Tab("This network", id=REPORT, elem_id="tab-report"):
            report = build_report(session, form, style, trainable=trainable)
            if local:
                new_models.append(build_import(session.engine, form))
        with (
            gr.Tab("Your pictures", id=PICTURES, elem_id="tab-pictures"),
            gr.Tabs(elem_id="pictures") as inner,
        ):
            with gr.Tab("Many photos", id=PHOTOS, elem_id="tab-photos"):
                build_many_photos(session, form, style, local=local)
            if trainable:
                with gr.Tab("Train on a folder", id=TRAIN, elem_id="tab-train"):
                    new_models.append(build_training(session, form, local=local))
    return Tabs(outer, inner, plugins), compare, methods, guide, report, new_models


def _build_plugins(engine: Engine) -> gr.Accordion:
    registry = engine.registry

    def table() -> str:
        return html.plugin_table(registry, engine.failures())

    count = len(registry.problems)
    label = "Plugins: who wrote each method" + (f", and what did not load ({count})" * bool(count))
    with gr.Accordion(label, open=bool(count), elem_id="plugins-fold") as fold:
        plugins_table = gr.HTML(table(), elem_id="plugins")
        if not registry.problems:
            gr.HTML("<p class='wl-source'>No problems: every plugin that was found has loaded.</p>")
        _build_problems(registry)
    fold.expand(table, None, [plugins_table], **PRIVATE)
    return fold


def _build_problems(registry: Registry) -> None:
    for problem in registry.problems:
        head = f"{problem.plugin} of {problem.distribution} ({problem.stage})"
        gr.Textbox(
            problem.message, label=f"Problem: {head}", elem_classes="wl-problem", max_lines=8
        )
        if problem.details:
            with gr.Accordion("Traceback", open=False):
                gr.Code(problem.details, language=None, interactive=False, label=head)
