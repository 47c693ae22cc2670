"""The page's events: what happens when it opens, and when photo, model, target or style change."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import urlencode

import gradio as gr
from gradio.components import Component

from whylens.core.errors import CoreError
from whylens.core.explainer import Explainer
from whylens.core.explanation import ModelCard
from whylens.core.models.checkpoints import checkpoint_folders
from whylens.core.models.labels import class_index, class_text
from whylens.core.targets import Quantity
from whylens.ui.page import html
from whylens.ui.page.answer import SLOT, AnswerCard
from whylens.ui.page.compare import Compare
from whylens.ui.page.endpoints import build_endpoints
from whylens.ui.page.examples import (
    buttons_html,
    example,
    example_name,
    example_names,
    opening_names,
    wire_examples,
)
from whylens.ui.page.form import QuestionForm, StyleControls, network_id, question_id
from whylens.ui.page.framing import FramingInput, wire_framing
from whylens.ui.page.guide import Guide, default_methods
from whylens.ui.page.html import COMPARE, METHODS, PICTURES, PLUGINS, TAB_OF, slug
from whylens.ui.page.judging import wire_judging
from whylens.ui.page.light_events import LIGHT_COPIES_JS
from whylens.ui.page.long_events import QUICK, UNQUEUED, NewModel
from whylens.ui.page.methods import NOTICEABLE, OPEN_JS, Methods, cards_html, seconds_of
from whylens.ui.page.panel import Panel
from whylens.ui.page.panel_updates import answer_updates, verdict_html
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
from whylens.ui.page.signal_input import SignalInput, input_updates, wire_signal_input
from whylens.ui.page.truth import agreement_teller

# The address says what is shown, so that it can be shared and the back button works. Tabs also
# report the one that is open when the page is drawn; until the address was read, that is no visit.
# An answer to another question than the form's, or of another network where that alone matters, is
# greyed, whatever brought it there and when.
START_JS = (
    "() => {"
    + LIGHT_COPIES_JS
    + r"""
  window.whylensVisit = (values, save = 'pushState') => {
    if (!window.whylensHasReadAddress) return;
    const url = new URL(window.location);
    for (const [key, value] of Object.entries(values))
      if (value) url.searchParams.set(key, value); else url.searchParams.delete(key);
    if (url.href !== window.location.href) window.history[save]({}, '', url);
  };
  window.whylensTab = tab => {
    const panels = [...document.querySelectorAll('[id^="panel-"]')];
    const open = tab === 'methods' && panels.find(panel => panel.offsetParent);
    window.whylensVisit({method: open ? open.id.slice('panel-'.length) : tab});
  };
  window.addEventListener('popstate', () => window.location.reload());
  // What failed offers a button that stands elsewhere; a file that is no picture leaves no symbol.
  document.addEventListener('click', ({target}) => {
    const button = target.closest?.('[data-press]');
    if (button) document.querySelector(button.dataset.press)?.click();
  });
  for (const event of ['error', 'load']) document.addEventListener(event, ({target, type}) => {
    if (target.matches?.('#photo img'))
      target.style.visibility = type === 'error' ? 'hidden' : '';
  }, true);
  const mark = () => {
    const now = document.querySelector('#question-id [data-question]')?.dataset;
    for (const box of document.querySelectorAll('.wl-answer')) {
      const own = box.querySelector('[data-question], [data-network]')?.dataset;
      const other = now && own && Object.keys(own).some(key => own[key] !== now[key]);
      box.classList.toggle('wl-stale', Boolean(other));
      // The line of status before it is as old, until it says something else.
      const status = box.previousElementSibling?.querySelector('textarea');
      box.oldWords = other ? box.oldWords ?? status?.value : null;
      status?.classList.toggle('wl-old', Boolean(other) && status.value === box.oldWords);
    }
  };
  // What is typed into a list's field looks for a choice: it replaces the choice that stands there.
  for (const event of ['focusin', 'click']) document.addEventListener(event, ({target}) => {
    if (target.matches?.('input[role=combobox]') && target.selectionStart === target.selectionEnd)
      requestAnimationFrame(() => target.select());
  });
  // Gradio's server ends the line of a visitor's answers as it believes the last was sent; one that
  // is asked for at that moment waits until the line is opened again, as any queued event does.
  let waited = 0;
  setInterval(() => {
    waited = document.querySelector('#answer.wl-stale') ? waited + 1 : 0;
    if (waited && waited % 2 === 0) document.querySelector('#wake')?.click();
  }, 2000);
  // What is asked waits its turn: the server tells Gradio's own tracker, which is hidden, the place
  // in line and, where it knows, the seconds since the click and up to the answer.
  setInterval(() => {
    const tracker = document.querySelector('#answer-head .progress-text')?.textContent ?? '';
    const read = /queue: (\d+)\/.*?([\d.]+)(?:\/([\d.]+))?s/.exec(tracker);
    const [, place, spent, total] = read ?? [];
    const before = place > 1 ? `${place - 1} before you` : 'You are next';
    const left = total ? `, about ${Math.max(5, 5 * Math.ceil((total - spent) / 5))} s` : '';
    const text = read ? `${before}${left}.` : '';
    const note = document.querySelector('#answer-waiting p');
    if (note && note.textContent !== text) note.textContent = text;
    mark();
  }, 250);
  let due = false;
  new MutationObserver(() => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; mark(); });
  }).observe(document.body, {
    subtree: true, childList: true, attributes: true,
    attributeFilter: ['data-question', 'data-network'],
  });
}"""
)
# What was filled for an earlier question is filled anew where it is seen.
ADDRESS_JS = """stamp => {
  const box = document.createElement('div');
  box.innerHTML = stamp;
  const address = box.querySelector('[data-address]')?.dataset.address;
  if (!address) return;
  const first = !window.whylensHasReadAddress;
  window.whylensHasReadAddress = true;
  const {example = '', ...values} = Object.fromEntries(new URLSearchParams(address));
  window.whylensVisit({...values, example}, first ? 'replaceState' : 'pushState');
  for (const button of document.querySelectorAll('#examples [data-cell]'))
    button.setAttribute('aria-pressed', button.dataset.cell === example);
  if (document.querySelector('.wl-stale #whatif-editor')?.offsetParent)
    document.querySelector('#whatif-refill')?.click();
}"""
TAB_JS = "() => window.whylensTab && window.whylensTab('{tab}')"


@dataclass(frozen=True)
class SideColumn:
    """The components beside the answer that are no part of the question."""

    examples: Component
    card: Component
    notice: Component
    loaded: Component
    signal: SignalInput
    framing: FramingInput


@dataclass(frozen=True)
class Tabs:
    """The page's tabs, those inside of Your pictures, and the table of plugins."""

    outer: gr.Tabs
    inner: gr.Tabs
    plugins: gr.Accordion

    @property
    def tabs(self) -> list[gr.Tab]:
        """Every tab of both."""
        children = [*self.outer.children, *self.inner.children]
        return [tab for tab in children if isinstance(tab, gr.Tab)]

    def updates(self, place: str) -> list[Any]:
        """Return the updates of all three that show what an address names."""
        inner = gr.Tabs(selected=place) if TAB_OF.get(place) == PICTURES else gr.skip()
        plugins = gr.Accordion(open=True) if place == PLUGINS else gr.skip()
        return [gr.Tabs(selected=TAB_OF.get(place, place)), inner, plugins]


