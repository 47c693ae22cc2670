"""The page in a real browser: what it says by itself, and what must never happen on it."""

from __future__ import annotations

import io
import re
import zipfile
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from tests.browser.conftest import PAYLOAD
from tests.conftest import ROOT
from tests.support.browser import (
    ANSWERED_JS,
    DONE,
    NEXT_FRAME_JS,
    PATIENCE,
    Watch,
    await_status,
    check_barriers,
    give,
    open_tab,
    serve,
    visit,
)
from whylens.core.engine import Engine

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.browser
EVERY_TAB = (
    "Compare", "What if", "Grad-CAM", "Occlusion", "Plugins", "This network", "Many photos",
    "Train on a folder",
)  # fmt: skip


@pytest.mark.slow  # what an address opens is asked of its handler in test_page.py
def test_a_link_brings_back_model_method_and_class(browser, wide_address):
    link = f"{wide_address}/?model=a-toy&method=score-cam&target=7&quantity=contrast&versus=3"
    with visit(browser, link, watched=False) as page:
        expect(page.locator("#score-cam-run")).to_be_visible()
        expect(page.locator("#model input")).to_have_value(re.compile("a-toy$"))
        expect(page.locator("#target input")).to_have_value(re.compile(r"\(7\)"))
        page.get_by_text("What counts: score, probability or a difference").click()
        expect(page.locator("#versus input")).to_have_value(re.compile(r"\(3\)"))
        expect(page).to_have_url(re.compile("quantity=contrast&versus="))
        open_tab(page, "Plugins")
        expect(page).to_have_url(re.compile("method=plugins"))
        expect(page).to_have_url(re.compile("model=a-toy"))
        await_status(page, "compare", DONE)
        page.go_back()
        expect(page).to_have_url(re.compile("method=score-cam"))
        expect(page.locator("#score-cam-run")).to_be_visible(timeout=PATIENCE)
        await_status(page, "compare", DONE)


WRONG_NAMES = {
    "resnet51": "Did you mean",
    "resnet50.a1_in1k": "local checkpoint",
}


@pytest.mark.slow  # each refusal is asked of its handler in test_page.py and test_cards.py
def test_what_cannot_be_done_is_answered_where_it_happened(browser, wide_address, tmp_path):
    text = tmp_path / "fake.png"
    text.write_text("this is text")
    wrong = "method=grad-kam&target=golfish&example=nobody"
    with visit(browser, f"{wide_address}/?model=a-toy&{wrong}") as page:
        for words in ("called 'grad-kam'", "Did you mean goldfish", "called 'nobody'"):
            expect(page.locator("#banner")).to_contain_text(words)
        open_tab(page, "Grad-CAM")
        await_status(page, "grad-cam", DONE)
        page.get_by_label("Remove Image").click()
        expect(page.locator("#answer-head")).to_contain_text("Drop a photo")
        page.click("#grad-cam-run")
        await_status(page, "grad-cam", "did not work.*no photo yet")
        page.set_input_files("#photo input[type=file]", str(text))
        expect(page.locator("#answer-head")).to_contain_text("not a readable PNG")
        for typed, words in WRONG_NAMES.items():
            page.locator("#model input").fill(typed)
            page.locator("#model input").press("Enter")
            notice = page.locator("#model-notice")
            expect(notice).to_contain_text(words, timeout=PATIENCE)
            expect(notice).to_contain_text("a-toy is still loaded")
            expect(page.locator("#model input")).to_have_value(re.compile("a-toy$"))
        # The class is looked for by what is typed, and a method's refusal offers a way out.
        page.locator("#target input").click()
        page.keyboard.type("husky")
        expect(page.get_by_role("option", name="Siberian husky (250)")).to_be_visible()
        page.keyboard.press("Escape")
        open_tab(page, "LeGrad")
        expect(page.locator("#legrad-notice")).to_contain_text("no attention")
        page.click("#legrad-notice .wl-link")
        expect(page.locator("#model input")).to_have_value(re.compile("painted-cats-vit$"))
        expect(page.locator("#legrad-run")).to_be_enabled(timeout=PATIENCE)
        assert page.get_by_test_id("toast-body").count() == 0


