"""The page: photo, model and target on the left; one tab per registered explainer on the right."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from core.answers import ModelCard
from core.engine import Engine
from core.errors import CoreError
from core.explainer import Explainer
from core.registry import Registry
from core.render import Style, colour_names
from core.results import Heatmap
from ui import words
from ui.compare import Compare, build_compare, redraw_of, ticked_first
from ui.panel import Look, Panel, Question, build_panel, drawn, slug
from ui.photo_input import PhotoInput
from ui.session import (
    PREDICTED,
    QUANTITIES,
    RUNNER_UP,
    Session,
    first_model,
    model_choices,
    said_to_visitor,
    untrained_banner,
    visitor,
)
from ui.shelf import Shelf

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "photos"
GROUPED_ABOVE = 8
COMPARE, PLUGINS = "compare", "plugins"

# Keeps the address in step with what is shown, so that it can be shared.
ADDRESS_JS = """(model, target) => {
  const url = new URL(window.location);
  url.searchParams.set('model', model || '');
  url.searchParams.set('target', target || 'predicted');
  window.history.replaceState({}, '', url);
}"""
TAB_JS = "() => {{ const url = new URL(window.location); url.searchParams.set('method', '{tab}'); window.history.replaceState({{}}, '', url); }}"


def build_page(engine: Engine, *, shelf: Shelf | None = None) -> gr.Blocks:
    """Return the page; nothing is loaded until a visitor opens it.

    Args:
        engine: Answers questions.
        shelf: Keeps answers and pictures; by default a new one.
    """
    session = Session(engine, shelf or Shelf())
    with gr.Blocks(
        title="Whylens: why did it say that?", delete_cache=(300, 3600), analytics_enabled=False
    ) as page:
        gr.HTML(
            "<header class='wl-head'><h1>Whylens</h1><p>Why does an image classifier decide as it "
            "does? Ask several methods, on one scale.</p></header>"
        )
        banner = gr.HTML(words.banner("Loading the model ..."), elem_id="banner")
        with gr.Row(elem_classes="wl-columns"):
            with gr.Column(scale=4, min_width=320):
                question, guesses, card, load = _left()
            with gr.Column(scale=8, min_width=320):
                look = _look()
                tabs, compare, panels = _right(session, question, look)
        _wire(page, session, question, look, compare, panels, tabs, banner, guesses, card, load)
    return page


def _left() -> tuple[Question, Component, Component, Component]:
    photo = PhotoInput(
        label="Photo",
        sources=["upload", "clipboard", "webcam"],
        elem_id="photo",
        height=300,
        buttons=["fullscreen"],
        alt_text="The photo to explain",
    )
    gr.Examples([[str(p)] for p in sorted(EXAMPLES.glob("*.jpg"))], [photo], label="Examples")
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
    guesses = gr.Label(label="Predictions", num_top_classes=5, elem_id="predictions")
    target = gr.Dropdown(
        [("the predicted class", PREDICTED)],
        value=PREDICTED,
        label="Explain the class (A)",
        elem_id="target",
    )
    with gr.Accordion("What about this class?", open=False, elem_id="more"):
        quantity = gr.Radio(
            list(QUANTITIES), value=next(iter(QUANTITIES)), label="Explain its", elem_id="quantity"
        )
        versus = gr.Dropdown(
            [("the runner-up", RUNNER_UP)],
            value=RUNNER_UP,
            label="Rather than (B)",
            elem_id="versus",
            visible=False,
        )
    quantity.change(
        lambda chosen: gr.Dropdown(visible=QUANTITIES.get(chosen) == "contrast"),
        [quantity],
        [versus],
        show_progress="hidden",
        api_visibility="private",
    )
    return Question(photo, model, target, quantity, versus), guesses, card, load


def _look() -> Look:
    with gr.Row(elem_classes="wl-look"):
        colours = gr.Dropdown(
            list(colour_names()), value=colour_names()[0], label="Colours", elem_id="colours"
        )
        opacity = gr.Slider(
            0, 1, value=0.7, step=0.05, label="Opacity of the map", elem_id="opacity", buttons=[]
        )
    return Look(colours, opacity)


def _right(
    session: Session, question: Question, look: Look
) -> tuple[gr.Tabs, Compare, dict[str, Panel]]:
    registry = session.engine.registry
    panels: dict[str, Panel] = {}

    def method_tab(explainer: Explainer[Any]) -> None:
        with gr.Tab(
            explainer.title, id=slug(explainer.name), elem_id=f"tab-{slug(explainer.name)}"
        ):
            panels[explainer.name] = build_panel(explainer, session, question, look)

    with gr.Tabs(elem_id="tabs") as tabs:
        with gr.Tab("Compare", id=COMPARE, elem_id="tab-compare"):
            compare = build_compare(session, question, look)
        explainers = list(registry.explainers.values())
        if len(explainers) <= GROUPED_ABOVE:
            for explainer in explainers:
                method_tab(explainer)
        else:
            by_family = sorted(explainers, key=lambda e: e.family)  # stable: keeps table order
            for family, members in groupby(by_family, key=lambda e: e.family):
                with gr.Tab(family, id=f"family-{family}"), gr.Tabs():
                    for explainer in members:
                        method_tab(explainer)
        with gr.Tab("Plugins", id=PLUGINS, elem_id="tab-plugins"):
            _plugins(registry)
    return tabs, compare, panels


def _plugins(registry: Registry) -> None:
    gr.HTML(words.plugin_table(registry), elem_id="plugins")
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


def _wire(
    page: gr.Blocks,
    session: Session,
    question: Question,
    look: Look,
    compare: Compare,
    panels: dict[str, Panel],
    tabs: gr.Tabs,
    banner: Component,
    guesses: Component,
    card: Component,
    load: Component,
) -> None:
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    of_model: list[Component] = [
        card,
        question.target,
        question.versus,
        compare.ticks,
        compare.notice,
        *(part for panel in panels.values() for part in (panel.notice, panel.run)),
    ]
    methods = session.engine.registry.explainers
    statuses = [compare.status, *(panel.status for panel in panels.values())]

    def opened(request: gr.Request) -> Any:
        wanted = dict(request.query_params)
        reason = ""
        try:
            name = session.model_name(wanted["model"]) if wanted.get("model") else ""
            if name:
                session.engine.card(name)
        except CoreError as exc:
            name, reason = "", f"{exc} "
        if not name:
            name, why = first_model(session.engine)
            reason += why
        known = session.engine.card(name)
        tab = wanted.get("method", COMPARE)
        chosen = tab if tab in {COMPARE, PLUGINS, *map(slug, methods)} else COMPARE
        return (
            name,
            _banner(known, reason),
            gr.Tabs(selected=chosen),
            *_of_model(known, methods, wanted.get("target", PREDICTED)),
        )

    def changed(name: str, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008 - Gradio's way
        with said_to_visitor():
            wanted = session.model_name(name)
            known = session.engine.card(wanted, progress=lambda f, s: progress(f, desc=s))
        return _banner(known, ""), *_of_model(known, methods, PREDICTED)

    def predicted(photo: str | None, model: str | None) -> Any:
        if not photo or not model:
            return None
        with said_to_visitor():
            asked = session.question(photo, model, PREDICTED, "logit", RUNNER_UP)
            return words.guesses(session.engine.predict(asked))

    def stale() -> list[str]:
        return ["The question has changed. Press the button to explain again."] * len(statuses)

    first = page.load(opened, None, [question.model, banner, tabs, *of_model], **quiet)
    for done in (
        first.then(predicted, [question.photo, question.model], [guesses], **quiet),
        gr.on(
            [question.model.input, load.click],
            changed,
            [question.model],
            [banner, *of_model],
            api_visibility="private",
            show_progress="full",
            show_progress_on=[card],
            trigger_mode="once",
        ).success(predicted, [question.photo, question.model], [guesses], **quiet),
    ):
        done.then(None, [question.model, question.target], None, js=ADDRESS_JS, **quiet)
    shown = question.photo.change(
        predicted, [question.photo, question.model], [guesses], api_name="predict",
        show_progress="hidden",
    )  # fmt: skip
    # A new photo is explained at once by what is ticked: the visitor sees maps before any click.
    shown.success(
        compare.on_photo,
        [*question.inputs, *look.inputs, compare.ticks, compare.scaling],
        [compare.grid, compare.legend, compare.status],
        concurrency_id="work",
        **quiet,
    ).then(compare.pack, [*look.inputs, compare.ticks], [compare.download], **quiet)
    gr.on(
        [question.target.input, question.quantity.input, question.versus.input],
        stale,
        None,
        statuses,
        **quiet,
    ).then(None, [question.model, question.target], None, js=ADDRESS_JS, **quiet)
    for tab in tabs.children:
        if isinstance(tab, gr.Tab):
            tab.select(None, None, None, js=TAB_JS.format(tab=tab.id), **quiet)
    gr.on(
        [look.colours.input, look.opacity.release],
        _restyle(session, list(panels.values())),
        [*look.inputs, compare.ticks, compare.scaling],
        [compare.grid, compare.legend, *(c for p in panels.values() for c in p.shown)],
        **quiet,
    )

    def gone(request: gr.Request) -> None:
        session.shelf.forget(visitor(request))

    page.unload(gone)
    _endpoints(session)


def _restyle(session: Session, panels: list[Panel]) -> Callable[..., Any]:
    redraw = redraw_of(session)

    def restyle(
        colours: str, opacity: float, ticks: list[str], scaling: str, request: gr.Request
    ) -> list[Any]:
        updates = list(redraw(colours, opacity, ticks, scaling, request))
        for panel in panels:
            answer = session.shelf.answer(visitor(request), panel.name)
            if answer is None or not isinstance(answer.result, Heatmap):
                updates += [gr.skip(), gr.skip()]
                continue
            picture, _, legend = drawn(answer, Style(colours, opacity), session)
            updates += [picture, legend]
        return updates

    return restyle


def _banner(card: ModelCard, reason: str) -> Component:
    return _shown(words.banner(reason.strip() if card.trained else untrained_banner(reason)))


def _shown(html: str) -> Component:
    # An empty element would still take its row of space.
    return gr.HTML(html, visible=bool(html))


def _of_model(card: ModelCard, explainers: dict[str, Explainer[Any]], target: str) -> list[Any]:
    classes = [(f"{label} ({i})", str(i)) for i, label in enumerate(card.labels)]
    known = target if target.isdecimal() and int(target) < len(classes) else PREDICTED
    available = {n: e for n, e in explainers.items() if n not in card.unavailable}
    updates: list[Any] = [
        words.model_card(card),
        gr.Dropdown([("the predicted class", PREDICTED), *classes], value=known),
        gr.Dropdown([("the runner-up", RUNNER_UP), *classes], value=RUNNER_UP),
        gr.CheckboxGroup(value=ticked_first(available)),
        _shown(
            words.unavailable_list({explainers[n].title: r for n, r in card.unavailable.items()})
        ),
    ]
    for name in explainers:
        reason = card.unavailable.get(name, "")
        updates += [_shown(words.unavailable(reason)), gr.Button(interactive=not reason)]
    return updates


def _endpoints(session: Session) -> None:
    def methods() -> list[dict[str, str]]:
        """Return every method with its title, family and summary."""
        return [
            {"name": n, "title": e.title, "family": e.family, "summary": e.summary}
            for n, e in session.engine.registry.explainers.items()
        ]

    def models() -> list[str]:
        """Return the model names that the page offers; other timm names may be typed."""
        return model_choices()

    gr.api(methods, api_name="methods")
    gr.api(models, api_name="models")
