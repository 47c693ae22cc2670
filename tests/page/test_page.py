"""The page without a browser: built from any registry, and what its events tell each other."""

from __future__ import annotations

from html import unescape

import gradio as gr
import pytest

from tests.conftest import ROOT
from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.pages import REGISTRY, events_filling, fake, html_text, page_of, registry_of
from whylens.core.engine import Engine
from whylens.core.models.backbone import wrap
from whylens.core.params import NoParams, Params
from whylens.core.registry import Problem
from whylens.ui.page import many_photos, training
from whylens.ui.page.controls import build_controls
from whylens.ui.page.html import slug
from whylens.ui.page.layout import build_page
from whylens.ui.page.long_events import throttle


def tabs_of(page) -> list[list[str]]:
    """Return the tab labels of each group of tabs, outermost first."""
    blocks = page.config["components"]
    labels = {b["id"]: b["props"]["label"] for b in blocks if b["type"] == "tabitem"}
    groups = {b["id"] for b in blocks if b["type"] == "tabs"}
    tabs: list[list[str]] = []

    def walk(node):
        if node["id"] in groups:
            tabs.append([labels[child["id"]] for child in node["children"]])
        for child in node.get("children", []):
            walk(child)

    walk(page.config["layout"])
    return tabs


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


def test_a_training_frees_its_button_however_it_ends_and_its_picture_waits_for_its_network():
    page = build_page(Engine(registry_of(fake(1), fake(2))))
    ids = {b["props"].get("elem_id"): b["id"] for b in page.config["components"]}
    events = {d["id"]: d for d in page.config["dependencies"]}
    (training,) = (d for d in events.values() if ids["train-log"] in d["outputs"])
    followers = [d for d in events.values() if d["trigger_after"] == training["id"]]
    freeing = [d for d in followers if d["outputs"] == [ids["train-run"]]]
    assert {d["trigger_only_on_success"] for d in freeing} == {True, False}
    assert {d["trigger_only_on_failure"] for d in freeing} == {True, False}
    (loading,) = (d for d in followers if ids["model"] in d["outputs"])
    shows = [d for d in events.values() if d["trigger_after"] == loading["id"]]
    assert [d for d in shows if ids["train-zip"] in d["inputs"] and ids["photo"] in d["outputs"]]
    assert not [d for d in followers if ids["train-zip"] in d["inputs"]]


def test_a_failure_leaves_the_status_when_what_it_was_about_is_given_anew():
    page = build_page(Engine(registry_of(fake(1), fake(2))))
    for status, failed in (
        ("train-status", training.FAILED),
        ("photos-status", many_photos.FAILED),
    ):
        (forget,) = {e.fn for e in events_filling(page, status) if e.fn.__name__ == "forget"}
        assert forget(f"{failed}There are no pictures yet.").startswith("Give ")
        assert forget("Done: 3 photos.") == gr.skip()


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
    (open_event,) = (
        d
        for d in page.config["dependencies"]
        if d["targets"] and d["targets"][0][1] == "load" and d["outputs"]
    )
    outputs = [ids[i] for i in open_event["outputs"]]
    handler = page.fns[open_event["id"]].fn
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
    contrast = {"target": "class 1", "quantity": "contrast", "versus": "class 2"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "first_model", lambda engine: ("toy", ""))
        linked = handler(type("Request", (), {"query_params": contrast, "session_hash": "x"})())
    for name, value in (("target", "1"), ("quantity", "contrast"), ("versus", "2")):
        assert linked[outputs.index(name)].value == value
    reasons = engine.unavailable("toy")
    assert reasons
    assert len(reasons) < len(explainers)
    # What a fresh page already shows is not sent.
    values = {ids[i]: block for i, block in page.blocks.items() if i in ids}
    values |= {i: u for i, u in zip(outputs, updates, strict=True) if u != gr.skip()}
    for explainer in explainers:
        key = slug(explainer.name)
        run, notice = values[f"{key}-run"], values[f"{key}-notice"]
        assert (run.interactive is not False) is (explainer.name not in reasons)
        assert explainer.title in run.value
        reason = reasons.get(explainer.name, "").split(". ")[0].rstrip(".")
        assert reason in html_text(notice.value)
        assert "whylens fit" not in notice.value, "a button offers the way out"
        cards = values["methods"] if isinstance(values["methods"], str) else values["methods"].value
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
    (name_event,) = (
        d
        for d in page.config["dependencies"]
        if [(ids.get(i), name) for i, name in d["targets"]] == [("model", "input")]
    )
    handler = page.fns[name_event["id"]].fn
    # A name that is none is told beside the field, which goes back to what is loaded.
    failing = handler("resnet51", "toy", None, None)
    name, _, notice, *other_updates = next(failing)
    assert name == "toy"
    assert "Did you mean" in notice.value
    assert "toy is still loaded" in notice.value
    assert all(update == gr.skip() for update in other_updates)
    with pytest.raises(gr.Error):
        next(failing)
    (updates,) = handler("toy", "toy", None, None)
    assert len(updates) == len(name_event["outputs"])
    assert all(update == gr.skip() for update in updates)
    request = type("Request", (), {"query_params": {}, "session_hash": "x"})()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whylens.ui.page.session.check_public_model", lambda name, folders: name)
        (updates,) = handler("toy", "another", None, request)
    assert updates[0] == "toy"
    assert len(updates) == len(name_event["outputs"])
    assert any(update != gr.skip() for update in updates)


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
    for event, targets in bringing.items():
        assert {"target", "versus"} <= targets, event


