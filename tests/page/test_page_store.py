"""What the page keeps of its visitors: answers apart, and photos no larger than a screen shows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.support.networks import GapNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.errors import BadInput
from whylens.core.models.backbone import wrap
from whylens.ui.page.page_store import PageStore


def test_answers_of_another_network_to_the_same_question_are_not_this_one_s(tmp_path):
    from whylens.ui.page.page_store import PageStore

    store = PageStore(tmp_path)
    for row, model, finished in ((0, "a", True), (1, "b", True), (2, "a", False)):
        card, question = SimpleNamespace(name=model), SimpleNamespace(pixels=None)
        answer = SimpleNamespace(
            method=f"method-{row}", model=card, question=question, result=None, finished=finished
        )
        store.put_answer("me", f"compare {row}", answer, "stamp")
    assert store.by_method("me", "stamp", "a").keys() == {"method-0"}
    assert store.by_method("me", "another", "a") == {}


def test_two_visitors_do_not_see_each_other(photo):
    from whylens.ui.page.page_store import PageStore

    backbone = wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    engine = Engine(loader=lambda name, progress: backbone)
    from whylens.core.explanation import Question

    pixels = np.asarray(Image.open(photo))
    (answer,) = engine.explain(Question("toy", pixels), "grad-cam")
    store = PageStore()
    store.put_answer("one", "grad-cam", answer, "q")
    assert store.answer("two", "grad-cam") is None
    store.forget("one")
    assert store.answer("one", "grad-cam") is None


def test_large_photos_are_shown_smaller_and_kept_whole():
    from whylens.core.explanation import Question
    from whylens.core.outputs.render import Style, render_explanation
    from whylens.ui.page.page_store import SCREEN_SIDE, PageStore

    backbone = wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    engine = Engine(loader=lambda name, progress: backbone)
    ramp = np.linspace(0, 255, 2400).astype(np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (1200, 2400, 3)).copy()
    (answer,) = engine.explain(Question("toy", pixels), "grad-cam", {"signed": True})
    small = PageStore().downscale(answer)
    assert small.question.pixels.shape == (SCREEN_SIDE // 2, SCREEN_SIDE, 3)
    whole = np.asarray(render_explanation(answer, Style(opacity=1.0))).astype(int)
    image = np.asarray(render_explanation(small, Style(opacity=1.0))).astype(int)
    # The same map lies on the same places of both.
    reduced = whole[:: 1200 // image.shape[0], :: 2400 // image.shape[1]]
    middle = image[image.shape[0] // 2, image.shape[1] // 2]
    assert np.abs(whole[600, 1200] - middle).max() <= 3
    assert reduced.ndim == 3


@pytest.mark.parametrize("upright", [False, True])
def test_of_a_strip_what_the_network_sees_is_shown_and_the_map_lies_where_it_did(upright):
    from whylens.core.explanation import Question
    from whylens.core.outputs.render import Style, render_explanation
    from whylens.ui.page.page_store import LEAST_SIDE, PageStore

    backbone = wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    engine = Engine(loader=lambda name, progress: backbone)
    pixels = np.broadcast_to(np.linspace(0, 255, 3000).astype(np.uint8)[:, None], (20, 3000, 3))
    pixels = np.ascontiguousarray(pixels.swapaxes(0, 1) if upright else pixels)
    (answer,) = engine.explain(Question("toy", pixels), "grad-cam", {"signed": True})
    screen_answer = PageStore().downscale(answer)
    size = (LEAST_SIDE // 3, LEAST_SIDE)  # 20 of what is seen, and as much on either side
    assert screen_answer.question.pixels.shape[:2] == (size[::-1] if upright else size)
    small = np.asarray(render_explanation(screen_answer, Style(opacity=1.0))).astype(int)
    whole = np.asarray(render_explanation(answer, Style(opacity=1.0))).astype(int)
    if upright:
        small, whole = small.swapaxes(0, 1), whole.swapaxes(0, 1)
    middle = whole[:, 1490:1510]
    assert np.abs(small[5::10, 205:395:10] - middle[:, :-1]).max() <= 40
    assert np.abs(small[105, 205:395:10] - middle[10, :-1]).mean() <= 8
    assert answer.question.pixels.shape == pixels.shape


@pytest.mark.parametrize("side", [300, 1600])
def test_the_photo_is_shrunk_and_encoded_once_for_all_parts_of_an_answer(side, monkeypatch):
    from pathlib import Path

    from whylens.core.explanation import Question
    from whylens.ui.page import page_store as stores

    backbone = wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    engine = Engine(loader=lambda name, progress: backbone)
    store, encodings, shrunk = stores.PageStore(), [], []
    picture, shrink = store.save_image, stores.shrunk
    monkeypatch.setattr(store, "save_image", lambda image: encodings.append(1) or picture(image))

    def counting_shrink(pixels, longest):
        shrunk.append(pixels.shape[0] > longest)
        return shrink(pixels, longest)

    monkeypatch.setattr(stores, "shrunk", counting_shrink)

    def parts(value):
        pixels = np.full((side, side, 3), value, np.uint8)
        params = {"window": 8, "stride": 4}
        answers = engine.explain(Question("t", pixels), "occlusion", params)
        return [store.downscale(answer) for answer in answers]

    first = parts(90)
    assert len(first) > 2
    paths = {store.photo_image(part.question.pixels) for part in first}
    assert (len(paths), len(encodings), sum(shrunk)) == (1, 1, int(side > stores.SCREEN_SIDE))
    other_paths = {store.photo_image(part.question.pixels) for part in parts(200)}
    assert len(encodings) == 2
    assert not other_paths & paths
    Path(*paths).unlink()
    assert store.photo_image(first[0].question.pixels) in paths
    assert Path(*paths).is_file(), "what was swept out is written again"


def test_a_photo_that_was_swept_out_is_asked_for_again(tmp_path):
    store, path = PageStore(), tmp_path / "photo.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(path)
    assert store.photo(str(path)).size == (20, 20)
    path.unlink()
    for reader in (store.photo, store.has_signal, store.signal):
        with pytest.raises(BadInput, match="no longer kept"):
            reader(str(path))
