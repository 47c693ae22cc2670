"""The Your folder tab: a ZIP becomes a chosen model with a report; refusals, and stopping."""

from __future__ import annotations

import threading
from functools import partial
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.support.browser import toy_checkpoint
from tests.support.pictures import HOSTILE_LABEL, SLIM, Colours, noisy, zip_of_fruit
from whylens.core.datasets.dataset import SPLITS
from whylens.core.datasets.preview import MOST_CLASSES, ClassPreview, SetPreview
from whylens.core.datasets.resplit import resplit
from whylens.core.datasets.zip import ZippedPictures, pictures_in_zip
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, Busy
from whylens.core.explainer import Explainer
from whylens.core.models.checkpoints import MANIFEST, checkpoint_folders
from whylens.core.params import NoParams
from whylens.core.progress import run as run_to_end
from whylens.core.registry import Entry, Registry
from whylens.core.results import Heatmap
from whylens.core.train.recipe import Recipe
from whylens.core.train.report import read_report
from whylens.core.train.training_jobs import new_model_folder
from whylens.core.workers.training import TrainingRunner
from whylens.ui.page import set_preview, training
from whylens.ui.page.layout import build_page
from whylens.ui.page.page_store import PageStore
from whylens.ui.page.session import Session
from whylens.ui.page.set_preview import held_out_picture, preview_html

SLOW = Recipe(backbone="resnet18", arguments=SLIM, size=32, batch=16, epochs=500, lr=0.01)