@pytest.mark.slow
def test_no_tab_has_a_serious_barrier_in_light_or_dark_or_is_too_wide_for_a_phone(
    browser, address, photo
):
    with visit(browser, f"{address}/?model=mistaken") as page:
        give(page, photo)
        for title in EVERY_TAB:
            open_tab(page, title)
            if title == "This network":
                page.locator("#report-matrix [data-cell='0-1']").click()
                page.get_by_text("Precision and recall of each class").click()
                expect(page.locator("#report-mistakes img").first).to_be_visible()
            if title == "Many photos":
                files = [photo, ROOT / "examples" / "painted" / "emberface.jpg"]
                page.set_input_files("#photos-files input[type=file]", files)
                expect(page.locator("#photos-files")).to_contain_text("emberface")
                page.click("#photos-run")
                await_status(page, "photos", DONE)
            # What stands above the tabs is the same on all of them.
            check_barriers(page, title, None if title == EVERY_TAB[0] else "#tabs")
        # Nor what is greyed since another question is asked.
        page.evaluate("document.querySelector('#question-id [data-question]').dataset.question = 0")
        for title in ("Compare", "What if", "Grad-CAM"):
            open_tab(page, title)
            expect(page.locator("#answer.wl-stale")).to_have_count(1)
            check_barriers(page, f"{title}, greyed", None if title == EVERY_TAB[0] else "#tabs")
        page.set_viewport_size({"width": 390, "height": 844})
        for title in EVERY_TAB:
            open_tab(page, title)
            wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{title} is {wide} pixels too wide"
        open_tab(page, "Many photos")
        before = page.locator("#question-id span").get_attribute("data-question")
        page.get_by_role("button", name="Explain emberface.jpg").click()
        page.wait_for_function(ANSWERED_JS, arg=before, timeout=PATIENCE)
        await_status(page, "photos", "^emberface.jpg is the photo now")
        expect(page.locator("#answer-head")).to_be_in_viewport()


@pytest.mark.slow  # what each click asks is asked of its handler in test_page_report.py
def test_clicks_lead_from_a_cell_to_a_mistake_to_its_maps(browser, address):
    with visit(browser, f"{address}/?model=mistaken&method=report") as page:
        expect(page.locator("#report-headline")).to_contain_text("Accuracy")
        page.locator("#report-matrix [data-cell='0-1']").click()
        await_status(page, "report", "are taken for")
        page.locator("#report-mistakes button img").first.click()
        await_status(page, "report", "photo on top of the page now")
        expect(page.locator("#photo img")).to_be_visible()
        before = page.locator("#photo img").get_attribute("src")
        page.locator("#report-matrix [data-cell='1-0']").click()
        await_status(page, "report", "are taken for red")
        page.locator("#report-mistakes button img").first.click()
        expect(page.locator("#photo img")).not_to_have_attribute("src", before)
        expect(page.locator("#target input")).to_have_value("red (0)")
        expect(page.locator("#predictions")).to_contain_text("%", timeout=PATIENCE)
        open_tab(page, "Compare")
        await_status(page, "compare", DONE)
        open_tab(page, "This network")
        # The same with the keyboard alone.
        page.locator("#report-matrix [data-cell='0-0']").focus()
        page.keyboard.press("Enter")
        await_status(page, "report", "Only the pictures")
        assert page.evaluate("window.harmed") is None


def test_a_note_for_another_question_takes_no_room_and_hides_nothing_beside_it(browser):
    from whylens.ui.page import html

    css = (ROOT / "ui" / "page" / "page.css").read_text(encoding="utf-8")
    note, table = html.stale_note("Of another question."), "<table><tr><td>cat</td></tr></table>"
    page = browser.new_page()

    def visibility(state: str, content: str) -> tuple[bool, bool]:
        page.set_content(
            f"<style>{css}</style><div class='column wl-answer {state}'><div class='block'><div>"
            f"{html.stamp('one')}{content}</div></div><div class='block'>more</div></div>"
        )
        block = page.locator(".block").first
        return block.is_visible(), page.locator(".wl-stale-note").is_visible()

    assert visibility("", note) == (False, False)
    assert visibility("wl-stale", note) == (True, True)
    assert visibility("", note + table) == (True, False)
    assert visibility("wl-stale", note + table) == (True, True)
    page.close()


def test_what_is_no_object_is_not_copied_and_objects_are(browser):
    from whylens.ui.page.light_events import LIGHT_COPIES_JS

    page = browser.new_page()
    is_same, copied, is_separate = page.evaluate(
        f"""() => {{
          let copied = 0;
          const first = window.structuredClone;
          window.structuredClone = (...values) => {{ copied += 1; return first(...values); }};
          {LIGHT_COPIES_JS}
          const plain = ['a', 1, true, undefined, null, () => 1];
          const same = plain.every(value => structuredClone(value) === value), before = copied;
          const whole = {{a: [new Date(5)]}}, other = structuredClone(whole);
          return [same, before, other.a !== whole.a && +other.a[0] === 5 && copied === 1];
        }}"""
    )
    assert (is_same, copied, is_separate) == (True, 0, True)
    page.close()