def test_the_guide_says_what_fits_before_an_answer_is_changed_and_for_another_network():
    page, request = page_of(*map(REGISTRY.explainer, ("grad-cam", "rise", "legrad")))
    ids = {b["id"]: b["props"].get("elem_id") for b in page.config["components"]}
    guide_events = {
        tuple(sorted((ids.get(i) or "event", name) for i, name in d["targets"])): page.fns[d["id"]]
        for d in page.config["dependencies"]
        if [ids[i] for i in d["outputs"]] == ["guide-said"]
    }
    (open_event,) = (fn for targets, fn in guide_events.items() if ("guide", "expand") in targets)
    assert len(guide_events) > 1, "nothing tells it of another network"
    answers = ["where", "It may look inside the network", "At once"]
    assert open_event.fn("", *answers, request) == ""
    words = open_event.fn("resnet18", *answers, request)
    assert "Grad-CAM" in words
    assert "RISE" not in words, "it takes its time"
    assert "LeGrad" not in words, "this network has no attention"


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
    example_path = example(PageStore(tmp_path / "store"), "mnist1d", "digit-3")
    digit.write_bytes(Path(example_path).read_bytes())
    form = {"model": "resnet5000", "target": "", "quantity": "logit", "versus": "runner-up"}
    form["framing"] = "network"
    for network, photo, address in (
        ("resnet18", tmp_path / "squirrel.jpg", "model=resnet18&target=predicted&example=squirrel"),
        ("resnet18", tmp_path / "coffee.jpg", "model=resnet18&target=predicted&example="),
        ("resnet18", None, "model=resnet18&target=predicted&example="),
        ("mnist1d", digit, "model=mnist1d&target=predicted&example=digit-3"),
    ):
        values = form | {"photo": photo and str(photo), "loaded": network}
        assert all(f"data-address='{address}'" in html_text(s.fn(**values)) for s in stamps)
    assert "data-address" not in stamps[0].fn(**form, photo=None, loaded="")
    contrast = form | {"quantity": "contrast", "versus": "titi (380)", "photo": None}
    address = html_text(stamps[0].fn(**contrast, loaded="resnet18"))
    assert "&quantity=contrast&versus=titi+%28380%29" in unescape(address)


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


def test_controls_follow_the_parameters():
    for entry in REGISTRY.entries.values():
        fields = build_controls(entry.explainer, prefix="x")
        assert list(fields) == list(entry.explainer.Params.model_fields)
        for name, field in entry.explainer.Params.model_fields.items():
            assert fields[name].value == field.default
    assert build_controls(fake(1), prefix="x") == {}
    assert issubclass(NoParams, Params)


def test_of_many_steps_a_screen_gets_the_first_the_last_and_some_between():
    clock_time = [0.0]

    def steps(number: int):
        for step in range(number):
            clock_time[0] += 0.2  # seconds of work
            yield step

    def thinned_steps(number: int):
        for step in throttle(steps(number), clock=lambda: clock_time[0]):
            yield step
            clock_time[0] += 5  # drawing does not count

    assert list(thinned_steps(9)) == [0, 3, 6, 8]
    assert list(thinned_steps(1)) == [0]
    assert list(thinned_steps(0)) == []
