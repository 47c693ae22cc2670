"""What lies in checkpoints/ is whole, small, as good as it says, and explained by every method."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.answers import Question
from core.datasets.named import dataset_named
from core.engine import Engine
from core.models import checkpoints
from core.models.load import from_folder
from core.registry import load_registry
from core.results import Prototypes
from core.train.recipe import read_recipe
from core.train.report import read_report

SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"
NAMES = sorted(p.parent.name for p in SHIPPED.glob("*/model.json"))
# Test accuracy that each has to reach: of the network, and of its prototypes.
WANTED = {"painted-cats-breed": (0.97, 0.95), "painted-cats-genuine": (0.95, 0.90)}
each = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def engine():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "OWN", SHIPPED)
        yield Engine()


def test_the_offline_default_is_there():
    assert NAMES[0] == "painted-cats-breed"
    assert set(NAMES) == set(WANTED)


@each
def test_every_file_is_small_and_no_state_of_training_is_left(name):
    files = [p for p in (SHIPPED / name).rglob("*") if p.is_file()]
    assert all(p.stat().st_size < 10_000_000 for p in files)
    assert not [p for p in files if p.name.startswith("training.")]


@each
def test_the_report_is_of_these_weights_this_recipe_and_good_enough(name):
    report = read_report(SHIPPED / name)
    assert report.test.accuracy >= WANTED[name][0]
    recipe = read_recipe(SHIPPED / "recipes" / f"{name}.json").model_dump(mode="json")
    differing = {k for k in recipe if k in report.recipe and report.recipe[k] != recipe[k]}
    assert not differing
    assert report.data.name == name.replace("cats-", "cats:")


@each
def test_the_data_is_still_what_it_was_trained_on(name):
    dataset = dataset_named(name.replace("cats-", "cats:"))
    assert read_report(SHIPPED / name).data.digest == dataset.digest
    for method in ("twin", "protopnet"):
        facts = json.loads((SHIPPED / name / method / "artifact.json").read_text())["facts"]
        assert facts["data_digest"] == dataset.digest


@each
def test_predictions_on_fresh_pictures_are_those_of_the_report(engine, name):
    dataset = dataset_named(name.replace("cats-", "cats:"))
    said = {item.key: item for item in read_report(SHIPPED / name).items}
    net = engine.backbone(name)
    assert net.labels == dataset.labels
    for i in dataset.of("test")[:24]:
        question = Question(name, dataset.pixels(i))
        best = engine.predict(question).guesses[0]
        known = said[dataset.items[i].key]
        # The report reads the pictures as they were stored for training; rounding differs.
        if known.probability > 0.7:
            assert best.index == known.predicted
            assert best.probability == pytest.approx(known.probability, abs=0.15)


@each
def test_prototypes_are_as_good_as_asked_and_none_is_double(name):
    facts = json.loads((SHIPPED / name / "protopnet" / "artifact.json").read_text())["facts"]
    report = facts["report"]
    assert report["test_accuracy"] >= WANTED[name][1]
    assert report["test_accuracy"] >= report["black_box_test_accuracy"] - 0.03
    assert min(report["test_recall_each"]) >= 0.8
    if name == "painted-cats-breed":
        assert report["purity"] >= 0.8


@each
def test_every_method_explains_a_picture(engine, name):
    dataset = dataset_named(name.replace("cats-", "cats:"))
    assert not engine.card(name).unavailable
    question = Question(name, dataset.pixels(dataset.of("test")[0]))
    quick = {"mode": "fast", "steps": 16, "window": 48, "stride": 48, "count": 2}
    for method, explainer in load_registry().explainers.items():
        params = {k: v for k, v in quick.items() if k in explainer.Params.model_fields}
        *_, answer = engine.explain(question, method, params)
        assert answer.finished
        if isinstance(answer.result, Prototypes):
            points = sum(item.value for item in answer.result.items) + answer.result.rest
            assert points == pytest.approx(answer.result.score, abs=1e-4)


def test_prototypes_of_one_class_are_not_alike(engine):
    for name in NAMES:
        net = engine.backbone(name)
        explainer = engine.registry.explainers["protopnet"]
        arrays = engine.fitted.found(explainer, net, "").arrays
        unit, owner = np.asarray(arrays["patches"]), np.asarray(arrays["owner"])
        alike = np.triu(unit @ unit.T > 0.95, 1) & (owner[:, None] == owner[None])
        assert not alike.any()


def test_weights_come_back_from_half_precision(engine):
    for name in NAMES:
        net = from_folder(SHIPPED / name)
        assert {p.dtype.itemsize for p in net.module.parameters()} == {4}