def test_a_report_of_many_photos_sorts_by_a_click_on_a_head_or_its_key(browser):
    from whylens.core.outputs.photo_report import PhotoRow, report_html

    rows = [
        PhotoRow("9.png", "b", 0.05), PhotoRow("10.png", "a", 0.5), PhotoRow("broken.png"),
        PhotoRow("1.png", PAYLOAD, 0.1),
    ]  # fmt: skip
    page = browser.new_page()
    watch = Watch(page)
    page.set_content(report_html(rows, model="net", weights_sha256="", methods=[]))

    def column(number: int) -> list[str]:
        return [row.locator("td").nth(number).inner_text() for row in page.locator("tr").all()[1:]]

    page.get_by_role("button", name="Probability").click()
    assert column(2) == ["5.0 %", "10.0 %", "50.0 %", ""]
    page.get_by_role("button", name="Probability").press("Enter")
    assert column(2) == ["50.0 %", "10.0 %", "5.0 %", ""]
    head = page.get_by_role("columnheader", name="Probability")
    expect(head).to_have_attribute("aria-sort", "descending")
    page.get_by_role("button", name="Photo").click()
    assert column(0) == ["1.png", "9.png", "10.png", "broken.png"]
    assert column(1)[0] == PAYLOAD
    assert page.evaluate("window.harmed") is None
    assert not watch.seen
    page.close()


CONTENTS_JS = """async () => {
  const files = [...document.querySelector('#x input').files];
  const texts = files.map(async file =>
    [file.name, btoa(String.fromCharCode(...new Uint8Array(await file.arrayBuffer())))]);
  return Object.fromEntries(await Promise.all(texts));
}"""


def test_a_folder_is_packed_into_zips_of_a_size_with_its_names_and_what_is_left_out_is_said(
    browser, tmp_path
):
    from whylens.ui.page import folder_input, html

    settings = {"endings": [".png"], "most": 2, "bytes": 30, "seen": 5, "several": True}
    settings |= {"give": "x", "sides": [40, 20]}
    contents = {"a/Ünï 1.PNG": b"one" * 9, "b/5.png": b"two" * 9, "b/3.png": bytes(31),
                "b/4.png": b"last", "notes.txt": b"text"}  # fmt: skip
    for name, content in contents.items():
        (tmp_path / "Mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Mine" / name).write_bytes(content)
    page = browser.new_page()
    watch = Watch(page)

    def choose(folder="Mine", **changes) -> tuple[str, dict[str, bytes]]:
        part = html.render("pieces", "folder_input", settings=settings | changes)
        page.set_content(f"<div id='x'><input type='file' multiple></div><div id='part'>{part}")
        run = "js => new Function('element', js)(document.querySelector('#part'))"
        page.evaluate(run, folder_input.FOLDER_JS)
        with page.expect_file_chooser() as chooser:
            page.click("[data-folder]")
        chooser.value.set_files(str(tmp_path / folder))
        message = page.locator("#part [role=status]")
        expect(message).to_contain_text(folder)
        expect(message).not_to_contain_text("...")
        files = page.evaluate(CONTENTS_JS)
        return message.inner_text(), {name: b64decode(text) for name, text in files.items()}

    message, files = choose()
    assert message == (
        "2 pictures of Mine. 1 left out: no pictures. 1 left out: larger than 0 MB. "
        "1 left out: beyond the first 2."
    )
    assert list(files) == ["Mine part 1.zip", "Mine part 2.zip"]
    unpacked = {}
    for archive_bytes in files.values():
        with zipfile.ZipFile(io.BytesIO(archive_bytes)) as archive:
            assert archive.testzip() is None
            unpacked |= {name: archive.read(name) for name in archive.namelist()}
    assert unpacked == {f"Mine/{n}": contents[n] for n in ("a/Ünï 1.PNG", "b/4.png")}
    message, files = choose(several=False, most=3)
    assert "can be given so" in " ".join(message.split())
    assert not files
    message, files = choose(several=False, most=1)
    assert message == (
        "1 picture of Mine. 1 left out: no pictures. 1 left out: larger than 0 MB. "
        "2 left out: beyond the first 1."
    )
    assert list(files) == ["Mine.zip"]
    # What is to be learnt from is made smaller until it fits.
    noise = np.random.default_rng(0).integers(0, 256, (50, 100, 3), np.uint8)
    for name in ("cat/1.png", "dog/2.png"):
        (tmp_path / "Large" / name).parent.mkdir(parents=True)
        Image.fromarray(noise).save(tmp_path / "Large" / name)
    for limit, side in ((10_000, 40), (4_000, 20)):
        message, files = choose("Large", several=False, bytes=limit)
        assert "They were made smaller" in message
        assert len(files["Large.zip"]) < limit + 500
        with zipfile.ZipFile(io.BytesIO(files["Large.zip"])) as archive:
            assert archive.namelist() == ["Large/cat/1.png.jpg", "Large/dog/2.png.jpg"]
            sizes = [Image.open(io.BytesIO(archive.read(n))).size for n in archive.namelist()]
        assert sizes == [(2 * side, side)] * 2
    message, files = choose(bytes=1000, seen=4)
    assert "Only the first 4 files were looked at." in message
    assert list(files) == ["Mine.zip"]
    assert not watch.seen
    page.close()


