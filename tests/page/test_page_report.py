"""The tab This network: what it says, what a cell shows, and that a mistake becomes the photo."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

from tests.support.browser import toy_checkpoint
from tests.support.pictures import train_mislabelled
from whylens.core.datasets.by_name import load_dataset
from whylens.core.engine import Engine
from whylens.core.outputs.class_means import mean_maps, mean_picture
from whylens.core.outputs.render import Style
from whylens.core.progress import run
from whylens.core.registry import load_registry
from whylens.core.train.report import ModelReport, mistake_pictures, read_report
from whylens.ui.page import class_means as means
from whylens.ui.page import html as page_html
from whylens.ui.page import report
from whylens.ui.page.page_store import PageStore
from whylens.ui.page.session import Session


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of checkpoints: one that errs on 6 pictures, with a report, and one without."""
    place = tmp_path_factory.mktemp("reported")
    train_mislabelled(place / "a-colours")
    toy_checkpoint(place / "toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYLENS_CHECKPOINTS", str(place))
        yield place


@pytest.fixture
def session():
    """A session whose engine is never asked."""
    return Session(Engine(), PageStore())


def values(model, method):
    """Return the values of the form that averages maps."""
    style = {"colormap": "viridis", "opacity": 0.6, "significant_only": False, "under": "auto"}
    return {"model": model, "method": method, "count": 2, **style}


def value(update):
    return update["value"] if isinstance(update, dict) else update.value


def test_figures_and_classes_are_on_the_tab(place):
    notice, body, head, split, grid, classes, *_ = report._model_updates(
        report.BY_COMMAND, "a-colours"
    )
    assert not notice.visible
    assert body.visible
    assert [choice for _, choice in split.choices] == ["test", "val"]
    model_report = read_report(place / "a-colours")
    assert f"<b>{100 * model_report.test.accuracy:.1f} %</b>" in head
    confusion = np.array(model_report.test.confusion)
    right = f"<b>Right on {confusion.trace()} of {confusion.sum()} test pictures.</b>"
    assert 0 < head.index(right) < head.index("<table")
    i, j = np.unravel_index(np.argmax(confusion - np.diag(confusion.diagonal())), confusion.shape)
    assert i != j
    mistake = f"{confusion[i, j]} of {confusion[i].sum()} {model_report.labels[i]} are taken for"
    assert f"Its commonest mistake: {mistake} {escape(model_report.labels[j])}." in head
    assert head.index("Calibration") < head.index("ECE")
    assert f"{model_report.val.ece:.3f}" in head
    assert "none needed" in head
    assert f"{model_report.test.classes[0].precision:.3f}" in classes
    cells = re.findall(r"data-cell='(\d-\d)'[^>]*>(\d+)<", grid)
    expected = [
        (f"{i}-{j}", str(model_report.test.confusion[i][j])) for i in (0, 1) for j in (0, 1)
    ]
    assert cells == expected
    for text in (head, grid, classes):
        assert "<img" not in text


def test_without_a_report_the_tab_says_how_to_get_one(place):
    for name in ("toy", "resnet18.a1_in1k", "", None):
        notice, body, *other_updates = report._model_updates(report.BY_COMMAND, name)
        assert "whylens train" in value(notice)
        assert not body.visible
        assert len(other_updates) == 8


def test_a_damaged_report_is_words(place, monkeypatch, tmp_path):
    shutil.copytree(place / "a-colours", tmp_path / "broken")
    (tmp_path / "broken" / "report.json").write_text('{"name": "x"}')
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path))
    notice, body, *_ = report._model_updates(report.BY_COMMAND, "broken")
    assert "is wrong at" in value(notice)
    assert not body.visible


def test_a_cell_shows_its_mistakes_with_ids_and_a_diagonal_one_says_why_not(place, session):
    on_cell = report._on_cell(session)
    truth, prediction, message, gallery = on_cell("a-colours", "test", SimpleNamespace(cell="0-1"))
    assert (value(truth), value(prediction)) == ("0", "1")
    assert "2 test pictures of red are taken for" in message
    wrong_keys = {i.key for i in read_report(place / "a-colours").wrong("test")}
    captions = [item["caption"] for item in gallery.value]
    assert len(captions) == 2
    assert all(re.fullmatch(r"[<>]?\d+ % · test-0-\d", c) for c in captions)
    assert all(c.split(" ")[3] in wrong_keys for c in captions)
    _, _, message, gallery = on_cell("a-colours", "test", SimpleNamespace(cell="1-1"))
    assert "Only the pictures of mistakes are kept" in message
    assert not gallery.visible
    assert on_cell("a-colours", "test", SimpleNamespace(cell="")) == [gr.skip()] * 4
    with pytest.raises(gr.Error, match="no such class"):
        on_cell("a-colours", "test", SimpleNamespace(cell="0-9"))
    with pytest.raises(gr.Error, match="gone"):
        on_cell("../../etc", "test", SimpleNamespace(cell="0-1"))


