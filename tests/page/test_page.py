"""The page without a browser: built from any registry, its endpoints, and what it must refuse."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from itertools import zip_longest
from types import SimpleNamespace
from typing import get_args

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from pydantic import Field

from tests.conftest import ROOT
from tests.support.browser import serve, toy_checkpoint
from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.quick import some_quick
from whylens.core.engine import Engine
from whylens.core.evaluation.verdict import Verdict, Word
from whylens.core.explainer import Explainer
from whylens.core.models.backbone import wrap
from whylens.core.params import NoParams, Params, controls_of
from whylens.core.registry import Entry, Problem, Registry, load_registry
from whylens.core.results import Example, Examples, Heatmap, Partial
from whylens.ui.page.controls import build_controls
from whylens.ui.page.form import question_id
from whylens.ui.page.html import slug
from whylens.ui.page.layout import build_page
from whylens.ui.page.long_events import throttle

gradio_client = pytest.importorskip("gradio_client")
REGISTRY = load_registry()


def fake(number: int, family: str = "Test"):
    """Return an explainer of a class of its own."""

    class Fake(Explainer[NoParams]):
        name, title = f"fake-{number}", f"Fake {number}"
        summary = limits = source = cost = "<b>words</b>"
        needs = frozenset()
        Params = NoParams

        def explain(self, subject, params):
            if number == 0:
                picture = np.full((8, 8, 3), 200, np.uint8)
                return Examples((Example(picture, "a neighbour", 0.5),), "cosine")
            return Heatmap([[0.0, float(number)]], "units")

    Fake.family = family
    return Fake()


def registry_of(*explainers, problems=()) -> Registry:
    entries = {e.name: Entry(e, e.name, "stranger", "0.1") for e in explainers}
    return Registry(entries, tuple(problems))


def tabs_of(page) -> list[list[str]]:
    """Return the tab labels of each group of tabs, outermost first."""
    blocks = page.config["components"]
    labels = {b["id"]: b["props"]["label"] for b in blocks if b["type"] == "tabitem"}
    groups = {b["id"] for b in blocks if b["type"] == "tabs"}
    found: list[list[str]] = []

    def walk(node):
        if node["id"] in groups:
            found.append([labels[child["id"]] for child in node["children"]])
        for child in node.get("children", []):
            walk(child)

    walk(page.config["layout"])
    return found


def test_five_tabs_and_a_card_per_explainer_under_its_question():
    page = build_page(Engine(registry_of(fake(1), fake(2))))
    tabs = ["Compare", "What if", "All methods", "This network", "Your pictures"]
    assert tabs_of(page) == [tabs, ["Many photos", "Train on a folder"]]
    (cards,) = (
        b["props"]["value"]
        for b in page.config["components"]
        if b["props"].get("elem_id") == "methods"
    )
    assert cards.index("Where does it look?") < cards.index("Fake 1") < cards.index("Fake 2")


def test_a_browser_is_told_of_hidden_progress_in_one_place_and_asks_no_follower_who_set_it_off():
    page = build_page(Engine(registry_of(fake(1), fake(2))))
    ids = {b["id"]: b["props"].get("elem_id") for b in page.config["components"]}
    events = page.config["dependencies"]
    hidden = [d for d in events if d["show_progress"] == "hidden" and len(d["outputs"]) > 1]
    assert len(hidden) > 10
    assert all(len(d["show_progress_on"]) == 1 for d in hidden)
    followers = [d for d in events if d["trigger_after"] is not None]
    assert len(followers) > 10
    assert not any(d["targets"] for d in followers)
    # A stop is one event, which ends the work and Gradio's own.
    runs = {ids.get(i): d["id"] for d in events for i, _ in d["targets"] if d["backend_fn"]}
    (stop,) = (d for d in events if [ids.get(i) for i, _ in d["targets"]] == ["fake-1-stop"])
    assert stop["cancels"] == [runs["fake-1-run"]]
    assert stop["backend_fn"]


def test_a_reason_and_a_time_reach_the_method_that_they_are_about():
    # A plugin of the first family comes last in the registry.
    from whylens.ui.page import wiring

    explainers = [
        *REGISTRY.explainers.values(),
        fake(1, next(iter(REGISTRY.explainers.values())).family),
    ]
    engine = Engine(
        registry_of(*explainers),
        loader=lambda *_: wrap(seeded(GapNet()), input_spec=plain_spec(32, 32)),
    )
    page = build_page(engine)
    ids = {b["id"]: b["props"].get("elem_id") for b in page.config["components"]}
    (opened,) = (
        d
        for d in page.config["dependencies"]
        if d["targets"] and d["targets"][0][1] == "load" and d["outputs"]
    )
    outputs = [ids[i] for i in opened["outputs"]]
    handler = page.fns[opened["id"]].fn
    request = type("Request", (), {"query_params": {}, "session_hash": "x"})()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "first_model", lambda engine: ("toy", ""))
        updates = handler(request)
    assert len(updates) == len(outputs)
    words = {"model": "resnet51", "method": "grad-kam", "target": "golfish", "example": "nobody"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "first_model", lambda engine: ("toy", ""))
        wrong = handler(type("Request", (), {"query_params": words, "session_hash": "x"})())
    banner = html_text(wrong[outputs.index("banner")].value)
    for told in ("called 'resnet51'", "called 'grad-kam'", "called 'golfish'", "called 'nobody'"):
        assert told in banner
    refused = engine.unavailable("toy")
    assert refused
    assert len(refused) < len(explainers)
    # What a fresh page already shows is not sent.
    shown = {ids[i]: block for i, block in page.blocks.items() if i in ids}
    shown |= {i: u for i, u in zip(outputs, updates, strict=True) if u != gr.skip()}
    for explainer in explainers:
        key = slug(explainer.name)
        run, notice = shown[f"{key}-run"], shown[f"{key}-notice"]
        assert (run.interactive is not False) is (explainer.name not in refused)
        assert explainer.title in run.value
        reason = refused.get(explainer.name, "").split(". ")[0].rstrip(".")
        assert reason in html_text(notice.value)
        assert "whylens fit" not in notice.value, "a button offers the way out"
        cards = shown["methods"] if isinstance(shown["methods"], str) else shown["methods"].value
        _, card = cards.split(f"id='card-{key}'")
        card = html_text(card.split("</button>")[0])
        assert reason in card
        assert "whylens fit" not in card
        for need in explainer.needs:
            assert need.badge in card
        assert ("needs training pictures" in card) is bool(explainer.artifact_kind)


def test_a_keyboard_that_passes_the_networks_field_changes_nothing():
    engine = Engine(
        registry_of(fake(1)),
        loader=lambda *_: wrap(seeded(GapNet()), input_spec=plain_spec(32, 32)),
    )
    page = build_page(engine)
    ids = {b["id"]: b["props"].get("elem_id") for b in page.config["components"]}
    (named,) = (
        d
        for d in page.config["dependencies"]
        if [(ids.get(i), name) for i, name in d["targets"]] == [("model", "input")]
    )
    handler = page.fns[named["id"]].fn
    # A name that is none is told beside the field, which goes back to what is loaded.
    failing = handler("resnet51", "toy", None, None)
    name, _, notice, *rest = next(failing)
    assert name == "toy"
    assert "Did you mean" in notice.value
    assert "toy is still loaded" in notice.value
    assert all(update == gr.skip() for update in rest)
    with pytest.raises(gr.Error):
        next(failing)
    (updates,) = handler("toy", "toy", None, None)
    assert len(updates) == len(named["outputs"])
    assert all(update == gr.skip() for update in updates)
    request = type("Request", (), {"query_params": {}, "session_hash": "x"})()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whylens.ui.page.session.check_public_model", lambda name, folders: name)
        (updates,) = handler("toy", "another", None, request)
    assert updates[0] == "toy"
    assert len(updates) == len(named["outputs"])
    assert any(update != gr.skip() for update in updates)


# What the page sends with most events, but for the photo.
FORM = {
    "model": "resnet18", "target": "predicted", "quantity": "logit", "versus": "runner-up",
    "framing": "network", "colours": "viridis", "opacity": 0.7, "sure": False, "under": "auto",
}  # fmt: skip


def page_of(*explainers):
    """Return a page with a toy network under every name, and a visitor's request."""
    engine = Engine(
        registry_of(*explainers),
        loader=lambda *_: wrap(seeded(GapNet()), input_spec=plain_spec(32, 32)),
    )
    return build_page(engine, judges=False), type("Request", (), {"session_hash": "x"})()