@dataclass(frozen=True)
class Page:
    """Everything on the page that events read or write."""

    session: Session
    banner: Component
    form: QuestionForm
    side: SideColumn
    style: StyleControls
    answer: AnswerCard
    tabs: Tabs
    compare: Compare
    methods: Methods
    guide: Guide
    report: Report
    new_models: Sequence[NewModel]


def wire(blocks: gr.Blocks, page: Page) -> None:
    """Connect all that is not inside a single tab."""
    session, form, compare, side = page.session, page.form, page.compare, page.side
    panels = page.methods.panels
    of_model: list[Any] = [
        side.loaded,
        side.notice,
        page.banner,
        side.card,
        side.examples,
        side.signal.box,
        form.photo,
        side.framing.fold,
        form.target,
        form.versus,
        form.quantity,
        compare.methods,
        compare.notice,
        page.methods.cards,
        *(part for panel in panels.values() for part in (panel.notice, panel.run)),
    ]
    tab_ids = {PLUGINS, *(tab.id for tab in page.tabs.tabs)}
    places = [page.tabs.outer, page.tabs.inner, page.tabs.plugins]
    blocks.load(None, None, None, js=START_JS, **PRIVATE)
    wake = gr.Button("Wake", elem_id="wake", visible="hidden")
    wake.click(lambda: None, None, None, **QUICK)
    open_event = blocks.load(
        _on_open(page, tab_ids),
        None,
        [form.model, *places, *page.methods.open_outputs, *of_model],
        show_progress_on=[page.banner],
        **PRIVATE,
    )
    change_model = _model_changer(page, again=True)
    changing = {
        "inputs": [form.model, side.loaded, form.photo],
        "outputs": [form.model, *of_model],
        "show_progress_on": [side.card],
        "api_visibility": "private",
    }
    model_events = [
        gr.on(
            [form.model.input],
            # Gradio calls it an input as well when a keyboard merely passes through the field.
            _model_changer(page, again=False),
            show_progress="full",
            trigger_mode="multiple",  # what follows a name that failed would else be dropped
            **changing,
        )
    ]
    for event, wire_next in page.new_models:
        loading = event.success(change_model, show_progress="hidden", **changing)
        model_events.append(loading)
        if wire_next is not None:
            wire_next(loading)
    # Whoever is told that a method cannot be used here is offered a network where it can.
    mended = gr.on(
        [panel.notice.click for panel in panels.values()],
        _mender(session),
        [form.model],
        [form.model, side.notice],
        **PRIVATE,
    )
    model_events.append(mended.success(change_model, show_progress="hidden", **changing))
    opening_inputs = [page.methods.open_name, form.photo]
    open_event.then(None, opening_inputs, None, js=OPEN_JS, **PRIVATE)
    asked_about = (form.photo, form.target, form.quantity, form.versus, form.framing)
    changes = [component.change for component in asked_about]
    ask = page.answer

    def stamp(*, loaded: str, **values: Any) -> str:
        # What is typed into the network's field may be no network's name.
        parts = {"model": loaded, "target": values["target"] or PREDICTED}
        parts["example"] = example_name(session.store, loaded, values["photo"])
        if values["quantity"] != "logit":
            parts["quantity"] = values["quantity"]
        if values["quantity"] == "contrast":
            parts["versus"] = values["versus"] or RUNNER_UP
        address = urlencode(parts) if loaded else ""
        return html.stamp(question_id(values), network_id(values), address)

    stamped = {**form.inputs, "loaded": side.loaded}

    def to_predicted() -> tuple[str, str]:
        return PREDICTED, RUNNER_UP

    # Whoever brings a photo asks about what the network sees in it.
    gr.on(
        [form.photo.input, form.photo.upload, form.photo.clear],
        to_predicted,
        None,
        [form.target, form.versus],
        **UNQUEUED,
    )
    gr.on(
        [*changes, form.model.change],
        stamp,
        None,
        [ask.question],
        inputs_kwargs=stamped,
        trigger_mode="always_last",
        **UNQUEUED,
    )
    loaded = {"model": side.loaded}
    event_options = {
        **QUICK,
        "trigger_mode": "always_last",
        "inputs_kwargs": {**ask.inputs, **loaded},
        "show_progress_on": [ask.outputs[0]],  # START_JS reads it there
    }
    inputs = [
        gr.on(changes, ask.ask, None, ask.outputs, **event_options),
        *(event.success(ask.ask, None, ask.outputs, **event_options) for event in model_events),
    ]
    # After what asks: events of one change begin in the order in which they were made.
    new_photo = (form.photo, form.target, form.versus)
    wire_signal_input(side.signal, new_photo, session.store)
    wire_framing(session, side.framing, form.photo, form.model, page.answer.byline)
    wire_examples(session, side.examples, form.model, new_photo)
    for event in (open_event, *model_events):
        event.success(page.report.on_model, [form.model], page.report.outputs, **PRIVATE)
    guide = page.guide
    for event in model_events:
        event.success(guide.advise, guide.inputs, [guide.advice], **PRIVATE)
    if session.judges:
        for event in inputs:
            wire_judging(session, event, SLOT, ask.truth.verdict, page.style, verdict_html)
    page_events = [*inputs, page.guide.ticked]
    agreement = agreement_teller(session, SLOT)

    def after_maps(request: gr.Request, **values: Any) -> tuple[Any, str]:
        return compare.switch(request, **values), agreement(request)

    for event in page_events:
        event.success(
            compare.on_photo,
            None,
            [compare.grid, compare.legend, compare.status],
            inputs_kwargs={**compare.inputs, **loaded},
            **QUICK,
        ).then(
            after_maps,
            None,
            [compare.download, ask.truth.agreement],
            inputs_kwargs=compare.shown,
            **UNQUEUED,
        )
    failed = [
        event.failure(
            compare.on_failure,
            None,
            [compare.grid, compare.legend, compare.status, compare.download],
            inputs_kwargs={**form.inputs, **loaded},
            **UNQUEUED,
        )
        for event in inputs
    ]
    # Changes that come at once may be answered in any order: what was asked last decides. What
    # fails is followed by `failure` alone.
    for event in (open_event, *inputs, *failed):
        event.then(stamp, None, [ask.question], inputs_kwargs=stamped, **UNQUEUED).then(
            None, [ask.question], None, js=ADDRESS_JS, **PRIVATE
        )
    for tab in page.tabs.tabs:
        tab.select(None, None, None, js=TAB_JS.format(tab=tab.id), **PRIVATE)
    page.tabs.plugins.expand(None, None, None, js=TAB_JS.format(tab=PLUGINS), **PRIVATE)
    style = page.style
    gr.on(
        [
            style.colormap.input,
            style.opacity.release,
            style.significant_only.input,
            style.under.input,
        ],
        _restyler(session, page.answer, compare, list(panels.values())),
        None,
        [
            *page.answer.style_outputs,
            compare.grid,
            compare.legend,
            *(part for panel in panels.values() for part in panel.answer),
        ],
        inputs_kwargs=compare.redraw_inputs,
        show_progress_on=[compare.grid],
        **PRIVATE,
    )

    def forget(request: gr.Request) -> None:
        session.store.forget(visitor_id(request))
        session.engine.forget(visitor_id(request))

    blocks.unload(forget)
    build_endpoints(session, form, style, panels)