def test_the_first_screen_answers_before_any_click_and_on_a_phone_too(browser, address):
    with visit(browser, f"{address}/?model=a-toy", width=390, height=844) as page:
        page.wait_for_selector("#answer-picture img", timeout=PATIENCE)
        expect(page.locator("#answer-truth")).to_contain_text("goes from", timeout=PATIENCE)
        expect(page).to_have_url(re.compile("example=(coffee|fruits|orange|photographer|squirrel)"))
        for width, height in ((390, 844), (1440, 900)):
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate(NEXT_FRAME_JS)
            box = page.locator("#answer-picture").bounding_box()
            visible = min(height, box["y"] + box["height"]) - max(0, box["y"])
            assert visible >= 0.6 * box["height"]
        expect(page.locator("#answer-head")).to_contain_text("%")
        expect(page.locator("#predictions button")).to_have_count(5)
        stops = 0
        while not page.evaluate("document.activeElement.matches('#predictions button')"):
            page.keyboard.press("Tab")
            stops += 1
            assert stops <= 12
        second = page.locator("#predictions button").nth(1)
        label = second.text_content().rsplit(maxsplit=2)[0]
        second.click()
        expect(second).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#answer-truth")).to_contain_text(f"{label} goes from")
        page.click("#answer-truth .wl-link")
        expect(page.locator("#answer-covered img")).to_be_visible()
        expect(page.locator("#answer-agreement")).to_contain_text(
            re.compile(r"Methods (agree: \d of \d|differ)"), timeout=PATIENCE
        )
        page.click("#answer-figure")
        page.click("#answer-figure-make")
        expect(page.locator("#answer-figure-save")).to_be_visible(timeout=PATIENCE)
        page.click("#go-what-if")
        expect(page.locator("#whatif-mark")).to_be_visible()


@pytest.mark.slow  # the first screen is walked by keys above, and Compare shows such labels below
def test_an_example_is_explained_by_keyboard_alone_and_labels_are_only_text(browser, address):
    with visit(browser, f"{address}/?model=hostile&method=grad-cam&target=1") as page:
        await_status(page, "compare", DONE)
        await_status(page, "grad-cam", DONE)  # what an address opens is asked at once, if quick
        page.locator("#examples button").first.focus()
        page.keyboard.press("Enter")
        await_status(page, "compare", DONE)
        page.locator("#grad-cam-run").focus()
        page.keyboard.press("Enter")
        await_status(page, "grad-cam", DONE)
        expect(page.locator("#predictions")).to_contain_text("<script>")
        open_tab(page, "Compare")
        page.locator("#target input").click()
        assert page.evaluate("window.harmed") is None


@pytest.mark.slow
def test_without_network_and_checkpoints_the_page_works_under_a_banner(browser, photo):
    from whylens.ui.page.layout import build_page

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WHYLENS_CHECKPOINTS", raising=False)
        patch.setattr("whylens.core.models.checkpoints.SHIPPED", photo.parent / "none")
        blocks = build_page(Engine())
        with visit(browser, serve(blocks)) as page:
            expect(page.locator("#banner")).to_contain_text("UNTRAINED")
            expect(page.locator("#model input")).to_have_value(re.compile("untrained:resnet18$"))
            give(page, photo)
        blocks.close()