def events_filling(page, *elem_ids) -> list:
    """Return the events that fill exactly these components, in the page's order."""
    ids = {b["id"]: b["props"].get("elem_id") for b in page.config["components"]}
    return [
        page.fns[d["id"]]
        for d in page.config["dependencies"]
        if [ids[i] for i in d["outputs"]] == list(elem_ids)
    ]


CARD = ("answer-head", "predictions", "answer-picture", "answer-examples", "answer-legend",
        "answer-by", "answer-truth", "answer-verdict", "answer-agreement",
        "answer-covered")  # fmt: skip


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
        *_, shown = ask.fn(request, **form)
        assert shown[2].visible
        assert all(button.visible for button in save.fn(request))
        failing = ask.fn(request, **form | wrong)
        head, chips, picture, tiles, *others, covered = next(failing)
        with pytest.raises(gr.Error):
            next(failing)
        assert words in head
        assert button in head
        assert [chips, *others] == 6 * [""]
        assert not any(part.visible for part in (picture, tiles, covered))
        assert not any(button.visible for button in save.fn(request))
        grid, legend, status, download = clear.fn(request, **form | wrong)
        assert (grid, legend) == ("", "")
        assert "Nothing to compare" in status
        assert not download.interactive


def test_whatever_brings_a_photo_asks_anew_about_its_predicted_class():
    page, _ = page_of(fake(0), fake(1))
    ids = {b["id"]: b["props"].get("elem_id") for b in page.config["components"]}
    bringing = {
        event: {ids[i] for i in d["outputs"]}
        for d in page.config["dependencies"]
        for event in [(ids.get(i), name) for i, name in d["targets"]]
        if "photo" in [ids[i] for i in d["outputs"]]
    }
    assert {element for element, _ in bringing} >= {
        "examples", "signal-sample", "signal-file", "report-mistakes", "photos-table",
        "fake-0-examples", "model",
    }  # fmt: skip
    for event, filled in bringing.items():
        assert {"target", "versus"} <= filled, event


