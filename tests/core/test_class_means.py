"""Mean maps: the mean of single answers, their error, and the command that writes them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.cli.test_cli_fit import photos, place  # noqa: F401 - fixtures
from tests.support.networks import GapNet, seeded
from tests.support.pages import registry_of
from tests.support.pictures import Tinted
from whylens.core.datasets.by_name import load_dataset
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, NeedsNotMet
from whylens.core.explainer import Explainer
from whylens.core.explanation import Question
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.backbone import wrap
from whylens.core.outputs.class_means import mean_maps
from whylens.core.params import NoParams
from whylens.core.progress import run
from whylens.core.results import Example, Examples
from whylens.core.storage.files import file_sha256
from whylens.ui.cli.app import app


def toy():
    """Return a small network for normalised, cropped pictures of three classes."""
    colours = {"mean": (0.4, 0.5, 0.3), "std": (0.25, 0.2, 0.3)}
    input_spec = InputSpec(size=(16, 24), crop=0.9, **colours)
    return wrap(seeded(GapNet()), input_spec=input_spec, labels=("ant", "bee", "cat"))


def test_the_mean_is_that_of_single_answers_about_each_picture_s_own_class():
    page, data, fractions = Engine(loader=lambda *_: toy()), Tinted(), []
    means = run(
        mean_maps(page, "toy", "grad-cam", data, params={"signed": True}, per_class=4),
        fractions.append,
    )
    assert list(means) == list(data.labels)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    for label, name in enumerate(data.labels):
        indices = [i for i in data.of("val") if data.items[i].label == label][:4]
        single = []
        for i in indices:
            question = Question("toy", data.pixels(i), target=label)
            *_, answer = page.explain(question, "grad-cam", {"signed": True})
            single.append(answer.result.values.astype(float))
        mean = means[name]
        assert mean.count == len(indices) == 4
        assert np.allclose(mean.heatmap.values, np.mean(single, 0), rtol=1e-5)
        expected = np.std(single, 0, ddof=1) / 2
        assert np.allclose(mean.heatmap.error, expected, rtol=1e-4, atol=1e-7)
        assert mean.picture.shape == (*page.backbone("toy").input_spec.size, 3)


class Pictures(Explainer[NoParams]):
    name, title, family = "pictures", "Pictures", "Test"
    summary = limits = source = cost = "x"
    needs, Params = frozenset(), NoParams

    def explain(self, subject, params):
        return Examples((Example(np.zeros((2, 2, 3), np.uint8), "x", 1.0),), "x")


def test_a_method_without_maps_is_refused():
    page = Engine(registry_of(Pictures()), loader=lambda *_: toy())
    with pytest.raises(NeedsNotMet, match="gives no maps"):
        run(mean_maps(page, "toy", "pictures", Tinted(), per_class=1))


def test_pictures_of_other_classes_are_refused():
    class Others(Tinted):
        labels = ("ant", "bee", "wasp")

    with pytest.raises(BadInput, match="no class 'wasp'"):
        run(mean_maps(Engine(loader=lambda *_: toy()), "toy", "cam", Others()))


def test_the_command_writes_a_picture_and_values_per_class(place, photos):  # noqa: F811
    words = ["means", "toy", str(photos), "--method", "grad-cam", "--per-class", "2"]
    result = CliRunner().invoke(
        app, [*words, "--param", "signed=true", "--out", str(place / "out")]
    )
    assert result.exit_code == 0, result.output
    names = {p.name for p in (place / "out").iterdir()}
    ends = (".png", ".values.npy", ".error.npy")
    assert names == {f"{label}{end}" for label in Tinted.labels for end in ends} | {"means.json"}
    manifest = json.loads((place / "out" / "means.json").read_text())
    assert manifest["files"] == {n: file_sha256(place / "out" / n) for n in names - {"means.json"}}
    assert (manifest["model"], manifest["method"]) == ("toy", "grad-cam")
    assert manifest["parameters"] == {"layer": "last", "signed": True}
    assert {label: of["pictures"] for label, of in manifest["classes"].items()} == dict.fromkeys(
        Tinted.labels, 2
    )
    with Image.open(place / "out" / "ant.png") as picture:
        assert picture.size == (64, 64)
    values = np.load(place / "out" / "ant.values.npy")
    assert values.any()
    data, params = load_dataset(str(photos), {}), {"signed": True}
    means = run(mean_maps(Engine(), "toy", "grad-cam", data, params=params, per_class=2))
    assert np.allclose(means["ant"].heatmap.values, values, rtol=1e-4, atol=1e-7)


def test_a_method_that_is_unknown_is_told_in_one_sentence(place, photos):  # noqa: F811
    result = CliRunner().invoke(app, ["means", "toy", str(photos), "--method", "grad-camm"])
    assert result.exit_code == 1
    assert "grad-cam" in result.output
    assert "Traceback" not in result.output
