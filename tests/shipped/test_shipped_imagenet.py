"""The network that page and command line begin with: small, and it knows real photos."""

from __future__ import annotations

import json

import pytest

from tests.support.shipped_networks import SHIPPED, available, final_answer, shipped_engine
from whylens.core.explanation import Question
from whylens.core.inputs.photo import read_photo
from whylens.core.models.checkpoints import default_model, read_manifest
from whylens.core.results import Heatmap

NAME = "imagenet-lite0"
EXAMPLES = SHIPPED.parent / "examples" / "photos"
# What the shipped photos show, in ImageNet's words; of the rocket it is least sure.
SHOWN = {
    "cat": {"tiger cat", "tabby", "Egyptian cat"},
    "coffee": {"espresso"},
    "fruits": {"lemon", "orange"},
    "orange": {"orange"},
    "palace": {"palace"},
    "photographer": {"tripod"},
    "rocket": {"missile", "projectile"},
    "squirrel": {"fox squirrel"},
}


@pytest.fixture(scope="module")
def engine():
    with shipped_engine() as shipped:
        yield shipped


def query_of(path) -> Question:
    return Question(NAME, read_photo(path.read_bytes()).pixels)


def test_it_is_small_lawful_and_where_everybody_begins():
    manifest = read_manifest(SHIPPED / NAME)
    assert manifest.licence == "Apache-2.0"
    assert sum(p.stat().st_size for p in (SHIPPED / NAME).iterdir()) < 10_000_000
    assert default_model(SHIPPED) == NAME


def test_it_names_what_its_examples_show(engine):
    assert {path.stem for path in EXAMPLES.glob("*.jpg")} == set(SHOWN)
    licences = (EXAMPLES / "LICENSE.md").read_text()
    for name, labels in SHOWN.items():
        assert engine.predict(query_of(EXAMPLES / f"{name}.jpg")).classes[0].label in labels, name
        assert f"| {name}.jpg |" in licences


def test_it_names_at_least_eleven_of_twelve_objects_among_its_best_five(engine, shared):
    entries = json.loads((shared / "photos" / "boxes.json").read_text())
    hits = 0
    for entry in entries:
        best = engine.predict(query_of(shared / "photos" / entry["file"])).classes
        hits += sum(
            bool({score.label for score in best} & {item["label"], "tabby", "Egyptian cat"})
            for item in entry["objects"]
        )
    assert hits >= 11


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_methods_explain_a_photo(engine, quick):
    question = query_of(EXAMPLES / "squirrel.jpg")
    for method in available(engine, NAME, quick=quick):
        answer = final_answer(engine, question, method, fewest=True)
        assert answer.finished
        if isinstance(answer.result, Heatmap):
            assert float(answer.result.values.max()) > float(answer.result.values.min())