def test_answers_of_another_network_to_the_same_question_are_not_this_one_s(tmp_path):
    from whylens.ui.page.page_store import PageStore

    store = PageStore(tmp_path)
    for row, model, finished in ((0, "a", True), (1, "b", True), (2, "a", False)):
        card, question = SimpleNamespace(name=model), SimpleNamespace(pixels=None)
        answer = SimpleNamespace(
            method=f"method-{row}", model=card, question=question, result=None, finished=finished
        )
        store.put_answer("me", f"compare {row}", answer, "stamp")
    assert store.by_method("me", "stamp", "a").keys() == {"method-0"}
    assert store.by_method("me", "another", "a") == {}


def test_what_was_covered_goes_with_its_question_where_no_test_follows(photo):
    page, request = page_of(fake(0))  # examples, of which nothing can be covered
    ask, *_ = events_filling(page, *CARD)
    *_, (*_, covered) = ask.fn(request, **FORM | {"photo": photo})
    assert covered.visible is False


def test_a_card_shows_its_map_while_it_answers_the_question_and_puts_its_method_in_compare(photo):
    page, request = page_of(fake(1), fake(-1), fake(2))
    form = FORM | {"photo": photo}
    run, *_ = events_filling(page, *(f"fake-1-{n}" for n in ("picture", "examples", "legend",
                                                             "status", "head")))  # fmt: skip
    (after,) = events_filling(page, "fake-1-download", "methods")
    asked = {**form, "chosen": "fake-1", "compared": ["fake-2"]}

    def card_of(html: str, key: str) -> str:
        return html.split(f"id='card-{key}'")[1].split("</div>")[0]

    *_, _ = run.fn(request, **form)
    download, cards = after.fn(request, **asked)
    assert download.interactive
    assert "<img src='data:image/jpeg" in card_of(cards, "fake-1")
    assert "<img" not in card_of(cards, "fake-2")
    assert "Add to Compare" in card_of(cards, "fake-1")
    assert "take out" in card_of(cards, "fake-2")
    # A picture says which question it answers; another question's has none.
    stamp = re.search(r"data-question='(\w+)'", card_of(cards, "fake-1"))[1]
    assert stamp == question_id(asked)
    _, cards = after.fn(request, **asked | {"target": "3"})
    assert "<img" not in cards
    (put,) = events_filling(page, "compare-methods", "methods")
    for cell, ticked in (("+fake-1", ["fake-2", "fake-1"]), ("+fake-2", []), ("+", ["fake-2"])):
        event = type("Event", (), {"cell": cell})()
        methods, cards = put.fn(request, event, **asked)
        assert methods == ticked
        assert ("take out" in card_of(cards, "fake-1")) is ("fake-1" in ticked)