def _on_open(page: Page, tabs: Collection[Any]) -> Callable[..., Any]:
    session, methods = page.session, page.methods
    explainers = session.engine.registry.explainers

    def on_open(request: gr.Request) -> Any:
        query = dict(request.query_params)
        name, problems = "", []
        if query.get("model"):
            try:
                name = session.model_name(query["model"])
                session.engine.card(name)
            except CoreError as exc:
                name = ""
                problems.append(str(exc))
        if not name:
            name, why = first_model(session.engine)
            problems.append(why)
        card = session.engine.card(name)
        # An address has a space for a plus.
        place = query.get("method", COMPARE).replace(" ", "+")
        by_slug = {slug(n): n for n in explainers}
        method = place if place in explainers else by_slug.get(place, "")
        if not method and place not in tabs:
            problems.append(f"There is no method called {place!r}: all are under All methods.")
        classes = {"target": PREDICTED, "versus": RUNNER_UP}
        for key, by_itself in classes.items():
            if query.get(key, by_itself) != by_itself:
                try:
                    classes[key] = class_text(class_index(query[key], card.labels), card.labels)
                except CoreError as exc:
                    problems.append(str(exc))
        quantity = query.get("quantity", "logit")
        if quantity not in get_args(Quantity):
            problems.append(f"There is no score called {quantity!r}.")
            quantity = "logit"
        question = (classes["target"], quantity, classes["versus"])
        names = example_names(name)
        cell = query.get("example", "")
        if cell and cell not in names:
            problems.append(f"There is no example called {cell!r}.")
        if cell not in names:
            first = opening_names(name)
            cell = random.choice(first) if first else ""  # noqa: S311 - nobody guards it
        photo = example(session.store, name, cell)
        visitor = visitor_id(request)
        updates = _model_updates(page, card, visitor, photo, method, question, fresh=True)
        updates[2] = _banner(card, " ".join(p for p in problems if p))
        tab = METHODS if method else place if place in tabs else COMPARE
        return name, *page.tabs.updates(tab), *methods.open_updates(method), *updates

    return on_open


