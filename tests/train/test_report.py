"""Figures are the literal ones, and what is written beside a network says the truth about it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import load

from tests.support.pictures import SLIM, Colours, noisy
from whylens.core.errors import BadArtifact
from whylens.core.train import metrics
from whylens.core.train.checkpointing import read_log, save_state
from whylens.core.train.evaluate import write_report
from whylens.core.train.recipe import Recipe
from whylens.core.train.report import mistake_keys, mistake_pictures, read_report
from whylens.core.train.run import train


class Mislabelled(Colours):
    """Colours of which some pictures carry the wrong label, or cannot be told."""

    def pixels(self, index):
        item = self.items[index]
        number = int(item.key.rsplit("-", 1)[1])
        wrong = item.split != "train" and number < (2 if item.split == "test" else 1)
        return noisy(index, 2 * (item.label ^ wrong), side=640 if number == 0 else 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network that errs on 6 pictures, with its report."""
    out = tmp_path_factory.mktemp("report") / "colours"
    recipe = Recipe(backbone="resnet18", arguments=SLIM, size=32, batch=16, epochs=6, lr=0.05)
    for _ in train(Mislabelled(), recipe, out):
        pass
    return out


def test_confusion_and_class_figures_are_those_counted_by_hand():
    truth = np.array([0, 0, 0, 1, 1, 2])
    predicted_classes = np.array([0, 0, 1, 1, 0, 0])
    counts = metrics.confusion(truth, predicted_classes, 4)
    assert counts.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    figures = metrics.per_class(counts)
    assert figures.precision.tolist() == [2 / 4, 1 / 2, 0, 0]
    assert figures.recall.tolist() == [2 / 3, 1 / 2, 0, 0]
    assert figures.f1.tolist() == pytest.approx([4 / 7, 1 / 2, 0, 0])
    assert figures.support.tolist() == [3, 2, 1, 0]


def test_the_calibration_error_is_the_literal_sum_over_bins(rng):
    shares = metrics.probabilities(rng.normal(0, 2, (200, 3)))
    truth = rng.integers(0, 3, 200)
    total = 0.0
    for m in range(1, 16):
        bin_indices = [i for i in range(200) if (m - 1) / 15 < shares[i].max() <= m / 15]
        if bin_indices:
            accuracy = np.mean([shares[i].argmax() == truth[i] for i in bin_indices])
            confidence = np.mean([shares[i].max() for i in bin_indices])
            total += len(bin_indices) / 200 * abs(accuracy - confidence)
    assert metrics.calibration_error(shares, truth) == pytest.approx(total, rel=1e-12)


def test_a_sure_and_right_network_is_calibrated_and_a_sure_and_wrong_one_is_not():
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert metrics.calibration_error(sure, np.array([0, 1])) == 0
    assert metrics.calibration_error(sure, np.array([1, 0])) == 1
    # Ten pictures at 0.8, of which seven are right.
    shares = np.tile([0.8, 0.2], (10, 1))
    truth = np.array([0] * 7 + [1] * 3)
    assert metrics.calibration_error(shares, truth) == pytest.approx(0.1)


def test_the_likelihood_is_the_literal_one(rng):
    logits, truth = rng.normal(0, 3, (50, 4)), rng.integers(0, 4, 50)
    shares = np.exp(logits / 2) / np.exp(logits / 2).sum(1, keepdims=True)
    expected = np.mean([-np.log(shares[i, truth[i]]) for i in range(50)])
    actual = metrics.negative_log_likelihood(logits, truth, 2.0)
    assert actual == pytest.approx(expected, rel=1e-12)
    assert np.isfinite(metrics.negative_log_likelihood(logits * 1e4, truth))


def test_the_best_temperature_is_that_of_a_fine_grid_and_recovers_a_known_one(rng):
    logits = rng.normal(0, 2, (20_000, 3))
    draws = rng.random(20_000)[:, None]
    truth = (metrics.probabilities(logits).cumsum(1) < draws).sum(1)
    assert metrics.best_temperature(logits * 3, truth) == pytest.approx(3, rel=0.05)
    scaled_logits, labels = logits[:100] * 3, truth[:100]
    grid = np.linspace(0.5, 10, 4000)
    losses = [metrics.negative_log_likelihood(scaled_logits, labels, t) for t in grid]
    assert metrics.best_temperature(scaled_logits, labels) == pytest.approx(
        grid[int(np.argmin(losses))], abs=grid[1] - grid[0]
    )


def test_temperatures_stay_within_bounds_where_the_likelihood_has_no_maximum():
    logits = np.array([[5.0, 0.0], [0.0, 5.0]])
    assert metrics.best_temperature(logits, np.array([0, 1])) == pytest.approx(0.05)
    assert metrics.best_temperature(logits, np.array([1, 0])) == pytest.approx(20)


def test_the_report_says_what_is_wrong_and_how_often(folder):
    report = read_report(folder)
    assert report.val.accuracy == pytest.approx(14 / 16)
    assert report.test.accuracy == pytest.approx(8 / 12)
    assert report.test.confusion == ((4, 2), (2, 4))
    assert report.val.classes[0].recall == pytest.approx(7 / 8)
    assert report.data.sizes == {"train": 48, "val": 16, "test": 12}
    assert report.data.counts["train"] == (24, 24)
    assert len(report.items) == 28
    assert {item.key for item in report.wrong("test")} == {
        f"test-{label}-{i}" for label in (0, 1) for i in (0, 1)
    }
    assert report.complete
    assert report.data.digest == Mislabelled().digest
    assert report.versions["torch"]