def test_a_tile_grows_and_what_it_shows_can_be_made_the_photo(photo):
    page, request = page_of(fake(0))
    parts = ("picture", "examples", "legend", "status", "head")
    run, *_ = events_filling(page, *(f"fake-0-{part}" for part in parts))
    *_, (_, tiles, _, _, head) = run.fn(request, **FORM | {"photo": photo})
    assert "aria-expanded='false' aria-label='a neighbour: large or small'" in tiles.value
    assert "data-cell='0'>Make it the photo<" in tiles.value
    # Whose it is and about what, as the first card has it.
    assert "1 picture stands for it." in head
    asked, *_ = events_filling(page, *CARD)
    *_, (card, chips, *_) = asked.fn(request, **FORM | {"photo": photo})
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
    for who, cell in ((request, "1"), (request, "-1"), (request, "x"), (stranger, "0")):
        assert all(update == gr.skip() for update in load.fn(who, click(cell)))


def test_compare_asks_with_the_options_of_a_method_s_panel_and_says_so(photo):
    class Windows(Params):
        window: int = Field(3, ge=1, le=20)

    class Method(type(fake(1))):
        name, title = "windows", "Windows"
        Params = Windows

        def explain(self, subject, params):
            return Heatmap([[0.0, float(params.window)]], "units")

    page, request = page_of(Method(), fake(1))
    form = FORM | {"photo": photo}
    tab = {**form, "methods": ["windows", "fake-1"], "networks": [], "order": "As chosen"}
    tab["scaling"] = "Each map its own"
    compare, *_ = events_filling(page, "compare-grid", "compare-legend", "compare-status")
    run, *_ = events_filling(page, *(f"windows-{n}" for n in ("picture", "examples", "legend",
                                                              "status", "head")))  # fmt: skip

    def table() -> str:
        *_, (_, legend, _) = compare.fn(request, **tab)
        return html_text(legend)

    assert "Options" not in table()
    *_, _ = run.fn(request, **form, window=9)
    assert "Options: window 9." in table()
    assert re.search(r"Windows[^W]*\b9\b", table()), "full colour is its largest value"


def test_the_guide_says_what_fits_before_an_answer_is_changed_and_for_another_network():
    page, request = page_of(*map(REGISTRY.explainer, ("grad-cam", "rise", "legrad")))
    ids = {b["id"]: b["props"].get("elem_id") for b in page.config["components"]}
    filling = {
        tuple(sorted((ids.get(i) or "event", name) for i, name in d["targets"])): page.fns[d["id"]]
        for d in page.config["dependencies"]
        if [ids[i] for i in d["outputs"]] == ["guide-said"]
    }
    (opened,) = (fn for targets, fn in filling.items() if ("guide", "expand") in targets)
    assert len(filling) > 1, "nothing tells it of another network"
    answers = ["where", "It may look inside the network", "At once"]
    assert opened.fn("", *answers, request) == ""
    words = opened.fn("resnet18", *answers, request)
    assert "Grad-CAM" in words
    assert "RISE" not in words, "it takes its time"
    assert "LeGrad" not in words, "this network has no attention"


def test_methods_agree_where_their_maps_mark_the_same_places():
    from whylens.core.outputs.ranking import agreeing
    from whylens.ui.page.html import agreeing_methods

    falling, rising = Heatmap([[3.0, 2.0, 1.0]], "units"), Heatmap([[1.0, 2.0, 3.0]], "units")

    class Answer:
        def __init__(self, title, result):
            self.title, self.result = title, result

    others = [Answer("Same", Heatmap([[9.0, 2.0, 0.0]], "other")), Answer("Other", rising)]
    found = agreeing(Answer("This", falling), others)
    assert found == {"Same": (pytest.approx(1.0), True), "Other": (pytest.approx(-1.0), False)}
    told = html_text(agreeing_methods(found, "q"))
    assert "Methods agree: 2 of 3." in told
    assert "Other marks other places (rank correlation -1.00)" in told
    assert agreeing_methods({}, "q") == ""


