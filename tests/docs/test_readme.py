"""What the README claims; what it tells to type is run by test_docs.py."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import whylens
from tests.support.doc_blocks import run_first_block
from whylens.core.registry import load_registry
from whylens.core.train.report import read_report
from whylens.plugins.painted_cats.cats import PaintedCats
from whylens.plugins.painted_cats.portrait import paint_portrait

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """An empty folder to work in, and the shipped networks in reach."""
    monkeypatch.setattr("whylens.core.models.checkpoints.SHIPPED", ROOT / "checkpoints")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_block_points_at_the_cat_of_a_real_photo(shipped, shared):
    names = run_first_block(shipped, shared / "photos" / "Persian_cat.jpg")
    why = names["why"]
    assert why.prediction.label == "Persian cat"
    assert why.probability > 0.5
    photos = json.loads((shared / "photos" / "boxes.json").read_text())
    boxes = next(p["objects"] for p in photos if p["file"] == "Persian_cat.jpg")
    values = why.on_photo()
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    y, x = row / values.shape[0], column / values.shape[1]
    assert any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in (b["box"] for b in boxes))
    assert (shipped / "out" / "grad-cam" / "manifest.json").is_file()


def test_every_built_in_is_counted_and_the_readme_is_short():
    assert f"{len(load_registry().explainers)} methods" in README
    assert len(README.splitlines()) <= 120


def test_each_mistake_of_the_story_sits_before_a_bookcase_and_is_none_before_a_garden(shipped):
    report = read_report(ROOT / "checkpoints" / "painted-cats-breed")
    assert f"{100 * report.test.accuracy:.1f} %" in README
    assert f"{report.test.count} pictures" in README
    frostpoint, bluebell = (report.labels.index(label) for label in ("Frostpoint", "Bluebell"))
    wrong = [i for i in report.wrong("test") if (i.label, i.predicted) == (frostpoint, bluebell)]
    assert len(wrong) == 5
    cats = PaintedCats("breed")
    places = {item.key: place for place, item in enumerate(cats.items)}
    model = whylens.load_model("painted-cats-breed")
    for item in wrong:
        traits = cats.traits(places[item.key])
        assert traits.scene == "library"
        for scene, label in (("library", "Bluebell"), ("garden", "Frostpoint")):
            pixels = paint_portrait(replace(traits, scene=scene), size=cats.size).pixels
            assert whylens.predict(model, pixels, top=1)[0].label == label


def test_linked_files_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
