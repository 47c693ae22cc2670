"""What strangers send to the page, and what it must not cost: without a browser."""

from __future__ import annotations

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from tests.conftest import GapNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.errors import BadInput
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
