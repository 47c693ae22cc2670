"""What scripts and agents call: one named endpoint per explainer, with plain answers.

The controls of the page are their parameters, so both check the same bounds; the answers are a
picture, the raw values and a manifest instead of parts of a page.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from whylens.core.errors import NeedsNotMet
from whylens.core.explainer import Explainer
from whylens.core.outputs.example_images import sheet
from whylens.core.outputs.export import manifest, npy_bytes
from whylens.core.outputs.render import Style, render_explanation
from whylens.core.params import controls_of
from whylens.core.results import Heatmap
from whylens.ui.page.html import slug
from whylens.ui.page.panel import Look, Panel, Question
from whylens.ui.page.session import Session, errors_as_messages, model_choices, visitor

_ARGUMENTS = {
    "photo": "The picture to explain: an address, a data URL or an uploaded file.",
    "model": "A name that `models` lists, or any timm name.",
    "target": "The class to explain: its label or index, or 'predicted'.",
    "quantity": "What of it: 'logit', 'probability', or 'contrast' to another class.",
    "versus": "For a contrast, the other class: label, index or 'runner-up'.",
    "colours": "Colour map of the picture.",
    "opacity": "Opacity of the map over the photo, 0 to 1.",
    "sure": "Hide what does not differ from 0 at 95 %, of methods that sample.",
}


def build_endpoints(
    session: Session, question: Question, look: Look, panels: Mapping[str, Panel]
) -> None:
    """Draw the hidden components and name the endpoints.

    Args:
        session: Engine and shelf.
        question: The left side.
        look: Colours and opacity.
        panels: One per explainer, with its controls.
    """
    registry = session.engine.registry
    trigger = gr.Button("script", visible=False)
    answer = [
        gr.Image(label="Picture", type="filepath", visible=False, format="png"),
        gr.File(label="Raw values (.npy)", visible=False),
        gr.JSON(label="Manifest", visible=False),
    ]
    for name, panel in panels.items():
        trigger.click(
            _answerer(registry.explainers[name], session),
            [*question.inputs, *look.inputs],
            answer,
            inputs_kwargs=dict(panel.fields),
            api_name=slug(name),
            concurrency_id="work",
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
        """Return the model names that the page offers; other timm names may be given as well."""
        return model_choices()

    gr.api(methods, api_name="methods")
    gr.api(models, api_name="models")


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
    def answer(
        photo: str,
        model: str,
        target: str,
        quantity: str,
        versus: str,
        colours: str,
        opacity: float,
        sure: bool,
        request: gr.Request | None = None,
        **params: Any,
    ) -> tuple[str, str | None, dict[str, object]]:
        with errors_as_messages():
            asked = session.question(photo, model, target, quantity, versus, mine=visitor(request))
            style = Style(colours, opacity, sure)
            *_, found = session.engine.explain(asked, explainer.name, params)
            told = manifest(found, source=Path(photo).name, style=style)
            stem = slug(explainer.name)
            if isinstance(found.result, Heatmap):
                picture = render_explanation(session.shelf.on_screen(found), style)
                content = npy_bytes(found.result.values)
                values = session.shelf.file(content, suffix=".npy", stem=stem)
            else:
                picture, values = sheet(found.result, count=12), None
            return session.shelf.picture(picture), values, told

    # An agent knows a tool by the name of the function and its parameters by the docstring.
    answer.__name__ = stem_of(explainer)
    answer.__doc__ = described(explainer)
    return answer


def stem_of(explainer: Explainer[Any]) -> str:
    """Return the name of an explainer's tool, fit for any agent."""
    return slug(explainer.name).replace("-", "_")


def described(explainer: Explainer[Any]) -> str:
    """Return an endpoint's documentation: what comes back, and every parameter.

    Args:
        explainer: Whose endpoint it is.
    """
    said = dict(_ARGUMENTS)
    for field in controls_of(explainer.Params):
        bounds = f" From {field.low:g} to {field.high:g}." if field.kind in ("int", "float") else ""
        choices = f" One of {', '.join(map(str, field.choices))}." if field.choices else ""
        said[field.name] = f"{field.help or field.title}{bounds}{choices}"
    lines = [
        f"{explainer.title}: {explainer.summary}",
        "",
        f"Cannot show: {explainer.limits}",
        "",
        "Args:",
        *(f"    {name}: {' '.join(text.split())}" for name, text in said.items()),
        "",
        "Returns:",
        "    The picture with the map over it, or with the examples; the raw values as .npy, for "
        "maps; and a manifest: target, scores, parameters, unit, checks, versions.",
    ]
    return "\n".join(lines)
