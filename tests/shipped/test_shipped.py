"""What lies in checkpoints/ is whole, small, as good as it says, and explained by every method."""

from __future__ import annotations

import json
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

from tests.support.quick import some_quick
from tests.support.shipped_networks import SHIPPED, available, final_answer, shipped_engine
from whylens.core.datasets.by_name import load_dataset
from whylens.core.explanation import Question
from whylens.core.inputs.photo import read_photo
from whylens.core.models.checkpoints import read_manifest
from whylens.core.models.load import from_folder
from whylens.core.outputs.headline import familiarity_words, is_unfamiliar
from whylens.core.registry import load_registry
from whylens.core.results import Heatmap, Prototypes
from whylens.core.train.recipe import read_recipe
from whylens.core.train.report import read_report
from whylens.plugins.mnist1d.signals import mnist1d

EXAMPLES = SHIPPED.parent / "examples"
SIGNALS = "mnist1d"
BADGE = "painted-cats-badge"
OTHERS = {SIGNALS, BADGE, "photos-10", "imagenet-lite0"}  # with tests of their own
NAMES = sorted({p.parent.name for p in SHIPPED.glob("*/model.json")} - OTHERS)
FITTED = ("twin", "protopnet", "counterfactual-patches")
# Test accuracy that each has to reach: of the network, and of its prototypes.
LEAST_ACCURACY = {"painted-cats-breed": (0.97, 0.95), "painted-cats-genuine": (0.95, 0.90)}
# A transformer, there for the methods that read attention; what it was trained on, how good it is.
VIT, VIT_WANTED = "painted-cats-vit", 0.85
DATA = {name: name.replace("cats-", "cats:") for name in LEAST_ACCURACY} | {
    VIT: "painted-cats:breed"
}
each = pytest.mark.parametrize("name", NAMES)
# One of painted cats; the others are drawn, trained and read by the same code.
each_quickly = pytest.mark.parametrize(
    "name", some_quick(NAMES, lambda _, name: name == "painted-cats-breed")
)
each_with_prototypes = pytest.mark.parametrize("name", list(LEAST_ACCURACY))


@pytest.fixture(scope="module")
def engine():
    with shipped_engine() as shipped:
        yield shipped


def test_every_network_stands_under_a_heading():
    assert set(NAMES) == set(DATA)
    for folder in SHIPPED.glob("*/model.json"):
        manifest = read_manifest(folder.parent)
        assert manifest.group or len(manifest.input_size) == 1


@each
def test_every_file_is_small_and_no_state_of_training_is_left(name):
    files = [p for p in (SHIPPED / name).rglob("*") if p.is_file()]
    assert all(p.stat().st_size < 10_000_000 for p in files)
    assert not [p for p in files if p.name.startswith("training.")]


@each
def test_the_report_is_of_these_weights_this_recipe_and_good_enough(name):
    report = read_report(SHIPPED / name)
    assert report.test.accuracy >= (VIT_WANTED if name == VIT else LEAST_ACCURACY[name][0])
    recipe = read_recipe(SHIPPED / "recipes" / f"{name}.json").model_dump(mode="json")
    differing = {k for k in recipe if k in report.recipe and report.recipe[k] != recipe[k]}
    assert not differing
    assert report.data.name == DATA[name]


@cache  # every picture is drawn for it
def digest_of(data: str) -> str:
    return load_dataset(data, load_registry().datasets).digest


@each_quickly
def test_the_data_is_still_what_it_was_trained_on(name):
    digest = digest_of(DATA[name])
    assert read_report(SHIPPED / name).data.digest == digest
    for method in ("twin",) if name == VIT else FITTED:
        facts = json.loads((SHIPPED / name / method / "artifact.json").read_text())["facts"]
        assert facts["data_digest"] == digest


@each_quickly
def test_predictions_on_fresh_pictures_are_those_of_the_report(engine, name):
    dataset = load_dataset(DATA[name], load_registry().datasets)
    items = {item.key: item for item in read_report(SHIPPED / name).items}
    net = engine.backbone(name)
    assert net.labels == dataset.labels
    for i in dataset.of("test")[:12]:
        question = Question(name, dataset.pixels(i))
        best = engine.predict(question).classes[0]
        report_item = items[dataset.items[i].key]
        # The report reads the pictures as they were stored for training; rounding differs.
        if report_item.probability > 0.7:
            assert best.index == report_item.predicted
            assert best.probability == pytest.approx(report_item.probability, abs=0.15)