def test_the_address_names_the_network_that_is_loaded_and_the_example_that_is_shown(
    tmp_path, monkeypatch
):
    from pathlib import Path

    from whylens.ui.page.examples import EXAMPLES, example, opening_names
    from whylens.ui.page.page_store import PageStore

    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(ROOT / "checkpoints"))
    assert opening_names("resnet18") == ["coffee", "fruits", "orange", "photographer", "squirrel"]
    assert opening_names("photos-10") == ["cat"]
    assert "digit-1" not in opening_names("mnist1d")
    assert "bluebell" in opening_names("painted-cats-breed")
    page = build_page(Engine(registry_of(fake(1))), judges=False)
    stamps = events_filling(page, "question-id")
    content = (EXAMPLES / "photos" / "squirrel.jpg").read_bytes()
    (tmp_path / "squirrel.jpg").write_bytes(content)
    (tmp_path / "coffee.jpg").write_bytes(content)
    digit = tmp_path / "digit-3.png"
    shown = example(PageStore(tmp_path / "store"), "mnist1d", "digit-3")
    digit.write_bytes(Path(shown).read_bytes())
    form = {"model": "resnet5000", "target": "", "quantity": "logit", "versus": "runner-up"}
    form["framing"] = "network"
    for loaded, photo, address in (
        ("resnet18", tmp_path / "squirrel.jpg", "model=resnet18&target=predicted&example=squirrel"),
        ("resnet18", tmp_path / "coffee.jpg", "model=resnet18&target=predicted&example="),
        ("resnet18", None, "model=resnet18&target=predicted&example="),
        ("mnist1d", digit, "model=mnist1d&target=predicted&example=digit-3"),
    ):
        values = form | {"photo": photo and str(photo), "loaded": loaded}
        assert all(f"data-address='{address}'" in html_text(s.fn(**values)) for s in stamps)
    assert "data-address" not in stamps[0].fn(**form, photo=None, loaded="")


def html_text(text: str) -> str:
    import html

    return html.unescape(text.replace("<code>", "`").replace("</code>", "`"))


def test_every_problem_and_owner_is_on_the_plugins_tab():
    problem = Problem("load", "bad", "acme", "It failed <i>badly</i>.", "Traceback: here")
    page = build_page(Engine(registry_of(fake(1), problems=[problem])))
    props = [b["props"] for b in page.config["components"]]
    texts = [str(p.get("value")) for p in props]
    assert "It failed <i>badly</i>." in texts
    assert "Traceback: here" in texts
    assert any("bad of acme" in str(p.get("label")) for p in props)
    assert any("stranger" in text and "fake-1" in text for text in texts)
    assert any("whylens new-plugin NAME" in text and "docs/plugins.md" in text for text in texts)
    assert not any("<b>words</b>" in text for text in texts), "a stranger's words are not escaped"


def test_every_stop_is_there_only_while_what_its_status_tells_of_runs(whole_page):
    # By `.wl-running` of page.css: after the row comes its status, which shows an event's progress.
    page = whole_page
    tracked = {
        block
        for event in page.config["dependencies"]
        if event["show_progress"] != "hidden"
        for block in event["show_progress_on"] or ()
    }
    stops = 0

    def first(node):
        return first(node["children"][0]) if node.get("children") else node["id"]

    def walk(siblings):
        nonlocal stops
        for node, after in zip_longest(siblings, siblings[1:]):
            children = node.get("children", [])
            if any(getattr(page.blocks[c["id"]], "variant", "") == "stop" for c in children):
                stops += 1
                assert "wl-running" in " ".join(page.blocks[node["id"]].elem_classes)
                assert (status := first(after)) in tracked, page.blocks[status].elem_id
            walk(children)

    walk(page.config["layout"]["children"])
    fitted = [e for e in REGISTRY.explainers.values() if e.artifact_kind]
    # Compare, the means, Many photos, Your pictures.
    assert stops == len(REGISTRY.explainers) + len(fitted) + 4


def test_controls_follow_the_parameters():
    for entry in REGISTRY.entries.values():
        fields = build_controls(entry.explainer, prefix="x")
        assert list(fields) == list(entry.explainer.Params.model_fields)
        for name, field in entry.explainer.Params.model_fields.items():
            assert fields[name].value == field.default
    assert build_controls(fake(1), prefix="x") == {}
    assert issubclass(NoParams, Params)


@pytest.fixture(scope="module")
def whole_page(tmp_path_factory):
    """A page of all methods, with a toy network."""
    place = tmp_path_factory.mktemp("page")
    toy_checkpoint(place / "toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYLENS_CHECKPOINTS", str(place))
        page = build_page(Engine())
        yield page
        page.close()


@pytest.fixture(scope="module")
def client(whole_page, tmp_path_factory):
    """A script's connection to the running page."""
    downloads = str(tmp_path_factory.mktemp("downloads"))
    return gradio_client.Client(serve(whole_page), verbose=False, download_files=downloads)


@pytest.fixture(scope="module")
def endpoints(client) -> dict:
    """What the running page says of its endpoints, asked once: it describes all of them."""
    return client.view_api(return_format="dict")["named_endpoints"]


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("photo") / "p.png"
    pixels = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


