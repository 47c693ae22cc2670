"""Colours and sizes of the page, chosen for contrast in light and in dark."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from whylens.core.outputs.render import colour_names, colour_stops

STYLESHEET = Path(__file__).with_name("page.css")


def swatches() -> str:
    """Return the style of the colour scales' choices: each is followed by its colours."""
    rules = []
    for number, name in enumerate(colour_names(), 1):
        stops = ", ".join(colour_stops(name, diverges=False))
        choice = f"#colormap label:nth-of-type({number})::after"
        rules.append(f"{choice} {{ background: linear-gradient(90deg, {stops}); }}")
    shape = "content: ''; width: 2.6rem; height: .8rem; border-radius: 3px; margin-left: .4rem;"
    return "\n".join([f"#colormap label::after {{ {shape} }}", *rules])


def page_theme() -> gr.themes.Base:
    """Return the theme: Gradio's own with the colours replaced that are too faint to read."""
    return gr.themes.Default(
        primary_hue="indigo",
        neutral_hue="slate",
        radius_size="lg",
        # Gradio bundles a semi-bold with 55 letters only; the rest would come from elsewhere.
        font=(
            gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)),
            "system-ui",
            "sans-serif",
        ),
        font_mono=(gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "monospace"),
    ).set(
        body_text_color_subdued="*neutral_700",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_700",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_800",
        block_label_text_color_dark="*neutral_100",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_background_fill_dark="#b91c1c",
        button_cancel_text_color="white",
        checkbox_label_text_color_selected_dark="white",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_visited="*primary_700",
        link_text_color_visited_dark="*primary_300",
    )
