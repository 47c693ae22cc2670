"""A first look at a set: classes, counts and some pictures, without reading all of it."""

from __future__ import annotations

import io
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import Colours, colour_folder, noisy
from whylens.core.datasets import preview
from whylens.core.datasets import zip as zipped
from whylens.core.datasets.preview import MOST_CLASSES, MOST_EACH, picture_of, preview_set
from whylens.core.errors import BadInput
from whylens.core.inputs.photo import ImageLimits
from whylens.core.progress import last_of


def brightest(jpeg: bytes) -> int:
    with Image.open(io.BytesIO(jpeg)) as image:
        assert max(image.size) <= preview.SIDE
        return int(np.asarray(image.convert("RGB"), float).mean((0, 1)).argmax())


@pytest.mark.parametrize("as_zip", [False, True])
def test_classes_are_counted_by_name_and_some_of_each_are_read(tmp_path, as_zip):
    folder = colour_folder(tmp_path / "set", {"cherry": 6, "kiwi": 3})
    (folder / "kiwi" / "notes.txt").write_text("no picture")
    (folder / "kiwi" / "000.png").write_bytes(b"damaged")
    place = str(folder)
    if as_zip:
        place = shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path, "set")
    first, *_, last = preview_set(place, {}, visitor=as_zip)
    assert [(c.label, c.count, c.pictures) for c in first.classes] == [
        ("cherry", 6, ()), ("kiwi", 3, ()),
    ]  # fmt: skip
    assert [(c.label, c.count) for c in last.classes] == [("cherry", 6), ("kiwi", 3)]
    cherry, kiwi = (summary.pictures for summary in last.classes)
    assert [brightest(jpeg) for jpeg in cherry] == [0] * MOST_EACH
    assert [brightest(jpeg) for jpeg in kiwi] == [1, 1], "the third is damaged"
    assert any("kiwi/000.png: " in note for note in last.notes)
    around = "set/" * as_zip
    pixels = picture_of(place, {}, f"{around}cherry/003.png", visitor=as_zip)
    assert np.array_equal(pixels, noisy(3, 0))
    with pytest.raises(BadInput, match=r"kiwi/000\.png: "):
        picture_of(place, {}, f"{around}kiwi/000.png", visitor=as_zip)
    with pytest.raises(BadInput, match="no longer"):
        picture_of(place, {}, "kiwi/009.png", visitor=as_zip)


def test_of_many_classes_and_of_large_pictures_a_bounded_part_is_read(tmp_path, monkeypatch):
    labels = "abcdefghijklmn"
    for label in labels:
        colour_folder(tmp_path / "set" / label, {"x": 1})
    folder = tmp_path / "set"
    last = last_of(preview_set(str(folder), {}))
    assert [bool(summary.pictures) for summary in last.classes] == [
        *([True] * MOST_CLASSES), False, False,
    ]  # fmt: skip
    shutil.make_archive(str(tmp_path / "set"), "zip", folder)
    monkeypatch.setattr(zipped, "LIMITS", ImageLimits(pixels=1000))
    for visitor, pictured in ((True, False), (False, True)):
        set_preview = last_of(preview_set(str(tmp_path / "set.zip"), {}, visitor=visitor))
        assert bool(set_preview.classes[0].pictures) is pictured
    monkeypatch.setattr(preview, "MOST_SECONDS", -1.0)
    _, last = preview_set(str(folder), {})
    assert not any(summary.pictures for summary in last.classes)
    assert "within" in last.notes[-1]


def test_a_data_set_is_looked_at_by_its_name_but_not_for_an_upload():
    dataset = Colours(name="toys:colours")
    sources = {"toys": SimpleNamespace(names=("toys:colours",), load=lambda option: dataset)}
    *_, last = preview_set(dataset.name, sources)
    assert [(c.label, c.count) for c in last.classes] == [("blue", 38), ("red", 38)]
    assert [brightest(c.pictures[0]) for c in last.classes] == [2, 0]
    with pytest.raises(BadInput, match="There is no folder"):
        last_of(preview_set(dataset.name, sources, visitor=True))
    with pytest.raises(BadInput, match="no data set 'toys:sounds'"):
        last_of(preview_set("toys:sounds", sources))
