"""A visitor's own pictures and edits, through the page's handlers."""

from __future__ import annotations

import io
import zipfile
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from tests.methods.test_protopnet import Planted
from tests.support.networks import GapNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.errors import NeedsNotMet
from whylens.core.explanation import Question
from whylens.core.models.backbone import wrap
from whylens.ui.page.own_images import _fitter, editable_items
from whylens.ui.page.page_store import PageStore
from whylens.ui.page.session import Session

ME = SimpleNamespace(session_hash="me")


@pytest.fixture
def session(monkeypatch):
    net = wrap(seeded(GapNet(width=12)), input_spec=plain_spec(32, 48), labels=Planted.labels)
    monkeypatch.setattr(Session, "model_name", lambda self, text: text)
    return Session(Engine(loader=lambda name, progress: net), PageStore())


@pytest.fixture
def pictures(tmp_path):
    path, data = tmp_path / "mine.zip", Planted()
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(30):
            buffer = io.BytesIO()
            Image.fromarray(data.pixels(i)).save(buffer, "PNG")
            archive.writestr(f"{data.labels[i % 3]}/{i}.png", buffer.getvalue())
    return path


def explainer(session, name):
    return session.engine.registry.explainers[name]


def test_a_zip_makes_a_gallery_for_its_visitor_alone(session, pictures):
    steps = list(_fitter(explainer(session, "twin"), session)(str(pictures), "toy", ME))
    assert steps[0][0].startswith("Reading pictures: 0 %")
    assert steps[-1][0] == "Ready: A gallery of 30 pictures from 30 pictures of yours."
    assert steps[-1][2].interactive
    question = Question("toy", Planted().pixels(40), visitor="me")
    *_, answer = session.engine.explain(question, "twin")
    assert {item.key.split("/")[0] for item in answer.result.items} <= set(Planted.labels)
    with pytest.raises(NeedsNotMet, match="none was made"):
        list(session.engine.explain(Question("toy", Planted().pixels(40), visitor="you"), "twin"))


def test_what_was_made_is_gone_with_its_visitor(session, pictures):
    twin, net = explainer(session, "twin"), session.engine.backbone("toy")
    list(_fitter(twin, session)(str(pictures), "toy", ME))
    list(_fitter(twin, session)(str(pictures), "toy", SimpleNamespace(session_hash="you")))
    session.engine.artifact_store.forget("me")
    with pytest.raises(NeedsNotMet, match="none was made"):
        session.engine.artifact_store.get(twin, net, "me")
    assert session.engine.artifact_store.get(twin, net, "you")


def test_without_a_zip_the_visitor_is_told(session):
    with pytest.raises(gr.Error, match="Choose a folder or a ZIP first"):
        list(_fitter(explainer(session, "twin"), session)(None, "toy", ME))


def test_a_file_that_is_no_zip_is_told_in_words(session, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"no")
    with pytest.raises(gr.Error, match="no ZIP that can be read"):
        list(_fitter(explainer(session, "twin"), session)(str(tmp_path / "x.zip"), "toy", ME))


def test_prototypes_can_be_listed_once_they_are_made(session):
    proto = explainer(session, "protopnet")
    list(session.engine.fit("toy", "protopnet", Planted(), {"steps": 40}, visitor="me"))
    dropdown = editable_items(proto, session, "toy", "me")
    assert dropdown.choices
    first = dropdown.choices[0][0]
    session.engine.edit("toy", "protopnet", "rename", (first,), "mine", visitor="me")
    assert ("mine", "mine") in editable_items(proto, session, "toy", "me").choices
