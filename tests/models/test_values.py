"""Networks that give one number: it is explained as it is, and nobody speaks of probability."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import whylens
from tests.conftest import ROOT
from tests.support.networks import seeded
from whylens.core.batch.folder_rows import photo_row
from whylens.core.batch.listing import load_file
from whylens.core.batch.rows import FileRow, explain_file, predicted_score, write_rows
from whylens.core.engine import Engine
from whylens.core.errors import BadArtifact, BadInput, NeedsNotMet
from whylens.core.evaluation.curves import deletion
from whylens.core.explanation import ModelCard, Prediction, Question
from whylens.core.inputs.photo import read_photo
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.models.import_options import ImportOptions
from whylens.core.models.import_weights import import_weights
from whylens.core.models.load import build, from_folder
from whylens.core.outputs.export import read_explanation
from whylens.core.outputs.headline import CoverTest, cover_test, headline
from whylens.core.outputs.photo_report import report_html
from whylens.core.results import Example, Examples, Heatmap
from whylens.core.targets import ClassScore, Target, target_of
from whylens.ui.cli.app import app
from whylens.ui.page import html
from whylens.ui.page.answer import _verdict
from whylens.ui.page.compare import _says

PHOTO = ROOT / "examples" / "photos" / "cat.jpg"
PIXELS = read_photo(PHOTO.read_bytes())


@pytest.fixture(scope="module")
def network():
    """A network of one number, about 30 at any photo."""
    module = seeded(build("test_resnet", classes=1))
    with torch.no_grad():
        module.get_classifier().weight *= 40
        module.get_classifier().bias += 30
    return module.eval()


def make(place, module, **options):
    save_file(module.state_dict(), place / "w.safetensors")
    options = {"outputs": "value", "unit": "years", "labels": "age", "size": "96", **options}
    file = place / "w.safetensors"
    return import_weights(ImportOptions(file=file, photo=PHOTO, out=place / "ages", **options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, network):
    return make(tmp_path_factory.mktemp("value"), network).folder


@pytest.fixture(scope="module")
def value(network, folder):
    """What the bare network says of the photo."""
    x, _ = photo_tensor(PIXELS, from_folder(folder).input_spec)
    with torch.no_grad():
        return float(network(x))


def test_its_number_is_that_of_the_bare_network_and_is_no_probability(folder, value):
    why = whylens.explain(folder, PHOTO, "occlusion", stride=32)
    assert why.score == pytest.approx(value, rel=1e-5)
    assert why.probability is None
    assert (why.prediction.label, why.prediction.probability) == ("age", None)
    assert str(why.prediction) == f"age {value:.4g} years"
    assert (why.unit, str(why.target), why.target.quantity) == ("years", "age", "value")
    (score,) = whylens.predict(folder, PHOTO)
    assert score.logit == pytest.approx(value, rel=1e-5)
    shown = why._repr_html_()
    assert f"Predicted: age {value:.4g} years." in shown
    assert " %" not in shown.split("<img")[0] + shown.split("</div>")[-1]


@pytest.mark.parametrize(
    "method", ["grad-cam", pytest.param("integrated-gradients", marks=pytest.mark.slow)]
)
def test_its_map_is_that_of_its_output_as_a_function(folder, network, method, tmp_path):
    classes = make(tmp_path, network, outputs="classes", unit="").folder
    params = {"signed": True} if method == "grad-cam" else {"steps": 8}
    expected = whylens.explain(classes, PHOTO, method, target=lambda y: y[:, 0], **params)
    actual = whylens.explain(folder, PHOTO, method, **params)
    assert actual.score == pytest.approx(expected.score, rel=1e-5)
    largest = np.abs(expected.values).max()
    assert largest > 1e-4
    np.testing.assert_allclose(actual.values, expected.values, atol=1e-5 * largest)


def test_questions_about_classes_are_refused_in_words(folder):
    for options in ({"quantity": "probability"}, {"versus": 0}):
        with pytest.raises(BadInput, match="gives one number"):
            whylens.explain(folder, PHOTO, "occlusion", **options)
    with pytest.raises(NeedsNotMet, match="this network gives a number"):
        whylens.explain(folder, PHOTO, "contrastive")
    names = whylens.methods(folder)
    assert {"occlusion", "grad-cam", "rise"} <= set(names)
    assert "this network gives a number" in names.unavailable["protopnet"]
    with pytest.raises(BadInput, match="not a value"):
        target_of(torch.zeros(3), None, "value", None)


def test_its_files_say_value_and_unit_and_are_read_back(folder, value, tmp_path):
    whylens.explain(folder, PHOTO, "occlusion", stride=32).save(tmp_path)
    path = tmp_path / "occlusion" / "manifest.json"
    manifest = json.loads(path.read_text())
    target = manifest["target"]
    assert target["score"] == pytest.approx(value, rel=1e-5)
    assert (target["quantity"], target["unit"], target["probability"]) == ("value", "years", None)
    assert manifest["model"]["outputs"] == "value"
    assert "--target" not in manifest["command"]
    copy, _ = read_explanation(path)
    assert (copy.target, copy.model.outputs) == (
        Target(0, "value", outputs="value", value_unit="years"), "value",
    )  # fmt: skip


def test_the_command_line_tells_the_number_of_photos_and_of_folders(folder, value, tmp_path):
    ask = ["explain", str(PHOTO), "--model", str(folder), "--method", "grad-cam"]
    run = CliRunner().invoke(app, [*ask, "--out", str(tmp_path / "one")])
    assert run.exit_code == 0, run.output
    assert f"age {value:.4g} years" in run.stderr
    assert "%" not in run.stderr.split("age")[1]
    ask[1:2] = [str(PHOTO.parent), "--quantity", "probability"]
    run = CliRunner().invoke(app, [*ask, "--out", str(tmp_path / "all")])
    assert run.exit_code == 1
    assert "gives one number" in run.stderr


def test_rows_of_a_folder_have_the_number_in_a_column_of_its_own(folder, value, tmp_path):
    question = Question(str(folder))
    source, file = FileRow(0, "a.jpg", 0), load_file(PHOTO)
    rows = [row for row, _ in explain_file(Engine(), question, {"grad-cam": {}}, source, file)]
    write_rows(tmp_path / "rows.parquet", rows, "0")
    (row,) = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert row["predicted_value"] == row["score"] == pytest.approx(value, rel=1e-5)
    assert (row["predicted_unit"], row["predicted_probability"]) == ("years", None)
    assert (row["quantity"], row["probability"]) == ("value", None)
    assert str(predicted_score(row)) == f"age {value:.4g} years"
    table_row = photo_row([row], {}, "")
    page = report_html([table_row], model="ages", weights_sha256="0", methods=[])
    assert "Value (years)" in page
    assert f"{value:.2f}" in page


def test_covering_it_is_told_in_its_unit(folder, value, network):
    engine = Engine()
    *_, answer = engine.explain(Question(str(folder), PIXELS), "occlusion", {"stride": 32})
    cells = np.zeros((8, 8), np.float32)
    cells[2:4, 1:6] = 1  # as many cells as are covered
    test = cover_test(engine, replace(answer, result=Heatmap(cells, "years", True)))
    assert (test.before, test.unit) == (pytest.approx(value, rel=1e-4), "years")
    subject = engine.subject(answer.question)
    fill = subject.baseline("blur")
    mask = torch.from_numpy(cells).repeat_interleave(subject.size[0] // 8, 0)
    mask = mask.repeat_interleave(subject.size[1] // 8, 1)
    with torch.no_grad():
        expected = float(network(subject.x + mask * (fill - subject.x)))
    assert test.after == pytest.approx(expected, rel=1e-4)
    assert abs(expected - value) > 1e-3 * abs(value)
    words = html.cover_words(CoverTest(0.156, 34.21, 20.07, 33.0, None, "years"), "age")
    assert "age goes from <b>34.21 years</b> to <b>20.07 years</b>" in words
    *_, score = deletion(subject, answer.result, steps=2, chance=False)
    assert score.curve[0] == pytest.approx(value, rel=1e-4)
    assert "raises it" in headline(Heatmap(np.eye(4, dtype=np.float32), "years", True), "value")


def test_a_headline_calls_a_picture_what_is_one_and_takes_the_word_of_examples():
    assert headline(Heatmap(np.eye(4, dtype=np.float32), "logit")).endswith("of the picture.")
    for values in (np.ones(4), np.zeros(4)):
        words = headline(Heatmap(values.astype(np.float32), "logit"))
        assert "the input" in words
        assert "picture" not in words
    for mask, noun in ((None, "input"), (np.ones((4, 4), np.bool_), "picture")):
        words = html.cover_words(CoverTest(0.15, 0.9, 0.1, 0.8, mask), "7")
        assert f"15 % of the {noun}:" in words
    item = Example(np.zeros((4, 4, 3), np.uint8), "a cat", 0.9)
    note = "7 of the 10 nearest are labelled cat."
    assert headline(Examples((item, item), "cosine", note)) == note
    assert headline(Examples((item, item), "cosine")) == "2 pictures stand for it."


def test_a_headline_says_that_the_peak_may_be_of_padding():
    heat = np.zeros((7, 7), np.float32)
    for place, expected in (((3, 3), False), ((1, 3), False), ((0, 3), True), ((3, 6), True)):
        heat[:] = 0.1
        heat[place] = 1
        assert ("at the border" in headline(Heatmap(heat, "logit"))) is expected
    heat[3, 3] = 1  # as strong, and inside
    assert "at the border" not in headline(Heatmap(heat, "logit"))
    pixels = np.full((224, 224), 0.1, np.float32)
    pixels[18, 100] = 1
    assert "at the border" in headline(Heatmap(pixels, "logit"))
    pixels[19, 100] = 2
    assert "at the border" not in headline(Heatmap(pixels, "logit"))


def test_a_row_of_compared_networks_says_its_number(folder, value):
    *_, answer = Engine().explain(Question(str(folder), PIXELS), "grad-cam")
    assert _says(answer) == f"{folder}: age {value:.4g} years"


def scores(*probabilities):
    return tuple(ClassScore(i, "abc"[i], p, 0.0) for i, p in enumerate(probabilities))


def test_the_card_speaks_of_numbers_labels_and_classes_as_they_are():
    number = Prediction("m", (ClassScore(0, "age", None, 34.21, "years"),), 0.1, "value")
    assert _verdict(number) == "It says 34.21 years."
    assert "34.21 years" in html.chips(number, None, ("age",))
    assert "%" not in html.chips(number, None, ("age",))
    assert html.class_probabilities(number) == "age 34.21 years"
    labels = Prediction("m", scores(0.9, 0.8, 0.2), 0.1, "labels")
    assert _verdict(labels) == "It says a (90 %), b (80 %)."
    prediction = Prediction("m", scores(0.3, 0.2, 0.1), 0.1, "labels")
    assert _verdict(prediction) == "It finds none; the likeliest is a (30 %)."
    assert _verdict(Prediction("m", scores(0.9, 0.1), 0.1)) == "It is sure: a (90 %)."
    card = ModelCard("m", "0" * 64, "free", "made", True, (), ("age",), {}, "value", "years")
    assert "one number: age, in years" in html.model_card(card)
    card = ModelCard("m", "0" * 64, "free", "made", True, (), ("a", "b"), {}, "labels")
    assert "2 labels, each with a probability of its own" in html.model_card(card)


def test_a_value_is_one_number_of_one_name(tmp_path, network):
    with pytest.raises(BadInput, match="gives 3 scores, and --value reads one number"):
        make(tmp_path, seeded(build("test_resnet", classes=3)), labels=None)
    with pytest.raises(BadInput, match="1 score, but there are 2 labels"):
        make(tmp_path, network, labels="age,height")
    imported = make(tmp_path, network, labels=None, unit="")
    (score,) = imported.predictions
    assert score.label == "value"
    assert score.amount == f"{score.logit:.4g}"
    manifest = json.loads((imported.folder / "model.json").read_text())
    (imported.folder / "model.json").write_text(json.dumps({**manifest, "labels": ["a", "b"]}))
    with pytest.raises(BadArtifact):
        from_folder(imported.folder)


def test_import_takes_the_unit_and_shows_the_number(tmp_path, network):
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    ask = ["import", str(tmp_path / "w.safetensors"), "--out", str(tmp_path / "ages")]
    run = CliRunner().invoke(app, [*ask, "--value", "years", "--multi-label"])
    assert "labels or a value" in run.output + run.stderr
    run = CliRunner().invoke(app, [*ask, "--value", "years", "--labels", "age"])
    assert run.exit_code == 0, run.output
    assert " years  age" in run.output
    assert from_folder(tmp_path / "ages").unit == "years"
