"""The cards of answers and of methods: what they show, and of which question."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.pages import CARD, FORM, events_filling, fake, html_text, page_of
from whylens.core.engine import Engine
from whylens.core.models.backbone import wrap
from whylens.core.results import Example, Examples, Heatmap
from whylens.ui.page.form import question_id


def test_what_cannot_be_answered_leaves_nothing_of_the_answer_before(photo, tmp_path):
    page, request = page_of(fake(1))
    ask, *_ = events_filling(page, *CARD)
    clear, *_ = events_filling(
        page, *(f"compare-{n}" for n in ("grid", "legend", "status", "download"))
    )
    (save,) = events_filling(page, "answer-figure", "answer-save")
    form = FORM | {"photo": photo}
    text = tmp_path / "text.jpg"
    text.write_text("this is text")
    fill, *_ = events_filling(page, "whatif-editor", "whatif-map", "whatif-status", None)
    editor, _, _, mark = next(fill.fn(request, **form))
    assert editor["background"]
    assert "data-question" in mark
    failing = fill.fn(request, **form | {"photo": str(text)})
    editor, _, status, mark = next(failing)
    assert editor is None
    assert "data-question='none'" in mark
    assert "not a readable" in status
    # What asks for a photo is for no photo alone: it does not stand until the next is answered.
    head, _, _, _, legend, *_ = next(ask.fn(request, **form | {"photo": None}))
    assert "Drop a photo" in head
    for part in (head, legend):
        assert f"data-question='{question_id(form | {'photo': None})}'" in part
    for wrong, words, button in (
        ({"photo": str(text)}, "not a readable", "Choose an example"),
        ({"target": "golfish"}, "no class called", "Explain the predicted class"),
    ):
        *_, updates = ask.fn(request, **form)
        assert updates[2].visible
        assert all(button.visible for button in save.fn(request))
        failing = ask.fn(request, **form | wrong)
        head, chips, picture, tiles, *other_updates, cover = next(failing)
        with pytest.raises(gr.Error):
            next(failing)
        assert words in head
        assert button in head
        assert [chips, *other_updates] == 6 * [""]
        assert not any(part.visible for part in (picture, tiles, cover))
        assert not any(button.visible for button in save.fn(request))
        grid, legend, status, download = clear.fn(request, **form | wrong)
        assert (grid, legend) == ("", "")
        assert "Nothing to compare" in status
        assert not download.interactive


def test_what_was_covered_goes_with_its_question_where_no_test_follows(photo):
    page, request = page_of(fake(0))  # examples, of which nothing can be covered
    ask, *_ = events_filling(page, *CARD)
    *_, (*_, cover) = ask.fn(request, **FORM | {"photo": photo})
    assert cover.visible is False


def test_a_card_shows_its_map_while_it_answers_the_question_and_puts_its_method_in_compare(photo):
    page, request = page_of(fake(1), fake(-1), fake(2))
    form = FORM | {"photo": photo}
    run, *_ = events_filling(page, *(f"fake-1-{n}" for n in ("picture", "examples", "legend",
                                                             "status", "head")))  # fmt: skip
    (after,) = events_filling(page, "fake-1-download", "methods")
    values = {**form, "chosen": "fake-1", "compared": ["fake-2"]}

    def card_of(html: str, key: str) -> str:
        return html.split(f"id='card-{key}'")[1].split("</div>")[0]

    *_, _ = run.fn(request, **form)
    download, cards = after.fn(request, **values)
    assert download.interactive
    assert "<img src='data:image/jpeg" in card_of(cards, "fake-1")
    assert "<img" not in card_of(cards, "fake-2")
    assert "Add to Compare" in card_of(cards, "fake-1")
    assert "take out" in card_of(cards, "fake-2")
    # A picture says which question it answers; another question's has none.
    stamp = re.search(r"data-question='(\w+)'", card_of(cards, "fake-1"))[1]
    assert stamp == question_id(values)
    _, cards = after.fn(request, **values | {"target": "3"})
    assert "<img" not in cards
    (event_handler,) = events_filling(page, "compare-methods", "methods")
    for cell, names in (("+fake-1", ["fake-2", "fake-1"]), ("+fake-2", []), ("+", ["fake-2"])):
        event = type("Event", (), {"cell": cell})()
        methods, cards = event_handler.fn(request, event, **values)
        assert methods == names
        assert ("take out" in card_of(cards, "fake-1")) is ("fake-1" in names)


def test_a_tile_grows_and_what_it_shows_can_be_made_the_photo(photo):
    page, request = page_of(fake(0))
    parts = ("picture", "examples", "legend", "status", "head")
    run, *_ = events_filling(page, *(f"fake-0-{part}" for part in parts))
    *_, (_, tiles, _, _, head) = run.fn(request, **FORM | {"photo": photo})
    assert "aria-expanded='false' aria-label='a neighbour: large or small'" in tiles.value
    assert "data-cell='0'>Make it the photo<" in tiles.value
    # Whose it is and about what, as the first card has it.
    assert "1 picture stands for it." in head
    ask_event, *_ = events_filling(page, *CARD)
    *_, (card, chips, *_) = ask_event.fn(request, **FORM | {"photo": photo})
    label = re.search(r"aria-pressed='true'>(.*?) <span>", chips)[1]
    assert f"<b>Fake 0: why {label}.</b>" in head
    assert "1 picture stands for it." in card
    ids = {b["id"]: b["props"].get("elem_id") for b in page.config["components"]}
    (load,) = (
        page.fns[d["id"]]
        for d in page.config["dependencies"]
        if [(ids.get(i), name) for i, name in d["targets"]] == [("fake-0-examples", "click")]
    )

    def click(cell):
        return SimpleNamespace(cell=cell, target=SimpleNamespace(elem_id="fake-0-examples"))

    path, target, versus = load.fn(request, click("0"))
    with Image.open(path) as picture:
        assert np.array_equal(np.asarray(picture), np.full((8, 8, 3), 200, np.uint8))
    assert (target, versus) == ("predicted", "runner-up")
    stranger = type("Request", (), {"session_hash": "y"})()
    for visitor, cell in ((request, "1"), (request, "-1"), (request, "x"), (stranger, "0")):
        assert all(update == gr.skip() for update in load.fn(visitor, click(cell)))


def test_methods_agree_where_their_maps_mark_the_same_places():
    from whylens.core.outputs.ranking import agreeing
    from whylens.ui.page.html import agreeing_methods

    falling, rising = Heatmap([[3.0, 2.0, 1.0]], "units"), Heatmap([[1.0, 2.0, 3.0]], "units")

    class Answer:
        def __init__(self, title, result):
            self.title, self.result = title, result

    answers = [Answer("Same", Heatmap([[9.0, 2.0, 0.0]], "other")), Answer("Other", rising)]
    agreement = agreeing(Answer("This", falling), answers)
    assert agreement == {"Same": (pytest.approx(1.0), True), "Other": (pytest.approx(-1.0), False)}
    text = html_text(agreeing_methods(agreement, "q"))
    assert "Methods agree: 2 of 3." in text
    assert "Other marks other places (rank correlation -1.00)" in text
    assert agreeing_methods({}, "q") == ""


def test_what_was_done_to_a_photo_reaches_the_screen_and_the_manifest():
    import io

    from whylens.core.explanation import Question
    from whylens.core.inputs.photo import read_photo
    from whylens.core.outputs.export import manifest
    from whylens.core.outputs.render import Style
    from whylens.ui.page.html import status
    from whylens.ui.page.panel_updates import legend_html

    stream = io.BytesIO()
    Image.new("RGBA", (40, 40), (90, 20, 10, 128)).save(stream, "PNG")
    photo = read_photo(stream.getvalue())
    (note,) = photo.notes
    backbone = wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    engine = Engine(loader=lambda name, progress: backbone)
    *_, answer = engine.explain(Question("t", photo), "cam")
    assert note in status(answer)
    # What the headline says is not said twice.
    nearest = Examples((Example(photo.pixels, "a neighbour", 0.5),), "cosine", note="7 of 10.")
    assert "7 of 10." in status(replace(answer, result=nearest))
    assert "7 of 10." not in status(replace(answer, result=nearest), said="7 of 10.")
    # The figures by which a map is judged are its checks; the line of status is sentences.
    answer = replace(answer, result=replace(answer.result, diagnostics={"identity gap": 5e-7}))
    assert "identity gap" not in status(answer)
    assert "identity gap</td><td class='num'>5e-07" in legend_html(answer, Style(), "q")
    assert manifest(answer, source="see-through.png", style=Style())["input"]["notes"] == [note]