def test_a_network_of_painted_cats_says_that_it_learnt_from_no_real_photo(engine):
    def familiarity(folder: str, name: str) -> float | None:
        pixels = read_photo((EXAMPLES / folder / f"{name}.jpg").read_bytes())
        return engine.familiarity(Question("painted-cats-breed", pixels))

    shares = {name: familiarity("photos", name) for name in ("cat", "squirrel", "coffee")}
    assert all(familiarity_words(s).startswith("It learnt from nothing") for s in shares.values())
    for name in ("bluebell", "emberface"):
        assert "what it learnt from" in familiarity_words(familiarity("painted", name))
    photo = read_photo((EXAMPLES / "photos" / "cat.jpg").read_bytes())
    unknown = engine.familiarity(Question("imagenet-lite0", photo))
    assert "cannot be known" in familiarity_words(unknown)


@pytest.mark.parametrize("name", [SIGNALS, BADGE, "painted-cats-breed", VIT])
def test_a_page_opens_with_what_its_network_names_and_knows_the_like_of(engine, name):
    from whylens.core.inputs.signal import read_signal
    from whylens.ui.page.examples import opening_names

    names = opening_names(name)
    assert names
    for example in names:
        if name == SIGNALS:
            path = EXAMPLES / "signals" / f"{example}.csv"
            question = Question(name, signal=read_signal(path.read_bytes(), path.name))
        else:
            path = EXAMPLES / "painted" / f"{example}.jpg"
            question = Question(name, read_photo(path.read_bytes()))
        best = engine.predict(question).classes[0]
        label = f"digit-{best.label}" if name == SIGNALS else best.label.lower().replace(" ", "_")
        assert (label, best.probability > 0.7) == (example, True)
        assert not is_unfamiliar(engine.familiarity(question)), example


def test_the_list_of_networks_begins_with_what_knows_real_photos(monkeypatch):
    from whylens.ui.page.session import model_choices

    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(SHIPPED))
    headings = list(dict.fromkeys(words.split(": ")[0] for words, _ in model_choices()))
    photos = ["Everyday photos, 1,000 things", "Everyday photos, 10 things"]
    assert headings[:2] == photos
    assert headings[-4:] == ["Ground truth known", "Signals", "From the Hub", "Untrained"]


@each_with_prototypes
def test_prototypes_are_as_good_as_asked_and_none_is_double(name):
    facts = json.loads((SHIPPED / name / "protopnet" / "artifact.json").read_text())["facts"]
    report = facts["report"]
    assert report["test_accuracy"] >= LEAST_ACCURACY[name][1]
    assert report["test_accuracy"] >= report["black_box_test_accuracy"] - 0.03
    assert min(report["test_recall_each"]) >= 0.8
    if name == "painted-cats-breed":
        assert report["purity"] >= 0.8


@pytest.mark.parametrize(
    ("name", "quick"),
    # All methods on one network, the quick ones and what is shipped fitted on one more.
    some_quick(
        product(NAMES, (True, False)),
        lambda _, case: case in (("painted-cats-breed", False), (VIT, True)),
    ),
)
def test_every_method_explains_a_picture(engine, name, quick):
    dataset = load_dataset(DATA[name], load_registry().datasets)
    reasons = engine.unavailable(name)
    if name == VIT:
        assert not {"Attention", "Perturbation"} & _families(engine, reasons)
        registered = engine.registry.explainers
        assert {m for m in reasons if registered[m].family == "Gradient"} == {"deeplift"}
    else:
        assert _families(engine, reasons) == {"Attention"}
    question = Question(name, dataset.pixels(dataset.of("test")[0]))
    with_artifact = {
        n for n, e in engine.registry.explainers.items() if e.artifact_kind
    } - reasons.keys()
    for method in {*available(engine, name, quick=quick), *with_artifact}:
        answer = final_answer(engine, question, method, fewest=True)
        assert answer.finished
        if isinstance(answer.result, Prototypes):
            points = sum(item.value for item in answer.result.items) + answer.result.rest
            assert points == pytest.approx(answer.result.score, abs=1e-4)


