"""Pictures are read in the processes that compute: the one that serves decodes none of them."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from tests.support.far_pictures import LABELS, LOADED, far_engine, far_registry
from tests.support.pictures import zip_of_fruit
from whylens.core.datasets.reading import dataset_of
from whylens.core.errors import BadInput, NeedsNotMet
from whylens.core.explanation import Question
from whylens.core.outputs.offered_pictures import offered_pictures
from whylens.core.progress import last_of
from whylens.core.workers.engine import WorkerEngine
from whylens.ui.page import class_means
from whylens.ui.page.own_images import _fitter
from whylens.ui.page.page_store import PageStore
from whylens.ui.page.session import Session

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no signals here")
ME = SimpleNamespace(session_hash="me")


@pytest.fixture(scope="module")
def engine():
    worker_engine = WorkerEngine(far_engine, far_registry())
    yield worker_engine
    worker_engine.close()


@pytest.fixture
def session(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(Session, "model_name", lambda self, text: text)
    return Session(engine, PageStore(tmp_path))


def fit_steps(session, path):
    explainer = session.engine.registry.explainer("fitted")
    return list(_fitter(explainer, session)(str(path), "toy", ME))


def test_a_zip_is_read_where_a_method_is_fitted(session, tmp_path, monkeypatch):
    path = zip_of_fruit(tmp_path)

    def read_here(*_):
        raise AssertionError

    monkeypatch.setattr("whylens.core.datasets.zip.ZipFiles", read_here)
    steps = fit_steps(session, path)
    assert re.fullmatch(r"Reading pictures: \d+ %", steps[0][0])
    assert re.fullmatch(r"Ready: A mean from \d\d pictures of yours\.", steps[-1][0])
    facts = session.engine.artifact("toy", "fitted", visitor="me").facts
    assert facts["process"] != os.getpid()
    # What was fitted crosses back with the visitor's questions, and is there for nobody else.
    question = Question("toy", np.zeros((32, 32, 3), np.uint8), visitor="me")
    assert last_of(session.engine.explain(question, "fitted")).result.values.shape == (2, 2)
    with pytest.raises(NeedsNotMet, match="none was made"):
        last_of(session.engine.explain(replace(question, visitor="you"), "fitted"))


def test_a_zip_that_cannot_be_used_is_told_from_there(session, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"no")
    with pytest.raises(gr.Error, match="no ZIP that can be read"):
        fit_steps(session, tmp_path / "x.zip")


def test_what_fails_in_reading_is_no_method_s_fault():
    def reading():
        yield 0.5
        raise MemoryError

    with pytest.raises(BadInput, match="pictures cannot be read"):
        list(dataset_of(reading))


def test_the_pictures_of_class_means_are_read_there(session, monkeypatch):
    report = SimpleNamespace(data=SimpleNamespace(name="far"), labels=LABELS)
    monkeypatch.setattr(class_means, "checkpoint_folders", lambda: {"toy": "a folder"})
    monkeypatch.setattr(class_means, "read_report", lambda folder: report)
    LOADED.clear()
    style = {"colormap": "viridis", "opacity": 0.6, "significant_only": False, "under": "auto"}
    values = {"model": "toy", "method": "good", "count": 2, **style}
    *partial, (_, gallery) = class_means._runner(session)(**values)
    assert partial[-1][0] == "Averaging: 100 %"
    assert [item["caption"] for item in gallery.value] == list(LABELS)
    assert LOADED == []
    number = offered_pictures(session.engine, "far").pixels(0)[0, 0]
    assert int.from_bytes(number.tobytes()) != os.getpid()


def test_a_set_is_described_as_it_is(engine):
    remote_set, local_set = offered_pictures(engine, "far"), far_registry().datasets["far"].load("")
    assert (remote_set.labels, remote_set.items) == (local_set.labels, local_set.items)
    assert remote_set.content_digest(3) == local_set.content_digest(3)
    assert offered_pictures(engine, "another") is None