QUESTION = {"model": "toy", "target": "predicted", "quantity": "logit", "versus": "runner-up"}
# Fewer questions to the network than by default; what comes of them is tested elsewhere.
FEW = {"masks", "samples", "repeats", "steps", "constants", "swaps", "candidates"}
LOOK = {"colours": "viridis", "opacity": 0.5}


def test_every_explainer_is_an_endpoint_with_named_parameters(endpoints):
    for name, explainer in REGISTRY.explainers.items():
        names = [p["parameter_name"] for p in endpoints[f"/{slug(name)}"]["parameters"]]
        fields = list(explainer.Params.model_fields)
        assert names[-len(fields) :] == fields or not fields


# All methods go the same way to the page: one of each family goes it here, and the others in the
# long run.
ONE_EACH = {explainer.family: name for name, explainer in REGISTRY.explainers.items()}.values()


@pytest.mark.parametrize("name", some_quick(REGISTRY.entries, lambda _, name: name in ONE_EACH))
def test_an_endpoint_answers_or_says_why_not(client, photo, name):
    fields = list(REGISTRY.explainer(name).Params.model_fields)
    asked = {"photo": gradio_client.handle_file(photo), **QUESTION, **LOOK}
    if REGISTRY.explainer(name).artifact_kind:  # to what, this model's folder does not say
        with pytest.raises(Exception, match="whylens fit"):
            client.predict(**asked, api_name=f"/{slug(name)}")
        return
    if REGISTRY.explainer(name).family == "Attention":  # the toy network has none
        with pytest.raises(Exception, match="is not available on toy: no attention"):
            client.predict(**asked, api_name=f"/{slug(name)}")
        return
    controls = controls_of(REGISTRY.explainer(name).Params)
    fields_given = {c.name: int(c.low) for c in controls if c.name in FEW}
    if {"window", "stride"} <= set(fields):
        fields_given |= {"window": 64, "stride": 64}
    asked |= fields_given
    picture, values, told = client.predict(**asked, api_name=f"/{slug(name)}")
    assert told["finished"]
    assert told["method"] == name
    assert told["parameters"] == told["parameters"] | fields_given
    with Image.open(picture) as shown:
        assert shown.size[0] > 30
    if "map" in told:
        assert list(np.load(values).shape) == told["map"]["shape"]


def test_a_class_can_be_given_by_number_or_by_label(client, photo):
    for target, framing in (("1", "network"), ("Goldfish", "whole")):
        got = client.predict(
            photo=gradio_client.handle_file(photo),
            **{**QUESTION, "target": target, "framing": framing},
            **LOOK,
            api_name="/grad-cam",
        )
        assert got[-1]["target"] | {"index": 1, "label": "goldfish"} == got[-1]["target"]
        assert got[-1]["input"]["framing"] == framing
        assert (got[-1]["view"]["top"] < 0) == (framing == "whole"), "a wide photo is fitted"


def test_a_map_is_judged_where_a_script_asks_for_it(client, photo):
    asked = {"photo": gradio_client.handle_file(photo), **QUESTION, **LOOK}
    *_, plain = client.predict(**asked, api_name="/grad-cam")
    assert "scores" not in plain
    *_, told = client.predict(**asked, scores=True, api_name="/grad-cam")
    assert told["map"] == plain["map"]
    # Of random weights nothing moves a probability enough: that is a verdict, too.
    assert told["scores"]["verdict"] in get_args(Word)
    assert told["scores"]["reason"]
    assert set(told["scores"]) == set(Verdict().as_dict())
    assert "--scores" in told["command"]


def test_methods_and_models_can_be_listed(client):
    assert [m["name"] for m in client.predict(api_name="/methods")] == list(REGISTRY.entries)
    assert client.predict(api_name="/models")[0] == "toy"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "local-dir:/tmp"}, "never loaded"),
        ({"model": "torchvision:resnet18"}, "command line"),
        ({"target": "5000"}, "no class called"),
        ({"target": "golfish"}, "Did you mean goldfish"),
        ({"opacity": 7}, "maximum"),
        ({"signed": "perhaps"}, "signed"),
    ],
)
def test_bad_values_are_refused_in_words(client, photo, change, said):
    values = {**QUESTION, **LOOK, **change}
    with pytest.raises(Exception, match=f"(?i){said}"):
        client.predict(photo=gradio_client.handle_file(photo), **values, api_name="/grad-cam")