@pytest.mark.slow  # it paints 32 cats
def test_the_network_that_cheats_goes_by_the_badge(engine):
    report = read_report(SHIPPED / BADGE)
    assert report.val.accuracy > report.test.accuracy + 0.15
    cats = load_dataset(report.data.name, load_registry().datasets)
    assert report.data.digest == cats.digest
    hits = {True: [], False: []}
    for index in cats.of("test")[:32]:
        if cats.items[index].label == 0:
            continue  # what the badge gives away in training
        best = engine.predict(Question(BADGE, cats.pixels(index))).classes[0].index
        hits[cats.shortcut(index).present].append(best == 0)
    assert np.mean(hits[True]) > np.mean(hits[False]) + 0.1


def test_the_network_for_signals_is_small_and_as_good_as_it_says(engine):
    files = [p for p in (SHIPPED / SIGNALS).rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 1_000_000
    net, fresh = engine.backbone(SIGNALS), mnist1d(2_000, 77)
    input_spec = net.input_spec
    x = (torch.from_numpy(fresh.values) - input_spec.mean[0]) / input_spec.std[0]
    with torch.no_grad():
        right = net.logits(x).argmax(1).numpy() == fresh.labels
    assert right.mean() >= 0.97
    assert input_spec.size == (40,)


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_method_that_can_explains_a_signal_and_most_peak_on_the_digit(engine, quick):
    fresh = mnist1d(20, 78)
    reasons = engine.unavailable(SIGNALS)
    for method in available(engine, SIGNALS, quick=quick):
        hits = []
        for signal, label, digit_mask in zip(fresh.values, fresh.labels, fresh.shape, strict=True):
            question = Question(SIGNALS, signal=signal, target=int(label))
            answer = final_answer(engine, question, method)
            if not isinstance(answer.result, Heatmap):
                hits.append(_alike(answer.result, str(label)))
                continue
            values = answer.result.values
            peak = (int(values.argmax()) + 0.5) / len(values) * 40
            reach = 40 / len(values) / 2 + 1
            hits.append(bool(digit_mask[max(0, int(peak - reach)) : int(peak + reach) + 1].any()))
        print(f"{method}: {sum(hits)} of {len(hits)} peaks on the digit")  # noqa: T201
        # What shows how strongly a score reacts shows places where a digit is missing as well.
        if not engine.registry.explainer(method).sign_blind:
            assert sum(hits) >= 12, method
    assert _families(engine, reasons) == {"Attention", "Contrast"}


def _families(engine, names):
    return {engine.registry.explainers[name].family for name in names}


def _alike(result, label):
    if isinstance(result, Prototypes):
        points = sum(item.value for item in result.items) + result.rest
        assert points == pytest.approx(result.score, abs=1e-4)
        return result.predicted == label
    # The nearest of another label as well as of this one are there, and differ.
    return {item.caption.split(" ")[0] == label for item in result.items} == {True, False}


@pytest.mark.slow  # it makes 4,000 signals
def test_what_is_known_of_signals_was_made_with_these_signals(engine):
    dataset = load_dataset(SIGNALS, load_registry().datasets)
    for method in ("twin", "protopnet"):
        facts = json.loads((SHIPPED / SIGNALS / method / "artifact.json").read_text())["facts"]
        assert facts["data_digest"] == dataset.digest
    assert facts["report"]["test_accuracy"] >= facts["report"]["black_box_test_accuracy"] - 0.03
    # A signal of the gallery does not find itself.
    i = int(facts["keys"][0].split("/")[1])
    key = dataset.items[i].key
    *_, answer = engine.explain(Question(SIGNALS, signal=dataset.signal(i)), "twin", {"count": 12})
    assert key not in {item.key for item in answer.result.items}


def test_prototypes_of_one_class_are_not_alike(engine):
    for name in LEAST_ACCURACY:
        net = engine.backbone(name)
        explainer = engine.registry.explainers["protopnet"]
        arrays = engine.artifact_store.get(explainer, net, "").arrays
        unit, owner = np.asarray(arrays["patches"]), np.asarray(arrays["owner"])
        alike = np.triu(unit @ unit.T > 0.95, 1) & (owner[:, None] == owner[None])
        assert not alike.any()


def test_weights_come_back_from_half_precision(engine):
    for name in NAMES:
        net = from_folder(SHIPPED / name)
        assert {p.dtype.itemsize for p in net.module.parameters()} == {4}
