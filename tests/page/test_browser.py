"""The page in a real browser: what a visitor does, and what must never happen."""

from __future__ import annotations

import io
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, shared_data
from tests.support.browser import (
    PATIENCE,
    await_status,
    chromium,
    open_tab,
    serve,
    toy_checkpoint,
    visit,
)
from tests.support.pictures import train_mislabelled, zip_of_fruit
from whylens.core.engine import Engine
from whylens.core.registry import load_registry

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.browser
DONE = "^Done"
PAYLOAD = "<img src=x onerror='window.harmed=1'><script>window.harmed=1</script>"
EVERY_TAB = ("Compare", "Grad-CAM", "Occlusion", "Plugins", "This network", "Your pictures")


FITTED = [name for name, e in load_registry().explainers.items() if e.artifact_kind]
# One method of every family, as far as the toy network allows it.
ONE_EACH = list(
    {
        e.family: name
        for name, e in load_registry().explainers.items()
        if not e.artifact_kind and e.family not in ("Attention", "Contrast")
    }.values()
)
COMPARED = ["cam", "grad-cam", "grad-cam++", "hires-cam", "integrated-gradients", "occlusion"]


@pytest.fixture(scope="module")
def address(tmp_path_factory, request):
    """The one page of all these tests: toy networks, one that errs, and the real SqueezeNet."""
    from whylens.ui.page.layout import build_page

    place = tmp_path_factory.mktemp("browser-checkpoints")
    toy_checkpoint(place / "a-toy")
    train_mislabelled(place / "mistaken")
    toy_checkpoint(place / "hostile", labels=(PAYLOAD, f"2{PAYLOAD}", "=HYPERLINK(1)"))
    folders = [str(place), str(ROOT / "checkpoints")]
    if shared_data() is not None:
        folders.append(str(request.getfixturevalue("squeezenet_checkpoints")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYLENS_CHECKPOINTS", ":".join(folders))
        page = build_page(Engine())
        yield serve(page)
        page.close()


@pytest.fixture(scope="module")
def browser():
    """A Chromium."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A made-up photo with something to see, wider than high."""
    y, x = np.mgrid[:240, :320]
    spot = np.exp(-((x - 220) ** 2 + (y - 90) ** 2) / 1800)
    pixels = np.stack([255 * spot, 90 + 60 * np.sin(x / 9), 90 + 60 * np.cos(y / 7)], -1)
    path = tmp_path_factory.mktemp("photo") / "spot.png"
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


def give(page, path) -> None:
    """Upload a photo and wait until the quick methods have explained it, and not an example."""
    await_status(page, "compare", f"{DONE}|reads signals|take their time")
    before = page.locator("#question-id span").get_attribute("data-question")
    page.set_input_files("#photo input[type=file]", str(path))
    page.wait_for_function(ANSWERED_JS, arg=before, timeout=PATIENCE)


# Whether nothing moves but what moves for ever.
STILL_JS = """() => document.getAnimations().every(
  a => a.effect.getTiming().iterations === Infinity || a.playState === 'finished')"""
NEXT_FRAME_JS = """() => new Promise(
  done => requestAnimationFrame(() => requestAnimationFrame(done)))"""
# Whether the question is another one, and both the card and Compare answer it.
ANSWERED_JS = """before => {
  const of = box => document.querySelector(`${box} [data-question]`)?.dataset.question;
  const now = of('#question-id');
  return now !== before && of('#answer-legend') === now && of('#compare-legend') === now;
}"""


@pytest.fixture(scope="module")
def toy_page(browser, address, photo):
    """A page on which a toy network has explained a photo.

    For tests that bring nothing but methods of their own: they may come in any order.
    """
    with visit(browser, f"{address}/?model=a-toy") as page:
        give(page, photo)
        yield page


def test_every_method_that_is_fitted_shows_pictures(browser, address):
    with visit(
        browser, f"{address}/?model=painted-cats-breed&example=bluebell&method={FITTED[0]}"
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
            if not explainer.actions:
                continue
            page.click(f"#{name}-edit button")
            page.locator(f"#{name}-items input").first.check()
            page.click(f"#{name}-apply")
            edited = page.locator(f"#{name}-edited textarea")
            expect(edited).to_have_value(re.compile("before.*after"), timeout=PATIENCE)


def test_a_tab_of_every_family_explains(toy_page):
    page = toy_page
    assert "grad-cam" not in ONE_EACH, "the next test's method"
    for name in ONE_EACH:
        key = name.replace("+", "-plus")
        open_tab(page, load_registry().explainer(name).title)
        page.click(f"#{key}-run")
        await_status(page, key, DONE)
        expect(page.locator(f"#{key}-picture img")).to_have_count(2)
        expect(page.locator(f"#{key}-legend")).to_contain_text(re.compile(r"\d"))


def test_a_photo_is_compared_without_a_click_and_ticked_methods_on_one_scale(
    browser, address, photo
):
    names = COMPARED
    with visit(browser, f"{address}/?model=a-toy") as page:
        expect(page.locator("#banner")).to_contain_text("UNTRAINED")
        give(page, photo)
        expect(page.locator("#predictions")).to_contain_text("%")
        expect(page.locator("#compare-grid img")).to_have_count(3)
        expect(page.locator("#compare-legend")).to_contain_text("Grad-CAM")
        for title in (load_registry().explainer(name).title for name in names):
            page.locator("#compare-methods").get_by_label(title, exact=True).check()
        count = page.locator("#compare-methods input:checked").count()
        assert count >= len(names)
        page.click("#compare-run")
        await_status(page, "compare", f"^Done: {count} methods")
        expect(page.locator("#compare-grid img")).to_have_count(count)
        expect(page.locator("#compare-legend .wl-bar")).to_have_count(1)
        sources = "[...document.querySelectorAll('#compare-grid img')].map(i => i.src).join()"
        before = page.evaluate(sources)
        page.get_by_label("Shared by maps of one unit").check()
        page.wait_for_function(f"before => {sources} !== before", arg=before)
        expect(page.locator("#compare-download")).to_be_enabled()


def test_stop_stops_and_keeps_the_partial_map(browser, address, photo):
    with visit(browser, f"{address}/?model=a-toy&method=occlusion") as page:
        give(page, photo)
        page.click("#occlusion-options button")
        # Until the fold has opened, what is typed into it is lost.
        page.wait_for_function(STILL_JS)
        for name, value in (("stride", "4"), ("window", "16")):
            field = page.locator(f"#occlusion-{name} input[type=number]")
            for _ in range(20):
                field.fill(value)
                field.blur()
                page.evaluate(NEXT_FRAME_JS)
                if field.input_value() == value:
                    break
        # Gradio's last messages come in any order: once is luck.
        for _ in range(4):
            page.click("#occlusion-run")
            await_status(page, "occlusion", r"^\d+% done.*left")
            page.click("#occlusion-stop")
            await_status(page, "occlusion", r"^Stopped at \d+%")
        expect(page.locator("#occlusion-picture img")).to_have_count(2)
        expect(page.locator("#occlusion-download")).to_be_enabled()
        await_status(page, "occlusion", r"^Stopped at \d+%")


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
    page.click("#colours input")
    page.get_by_role("option", name="viridis").click()
    expect(picture).not_to_have_attribute("src", before)
    # Another class is another question.
    before = picture.get_attribute("src")
    stale = page.locator("#panel-grad-cam .wl-stale-note")
    expect(stale).not_to_be_visible()
    page.locator("#target input").fill("goldfish")
    page.get_by_role("option", name="goldfish").click()
    expect(stale).to_be_visible()
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


def test_a_link_brings_back_model_method_and_class(browser, address):
    link = f"{address}/?model=a-toy&method=score-cam&target=7"
    with visit(browser, link, watched=False) as page:
        expect(page.locator("#score-cam-run")).to_be_visible()
        expect(page.locator("#model input")).to_have_value(re.compile("a-toy$"))
        expect(page.locator("#target input")).to_have_value(re.compile(r"\(7\)"))
        open_tab(page, "Plugins")
        expect(page).to_have_url(re.compile("method=plugins"))
        expect(page).to_have_url(re.compile("model=a-toy"))
        open_tab(page, "Compare")
        await_status(page, "compare", DONE)
        page.go_back()
        expect(page).to_have_url(re.compile("method=plugins"))
        await_status(page, "compare", DONE)
        page.go_back()
        expect(page).to_have_url(re.compile("method=score-cam"))
        expect(page.locator("#score-cam-run")).to_be_visible(timeout=PATIENCE)
        await_status(page, "compare", DONE)


WRONG_NAMES = {
    "local-dir:/etc": "never loaded",
    "resnet51": "Did you mean",
    "vit_giant_patch14_reg4_dinov2": "million parameters",
    "resnet50.a1_in1k": "local checkpoint",
}


def test_what_cannot_be_done_is_answered_where_it_happened(browser, address, tmp_path):
    text = tmp_path / "fake.png"
    text.write_text("this is text")
    with visit(browser, f"{address}/?model=a-toy&method=grad-cam") as page:
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
        assert page.get_by_test_id("toast-body").count() == 0
    wrong = "method=grad-kam&target=golfish&example=nobody"
    with visit(browser, f"{address}/?model=a-toy&{wrong}") as page:
        for words in ("called 'grad-kam'", "Did you mean goldfish", "called 'nobody'"):
            expect(page.locator("#banner")).to_contain_text(words)


def test_an_example_can_be_explained_by_keyboard_alone(browser, address):
    with visit(browser, f"{address}/?method=grad-cam") as page:
        await_status(page, "compare", DONE)
        page.locator("#examples button").first.focus()
        page.keyboard.press("Enter")
        await_status(page, "compare", DONE)
        page.locator("#grad-cam-run").focus()
        page.keyboard.press("Enter")
        await_status(page, "grad-cam", DONE)


def test_a_phone_shows_everything_without_scrolling_sideways(browser, address, photo):
    with visit(browser, f"{address}/?model=mistaken", width=390, height=844) as page:
        give(page, photo)
        for title in EVERY_TAB:
            open_tab(page, title)
            wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{title} is {wide} pixels too wide"


# Returns the colour of the page's text when what fades has faded.
TEXT_COLOUR_JS = """async () => {
  const fades = document.getAnimations().filter(a => a instanceof CSSTransition);
  await Promise.allSettled(fades.map(a => a.finished));
  return getComputedStyle(document.querySelector('.gradio-container')).color;
}"""
IS_DARK_JS = "dark => document.body.classList.contains('dark') === dark"


def test_no_tab_has_a_serious_barrier_in_light_or_dark(browser, address, photo):
    from axe_playwright_python.sync_playwright import Axe

    with visit(browser, f"{address}/?model=mistaken") as page:
        give(page, photo)
        for title in EVERY_TAB:
            open_tab(page, title)
            if title == "This network":
                page.locator("#report-matrix [data-cell='0-1']").click()
                page.get_by_text("Precision and recall of each class").click()
                expect(page.locator("#report-mistakes img").first).to_be_visible()
            colours = set()
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme)
                page.wait_for_function(IS_DARK_JS, arg=theme == "dark")
                colours.add(page.evaluate(TEXT_COLOUR_JS))
                violations = Axe().run(page).response["violations"]
                nodes = [
                    f"{node['html']} {node['failureSummary']}"
                    for violation in violations
                    if violation["impact"] in ("critical", "serious")
                    for node in violation["nodes"]
                ]
                assert nodes == [], f"{title}, {theme}"
            assert len(colours) == 2


def test_clicks_lead_from_a_cell_to_a_mistake_to_its_maps(browser, address):
    with visit(browser, f"{address}/?model=mistaken&method=report") as page:
        expect(page.locator("#report-headline")).to_contain_text("Accuracy")
        page.locator("#report-matrix [data-cell='0-1']").click()
        await_status(page, "report", "are taken for")
        page.locator("#report-mistakes button img").first.click()
        await_status(page, "report", "photo on the left now")
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


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_the_first_screen_answers_before_any_click(browser, address, width, height):
    with visit(browser, f"{address}/?model=a-toy", width=width, height=height) as page:
        page.wait_for_selector("#answer-picture img", timeout=PATIENCE)
        expect(page.locator("#answer-truth")).to_contain_text("goes from", timeout=PATIENCE)
        box = page.locator("#answer-picture").bounding_box()
        seen = min(height, box["y"] + box["height"]) - max(0, box["y"])
        assert seen >= 0.6 * box["height"]
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
        page.click("#answer-cover")
        expect(page.locator("#answer-covered img")).to_be_visible()


def test_labels_of_a_model_are_text_and_nothing_else(browser, address, photo):
    with visit(browser, f"{address}/?model=hostile&method=grad-cam&target=1") as page:
        give(page, photo)
        page.click("#grad-cam-run")
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
        running = build_page(Engine())
        with visit(browser, serve(running)) as page:
            expect(page.locator("#banner")).to_contain_text("UNTRAINED")
            expect(page.locator("#model input")).to_have_value(re.compile("^untrained:"))
            give(page, photo)
        running.close()


def test_a_real_photo_is_recognised_and_explained(browser, address, shared):
    with visit(browser, f"{address}/?model=squeezenet&method=grad-cam") as page:
        page.set_input_files("#photo input[type=file]", str(shared / "photos" / "dog_and_cat.png"))
        expect(page.locator("#predictions")).to_contain_text("bull mastiff", timeout=PATIENCE)
        page.click("#grad-cam-run")
        await_status(page, "grad-cam", "^Done.*bull mastiff")
        open_tab(page, "CAM")
        expect(page.locator("#cam-notice")).to_contain_text("Not on this model")
        expect(page.locator("#cam-run")).to_be_disabled()


def test_a_visitor_trains_and_finds_the_model_chosen_and_reported(browser, address, tmp_path):
    with visit(browser, f"{address}/?model=a-toy&method=train") as page:
        page.set_input_files("#train-zip input[type=file]", zip_of_fruit(tmp_path))
        page.locator("#train-name textarea, #train-name input").fill("fruits")
        page.get_by_label("The network that is loaded").check()
        page.get_by_label("The last layer only (quickest)").check()
        expect(page.locator("#train-zip")).to_contain_text("KB")
        page.click("#train-run")
        expect(page.locator("#train-run")).to_have_text("A training runs ...")
        await_status(page, "train", "^Done: fruits recognises")
        expect(page.locator("#train-run")).to_have_text("Train")
        expect(page.locator("#model input")).to_have_value(re.compile("fruits$"))
        expect(page.locator("#model-card")).to_contain_text("fruits", timeout=PATIENCE)
        expect(page.locator("#train-log textarea")).to_have_value(
            re.compile(r"Made a gallery[\s\S]*ProtoPNet")
        )
        open_tab(page, "This network")
        expect(page.locator("#report-headline")).to_contain_text("fruit.zip")