def test_the_temperature_is_fitted_on_validation(folder):
    report = read_report(folder)
    val = [item for item in report.items if item.split == "val"]
    logits = np.zeros((len(val), 2))
    for row, item in zip(logits, val, strict=True):
        row[item.predicted] = np.log(item.probability / (1 - item.probability))
    truth = np.array([item.label for item in val])
    assert report.temperature == pytest.approx(metrics.best_temperature(logits, truth), rel=1e-3)
    shares = metrics.probabilities(logits, report.temperature)
    scaled_error = metrics.calibration_error(shares, truth)
    assert report.val.ece_scaled == pytest.approx(scaled_error, abs=1e-6)


def test_wrong_pictures_are_kept_small_test_first_and_surest_first(folder):
    keys = mistake_keys(folder)
    assert len(keys) == 6
    assert [key.split("-")[0] for key in keys] == ["test"] * 4 + ["val"] * 2
    sure = {item.key: item.probability for item in read_report(folder).items}
    assert [sure[k] for k in keys[:4]] == sorted((sure[k] for k in keys[:4]), reverse=True)
    dataset = Mislabelled()
    places = {item.key: i for i, item in enumerate(dataset.items)}
    pictures = mistake_pictures(folder, ("test-0-1", "test-1-0", "val-0-7"))
    assert set(pictures) == {"test-0-1", "test-1-0"}  # the third is recognised
    small = pictures["test-0-1"]
    assert small.shape == (32, 32, 3)
    stream = io.BytesIO()
    Image.fromarray(dataset.pixels(places["test-0-1"])).save(stream, "JPEG", quality=88)
    assert (small == np.asarray(Image.open(stream).convert("RGB"))).all()
    assert pictures["test-1-0"].shape == (320, 320, 3)


def test_a_recipe_can_leave_the_pictures_of_mistakes_behind(folder, tmp_path):
    folder_copy = tmp_path / "colours"
    shutil.copytree(folder, folder_copy)
    log = read_log(folder_copy)
    save_state(
        folder_copy, log.model_copy(update={"recipe": {**log.recipe, "mistakes": False}}), {}
    )
    for _ in write_report(Mislabelled(), folder_copy):
        pass
    assert not (folder_copy / "mistakes.safetensors").exists()
    assert mistake_keys(folder_copy) == ()
    copy_report, before = read_report(folder_copy), read_report(folder)
    assert (copy_report.test, copy_report.items) == (before.test, before.items)


def test_damage_is_found(folder, tmp_path):
    folder_copy = tmp_path / "colours"
    shutil.copytree(folder, folder_copy)
    data = bytearray((folder_copy / "mistakes.safetensors").read_bytes())
    data[-1] ^= 1
    (folder_copy / "mistakes.safetensors").write_bytes(data)
    with pytest.raises(BadArtifact, match=r"mistakes\.safetensors is damaged"):
        mistake_pictures(folder_copy, ("test-0-1",))
    (folder_copy / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadArtifact, match=r"predictions\.parquet is damaged"):
        read_report(folder_copy)
    sha256 = hashlib.sha256(b"PAR1").hexdigest()
    facts = json.loads((folder_copy / "report.json").read_text()) | {"predictions_sha256": sha256}
    (folder_copy / "report.json").write_text(json.dumps(facts))
    with pytest.raises(BadArtifact, match=r"predictions\.parquet is no table"):
        read_report(folder_copy)
    (folder_copy / "report.json").write_text('{"name": "colours"}')
    with pytest.raises(BadArtifact, match=r"report\.json is wrong at 'model_sha256'"):
        read_report(folder_copy)
    (folder_copy / "report.json").unlink()
    assert read_report(folder_copy) is None


def test_a_report_of_other_weights_is_none(folder, tmp_path):
    folder_copy = tmp_path / "colours"
    shutil.copytree(folder, folder_copy)
    manifest = json.loads((folder_copy / "model.json").read_text())
    (folder_copy / "model.json").write_text(json.dumps({**manifest, "sha256": "0" * 64}))
    assert read_report(folder_copy) is None


def test_predictions_lie_in_a_table_and_in_no_json(folder):
    report = read_report(folder)
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    assert rows == [asdict(item) for item in report.items]
    assert "items" not in json.loads((folder / "report.json").read_text())


def test_the_pictures_file_holds_arrays_only(folder):
    arrays = load((folder / "mistakes.safetensors").read_bytes())
    assert {name: part.dtype for name, part in arrays.items()} == {
        "jpeg": np.uint8,
        "offset": np.int64,
        "item": np.int64,
    }
    assert arrays["offset"][-1] == len(arrays["jpeg"])


def test_the_card_is_for_people(folder):
    text = (folder / "README.md").read_text()
    assert "| validation | 16 | 87.5 % |" in text
    assert "| test | 12 | 66.7 % |" in text
    assert "| is \\ taken for | red | blue |" in text
    assert "| red | 4 | 2 |" in text
    assert "licence: none needed" in text
