"""The Gradio page."""

from whylens.ui.page.type_stubs import skip_type_stubs

skip_type_stubs()  # before any module of the page imports gradio
