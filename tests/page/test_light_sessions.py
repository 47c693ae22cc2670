"""A session holds what its visitor entered, and describes no component of the page."""

from __future__ import annotations

import gradio as gr
import gradio_client
import pytest

from tests.support.browser import serve


@pytest.fixture
def page() -> gr.Blocks:
    with gr.Blocks() as page:
        count, text = gr.State(0), gr.Textbox(label="Words")
        output = gr.Textbox(value="first", label="Shown")

        def more(count: int, text: str):
            return count + 1, gr.update(value=f"{text} {count + 1}", label="Since")

        text.submit(more, [count, text], [count, output], api_name="more")
    return page


def test_each_visitor_has_their_own_values_and_no_component_is_described(page, monkeypatch):
    address, descriptions = serve(page), []
    try:
        get_config = gr.Textbox.get_config
        monkeypatch.setattr(
            gr.Textbox, "get_config", lambda self: descriptions.append(self) or get_config(self)
        )
        first, second = (gradio_client.Client(address, verbose=False) for _ in range(2))
        descriptions.clear()  # of the page as all get it
        for client, words, numbers in ((first, "one", (1, 2)), (second, "two", (1,))):
            for number in numbers:
                after = client.predict(words, api_name="/more")
                assert after["value"] == f"{words} {number}"
        sessions = page.state_holder.session_data
        assert {first.session_hash, second.session_hash} <= set(sessions)
        assert [s.config_values for s in sessions.values() if any(s.config_values.values())] == []
        assert descriptions == []
    finally:
        page.close()
