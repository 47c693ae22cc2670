"""The page's events: what happens when it opens, and when photo, model, target or look change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.errors import CoreError
from whylens.core.explainer import Explainer
from whylens.core.explanation import ModelCard
from whylens.core.outputs.render import Style
from whylens.ui.page import html
from whylens.ui.page.compare import Compare, redraw_of, ticked_first
from whylens.ui.page.endpoints import build_endpoints
from whylens.ui.page.html import COMPARE, family_tab, slug
from whylens.ui.page.panel import Look, Panel, Question, drawn
from whylens.ui.page.report import Report
from whylens.ui.page.session import (
    PREDICTED,
    QUIET,
    RUNNER_UP,
    Session,
    errors_as_messages,
    first_model,
    untrained_banner,
    visitor,
)
from whylens.ui.page.signal_input import SignalInput, shown_for, wire_signal_input
from whylens.ui.page.training import Training

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
class Left:
    """The components of the left side beside those of the question."""

    guesses: Component
    card: Component
    load: Component
    signal: SignalInput


@dataclass(frozen=True)
class Parts:
    """Everything on the page that events read or write."""

    session: Session
    banner: Component
    question: Question
    left: Left
    look: Look
    tabs: gr.Tabs
    groups: Mapping[str, gr.Tabs]
    compare: Compare
    panels: Mapping[str, Panel]
    report: Report
    training: Training | None


STALE = "The question has changed. Press the button to explain again."


def wire(page: gr.Blocks, parts: Parts) -> None:
    """Connect all that is not inside a single tab.

    Args:
        page: The open page.
        parts: Its components.
    """
    session, question, compare = parts.session, parts.question, parts.compare
    asked, address = [question.photo, question.model], [question.model, question.target]
    ticked = [*parts.look.inputs, compare.ticks]
    panels = list(parts.panels.values())
    statuses = [compare.status, *(panel.status for panel in panels)]
    of_model: list[Any] = [
        parts.left.card,
        parts.left.signal.box,
        question.target,
        question.versus,
        compare.ticks,
        compare.notice,
        *(part for panel in panels for part in (panel.notice, panel.run)),
    ]
    wire_signal_input(parts.left.signal, question.photo, session.shelf)
    every = [parts.tabs, *parts.groups.values()]
    tabs = {tab.id for tab in parts.tabs.children if isinstance(tab, gr.Tab)}
    first = page.load(
        _opened(session, tabs, list(parts.groups)),
        None,
        [question.model, parts.banner, *every, *of_model],
        **QUIET,
    )
    changed = _model_changed(session)
    other_model = gr.on(
        [question.model.input, parts.left.load.click],
        changed,
        [question.model],
        [parts.banner, *of_model],
        api_visibility="private",
        show_progress="full",
        show_progress_on=[parts.left.card],
        trigger_mode="once",
    )
    loaded = [other_model]
    if parts.training is not None:
        loaded.append(
            parts.training.done.success(
                changed, [question.model], [parts.banner, *of_model], **QUIET
            )
        )
    for event in loaded:
        event.success(lambda: [STALE] * len(statuses), None, statuses, **QUIET)
    for event in (first, *loaded):
        event.success(parts.report.on_model, [question.model], parts.report.shown, **QUIET)
    predict = _predicted(session)
    other_photo = question.photo.change(
        predict, asked, [parts.left.guesses], api_name="predict", show_progress="hidden"
    )
    predictions = [
        event.success(predict, asked, [parts.left.guesses], **QUIET) for event in (first, *loaded)
    ]
    for event in predictions:
        event.then(None, address, None, js=ADDRESS_JS, **QUIET)
    # What is ticked explains a new photo or model at once: maps before any click.
    for event in (other_photo, *predictions):
        event.success(
            compare.on_photo,
            [*question.inputs, *ticked, compare.scaling],
            [compare.grid, compare.legend, compare.status],
            concurrency_id="work",
            **QUIET,
        ).then(compare.pack, [question.photo, *ticked], [compare.download], **QUIET)
    gr.on(
        [question.target.input, question.quantity.input, question.versus.input],
        lambda: [STALE] * len(statuses),
        None,
        statuses,
        **QUIET,
    ).then(None, address, None, js=ADDRESS_JS, **QUIET)
    for tab in (child for tabs in every for child in tabs.children):
        if isinstance(tab, gr.Tab):
            tab.select(None, None, None, js=TAB_JS.format(tab=tab.id), **QUIET)
    gr.on(
        [parts.look.colours.input, parts.look.opacity.release, parts.look.sure.input],
        _restyle(session, panels),
        [*ticked, compare.scaling],
        [compare.grid, compare.legend, *(part for panel in panels for part in panel.shown)],
        **QUIET,
    )

    def gone(request: gr.Request) -> None:
        session.shelf.forget(visitor(request))
        session.engine.artifact_store.forget(visitor(request))

    page.unload(gone)
    build_endpoints(session, question, parts.look, parts.panels)


def _opened(session: Session, tabs: Collection[Any], groups: list[str]) -> Callable[..., Any]:
    methods = session.engine.registry.explainers

    def opened(request: gr.Request) -> Any:
        wanted = dict(request.query_params)
        name, reason = "", ""
        if wanted.get("model"):
            try:
                name = session.model_name(wanted["model"])
                session.engine.card(name)
            except CoreError as exc:
                name, reason = "", f"{exc} "
        if not name:
            name, why = first_model(session.engine)
            reason += why
        card = session.engine.card(name)
        unavailable = session.engine.unavailable(name, visitor=visitor(request))
        chosen = _tabs_open(wanted.get("method", COMPARE), methods, tabs, groups)
        target = wanted.get("target", PREDICTED)
        return (
            name,
            _banner(card, reason),
            *chosen,
            *_of_model(card, unavailable, methods, target),
        )

    return opened


def _tabs_open(
    wanted: str, methods: Mapping[str, Explainer[Any]], tabs: Collection[Any], groups: list[str]
) -> list[Any]:
    # The outer tabs first; a method may lie in those of its family.
    family = {slug(name): family_tab(e.family) for name, e in methods.items()}.get(wanted, "")
    outer = wanted if wanted in tabs else family if family in tabs else COMPARE
    inner = [gr.Tabs(selected=wanted) if group == family else gr.skip() for group in groups]
    return [gr.Tabs(selected=outer), *inner]


def _model_changed(session: Session) -> Callable[..., Any]:
    def changed(
        name: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        with errors_as_messages():
            wanted = session.model_name(name)
            card = session.engine.card(wanted, progress=lambda f, s: progress(f, desc=s))
            unavailable = session.engine.unavailable(wanted, visitor=visitor(request))
            explainers = session.engine.registry.explainers
            return _banner(card, ""), *_of_model(card, unavailable, explainers, PREDICTED)

    return changed


def _predicted(session: Session) -> Callable[..., Any]:
    def predict(photo: str | None, model: str | None) -> Any:
        """Return the model's best five classes with their probabilities.

        Args:
            photo: The picture: an address, a data URL or an uploaded file.
            model: A name that `models` lists, or any timm name.
        """
        if not photo or not model:
            return None
        with errors_as_messages():
            if not session.fits(photo, model):  # the box beside the photo says what is wanted
                return None
            asked = session.question(photo, model, PREDICTED, "logit", RUNNER_UP)
            return html.class_probabilities(session.engine.predict(asked))

    return predict


def _restyle(session: Session, panels: list[Panel]) -> Callable[..., Any]:
    redraw = redraw_of(session)

    def restyle(
        colours: str,
        opacity: float,
        sure: bool,
        ticks: list[str],
        scaling: str,
        request: gr.Request,
    ) -> list[Any]:
        updates = list(redraw(colours, opacity, sure, ticks, scaling, request))
        for panel in panels:
            answer = session.shelf.answer(visitor(request), panel.name)
            if answer is None:
                updates += [gr.skip()] * len(panel.shown)
            else:
                updates += drawn(answer, Style(colours, opacity, sure), session)
        return updates

    return restyle


def _banner(card: ModelCard, reason: str) -> Component:
    return _shown(html.banner(reason.strip() if card.trained else untrained_banner(reason)))


def _shown(text: str) -> Component:
    # An empty element would still take its row of space.
    return gr.HTML(text, visible=bool(text))


def _of_model(
    card: ModelCard,
    unavailable: Mapping[str, str],
    explainers: Mapping[str, Explainer[Any]],
    target: str,
) -> list[Any]:
    classes = [(f"{label} ({i})", str(i)) for i, label in enumerate(card.labels)]
    known = target if target.isdecimal() and int(target) < len(classes) else PREDICTED
    available = {n: e for n, e in explainers.items() if n not in unavailable}
    updates: list[Any] = [
        html.model_card(card),
        shown_for(card),
        gr.Dropdown([("the predicted class", PREDICTED), *classes], value=known),
        gr.Dropdown([("the runner-up", RUNNER_UP), *classes], value=RUNNER_UP),
        gr.CheckboxGroup(value=ticked_first(available)),
        _shown(html.unavailable_list({explainers[n].title: r for n, r in unavailable.items()})),
    ]
    for name in explainers:
        reason = unavailable.get(name, "")
        updates += [_shown(html.unavailable(reason)), gr.Button(interactive=not reason)]
    return updates
