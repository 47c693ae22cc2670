"""What scripts and agents call: one named endpoint per explainer, with plain answers.

The controls of the page are their parameters, so both check the same bounds; the answers are a
picture, the raw values and a manifest instead of parts of a page.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from whylens.core.errors import NeedsNotMet
from whylens.core.explainer import Explainer, is_single_step
from whylens.core.inputs.framing import NETWORK
from whylens.core.outputs.export import explanation_picture, manifest, npy_bytes
from whylens.core.params import controls_of
from whylens.core.progress import last_of
from whylens.core.results import Heatmap
from whylens.core.workers.pool import while_wanted
from whylens.ui.page import html
from whylens.ui.page.form import QuestionForm, StyleControls
from whylens.ui.page.html import slug
from whylens.ui.page.long_events import MOST_EVENTS
from whylens.ui.page.panel import Panel
from whylens.ui.page.session import (
    PREDICTED,
    RUNNER_UP,
    Session,
    errors_as_messages,
    model_choices,
    visitor_id,
)

T = TypeVar("T")
_ARGUMENTS = {
    "photo": "The picture to explain: an address, a data URL or an uploaded file; for networks of "
    "signals or of bands a .csv, .npy or .tif file.",
    "model": "A name that `models` lists, any timm name, or hf:OWNER/NAME.",
    "target": "The class to explain: its label or index, or 'predicted'.",
    "quantity": "What of it: 'logit', 'probability', or 'contrast' to another class.",
    "versus": "For a contrast, the other class: label, index or 'runner-up'.",
    "framing": "What the network is shown: 'network' (its own crop), 'whole' (the whole photo, "
    "fitted), or a part as 'left,top,right,bottom' in shares of the photo.",
    "colormap": "Colour map of the picture.",
    "opacity": "Opacity of the map over the photo, 0 to 1.",
    "under": "What lies under the map: 'auto', 'photo', 'faded' (a grey one) or 'alone'.",
    "significant_only": "Hide what does not differ from 0 at 95 %, of methods that sample.",
    "scores": "Also judge the map, in some hundreds of forward passes: is it to be believed? The "
    "word, its reason and all scores are in the manifest.",
}


def build_endpoints(
    session: Session, form: QuestionForm, style: StyleControls, panels: Mapping[str, Panel]
) -> None:
    """Build the hidden components and name the endpoints."""
    registry = session.engine.registry
    trigger = gr.Button("script", visible=False)
    outputs = [
        gr.Image(label="Picture", type="filepath", visible=False, format="png"),
        gr.File(label="Raw values (.npy)", visible=False),
        gr.JSON(label="Manifest", visible=False),
    ]
    scores = gr.Checkbox(False, label="Scores", visible=False)
    for name, panel in panels.items():
        trigger.click(
            _answerer(registry.explainers[name], session),
            None,
            outputs,
            inputs_kwargs={**form.inputs, **style.inputs, "scores": scores, **panel.fields},
            api_name=slug(name),
            # A script that has quick maps judged keeps no visitor waiting for one.
            concurrency_id="scripts" if is_single_step(registry.explainers[name]) else "slow",
            concurrency_limit=MOST_EVENTS,
            show_progress="hidden",
        )
    trigger.click(
        _predictor(session),
        [form.photo, form.model],
        [gr.Label(visible=False)],
        api_name="predict",
        concurrency_id="quick",
        show_progress="hidden",
    )

    def methods() -> list[dict[str, str]]:
        """Return every method: its name, title, family, summary, and the endpoint that runs it."""
        return [
            {
                "name": n,
                "title": e.title,
                "family": e.family,
                "summary": e.summary,
                "endpoint": f"/{slug(n)}",
            }
            for n, e in registry.explainers.items()
        ]

    def models() -> list[str]:
        """Return the model names that the page offers; it takes others of timm and the Hub."""
        return [name for _, name in model_choices()]

    gr.api(methods, api_name="methods")
    gr.api(models, api_name="models")


def _predictor(session: Session) -> Callable[..., Any]:
    async def predict(photo: str | None, model: str | None) -> Any:
        """Return the model's best five classes with their probabilities.

        Args:
            photo: The picture: an address, a data URL or an uploaded file; for networks of signals
                or of bands a .csv, .npy or .tif file.
            model: A name that `models` lists, any timm name, or hf:OWNER/NAME.
        """
        values = {"photo": photo, "model": model, "target": PREDICTED, "quantity": "logit"}
        values |= {"versus": RUNNER_UP, "framing": NETWORK}

        def answer() -> Any:
            question = QuestionForm.read(values, session)
            return html.class_probabilities(session.engine.predict(question))

        return await _while_asked(answer)

    return predict


async def _while_asked(answer: Callable[[], T]) -> T:
    """Return an answer from a thread; the work ends as well where the script stops waiting."""
    given_up = threading.Event()

    def work() -> T:
        with while_wanted(lambda: not given_up.is_set()), errors_as_messages():
            return answer()

    try:
        return await asyncio.to_thread(work)
    finally:
        given_up.set()


def require_mcp() -> None:
    """Make sure that agents can be served; Gradio by itself would start without them in silence.

    Raises:
        NeedsNotMet: The extra is not installed.
    """
    if importlib.util.find_spec("mcp") is None:
        raise NeedsNotMet(
            "The MCP server needs packages that are not installed. Install them with "
            "`pip install '.[mcp]'` in the checkout, or start without --mcp."
        )


def _answerer(explainer: Explainer[Any], session: Session) -> Callable[..., Any]:
    async def answer(
        request: gr.Request | None = None, **values: Any
    ) -> tuple[str, str | None, dict[str, object]]:
        def work() -> tuple[str, str | None, dict[str, object]]:
            if values["quantity"] == "logit" and values["versus"] not in (RUNNER_UP, None, ""):
                values["quantity"] = "contrast"  # as on the command line
            question = QuestionForm.read(values, session, visitor_id(request))
            style = StyleControls.read(values)
            params = {name: values[name] for name in explainer.Params.model_fields}
            last = last_of(session.engine.explain(question, explainer.name, params))
            if values["scores"] and isinstance(last.result, Heatmap):
                last = last_of(session.engine.judge(last))
            facts = manifest(last, source=Path(values["photo"]).name, style=style)
            picture = explanation_picture(session.store.downscale(last), style)
            path, raw = session.store.save_image(picture), None
            if isinstance(last.result, Heatmap):
                content, stem = npy_bytes(last.result.values), slug(explainer.name)
                raw = session.store.save_file(content, suffix=".npy", stem=stem)
            return path, raw, facts

        return await _while_asked(work)

    # An agent knows a tool by the name of the function and its parameters by the docstring.
    answer.__name__ = tool_name(explainer)
    answer.__doc__ = endpoint_doc(explainer)
    return answer


def tool_name(explainer: Explainer[Any]) -> str:
    """Return the name of an explainer's tool, fit for any agent."""
    return slug(explainer.name).replace("-", "_")


def endpoint_doc(explainer: Explainer[Any]) -> str:
    """Return an endpoint's documentation: what comes back, and every parameter."""
    arguments = dict(_ARGUMENTS)
    for field in controls_of(explainer.Params):
        bounds = f" From {field.low:g} to {field.high:g}." if field.kind in ("int", "float") else ""
        choices = f" One of {', '.join(map(str, field.choices))}." if field.choices else ""
        arguments[field.name] = f"{field.help or field.title}{bounds}{choices}"
    lines = [
        f"{explainer.title}: {explainer.summary}",
        "",
        f"Limits: {explainer.limits}",
        "",
        "Args:",
        *(f"    {name}: {' '.join(text.split())}" for name, text in arguments.items()),
        "",
        "Returns:",
        "    The picture with the map over it, or with the examples; the raw values as .npy, for "
        "maps; and a manifest: target, parameters, unit, diagnostics, versions, scores if asked.",
    ]
    return "\n".join(lines)