class Unfitting(Explainer[NoParams]):
    """A method that is fitted and cannot be."""

    name, title, family = "unfitting", "Unfitting", "Test"
    summary = limits = source = cost = "words"
    needs = frozenset()
    Params = NoParams
    artifact_kind = "a thing"

    def explain(self, subject, params):
        return Heatmap([[1.0]], "units")

    def fit(self, dataset, backbone, params):
        assert {item.split for item in dataset.items} == set(SPLITS)
        raise BadInput("These pictures do not do.")
        yield


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of checkpoints in use, with a toy network in it."""
    root = tmp_path / "checkpoints"
    toy_checkpoint(root / "toy", labels=("one", "two"))
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(root))
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.delenv("WHYLENS_TRAINING", raising=False)
    return root


@pytest.fixture(scope="module")
def fruit_zip(tmp_path_factory) -> str:
    """A ZIP of cherries and kiwis, one cherry twice."""
    return zip_of_fruit(tmp_path_factory.mktemp("fruit"))


def handler(*, unfitting=False, local=True):
    entry = Entry(Unfitting(), "unfitting", "stranger", "0.1")
    engine = Engine(Registry({"unfitting": entry} if unfitting else {}, ()))
    return training._trainer(TrainingRunner(engine), local=local)


def idle_runner():
    return TrainingRunner(Engine(Registry({}, ())))


def colours(engine, tell):
    return Colours()


def nothing_more(engine, dataset):
    return iter(())


def form_values(**changes):
    values = {
        "path": None,
        "folder": None,
        "name": "fruits",
        "backbone": "test_resnet",
        "start": training.RANDOM,
        "mode": "full",
        "epochs": 1,
        "model": "toy",
        "request": SimpleNamespace(session_hash="me"),
    }
    return {**values, **changes}


def text(update):
    return update if isinstance(update, str) else getattr(update, "value", None)


def test_a_zip_becomes_a_model_with_a_report_that_is_chosen(place, fruit_zip):
    run = handler(unfitting=True)
    work = form_values(path=fruit_zip, start=training.LOADED, mode="head")
    *steps, (message, _, model) = run(**work)
    assert message.startswith("Done: fruits recognises")
    assert model.value == "fruits"
    assert "fruits" in [name for _, name in model.choices]
    report = read_report(place / "fruits")
    assert report.labels == ("cherry", "kiwi")
    assert report.test is not None
    assert report.start.startswith("toy")
    assert any("reading pictures" in status for status, *_ in steps)
    log = text(steps[-1][1])
    assert "of validation" in log
    assert "Without a thing for Unfitting: These pictures do not do." in log
    # What it says is first seen of a picture that it did not learn from.
    session = Session(Engine(Registry({}, ())), PageStore())
    with Image.open(held_out_picture(session, fruit_zip, "", "fruits", "me")) as picture:
        pixels = np.asarray(picture)
    pictures = run_to_end(pictures_in_zip(training.Path(fruit_zip)))
    tested_keys = {item.key for item in report.items if item.split == "test"}
    keys = [i.key for n, i in enumerate(pictures.items) if (pictures.pixels(n) == pixels).all()]
    assert set(keys) & tested_keys
    assert held_out_picture(session, None, "/nowhere", "fruits", "me") is None
    assert held_out_picture(session, fruit_zip, "", "toy", "me") is None
    repeat = run(**work)
    assert next(repeat)[0].startswith(training.FAILED)
    with pytest.raises(gr.Error, match="There is a model called 'fruits' already"):
        next(repeat)


def test_a_training_starts_from_the_network_for_photos_that_is_here(place, monkeypatch):
    assert training._starts() == training.STARTS, "nothing trained is here"
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", f"{place}:{ROOT / 'checkpoints'}")
    (_, first_start), *other_starts = training._starts()
    assert first_start == training.SHIPPED
    assert [value for _, value in other_starts] == [training.LOADED, "pretrained", training.RANDOM]
    recipe = training._recipe(form_values(start=first_start))
    assert recipe.weights == str(checkpoint_folders()["imagenet-lite0"])
    start_recipe = training._recipe(form_values(start=training.LOADED, model="resnet18.a1_in1k"))
    assert (start_recipe.backbone, start_recipe.weights) == ("resnet18.a1_in1k", "pretrained")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "no pictures yet"),
        ({"path": "x.zip", "folder": "y"}, "not both"),
        ({"folder": "/nowhere/at/all"}, "There is no folder"),
        ({"folder": "painted-cats:unheard"}, "no folder painted-cats:unheard"),
        ({"folder": "painted-cats:breed", "name": "../up"}, "cannot be a model's name"),
        ({"folder": "painted-cats:breed", "name": "resnet18"}, "already"),
        ({"folder": "painted-cats:breed", "name": "toy"}, "already"),
        ({"folder": "painted-cats:breed", "backbone": "/etc/passwd"}, "not a model name"),
        ({"folder": "painted-cats:breed", "backbone": "resnet19"}, "no model called"),
        ({"folder": "painted-cats:breed", "backbone": "untrained:resnet18"}, "Choose a backbone"),
        ({"folder": "p", "start": "loaded", "model": "untrained:resnet18"}, "no weights to start"),
        ({"folder": "p", "mode": "sideways"}, "mode"),
        ({"folder": "p", "epochs": 0}, "epochs"),
    ],
)
def test_what_does_not_do_is_refused_in_words(place, change, message):
    with pytest.raises(gr.Error, match=message):
        list(handler()(**form_values(**change)))
    assert [p.name for p in place.iterdir()] == ["toy"]


def test_a_folder_of_the_machine_is_not_read_where_only_zips_are_offered(place):
    with pytest.raises(gr.Error, match="no pictures yet"):
        list(handler(local=False)(**form_values(folder="painted-cats:breed")))


def test_stop_keeps_the_best_so_far_and_goes_on_with_what_follows(place):
    runner, follow_ups = idle_runner(), []

    def follow_up(engine, dataset):
        follow_ups.append(dataset.name)
        return iter(())

    steps = runner.run("me", colours, SLOW, place / "m", follow_up)
    for step in steps:
        if step.epoch == 2:
            assert not runner.stop("another")
            assert runner.stop("me")
            break
    assert "examining the best so far" in [step.message for step in steps]
    assert not read_report(place / "m").complete
    assert follow_ups == ["colours"]
    assert not runner.stop("me")


def test_one_at_a_time_and_leaving_ends_it(place):
    runner = idle_runner()
    steps = runner.run("me", colours, SLOW, place / "m", nothing_more)
    next(step for step in steps if step.epoch == 2)
    with pytest.raises(Busy, match="under way already"):
        next(runner.run("you", colours, SLOW, place / "n", nothing_more))
    steps.close()
    assert runner.join(30)
    assert read_report(place / "m") is not None
    assert not (place / "n").exists()


def test_stopped_before_anything_was_learnt_leaves_nothing(place):
    runner, release = idle_runner(), threading.Event()

    def read_dataset(engine, tell):
        tell(0.0, "reading")
        release.wait(10)
        tell(0.5, "reading")
        raise AssertionError

    steps = runner.run("me", read_dataset, SLOW, place / "m", nothing_more)
    assert next(steps).message == "reading"
    runner.stop("me")
    release.set()
    with pytest.raises(BadInput, match="before anything was learnt"):
        list(steps)
    assert not (place / "m" / MANIFEST).exists()
    assert new_model_folder("m") == place / "m"


def test_a_slow_screen_gets_the_newest_and_every_epoch(place):
    recipe = SLOW.model_copy(update={"epochs": 3})
    runner = idle_runner()
    steps = runner.run("me", colours, recipe, place / "m", nothing_more)
    next(steps)
    assert runner.join(60)
    rest = list(steps)
    ended = [step.epoch for step in rest if "val_accuracy" in step.figures and step.fraction < 1]
    assert ended == [1, 2, 3]
    assert rest[-1].fraction == 1.0
    fractions = [step.fraction for step in rest]
    assert fractions == sorted(fractions)


def test_a_set_is_split_by_class_with_copies_together(fruit_zip):
    pictures = run_to_end(pictures_in_zip(training.Path(fruit_zip)))
    dataset = run_to_end(resplit(pictures))
    present = {(item.split, item.label) for item in dataset.items}
    assert present == {(split, label) for split in SPLITS for label in (0, 1)}
    splits = {item.key: item.split for item in dataset.items}
    assert splits["fruit/cherry/000.png"] == splits["fruit/cherry/copy.png"]
    assert any("copies" in note for note in dataset.notes)
    assert (dataset.pixels(3) == pictures.pixels(3)).all()
    small_set = ZippedPictures("few.zip", ("a", "b"), pictures.items[:2], [noisy(0, 0)] * 2)
    with pytest.raises(BadInput, match=r"in few\.zip has 2 pictures"):
        list(resplit(small_set))


def look(*, local=True):
    """Return what is asked of each change of a ZIP's or a folder's place."""
    with gr.Blocks():
        session = Session(Engine(Registry({}, ())), PageStore())
        parts = gr.File(), gr.Textbox()
        event = set_preview.build_set_preview(session, *parts, local=local)
    return partial(event.fn, request=SimpleNamespace(session_hash="me"))


def test_pictures_are_shown_as_soon_as_they_are_named_and_once(fruit_zip):
    handler = look()
    *_, (page, shown_set) = handler(fruit_zip, "", ())
    assert "41 pictures of 2 classes" in page
    assert page.count("<img src='data:image/jpeg") == 8
    assert "<b>cherry</b> 21" in page
    assert list(handler(fruit_zip, "", shown_set)) == [(gr.skip(), gr.skip())]
    assert list(handler(None, " ", shown_set)) == [("", ("", ""))]
    for path, folder, words in (
        (fruit_zip, "x", "not both"),
        (None, "/nowhere", "There is no folder"),
    ):
        *_, (page, _) = list(stepped(handler(path, folder, ())))
        assert words in page
    assert list(look(local=False)(None, "/etc", ())) == [("", ("", ""))]


def stepped(steps):
    """Yield the steps of what fails in the end, and says so in its last step."""
    with pytest.raises(gr.Error):
        yield from steps


def test_names_of_folders_are_only_text_and_of_many_classes_some_are_named():
    classes = [ClassPreview(HOSTILE_LABEL, 3, (b"x",))]
    classes += [ClassPreview(f"class {n}", n) for n in range(1, 150)]
    page = preview_html(SetPreview(tuple(classes), ("a note",) * 20))
    assert "<img src=x" not in page
    assert page.count("<figure>") == MOST_CLASSES
    assert "11,178 pictures of 150 classes" in page
    assert "class 111 111 and 38 more" in page
    assert page.count("<li>") < 10


@pytest.mark.parametrize(
    ("setting", "public", "space", "is_allowed"),
    [
        (None, False, False, True),
        (None, True, False, False),
        (None, False, True, False),
        ("0", False, False, False),
        ("1", True, True, True),
    ],
)
def test_training_is_off_where_strangers_are(monkeypatch, setting, public, space, is_allowed):
    for name, value in (("WHYLENS_TRAINING", setting), ("SPACE_ID", "a/b" if space else None)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert training.training_allowed(public=public) is is_allowed
    page = build_page(Engine(Registry({}, ())), public=public)
    components = {b["props"].get("elem_id"): b["props"] for b in page.config["components"]}
    assert ("train-run" in components) is is_allowed
    assert ("import-run" in components) is not (public or space)
    if is_allowed:
        assert components["train-folder"]["visible"] is not (public or space)


def test_the_demo_is_public_unless_on_loopback():
    from whylens.ui.page.server import _is_loopback

    assert [_is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "host")] == [
        True,
        True,
        True,
        False,
        False,
    ]
