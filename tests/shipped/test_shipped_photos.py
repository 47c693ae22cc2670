"""The network for photos of ten kinds: whole, small, as good as it says, alive on real photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.shipped_networks import SHIPPED, available, final_answer, shipped_engine
from whylens.core.datasets.npz import ImageArchive
from whylens.core.explanation import Question
from whylens.core.inputs.photo import read_photo
from whylens.core.train.recipe import read_recipe
from whylens.core.train.report import read_report

NAME = "photos-10"
FOLDER = SHIPPED / NAME


@pytest.fixture(scope="module")
def engine():
    with shipped_engine() as shipped:
        yield shipped


@pytest.fixture(scope="module")
def cat():
    """The photo of a cat that the page offers."""
    return read_photo((SHIPPED.parent / "examples" / "photos" / "cat.jpg").read_bytes()).pixels


def test_it_travels_without_pictures_and_is_small():
    files = {p.relative_to(FOLDER).as_posix(): p.stat().st_size for p in FOLDER.rglob("*")}
    assert set(files) == {
        "README.md", "model.json", "model.safetensors", "predictions.parquet", "report.json"
    }  # fmt: skip
    assert max(files.values()) < 10_000_000


def test_the_report_is_of_this_recipe_and_good_enough():
    report = read_report(FOLDER)
    assert report.test.accuracy >= 0.92
    assert report.test.count == 10_000
    recipe = read_recipe(SHIPPED / "recipes" / f"{NAME}.json").model_dump(mode="json")
    # A report keeps no folders of whoever trained.
    # Where lists show it is no matter of training, and came later.
    recipe = {**recipe, "weights": Path(recipe["weights"]).name}
    assert report.recipe == {k: v for k, v in recipe.items() if k not in ("group", "examples")}
    for origin in ("finer", "coarse"):
        assert f"photos-10-{origin} (trained here on cifar10_jpeg" in report.start
    assert "efficientnet-lite0 (Apache-2.0; sha256" in report.start


def test_its_feature_map_has_at_least_eight_by_eight_places(engine):
    net = engine.backbone(NAME)
    with torch.no_grad():
        features = net.features(torch.zeros(1, 3, *net.input_spec.size))
    assert min(features.map.shape[2:]) >= 8


@pytest.mark.slow
def test_the_test_pictures_are_recognised_as_the_report_says(engine, shared):
    dataset = ImageArchive(shared / "cifar10_jpeg.npz")
    report = read_report(FOLDER)
    assert report.data.digest == dataset.digest
    items = {item.key: item for item in report.items}
    net = engine.backbone(NAME)
    assert net.labels == dataset.labels
    alike = []
    for i in dataset.of("test")[:1000]:
        best = engine.predict(Question(NAME, dataset.pixels(i))).classes[0]
        alike.append(best.index == items[dataset.items[i].key].predicted)
    # The report reads the pictures as they were stored for training; rounding differs.
    assert np.mean(alike) >= 0.99


def test_a_photo_of_a_cat_is_a_cat(engine, cat):
    best = engine.predict(Question(NAME, cat)).classes[0]
    assert best.label == "cat"


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_method_that_needs_no_pictures_explains_a_photo(engine, cat, quick):
    for method, reason in engine.unavailable(NAME).items():
        explainer = engine.registry.explainers[method]
        assert explainer.artifact_kind or explainer.family == "Attention", reason
    for method in available(engine, NAME, quick=quick):
        assert final_answer(engine, Question(NAME, cat), method, fewest=True).finished
