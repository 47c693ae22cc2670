"""Events of the page, whoever sets them off: what they load, and what their scripts hold."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

import gradio as gr
import pytest
from gradio.helpers import special_args

from tests.support.browser import toy_checkpoint
from tests.support.pages import fake, registry_of
from whylens.core.engine import Engine
from whylens.core.errors import BadInput
from whylens.ui.page.layout import build_page

EVENT = gr.EventData(None, {"index": 0, "value": "0"})


@pytest.mark.parametrize(
    "name", ["torchvision:resnet18", pytest.param("a folder", marks=pytest.mark.slow)]
)
def test_no_event_loads_what_a_page_may_not(monkeypatch, tmp_path, name):
    folder, loads = str(toy_checkpoint(tmp_path / "net")), []

    def load(text, **_):
        loads.append(text)
        raise BadInput("loaded")

    monkeypatch.setattr("whylens.core.models.public_models.load", load)
    monkeypatch.setattr("whylens.core.engine.load", load)
    page, request, count = build_page(Engine()), gr.Request(session_hash="visitor"), 0
    request.query_params = {}
    name = folder if name == "a folder" else name
    for fn in page.fns.values():
        values = {"model": name, "compare-networks": [name]}
        names = [getattr(block, "elem_id", None) for block in fn.inputs]
        if fn.fn is None or not values.keys() & set(names):
            continue
        count += 1
        inputs = [
            values.get(name_of_input, getattr(block, "value", None) or "")
            for name_of_input, block in zip(names, fn.inputs, strict=True)
        ]
        first_keyword = len(inputs) - len(fn.input_keyword_names)
        keywords = dict(zip(fn.input_keyword_names, inputs[first_keyword:], strict=True))
        arguments, *_ = special_args(fn.fn, inputs[:first_keyword], request, event_data=EVENT)
        with suppress(gr.Error):
            answer = fn.fn(*arguments, **keywords)
            if hasattr(answer, "__next__"):
                deque(answer, maxlen=0)
            elif asyncio.iscoroutine(answer):
                asyncio.run(answer)
    assert count > 50
    assert not loads


def test_no_word_of_a_plugin_or_a_model_is_part_of_a_script():
    page = build_page(Engine(registry_of(fake(1, 'Shapley\'s "values" </script>'))))
    scripts = [fn.js for fn in page.fns.values() if isinstance(fn.js, str)]
    scripts += [getattr(block, "js_on_load", None) or "" for block in page.blocks.values()]
    assert len(scripts) > 20
    assert not [script for script in scripts if "Shapley" in script or "fake" in script]