def test_without_kept_pictures_a_cell_says_so(place, session, tmp_path, monkeypatch):
    shutil.copytree(place / "a-colours", tmp_path / "bare")
    (tmp_path / "bare" / "mistakes.safetensors").unlink()
    facts = json.loads((tmp_path / "bare" / "report.json").read_text())
    facts["mistakes_sha256"] = None
    (tmp_path / "bare" / "report.json").write_text(json.dumps(facts))
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path))
    *_, message, gallery = report._on_cell(session)("bare", "test", SimpleNamespace(cell="0-1"))
    assert message.endswith("This model travels without pictures.")
    assert not gallery.visible


def test_a_mistake_becomes_the_photo_unchanged_and_its_class_the_target(place, session):
    load = report._load_mistake(session)
    path, target, versus, message = load("a-colours", "test", "0", "1", SimpleNamespace(index=1))
    key = message.split(" ")[0]
    assert (np.asarray(Image.open(path)) == mistake_pictures(place / "a-colours", [key])[key]).all()
    assert (value(target), value(versus)) == ("1", "0")
    item = next(i for i in read_report(place / "a-colours").items if i.key == key)
    assert (item.label, item.predicted, item.split) == (0, 1, "test")
    with pytest.raises(gr.Error, match="gone"):
        load("a-colours", "test", "0", "1", SimpleNamespace(index=7))


def test_many_classes_are_listed_by_their_commonest_mistakes(place):
    content = json.loads(read_report(place / "a-colours").model_dump_json())
    count = page_html.MOST_COLUMNS + 1
    figures = content["test"]
    row = figures["classes"][0]
    figures["classes"] = [{**row, "label": f"class {i}"} for i in range(count)]
    figures["confusion"] = [[9] * count for _ in range(count)]
    figures["confusion"][3][4] = 77
    split_report = ModelReport.model_validate(content).test
    html = page_html.confusion_matrix(split_report)
    assert html.count("data-cell") == page_html.MOST_PAIRS
    assert re.search(r"data-cell='(\d+-\d+)'", html)[1] == "3-4"


def test_the_mean_maps_of_a_shipped_model_are_those_of_the_command(tmp_path):

    shipped = Path(__file__).resolve().parents[2] / "checkpoints"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whylens.core.models.checkpoints.SHIPPED", shipped)
        page = Session(Engine(), PageStore(tmp_path))
        names = ("painted-cats-genuine", "grad-cam")
        *partial, (message, gallery) = means._runner(page)(**values(*names))
        assert [step[0] for step in partial][-1] == "Averaging: 100 %"
        data = load_dataset("painted-cats:genuine", load_registry().datasets)
        means_by_label = run(mean_maps(page.engine, names[0], names[1], data, per_class=2))
        assert [item["caption"] for item in gallery.value] == list(means_by_label)
        files = [item["image"]["path"] for item in gallery.value]
        images = [np.asarray(Image.open(path), np.float32) for path in files]
        for picture, mean in zip(images, means_by_label.values(), strict=True):
            input_spec = page.engine.backbone(names[0]).input_spec
            expected = mean_picture(mean, input_spec, Style("viridis", 0.6))
            assert np.abs(picture - np.asarray(expected, np.float32)).mean() < 4  # JPEG
        assert "Grad-CAM" in message
        assert np.abs(images[0] - images[1]).mean() > 4


def test_mean_maps_without_the_pictures_point_to_the_command(place, session):

    with pytest.raises(gr.Error, match="whylens means a-colours FOLDER --method cam"):
        list(means._runner(session)(**values("a-colours", "cam")))


def test_every_network_says_what_it_knows_takes_and_comes_from(place):
    from tests.support.networks import GapNet, plain_spec, seeded
    from whylens.core.engine import Engine
    from whylens.core.models.backbone import wrap
    from whylens.core.registry import load_registry
    from whylens.ui.page.page_store import PageStore
    from whylens.ui.page.session import Session

    labels = ("<b>one</b>", "two", "three")
    engine = Engine(
        load_registry(),
        loader=lambda *_: wrap(seeded(GapNet()), input_spec=plain_spec(32, 48), labels=labels),
    )
    facts = report._facts(Session(engine, PageStore()), "toy")
    assert "<b>one" not in facts
    for words in ("32, 48", "3 classes:", "two, three", engine.card("toy").digest):
        assert words in facts
    usable = len(engine.registry.explainers) - len(engine.unavailable("toy"))
    assert f"{usable} of {len(engine.registry.explainers)} can be used on it" in facts
    assert report._facts(Session(engine, PageStore()), None) == ""
