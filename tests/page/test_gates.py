"""What strangers send to the page, and what it must not cost: without a browser."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from itertools import product

import gradio as gr
import numpy as np
import pytest
from gradio.helpers import special_args
from PIL import Image

from tests.conftest import GapNet, plain_spec, seeded
from tests.support.browser import toy_checkpoint
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, CoreError
from whylens.core.models.backbone import wrap
from whylens.ui.page.layout import build_page
from whylens.ui.page.page_store import PageStore


@pytest.fixture(scope="module")
def page():
    """The page with a toy network for every name."""
    return build_page(Engine(loader=lambda *_: wrap(seeded(GapNet()), spec=plain_spec(32, 32))))


def test_nothing_is_packed_before_its_button_is_pressed(page):
    files = {key for key, block in page.blocks.items() if isinstance(block, gr.DownloadButton)}
    filling = [fn for fn in page.fns.values() if fn.fn and files & {b._id for b in fn.outputs}]
    packing = [fn for fn in filling if fn.fn.__module__.endswith("download")]
    assert len(packing) > 20
    assert {event for fn in packing for _, event in fn.targets} == {"click"}
    # The figure is made at a click; the report of many photos holds small pictures only.
    others = {fn.fn.__module__.rpartition(".")[2] for fn in filling if fn not in packing}
    assert others == {"figure", "many_photos"}


def test_a_photo_that_was_swept_out_is_asked_for_again(tmp_path):
    store, path = PageStore(), tmp_path / "photo.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(path)
    assert store.photo(str(path)).size == (20, 20)
    path.unlink()
    for read in (store.photo, store.has_signal, store.signal):
        with pytest.raises(BadInput, match="no longer kept"):
            read(str(path))


EVENT = gr.EventData(None, {"index": 0, "value": "0"})
# Not on any page: too large, torchvision's, a path, an address.
REFUSED = ("vgg19", "torchvision:resnet18", "hf-hub:acme/net")


def test_no_event_loads_what_a_page_may_not(monkeypatch, tmp_path):
    folder, loaded = str(toy_checkpoint(tmp_path / "net")), []

    def load(text, **_):
        loaded.append(text)
        raise BadInput("loaded")

    monkeypatch.setattr("whylens.core.models.load.load", load)
    monkeypatch.setattr("whylens.core.engine.load", load)
    page, request, asked = build_page(Engine()), gr.Request(session_hash="visitor"), 0
    for name, fn in product((*REFUSED, folder), page.fns.values()):
        values = {"model": name, "compare-networks": [name]}
        names = [getattr(block, "elem_id", None) for block in fn.inputs]
        if fn.fn is None or not values.keys() & set(names):
            continue
        asked += 1
        given = [
            values.get(own, getattr(block, "value", None))
            for own, block in zip(names, fn.inputs, strict=True)
        ]
        first_keyword = len(given) - len(fn.input_keyword_names)
        keywords = dict(zip(fn.input_keyword_names, given[first_keyword:], strict=True))
        arguments, *_ = special_args(fn.fn, given[:first_keyword], request, event_data=EVENT)
        with suppress(gr.Error, CoreError):
            answer = fn.fn(*arguments, **keywords)
            if hasattr(answer, "__next__"):
                deque(answer, maxlen=0)
    assert asked > 200
    assert not loaded