def _model_changer(page: Page, *, again: bool) -> Callable[..., Any]:
    """Return what loads a network and sets all that follows from it.

    Args:
        again: Whether that which is loaded is set up anew, as after it was trained; else it stays
            as it is, with the photo and the class that were chosen.
    """
    session = page.session
    count = len(page.methods.panels) * 2 + 12

    def change_model(
        name: str,
        loaded: str,
        photo: str | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Any]:
        if name == loaded and not again:
            yield (gr.skip(),) * (count + 3)
            return
        try:
            with errors_as_messages():
                model = session.model_name(name)
                card = session.engine.card(
                    model, progress=lambda fraction, message: progress(fraction, desc=message)
                )
                if photo is None or not session.fits(photo, model):
                    first = next(iter(opening_names(model)), "")
                    photo = example(session.store, model, first)
                yield model, *_model_updates(page, card, visitor_id(request), photo)
        except gr.Error as exc:
            # The box goes back to what is loaded; the reason stays below it.
            text = f"{exc.message} {loaded} is still loaded." if loaded else exc.message
            yield loaded or None, gr.skip(), _html(html.banner(text)), *[gr.skip()] * count
            raise gr.Error(exc.message, visible=False, print_exception=False) from exc

    return change_model


def _mender(session: Session) -> Callable[..., Any]:
    explainers = {slug(n): e for n, e in session.engine.registry.explainers.items()}

    def mend(model: str, request: gr.Request, event: gr.EventData) -> Any:
        explainer = explainers.get(str(getattr(event, "cell", "")))
        if explainer is None:
            return gr.skip(), gr.skip()
        for name in checkpoint_folders():
            try:
                unavailable = session.engine.unavailable(name, visitor=visitor_id(request))
            except CoreError:  # a damaged one is no way out
                continue
            if name != model and explainer.name not in unavailable:
                return name, gr.skip()
        text = f"No network that is here can be explained by {explainer.title}."
        return gr.skip(), _html(html.banner(text))

    return mend


