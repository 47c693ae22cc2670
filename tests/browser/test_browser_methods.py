"""Methods, comparisons and a training in a real browser: what a visitor does."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from tests.conftest import ROOT
from tests.support.browser import (
    DONE,
    NEXT_FRAME_JS,
    PATIENCE,
    SECONDS,
    await_status,
    check_barriers,
    give,
    open_tab,
    visit,
)
from tests.support.networks import seeded
from tests.support.pictures import colour_folder, zip_of_fruit
from whylens.core.explainer import is_single_step
from whylens.core.models.load import build
from whylens.core.registry import load_registry

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.browser
FITTED = [name for name, e in load_registry().explainers.items() if e.artifact_kind]
# One method of every family, as far as the toy network allows it.
ONE_EACH = list(
    {
        e.family: name
        for name, e in load_registry().explainers.items()
        if not e.artifact_kind and e.family not in ("Attention", "Contrast")
    }.values()
)
AT_THE_TOP_JS = "id => Math.abs(document.querySelector(id).getBoundingClientRect().top) < 2"
COMPARED = ["cam", "grad-cam", "grad-cam++", "hires-cam", "integrated-gradients", "occlusion"]
# Whether nothing moves but what moves for ever.
STILL_JS = """() => document.getAnimations().every(
  a => a.effect.getTiming().iterations === Infinity || a.playState === 'finished')"""


def end_lines(page) -> None:
    """Return when no line of answers is open.

    Gradio's client opens one for nothing where an answer came before its event's number was read;
    it ends with the next event.
    """
    opened_requests, ended_requests = [], []

    def listener(requests):
        return lambda request: "/queue/data" in request.url and requests.append(request)

    end = listener(ended_requests)
    listeners = {"request": listener(opened_requests), "requestfinished": end, "requestfailed": end}
    for event, listen in listeners.items():
        page.on(event, listen)
    deadline = time.monotonic() + PATIENCE / SECONDS
    # Where a line was open before, the event that ends it opens none.
    while not opened_requests or any(request not in ended_requests for request in opened_requests):
        assert time.monotonic() < deadline
        page.evaluate("document.querySelector('#wake').click()")
        for _ in range(20):
            page.evaluate(NEXT_FRAME_JS)
    for event, listen in listeners.items():
        page.remove_listener(event, listen)


@pytest.fixture(scope="module")
def toy_page(browser, address, photo):
    """A page on which a toy network has explained a photo.

    For tests that bring methods of their own, and leave the question as they found it for those
    that come after them in this file.
    """
    with visit(browser, f"{address}/?model=a-toy") as page:
        give(page, photo)
        yield page


@pytest.mark.slow
def test_every_method_that_is_fitted_shows_pictures(browser, wide_address):
    with visit(
        browser, f"{wide_address}/?model=painted-cats-breed&example=bluebell&method={FITTED[0]}"
    ) as page:
        give(page, ROOT / "examples" / "painted" / "emberface.jpg")
        for name in FITTED:
            explainer = load_registry().explainer(name)
            open_tab(page, explainer.title)
            page.click(f"#{name}-run")
            await_status(page, name, DONE)
            figures = page.locator(f"#{name}-examples figure img")
            assert figures.count() >= (1 if explainer.question_kind == "what if" else 3)
            handles = figures.element_handles()
            assert all(page.evaluate("i => i.naturalWidth > 0", handle) for handle in handles)
            expect(page.locator(f"#{name}-head")).to_contain_text(f"{explainer.title}: why ")
            for part in ("own", "edit", "options"):
                if page.locator(f"#{name}-{part}").count():
                    page.locator(f"#{name}-{part} button").first.click()
            check_barriers(page, explainer.title)
            if not explainer.actions:
                continue
            page.locator(f"#{name}-items input").first.check()
            page.click(f"#{name}-apply")
            edit_status = page.locator(f"#{name}-edited textarea")
            expect(edit_status).to_have_value(re.compile("before.*after"), timeout=PATIENCE)


@pytest.mark.slow  # one is opened and asked below
def test_a_tab_of_every_family_explains(browser, wide_address, photo):
    with visit(browser, f"{wide_address}/?model=a-toy") as page:
        give(page, photo)
        for name in ONE_EACH:
            key, explainer = name.replace("+", "-plus"), load_registry().explainer(name)
            open_tab(page, explainer.title)
            expect(page.locator("[id^='panel-']:visible")).to_have_count(1)
            expect(page).to_have_url(re.compile(f"[?&]method={key}(&|$)"))
            page.wait_for_function(AT_THE_TOP_JS, arg=f"#panel-{key}")
            if not is_single_step(explainer):  # what is quick is there without a click
                page.click(f"#{key}-run")
            await_status(page, key, DONE)
            expect(page.locator(f"#{key}-picture img")).to_have_count(2)
            expect(page.locator(f"#{key}-legend")).to_contain_text(re.compile(r"\d"))


def test_a_photo_is_compared_without_a_click_and_ticked_methods_on_one_scale(toy_page):
    page, names = toy_page, COMPARED
    expect(page.locator("#banner")).to_contain_text("UNTRAINED")
    expect(page.locator("#predictions")).to_contain_text("%")
    open_tab(page, "Compare")
    maps = page.locator("#compare-grid img.wl-map")
    expect(maps).to_have_count(2)  # the best quick method of each family
    expect(page.locator("#compare-legend")).to_contain_text("Grad-CAM")
    tokens = page.locator("#compare-methods .token")
    for title in (load_registry().explainer(name).title for name in names):
        if title not in (text.strip() for text in tokens.all_inner_texts()):
            page.locator("#compare-methods input").fill(title)
            page.get_by_role("option", name=title, exact=True).click()
    count = tokens.count()
    assert count >= len(names)
    page.keyboard.press("Escape")
    page.locator("#compare-networks input").fill("mistaken")
    page.get_by_role("option", name=re.compile("mistaken$")).click()
    page.click("#compare-run")
    await_status(page, "compare", "^Done: .*maps.*Not on mistaken: ")
    status = page.locator("#compare-status textarea").input_value()
    number = int(status.split()[1])
    assert count < number < 2 * count
    expect(maps).to_have_count(number)
    expect(page.locator("#compare-grid h2")).to_have_text(
        [re.compile("^a-toy: .*%"), re.compile("^mistaken: .*%")]
    )
    assert page.evaluate("window.harmed") is None  # one of its labels is HTML that would
    # A click opens a cell at the width of the page; zoom and slider move all of them.
    small = maps.first.bounding_box()["width"]
    page.locator("#compare-grid .wl-pane").first.click()
    page.wait_for_function(
        "w => document.querySelector('#compare-grid .wl-map').clientWidth > 2 * w", arg=small
    )
    page.locator("#compare-zoom input[type=number]").fill("2")
    page.locator("#compare-zoom input[type=number]").press("Enter")
    looks = "[...document.querySelectorAll('.wl-map')].map(i => getComputedStyle(i).transform)"
    page.wait_for_function(f"{looks}.every(t => t.startsWith('matrix(2, 0, 0, 2,'))")
    # Of maps of evidence, and of evidence for and against.
    expect(page.locator("#compare-legend .wl-bar")).to_have_count(2)
    sources = "[...document.querySelectorAll('#compare-grid .wl-map')].map(i => i.src).join()"
    before = page.evaluate(sources)
    page.get_by_label("Shared by maps of one unit").check()
    page.wait_for_function(f"before => {sources} !== before", arg=before)
    expect(page.locator("#compare-download")).to_be_enabled()
    question_id = page.locator("#question-id span")
    question_before = question_id.get_attribute("data-question")
    # What was striped can be shown to the network, and a part can be chosen by keys.
    whole = page.locator("#answer-by .wl-link")
    whole.click()
    expect(whole).to_have_count(0)
    page.click("#framing-fold button")
    page.get_by_label("A part: drag the frame").check()
    expect(whole).to_have_count(1)
    place = page.locator(".wl-frame").get_attribute("style")
    question = question_id.get_attribute("data-question")
    page.locator(".wl-frame").focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator(".wl-frame")).not_to_have_attribute("style", place)
    expect(question_id).not_to_have_attribute("data-question", question)
    page.get_by_label("Its own crop").check()
    expect(question_id).to_have_attribute("data-question", question_before)


@pytest.mark.slow  # what a stop ends and leaves is asked in test_page.py and test_workers.py
def test_stop_stops_and_keeps_the_partial_map(toy_page):
    page = toy_page
    open_tab(page, "RISE")
    if not page.locator("#rise-masks").is_visible():
        page.click("#rise-options button")
    # Until the fold has opened, what is typed into it is lost.
    page.wait_for_function(STILL_JS)
    field = page.locator("#rise-masks input[type=number]")
    for _ in range(20):
        field.fill("8192")
        field.blur()
        page.evaluate(NEXT_FRAME_JS)
        if field.input_value() == "8192":
            break
    for _ in range(4):  # Gradio's last messages come in any order: once is luck
        page.click("#rise-run")
        await_status(page, "rise", r"^\d+ % done.*left")
        page.click("#rise-stop")
        await_status(page, "rise", r"^Stopped at \d+ %")
    expect(page.locator("#rise-picture img")).to_have_count(2)
    expect(page.locator("#rise-download")).to_be_enabled()
    await_status(page, "rise", r"^Stopped at \d+ %")


def test_who_waits_is_told_the_place_in_line_and_is_answered_though_the_line_was_closed(toy_page):
    page = toy_page
    lost_urls, held_routes = [], []

    def close(route):
        if lost_urls:  # the answer waits until the words that come before it are read
            held_routes.append(route)
            return
        lost_urls.append(route.request.url)
        # What names no event is told to every one, and the question is the only one.
        place = {"msg": "estimation", "rank": 2, "queue_size": 3, "rank_eta": 20}
        messages = (place, {"msg": "close_stream"})
        body = "".join(f"data: {json.dumps(message)}\n\n" for message in messages)
        route.fulfill(content_type="text/event-stream", body=body)

    open_tab(page, "RISE")  # Compare would ask as well, and its line bring this answer
    stale, truth = page.locator("#answer-head.wl-stale"), page.locator("#answer-truth")
    place_in_line = page.locator("#answer-waiting p")
    expect(stale).to_have_count(0)
    end_lines(page)
    expect(place_in_line).to_be_empty()
    page.route("**/queue/data**", close)
    class_text = page.locator("#predictions button[aria-pressed=false]").first.text_content()
    page.locator("#predictions button", has_text=class_text).click()
    expect(place_in_line).to_have_text("2 before you, about 20 s.")
    expect(stale).to_have_count(1)
    page.unroute("**/queue/data**")
    for route in held_routes:
        route.continue_()
    expect(page.locator("#predictions [aria-pressed=true]")).to_have_text(class_text)
    expect(truth).to_contain_text(f"{class_text.rsplit(maxsplit=2)[0]} goes from")
    expect(place_in_line).to_be_empty()
    page.unroute_all(behavior="wait")


@pytest.mark.slow  # what is packed and redrawn, and which classes are asked, in test_page.py
def test_one_map_is_downloaded_redrawn_and_asked_about_other_classes(toy_page):
    page = toy_page
    open_tab(page, "Grad-CAM")
    page.click("#grad-cam-run")
    await_status(page, "grad-cam", DONE)
    picture = page.locator("#grad-cam-picture img").last
    with page.expect_download() as download:
        page.click("#grad-cam-download", timeout=PATIENCE)
    archive = zipfile.ZipFile(download.value.path())
    manifest = json.loads(archive.read("grad-cam/manifest.json"))
    values = np.load(io.BytesIO(archive.read("grad-cam/values.npy")))
    assert Image.open(io.BytesIO(archive.read("grad-cam/overlay.png"))).size == (320, 240)
    assert list(values.shape) == manifest["map"]["shape"]
    assert float(values.max()) == pytest.approx(manifest["map"]["maximum"])
    assert manifest["command"].startswith("whylens explain")
    # Colours redraw what was computed.
    before = picture.get_attribute("src")
    page.click("#look button")
    page.get_by_label("Viridis").check()
    expect(picture).not_to_have_attribute("src", before)
    # Another class is another question.
    before = picture.get_attribute("src")
    stale = page.locator("#panel-grad-cam .wl-stale-note")
    expect(stale).not_to_be_visible()
    page.locator("#target input").fill("goldfish")
    page.get_by_role("option", name="goldfish").click()
    expect(stale).to_be_visible()
    expect(page.locator("#grad-cam-status textarea.wl-old")).to_have_value(re.compile("^Done"))
    expect(page).to_have_url(re.compile(r"target=1(&|$)"))
    page.click("#grad-cam-run")
    await_status(page, "grad-cam", "^Done.*goldfish")
    expect(picture).not_to_have_attribute("src", before)
    expect(stale).not_to_be_visible()
    page.click("#more button")
    page.get_by_label("Difference to another class").check()
    expect(page.locator("#versus")).to_be_visible()
    page.click("#grad-cam-run")
    await_status(page, "grad-cam", "^Done.*goldfish rather than ")


@pytest.mark.slow
def test_a_real_photo_is_recognised_and_explained(browser, address, shared):
    with visit(browser, f"{address}/?model=squeezenet&method=grad-cam") as page:
        page.set_input_files("#photo input[type=file]", str(shared / "photos" / "dog_and_cat.png"))
        expect(page.locator("#predictions")).to_contain_text("bull mastiff", timeout=PATIENCE)
        page.click("#grad-cam-run")
        await_status(page, "grad-cam", "^Done.*bull mastiff")
        open_tab(page, "CAM")
        expect(page.locator("#cam-notice")).to_contain_text("Not on this network")
        expect(page.locator("#cam-run")).to_be_disabled()


@pytest.mark.slow
def test_a_visitor_trains_and_finds_the_model_chosen_and_reported(browser, wide_address, tmp_path):
    with visit(browser, f"{wide_address}/?model=a-toy&method=train") as page:
        page.click("#train-run")
        await_status(page, "train", "^Not trained. There are no pictures")
        expect(page.locator("#train-run")).to_have_text("Train")  # for another try
        page.set_input_files("#train-zip input[type=file]", zip_of_fruit(tmp_path))
        page.locator("#train-name textarea, #train-name input").fill("fruits")
        page.get_by_label("The network that is loaded").check()
        page.get_by_label("The last layer only (quickest)").check()
        expect(page.locator("#train-zip")).to_contain_text("KB")
        before = page.locator("#photo img").get_attribute("src")
        page.click("#train-run")
        expect(page.locator("#train-run")).to_have_text("A training runs ...")
        await_status(page, "train", "^Done: fruits recognises")
        expect(page.locator("#train-run")).to_have_text("Train")
        expect(page.locator("#model input")).to_have_value(re.compile("fruits$"))
        expect(page.locator("#model-card")).to_contain_text("fruits", timeout=PATIENCE)
        expect(page.locator("#train-log textarea")).to_have_value(
            re.compile(r"Made a gallery[\s\S]*ProtoPNet")
        )
        # One of the pictures that it was tested with is explained by itself.
        expect(page.locator("#photo img")).not_to_have_attribute("src", before)
        expect(page.locator("#answer-head")).to_contain_text(re.compile("cherry|kiwi"))
        expect(page.locator("#answer-truth")).to_contain_text("goes from", timeout=PATIENCE)
        open_tab(page, "This network")
        expect(page.locator("#report-headline")).to_contain_text("fruit.zip")
        # A network of one number, from a file on this computer, becomes the next one.
        save_file(seeded(build("test_resnet", classes=1)).state_dict(), tmp_path / "w.safetensors")
        page.get_by_text("A network of your own").click()
        for field, text in (
            ("path", str(tmp_path / "w.safetensors")), ("name", "ages"), ("labels", "age"),
            ("size", "64"), ("unit", "years"),
        ):  # fmt: skip
            page.locator(f"#import-{field} textarea, #import-{field} input").fill(text)
        page.locator("#import-outputs").get_by_label("One number").check()
        page.click("#import-run")
        await_status(page, "import", "^Done: ages is chosen")
        expect(page.locator("#model-card")).to_contain_text("one number: age, in years")
        expect(page.locator("#answer-head")).to_contain_text(re.compile(r"It says .* years\."))
        expect(page.locator("#predictions")).not_to_contain_text("%")
        expect(page.locator("#answer-truth")).to_contain_text(re.compile("goes from .* years to"))


@pytest.mark.slow  # packing: test_browser.py; what comes of it: test_page_training.py
def test_a_folder_that_is_chosen_or_dropped_is_read_with_the_names_of_its_classes(
    toy_page, tmp_path
):
    page, folder = toy_page, colour_folder(tmp_path / "Mine", {"goldfish": 2, "daisy": 1})
    (folder / "daisy" / "notes.txt").write_text("no picture")
    message = "3 pictures of Mine. 1 left out: no pictures."
    open_tab(page, "Many photos")
    place = page.locator("#photos-files").bounding_box()
    page.mouse.wheel(0, place["y"] - 200)
    place = page.locator("#photos-files").bounding_box()
    point = {"x": place["x"] + place["width"] / 2, "y": place["y"] + place["height"] / 2}
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **point, "data": data})
    expect(page.locator("#photos-files-folder")).to_contain_text(message)
    expect(page.locator("#photos-files")).to_contain_text("KB")
    page.click("#photos-run")
    await_status(page, "photos", "^Done: . of 3 named right")
    expect(page.locator("#photos-table")).to_contain_text("Mine/daisy/000.png")
    open_tab(page, "Train on a folder")
    with page.expect_file_chooser() as chooser:
        page.click("#train-zip-folder button")
    chooser.value.set_files(str(folder))
    expect(page.locator("#train-set")).to_contain_text("3 pictures of 2 classes")
    expect(page.locator("#train-set img")).to_have_count(3)


# The last: once it was opened, the editor's canvas draws all the time, on no graphics card.
@pytest.mark.slow  # what it answers is asked of the same functions in evaluation/test_what_if.py
def test_what_if_answers_for_marks_of_a_map_and_of_the_brush(toy_page):
    page = toy_page
    open_tab(page, "What if")
    status = page.locator("#whatif-status textarea")
    expect(page.locator("#whatif-editor canvas").first).to_be_visible()
    expect(page.locator("#whatif-map input")).to_have_value(re.compile("CAM"))
    page.click("#whatif-mark")
    expect(status).to_have_value(re.compile("^10 % of it changed: .*elsewhere: .*points"))
    expect(page.locator("#whatif-shown img")).to_be_visible()
    expect(page.locator("#whatif-bars")).to_contain_text("Did the maps foresee it?")
    marked_image = page.locator("#whatif-shown img").get_attribute("src")
    page.locator("#whatif-editor canvas").first.scroll_into_view_if_needed()
    box = page.locator("#whatif-editor canvas").first.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] + 20, steps=6)
    page.mouse.up()
    expect(status).not_to_have_value(re.compile("^10 % of it changed"))
    expect(status).to_have_value(re.compile(r"^\d % of it changed"))
    expect(page.locator("#whatif-shown img")).not_to_have_attribute("src", marked_image)
    page.get_by_label("Show only what is marked").check()
    expect(status).to_have_value(re.compile(r"^9\d % of it changed"))
