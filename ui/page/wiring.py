"""The page's events: what happens when it opens, and when photo, model, target or style change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from whylens.core.errors import CoreError
from whylens.core.explainer import Explainer
from whylens.core.explanation import ModelCard
from whylens.ui.page import html
from whylens.ui.page.compare import Compare, default_methods
from whylens.ui.page.endpoints import build_endpoints
from whylens.ui.page.form import QuestionForm, StyleControls
from whylens.ui.page.html import COMPARE, family_tab, slug
from whylens.ui.page.panel import Panel, answer_updates
from whylens.ui.page.report import Report
from whylens.ui.page.session import (
    PREDICTED,
    PRIVATE,
    RUNNER_UP,
    Session,
    errors_as_messages,
    first_model,
    untrained_banner,
    visitor_id,
)
from whylens.ui.page.signal_input import SignalInput, box_update, wire_signal_input

# Keeps the address in step with what is shown, so that it can be shared. Tabs also report the one
# that is open when the page is drawn; until the address has been read, that must not change it.
ADDRESS_JS = """(model, target) => {
  const url = new URL(window.location);
  url.searchParams.set('model', model || '');
  url.searchParams.set('target', target || 'predicted');
  window.history.replaceState({}, '', url);
  window.whylensHasReadAddress = true;
}"""
TAB_JS = """() => {{
  if (!window.whylensHasReadAddress) return;
  const url = new URL(window.location);
  url.searchParams.set('method', '{tab}');
  window.history.replaceState({{}}, '', url);
}}"""


@dataclass(frozen=True)
class LeftColumn:
    """The components of the left side beside those of the question."""

    predictions: Component
    card: Component
    load: Component
    signal: SignalInput


@dataclass(frozen=True)
class Page:
    """Everything on the page that events read or write."""

    session: Session
    banner: Component
    form: QuestionForm
    left: LeftColumn
    style: StyleControls
    tabs: gr.Tabs
    groups: Mapping[str, gr.Tabs]
    compare: Compare
    panels: Mapping[str, Panel]
    report: Report
    training: Dependency | None


STALE = "The question has changed. Press the button to explain again."


def wire(blocks: gr.Blocks, page: Page) -> None:
    """Connect all that is not inside a single tab."""
    session, form, compare, left = page.session, page.form, page.compare, page.left
    panels = list(page.panels.values())
    statuses = [compare.status, *(panel.status for panel in panels)]
    of_model: list[Any] = [
        left.card,
        left.signal.box,
        form.target,
        form.versus,
        compare.methods,
        compare.notice,
        *(part for panel in panels for part in (panel.notice, panel.run)),
    ]
    wire_signal_input(left.signal, form.photo, session.store)
    tab_groups = [page.tabs, *page.groups.values()]
    tab_ids = {tab.id for tab in page.tabs.children if isinstance(tab, gr.Tab)}
    open_event = blocks.load(
        _on_open(session, tab_ids, list(page.groups)),
        None,
        [form.model, page.banner, *tab_groups, *of_model],
        **PRIVATE,
    )
    change_model = _model_changer(session)
    model_events = [
        gr.on(
            [form.model.input, left.load.click],
            change_model,
            [form.model],
            [page.banner, *of_model],
            api_visibility="private",
            show_progress="full",
            show_progress_on=[left.card],
            trigger_mode="once",
        )
    ]
    if page.training is not None:
        outputs = [page.banner, *of_model]
        model_events.append(page.training.success(change_model, [form.model], outputs, **PRIVATE))

    def mark_stale() -> list[str]:
        return [STALE] * len(statuses)

    for event in model_events:
        event.success(mark_stale, None, statuses, **PRIVATE)
    for event in (open_event, *model_events):
        event.success(page.report.on_model, [form.model], page.report.outputs, **PRIVATE)
    predict, inputs = _predictor(session), [form.photo, form.model]
    photo_event = form.photo.change(
        predict, inputs, [left.predictions], api_name="predict", show_progress="hidden"
    )
    predict_events = [
        event.success(predict, inputs, [left.predictions], **PRIVATE)
        for event in (open_event, *model_events)
    ]
    address = [form.model, form.target]
    for event in predict_events:
        event.then(None, address, None, js=ADDRESS_JS, **PRIVATE)
    # What is ticked explains a new photo or model at once: maps before any click.
    for event in (photo_event, *predict_events):
        event.success(
            compare.on_photo,
            None,
            [compare.grid, compare.legend, compare.status],
            inputs_kwargs=compare.inputs,
            concurrency_id="work",
            **PRIVATE,
        ).then(compare.pack, None, [compare.download], inputs_kwargs=compare.pack_inputs, **PRIVATE)
    gr.on(
        [form.target.input, form.quantity.input, form.versus.input],
        mark_stale,
        None,
        statuses,
        **PRIVATE,
    ).then(None, address, None, js=ADDRESS_JS, **PRIVATE)
    for tab in (child for tabs in tab_groups for child in tabs.children):
        if isinstance(tab, gr.Tab):
            tab.select(None, None, None, js=TAB_JS.format(tab=tab.id), **PRIVATE)
    style = page.style
    gr.on(
        [style.colours.input, style.opacity.release, style.sure.input],
        _restyler(session, compare, panels),
        None,
        [compare.grid, compare.legend, *(part for panel in panels for part in panel.answer)],
        inputs_kwargs=compare.redraw_inputs,
        **PRIVATE,
    )

    def forget(request: gr.Request) -> None:
        session.store.forget(visitor_id(request))
        session.engine.artifact_store.forget(visitor_id(request))

    blocks.unload(forget)
    build_endpoints(session, form, style, page.panels)


def _on_open(session: Session, tabs: Collection[Any], groups: list[str]) -> Callable[..., Any]:
    methods = session.engine.registry.explainers

    def on_open(request: gr.Request) -> Any:
        query = dict(request.query_params)
        name, reason = "", ""
        if query.get("model"):
            try:
                name = session.model_name(query["model"])
                session.engine.card(name)
            except CoreError as exc:
                name, reason = "", f"{exc} "
        if not name:
            name, why = first_model(session.engine)
            reason += why
        card = session.engine.card(name)
        unavailable = session.engine.unavailable(name, visitor=visitor_id(request))
        return (
            name,
            _banner(card, reason),
            *_tab_updates(query.get("method", COMPARE), methods, tabs, groups),
            *_model_updates(card, unavailable, methods, query.get("target", PREDICTED)),
        )

    return on_open


def _tab_updates(
    tab: str, methods: Mapping[str, Explainer[Any]], tabs: Collection[Any], groups: list[str]
) -> list[Any]:
    # The outer tabs first; a method may lie in those of its family.
    family = {slug(name): family_tab(e.family) for name, e in methods.items()}.get(tab, "")
    outer = tab if tab in tabs else family if family in tabs else COMPARE
    inner = [gr.Tabs(selected=tab) if group == family else gr.skip() for group in groups]
    return [gr.Tabs(selected=outer), *inner]


def _model_changer(session: Session) -> Callable[..., Any]:
    def change_model(
        name: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        with errors_as_messages():
            model, explainers = session.model_name(name), session.engine.registry.explainers
            card = session.engine.card(
                model, progress=lambda fraction, message: progress(fraction, desc=message)
            )
            unavailable = session.engine.unavailable(model, visitor=visitor_id(request))
            return _banner(card, ""), *_model_updates(card, unavailable, explainers, PREDICTED)

    return change_model


def _predictor(session: Session) -> Callable[..., Any]:
    def predict(photo: str | None, model: str | None) -> Any:
        """Return the model's best five classes with their probabilities.

        Args:
            model: A name that `models` lists, or any timm name.
        """
        if not photo or not model:
            return None
        with errors_as_messages():
            if not session.fits(photo, model):  # the box beside the photo says what is needed
                return None
            values = {"photo": photo, "model": model, "target": PREDICTED, "quantity": "logit"}
            question = QuestionForm.read({**values, "versus": RUNNER_UP}, session)
            return html.class_probabilities(session.engine.predict(question))

    return predict


def _restyler(session: Session, compare: Compare, panels: list[Panel]) -> Callable[..., Any]:
    def restyle(request: gr.Request, **values: Any) -> list[Any]:
        updates = list(compare.redraw(request, **values))
        for panel in panels:
            answer = session.store.answer(visitor_id(request), panel.name)
            if answer is None:
                updates += [gr.skip()] * len(panel.answer)
            else:
                updates += answer_updates(answer, StyleControls.read(values), session)
        return updates

    return restyle


def _banner(card: ModelCard, reason: str) -> Component:
    return _html(html.banner(reason.strip() if card.trained else untrained_banner(reason)))


def _html(text: str) -> Component:
    # An empty element would still take its row of space.
    return gr.HTML(text, visible=bool(text))


def _model_updates(
    card: ModelCard,
    unavailable: Mapping[str, str],
    explainers: Mapping[str, Explainer[Any]],
    target: str,
) -> list[Any]:
    classes = [(f"{label} ({i})", str(i)) for i, label in enumerate(card.labels)]
    known = target.isdecimal() and int(target) < len(classes)
    available = {n: e for n, e in explainers.items() if n not in unavailable}
    updates: list[Any] = [
        html.model_card(card),
        box_update(card),
        gr.Dropdown(
            [("the predicted class", PREDICTED), *classes], value=target if known else PREDICTED
        ),
        gr.Dropdown([("the runner-up", RUNNER_UP), *classes], value=RUNNER_UP),
        gr.CheckboxGroup(value=default_methods(available)),
        _html(html.unavailable_list({explainers[n].title: r for n, r in unavailable.items()})),
    ]
    for name in explainers:
        reason = unavailable.get(name, "")
        updates += [_html(html.unavailable(reason)), gr.Button(interactive=not reason)]
    return updates
