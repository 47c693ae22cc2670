"""Photos with boxes as a data set."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from whylens.core.datasets.boxes import BoxedPhotos
from whylens.core.errors import BadInput

LABELS = ("cat", "dog", "crane", "crane")


def folder_with(folder, objects, file="one.png"):
    """Return the folder with a photo of 20 x 10 pixels and a list of objects in it."""
    Image.fromarray(np.full((10, 20, 3), 90, np.uint8)).save(folder / "one.png")
    (folder / "boxes.json").write_text(json.dumps([{"file": file, "objects": objects}]))
    return folder


def test_each_object_is_an_item_and_its_box_is_its_evidence(tmp_path):
    objects = [
        {"label": "Dog", "box": [0.5, 0.0, 1.0, 0.5], "wnid": "n1"},
        {"label": "teapot", "box": [0, 0, 1, 1]},
        {"label": "crane", "box": [0.0, 0.2, 0.1, 1.0]},
    ]
    photos = BoxedPhotos(folder_with(tmp_path, objects), LABELS)
    assert [(item.key, item.label, item.split) for item in photos.items] == [
        ("one.png#0", 1, "test"),
        ("one.png#2", 2, "test"),
    ]
    expected = np.zeros((10, 20), bool)
    expected[:5, 10:] = True
    assert (photos.evidence(0) == expected).all()
    assert photos.evidence(1).sum() == 2 * 8
    assert photos.pixels(0).shape == (10, 20, 3)
    assert "teapot" in photos.notes[0]
    assert photos.content_digest(0) != photos.content_digest(1)


@pytest.mark.parametrize(
    ("objects", "file", "reason"),
    [
        ([{"label": "teapot", "box": [0, 0, 1, 1]}], "one.png", "none of the objects"),
        ([{"label": "dog", "box": [0, 0, 1]}], "one.png", "box"),
        ([{"label": "dog", "box": [0, 0, 1, 1]}], "../other.png", "outside its folder"),
        ([{"label": "dog", "box": [0, 0, 1, 1]}], "gone.png", "cannot be read"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_in_words(tmp_path, objects, file, reason):
    with pytest.raises(BadInput, match=reason):
        BoxedPhotos(folder_with(tmp_path, objects, file), LABELS).pixels(0)