def _restyler(
    session: Session, card: AnswerCard, compare: Compare, panels: list[Panel]
) -> Callable[..., Any]:
    def restyle(request: gr.Request, **values: Any) -> list[Any]:
        visitor = visitor_id(request)
        updates = [*card.redraw(visitor, values), *compare.redraw(request, **values)]
        for panel in panels:
            answer = session.store.answer(visitor, panel.name)
            if answer is None:
                updates += [gr.skip()] * len(panel.answer)
            else:
                stamp = session.store.stamp(visitor, panel.name)
                updates += answer_updates(answer, StyleControls.read(values), session, stamp)
        return updates

    return restyle


def _banner(card: ModelCard, reason: str) -> Component:
    return _html(html.banner(reason.strip() if card.trained else untrained_banner(reason)))


def _html(text: str) -> Component:
    # An empty element would still take its row of space.
    return gr.HTML(text, visible=bool(text))


def _model_updates(
    page: Page,
    card: ModelCard,
    visitor: str,
    photo: str | None,
    method: str = "",
    question: tuple[str, str, str] = (PREDICTED, "logit", RUNNER_UP),
    *,
    fresh: bool = False,
) -> list[Any]:
    target, quantity, versus = question
    # Of a fresh page, what stays as it was built needs no update.
    session, explainers = page.session, page.session.engine.registry.explainers
    unavailable = session.engine.unavailable(card.name, visitor=visitor)
    value = card.outputs == "value"
    texts = [] if value else [class_text(i, card.labels) for i in range(len(card.labels))]
    classes = [(f"{card.labels[i]} ({i})", text) for i, text in enumerate(texts)]
    best = f"the value: {card.labels[0]}" if value else "the predicted class"
    costs, compared = seconds_of(session, card.name), default_methods(session, card.name, visitor)
    updates: list[Any] = [
        card.name,
        _html(""),
        _banner(card, ""),
        html.model_card(card),
        buttons_html(card.name),
        *input_updates(card, photo),
        gr.Dropdown([(best, PREDICTED), *classes], value=target),
        gr.Dropdown([("the runner-up", RUNNER_UP), *classes], value=versus),
        gr.Radio(value="logit", visible=False) if value else _score_update(quantity),
        gr.Dropdown(
            [(e.title, n) for n, e in explainers.items()],
            value=compared,
            multiselect=True,
        ),
        _html(html.unavailable_list({explainers[n].title: r for n, r in unavailable.items()})),
        cards_html(session, card.name, method, visitor=visitor, compared=compared),
    ]
    for name in page.methods.panels:
        reason = unavailable.get(name, "")
        cost = costs.get(name, 0.0)
        notice = _html(html.unavailable(reason, slug(name)))
        run = gr.Button(_run_label(explainers[name], cost), interactive=not reason)
        updates += [
            gr.skip() if fresh and not reason else notice,
            gr.skip() if fresh and not reason and cost <= NOTICEABLE else run,
        ]
    return updates


def _score_update(quantity: str) -> Component:
    # What is asked about stays what it is unless an address says otherwise.
    return gr.Radio(visible=True) if quantity == "logit" else gr.Radio(value=quantity, visible=True)


def _run_label(explainer: Explainer[Any], seconds: float) -> str:
    time = f" (about {html.duration(seconds)})" if seconds > NOTICEABLE else ""
    return f"Explain with {explainer.title}{time}"