def test_files_of_the_server_are_not_read(client):
    stolen = {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(Exception, match=r"(?i)not|refused|allow|error"):
        client.predict(photo=stolen, **QUESTION, **LOOK, api_name="/grad-cam")


@pytest.mark.slow  # who waits for whom is asked of the queue in test_fair_queue.py
def test_a_quick_map_is_there_while_four_slow_ones_run(photo):
    end, running = threading.Event(), threading.Semaphore(0)

    class Slow(Explainer[NoParams]):
        """Runs until the test ends."""

        name, title, family = "slow", "Slow", "Test"
        summary = limits = source = cost = "words"
        needs = frozenset()
        Params = NoParams

        def explain(self, subject, params):
            running.release()
            while not end.wait(0.05):
                yield Partial(Heatmap([[0.0, 1.0]], "units"), 0.5)
            yield Partial(Heatmap([[0.0, 1.0]], "units"), 1.0)

    engine = Engine(
        registry_of(Slow(), fake(1)),
        loader=lambda *_: wrap(seeded(GapNet()), input_spec=plain_spec(32, 32)),
    )
    page = build_page(engine)
    client = gradio_client.Client(serve(page), verbose=False)
    asked = {"photo": gradio_client.handle_file(photo), **QUESTION, "model": "resnet18", **LOOK}
    jobs = [client.submit(**asked, api_name="/slow") for _ in range(4)]
    try:
        assert all(running.acquire(timeout=60) for _ in jobs)
        *_, manifest = client.predict(**asked, api_name="/fake-1")
        assert manifest["method"] == "fake-1"
        assert not any(job.done() for job in jobs)
    finally:
        end.set()
    assert all(job.result()[-1]["finished"] for job in jobs)
    page.close()


def test_of_many_steps_a_screen_gets_the_first_the_last_and_some_between():
    now = [0.0]

    def steps(number: int):
        for step in range(number):
            now[0] += 0.2  # seconds of work
            yield step

    def shown(number: int):
        for step in throttle(steps(number), clock=lambda: now[0]):
            yield step
            now[0] += 5  # drawing does not count

    assert list(shown(9)) == [0, 3, 6, 8]
    assert list(shown(1)) == [0]
    assert list(shown(0)) == []


def test_two_visitors_do_not_see_each_other(photo):
    from whylens.ui.page.page_store import PageStore

    backbone = wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    engine = Engine(loader=lambda name, progress: backbone)
    from whylens.core.explanation import Question

    pixels = np.asarray(Image.open(photo))
    (answer,) = engine.explain(Question("toy", pixels), "grad-cam")
    store = PageStore()
    store.put_answer("one", "grad-cam", answer, "q")
    assert store.answer("two", "grad-cam") is None
    store.forget("one")
    assert store.answer("one", "grad-cam") is None


def test_what_is_taken_home_of_compare_says_what_it_is_and_how_to_make_it_again():
    import zipfile

    from whylens.core.explanation import Question
    from whylens.ui.page.compare import RELATIVE
    from whylens.ui.page.page_store import PageStore

    backbone, store = wrap(seeded(GapNet()), input_spec=plain_spec(32, 32)), PageStore()
    methods = ["cam", "occlusion"]
    registry = registry_of(*map(REGISTRY.explainer, methods))
    engine = Engine(registry, loader=lambda name, progress: backbone)
    pixels = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    for method, seconds in zip(methods, (2.0, 1.0), strict=True):
        *_, answer = engine.explain(Question("toy", pixels), method)
        store.put_answer("x", f"compare 0 {method}", replace(answer, seconds=seconds), "q")
    page = build_page(engine, store=store)
    ids = {b["id"]: b["props"].get("elem_id") for b in page.config["components"]}
    (pack,) = (
        page.fns[d["id"]]
        for d in page.config["dependencies"]
        if [(ids.get(i), name) for i, name in d["targets"]] == [("compare-download", "click")]
    )
    request = type("Request", (), {"session_hash": "x"})()
    values = {"photo": "/a/cat.png", "methods": methods, "networks": [], "scaling": RELATIVE}
    values |= {"colours": "heat", "opacity": 0.7, "sure": False, "under": "auto"}
    values["order"] = "Time"
    assert set(pack.input_keyword_names) == set(values)
    ((path, _),) = pack.fn(request, **values)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        texts = {name: archive.read(name).decode() for name in names if name[-3:] in ("txt", "bib")}
        with archive.open("sheet.png") as sheet, Image.open(sheet) as picture:
            assert picture.width == round(174 / 25.4 * 300)
    assert [name for name in names if name.endswith(".bib")] == ["methods.bib"]
    assert texts["methods.bib"].count("@misc{") == 2
    commands = texts["command.txt"].splitlines()
    # In the order of the grid on the screen, the quicker first.
    for method, command in zip(reversed(methods), commands, strict=True):
        assert command.startswith("whylens explain cat.png --model toy ")
        assert f"--method {method} " in command
        assert f"{method}/manifest.json" in names
    for title in ("CAM", "Occlusion", "sheet.png", "values.npy"):
        assert title in texts["README.txt"]


def test_large_photos_are_shown_smaller_and_kept_whole():
    from whylens.core.explanation import Question
    from whylens.core.outputs.render import Style, render_explanation
    from whylens.ui.page.page_store import SCREEN_SIDE, PageStore

    backbone = wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    engine = Engine(loader=lambda name, progress: backbone)
    ramp = np.linspace(0, 255, 2400).astype(np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (1200, 2400, 3)).copy()
    (answer,) = engine.explain(Question("toy", pixels), "grad-cam", {"signed": True})
    small = PageStore().downscaled(answer)
    assert small.question.pixels.shape == (SCREEN_SIDE // 2, SCREEN_SIDE, 3)
    whole = np.asarray(render_explanation(answer, Style(opacity=1.0))).astype(int)
    shown = np.asarray(render_explanation(small, Style(opacity=1.0))).astype(int)
    # The same map lies on the same places of both.
    reduced = whole[:: 1200 // shown.shape[0], :: 2400 // shown.shape[1]]
    middle = shown[shown.shape[0] // 2, shown.shape[1] // 2]
    assert np.abs(whole[600, 1200] - middle).max() <= 3
    assert reduced.ndim == 3


@pytest.mark.parametrize("upright", [False, True])
def test_of_a_strip_what_the_network_sees_is_shown_and_the_map_lies_where_it_did(upright):
    from whylens.core.explanation import Question
    from whylens.core.outputs.render import Style, render_explanation
    from whylens.ui.page.page_store import LEAST_SIDE, PageStore

    backbone = wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    engine = Engine(loader=lambda name, progress: backbone)
    pixels = np.broadcast_to(np.linspace(0, 255, 3000).astype(np.uint8)[:, None], (20, 3000, 3))
    pixels = np.ascontiguousarray(pixels.swapaxes(0, 1) if upright else pixels)
    (answer,) = engine.explain(Question("toy", pixels), "grad-cam", {"signed": True})
    shown = PageStore().downscaled(answer)
    size = (LEAST_SIDE // 3, LEAST_SIDE)  # 20 of what is seen, and as much on either side
    assert shown.question.pixels.shape[:2] == (size[::-1] if upright else size)
    small = np.asarray(render_explanation(shown, Style(opacity=1.0))).astype(int)
    whole = np.asarray(render_explanation(answer, Style(opacity=1.0))).astype(int)
    if upright:
        small, whole = small.swapaxes(0, 1), whole.swapaxes(0, 1)
    inside = whole[:, 1490:1510]
    assert np.abs(small[5::10, 205:395:10] - inside[:, :-1]).max() <= 40
    assert np.abs(small[105, 205:395:10] - inside[10, :-1]).mean() <= 8
    assert answer.question.pixels.shape == pixels.shape


@pytest.mark.parametrize("side", [300, 1600])
def test_the_photo_is_shrunk_and_encoded_once_for_all_parts_of_an_answer(side, monkeypatch):
    from pathlib import Path

    from whylens.core.explanation import Question
    from whylens.ui.page import page_store as stores

    backbone = wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    engine = Engine(loader=lambda name, progress: backbone)
    store, encoded, shrunk = stores.PageStore(), [], []
    picture, shrink = store.save_image, stores.shrunk
    monkeypatch.setattr(store, "save_image", lambda image: encoded.append(1) or picture(image))

    def counted(pixels, longest):
        shrunk.append(pixels.shape[0] > longest)
        return shrink(pixels, longest)

    monkeypatch.setattr(stores, "shrunk", counted)

    def parts(value):
        pixels = np.full((side, side, 3), value, np.uint8)
        params = {"window": 8, "stride": 4}
        answers = engine.explain(Question("t", pixels), "occlusion", params)
        return [store.downscaled(answer) for answer in answers]

    first = parts(90)
    assert len(first) > 2
    paths = {store.photo_image(part.question.pixels) for part in first}
    assert (len(paths), len(encoded), sum(shrunk)) == (1, 1, int(side > stores.SCREEN_SIDE))
    other = {store.photo_image(part.question.pixels) for part in parts(200)}
    assert len(encoded) == 2
    assert not other & paths
    Path(*paths).unlink()
    assert store.photo_image(first[0].question.pixels) in paths
    assert Path(*paths).is_file(), "what was swept out is written again"


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
