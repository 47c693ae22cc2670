"""The Many photos tab without a browser: rows, order, what cannot be read, a click, the report."""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.core.test_photo_report import Page
from tests.support.browser import toy_checkpoint
from whylens.core.batch import listing
from whylens.core.engine import Engine
from whylens.ui.page import many_photos, photo_input
from whylens.ui.page.page_store import PageStore
from whylens.ui.page.photo_files import MOST_PHOTOS, find_photo_files
from whylens.ui.page.session import PREDICTED, RUNNER_UP, Session

LABELS = ("ant", "bee", "cat", "dog")
HOSTILE = "<img src=x onerror=harmed()>.png"
STYLE = {"colormap": "viridis", "opacity": 0.6, "significant_only": False, "under": "auto"}
ME = SimpleNamespace(session_hash="me")


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session with a toy network of four classes."""
    place = tmp_path_factory.mktemp("many")
    toy_checkpoint(place / "toy", labels=LABELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYLENS_CHECKPOINTS", f"{place}:{ROOT / 'checkpoints'}")
        yield Session(Engine(), PageStore())


@pytest.fixture
def folder(tmp_path):
    """A folder with photos of two classes, one that cannot be read, and one of no class."""
    for number, name in enumerate(("ant/1.png", "BEE/2.png", HOSTILE)):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    (tmp_path / "photos" / "bee").mkdir(exist_ok=True)
    (tmp_path / "photos" / "bee" / "broken.jpg").write_bytes(b"broken")
    return tmp_path / "photos"


def steps(session, *, local=True, **values):
    arguments = {"files": None, "folder": "", "order": "least sure", "model": "toy"}
    arguments |= {"framing": "network", **STYLE, **values}
    yield from many_photos._runner(session, local=local)(request=ME, **arguments)


def cells(table: str) -> list[str]:
    return re.findall(r"data-cell='(\d+)'", table)


def test_every_photo_is_a_row_and_what_cannot_be_read_says_why(session, folder):
    *_, (table, status) = steps(session, folder=str(folder))
    stored = session.store.photos("me")
    assert [r.name for r in stored.rows] == [HOSTILE, "BEE/2.png", "ant/1.png", "bee/broken.jpg"]
    assert [row.true_label for row in stored.rows] == ["", "bee", "ant", "bee"]
    assert status.startswith("Done: ")
    assert "no prediction for 1" in status
    page = Page(f"<h1></h1>{table}")
    assert len(page.rows) == 5
    assert len(page.pictures()) == 6
    assert sorted(cells(table)) == ["0", "1", "2"]
    assert "not a readable PNG" in page.rows[-1][-1]
    assert "<img src=x" not in table
    assert HOSTILE in " ".join(page.rows[int(cells(table).index("0")) + 1])
    assert "data-network='toy'" in table
    # Of what the engine says itself.
    from whylens.core.explanation import Question
    from whylens.core.inputs.photo import read_photo

    (best,) = session.engine.predict(Question("toy", read_photo(png(0))), top=1).classes
    assert (stored.rows[2].label, stored.rows[2].probability) == (best.label, best.probability)


def test_photos_are_shown_whole_where_the_page_shows_them_so(session, folder):
    probabilities = {}
    for framing in ("network", "0.1,0.1,0.5,0.5", "whole"):
        *_, (table, _) = steps(session, folder=str(folder), framing=framing)
        probabilities[framing] = [row.probability for row in session.store.photos("me").rows]
        mark = "toy whole" if framing == "whole" else "toy"
        assert f"data-network='{mark}'" in table
    assert probabilities["network"] == probabilities["0.1,0.1,0.5,0.5"]
    assert probabilities["network"] != probabilities["whole"]
    from whylens.core.explanation import Question
    from whylens.core.inputs.photo import read_photo

    photo = replace(read_photo(png(0)), framing="whole")
    (best,) = session.engine.predict(Question("toy", photo), top=1).classes
    assert probabilities["whole"][2] == best.probability


def test_rows_are_sorted_by_choice_without_being_computed_again(session, folder, monkeypatch):
    *_, (table, _) = steps(session, folder=str(folder))
    rows = session.store.photos("me").rows
    monkeypatch.setattr(session.engine, "explain", None)
    redraw = many_photos._redrawer(session)
    shares = [rows[int(cell)].probability for cell in cells(table)]
    assert shares == sorted(shares)
    assert cells(redraw("name", ME)) == ["0", "1", "2"]
    wrong = [rows[int(cell)].right is not False for cell in cells(redraw("wrong", ME))]
    assert wrong == sorted(wrong)


def test_a_click_makes_a_photo_the_photo_of_the_page(session, folder):
    list(steps(session, folder=str(folder)))
    choose = many_photos._chooser(session)
    path, target, versus, status = choose(ME, SimpleNamespace(cell="1"))
    assert Path(path).read_bytes() == png(1)
    assert Path(path).name == "2.png"
    assert (target, versus) == (PREDICTED, RUNNER_UP)
    assert "BEE/2.png is the photo now" in status
    assert Path(choose(ME, SimpleNamespace(cell="0"))[0]).parent.parent == session.store.folder
    for cell in ("9", "", "../0"):
        assert choose(ME, SimpleNamespace(cell=cell))[0] == gr.skip()
    assert choose(SimpleNamespace(session_hash="other"), SimpleNamespace(cell="0"))[0] == gr.skip()
    (folder / "BEE" / "2.png").unlink()
    path, *_, status = choose(ME, SimpleNamespace(cell="1"))
    assert path == gr.skip()
    assert "BEE/2.png cannot be read" in status


def test_the_report_has_the_same_rows_the_wrong_ones_first(session, folder):
    list(steps(session, folder=str(folder)))
    button = many_photos._packer(session)(ME)
    path = Path(button.value["path"] if isinstance(button.value, dict) else button.value)
    assert path.name == "report.html"
    page = Page(path.read_text())
    rows = {row.name: row for row in session.store.photos("me").rows}
    assert {cells[0] for cells in page.rows[1:]} == set(rows)
    order = [rows[cells[0]].right is not False for cells in page.rows[1:]]
    assert order == sorted(order)
    assert len(page.pictures()) == 6


def test_uploads_and_a_zip_are_read_in_turn_and_the_rest_is_said(session, tmp_path, monkeypatch):
    (tmp_path / "one.png").write_bytes(png(1))
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("dog/two.png", png(2))
        archive.writestr("three.gif", b"broken")
        archive.writestr("__MACOSX/dog/two.png", b"no picture")
        archive.writestr("notes.txt", b"no picture")
    paths = [str(tmp_path / "one.png"), str(tmp_path / "more.zip")]
    *_, (_, status) = steps(session, files=paths)
    rows = session.store.photos("me").rows
    assert [row.name for row in rows] == ["one.png", "dog/two.png", "three.gif"]
    assert [row.true_label for row in rows] == ["", "dog", ""]
    assert "page takes" not in status
    path, *_ = many_photos._chooser(session)(ME, SimpleNamespace(cell="1"))
    assert Path(path).read_bytes() == png(2)
    files, left_out = find_photo_files([str(tmp_path / "one.png")] * (MOST_PHOTOS + 1), "")
    assert len(files) == MOST_PHOTOS
    assert f"the first {MOST_PHOTOS}" in left_out


def test_photos_are_decoded_one_at_a_time_whoever_asks(session, folder, monkeypatch):
    locked = []

    def reading(decode):
        def recording_decode(data):
            locked.append(session.store._reading.locked())
            return decode(data)

        return recording_decode

    for module in (listing, photo_input):
        monkeypatch.setattr(module, "read_photo", reading(module.read_photo))
    list(steps(session, folder=str(folder)))
    session.store.photo(str(folder / "ant" / "1.png"))
    assert locked == [True] * 5
    assert not session.store._reading.locked()


def test_what_is_ready_stays_when_the_work_is_stopped(session, folder):
    work = steps(session, folder=str(folder))
    next(work)
    next(work)
    work.close()
    assert len(session.store.photos("me").rows) == 1
    assert many_photos._stop_message(session)("me") == "Stopped: 1 photo is in the table."
    assert Page(Path(many_photos._packer(session)(ME).value["path"]).read_text()).rows[1]
    session.store.forget("me")
    assert session.store.photos("me") is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "no photos yet"),
        ({"folder": "/nowhere/at/all"}, "cannot be read"),
        ({"model": "local-dir:/etc"}, "never loaded"),
        ({"model": "mnist1d"}, "reads signals"),
        ({"folder": "/etc", "local": False}, "no photos yet"),
    ],
)
def test_what_cannot_be_done_is_said_in_place(session, values, words):
    work = steps(session, **values)
    table, status = next(work)
    assert table == gr.skip()
    assert status.startswith("That did not work. ")
    assert re.search(words, status)
    with pytest.raises(gr.Error):
        next(work)


def test_files_that_are_no_photos_are_counted(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "notes.txt", "b.psd", "c.psd"):
        (folder / name).write_bytes(b"x")
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", folder)
    for uploads, place in (([archive], ""), ([], str(folder))):
        files, left_out = find_photo_files(uploads, place)
        assert [file.name for file in files] == ["a.png"]
        assert left_out == "2 .psd and 1 .txt were left out: no photos."


def test_a_script_gives_a_signal_as_a_file(tmp_path):
    (tmp_path / "x.csv").write_text("0,5;1,5;2,5\n")
    store = PageStore()
    assert store.has_signal(str(tmp_path / "x.csv"))
    assert store.signal(str(tmp_path / "x.csv")).tolist() == [[0.5, 1.5, 2.5]]
