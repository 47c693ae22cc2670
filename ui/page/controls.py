"""From a parameter's description to the control that sets it: four kinds, four controls."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.explainer import Explainer
from whylens.core.params import ControlSpec, controls_of

MOST_IN_A_ROW = 6  # choices that are laid out side by side


def control(field: ControlSpec, *, elem_id: str) -> Component:
    """Return the control of one parameter."""
    common: dict[str, Any] = {
        "label": field.title,
        "info": field.help or None,
        "value": field.default,
        "interactive": True,
        "elem_id": elem_id,
    }
    match field.kind:
        case "bool":
            return gr.Checkbox(**common)
        case "choice" if len(field.choices) > MOST_IN_A_ROW:
            return gr.Dropdown(choices=list(field.choices), **common)
        case "choice":
            return gr.Radio(choices=list(field.choices), **common)
        case "int" | "float":
            return gr.Slider(
                minimum=field.low, maximum=field.high, step=field.step, buttons=[], **common
            )


def build_controls(explainer: Explainer[Any], *, prefix: str) -> dict[str, Component]:
    """Return one control per parameter, by field name."""
    return {
        field.name: control(field, elem_id=f"{prefix}-{field.name}")
        for field in controls_of(explainer.Params)
    }
