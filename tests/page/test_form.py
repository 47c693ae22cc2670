"""The form's values become a question, also for networks that read neither photos nor signals."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from whylens.core.errors import BadInput
from whylens.core.inputs.spec import InputSpec
from whylens.ui.page.form import QuestionForm
from whylens.ui.page.page_store import PageStore
from whylens.ui.page.signal_input import input_updates


def bands(**changes):
    input_spec = InputSpec(size=(16, 16), channels=6, mean=(0.0,) * 6, std=(1.0,) * 6)
    card = SimpleNamespace(input=input_spec.model_dump(mode="json"), labels=("a", "b"))
    session = SimpleNamespace(
        model_name=str, engine=SimpleNamespace(card=lambda _: card), store=PageStore()
    )
    values = {"model": "bands", "quantity": "logit", "target": "", "versus": "", "framing": ""}
    return QuestionForm.read({**values, **changes}, session)


def test_a_network_of_bands_is_asked_with_a_file_of_them(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (6, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "x.npy", values / np.float32(255))
    np.save(tmp_path / "last.npy", np.moveaxis(values, 0, -1))
    first_band, *other_bands = map(Image.fromarray, values)
    first_band.save(tmp_path / "x.tif", save_all=True, append_images=other_bands)
    for name in ("x.npy", "last.npy", "x.tif"):
        question = bands(photo=str(tmp_path / name))
        assert question.photo is None
        assert question.signal == pytest.approx(values / 255)


def test_a_network_of_bands_refuses_photos_and_what_is_too_large(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "x.png")
    np.save(tmp_path / "large.npy", np.zeros(4_000_000, np.float32))
    for photo, words in (
        (None, r"takes arrays of \(6, 16, 16\), not photos"),
        (str(tmp_path / "x.png"), "a photo by its name"),
        (str(tmp_path / "large.npy"), "larger than 12 MB"),
        (str(tmp_path / "gone.npy"), "no longer kept"),
    ):
        with pytest.raises(BadInput, match=words):
            bands(photo=photo)


def test_what_a_network_reads_decides_what_is_asked_for_and_how_it_is_called():
    for size, path, label, sources in (
        ((32, 32), "a.png", "Photo", ["upload", "clipboard", "webcam"]),
        ((40,), "b.png", "Signal", ["upload"]),
    ):
        box, place, fold = input_updates(SimpleNamespace(input={"size": size}), path)
        assert box.visible is (label == "Signal")
        assert fold.visible is (label == "Photo")
        assert (place["value"], place["label"], place["sources"]) == (path, label, sources)
