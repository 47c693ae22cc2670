"""The page in a real browser: what a visitor does, and what must never happen."""

from __future__ import annotations

import io
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.browser import PATIENCE, chromium, open_tab, serve, status, toy_checkpoint, visit
from tests.conftest import ROOT, shared_data
from whylens.core.engine import Engine
from whylens.core.registry import load_registry

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.browser
DONE = re.compile(r"^Done")
PAYLOAD = "<img src=x onerror='window.harmed=1'><script>window.harmed=1</script>"


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
    """The address of a running page with a toy network and, where it is, the real SqueezeNet."""
    from whylens.ui.page.layout import build_page

    place = tmp_path_factory.mktemp("browser-checkpoints")
    toy_checkpoint(place / "a-toy")
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
    """Upload a photo and wait until the quick methods have explained it."""
    page.set_input_files("#photo input[type=file]", str(path))
    expect(status(page, "compare")).to_have_value(DONE, timeout=PATIENCE)


def test_a_photo_is_predicted_and_compared_without_a_click(browser, address, photo):
    with visit(browser, address) as page:
        expect(page.locator("#banner")).to_contain_text("UNTRAINED")
        give(page, photo)
        expect(page.locator("#predictions")).to_contain_text("%")
        expect(page.locator("#compare-grid img")).to_have_count(3)
        expect(page.locator("#compare-legend")).to_contain_text("Grad-CAM++")


@pytest.mark.parametrize("name", FITTED)
def test_every_method_that_is_fitted_shows_pictures(browser, address, name):
    explainer = load_registry().explainer(name)
    with visit(browser, f"{address}/?model=painted-cats-breed&method={name}") as page:
        give(page, ROOT / "examples" / "painted" / "emberface.jpg")
        page.click(f"#{name}-run")
        expect(status(page, name)).to_have_value(DONE, timeout=PATIENCE)
        pictures = page.locator(f"#{name}-examples figure img")
        assert pictures.count() >= (1 if explainer.question_kind == "what if" else 3)
        assert all(page.evaluate("i => i.naturalWidth > 0", h) for h in pictures.element_handles())
        if not explainer.actions:
            return
        page.click(f"#{name}-edit button")
        page.locator(f"#{name}-items input").first.check()
        page.click(f"#{name}-apply")
        edited = page.locator(f"#{name}-edited textarea")
        expect(edited).to_have_value(re.compile("before.*after"), timeout=PATIENCE)


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_tab_of_every_family_explains(browser, address, photo, name):
    explainer = load_registry().explainer(name)
    key = name.replace("+", "-plus")
    with visit(browser, f"{address}/?model=a-toy&method={key}") as page:
        give(page, photo)
        expect(page.get_by_role("tab", name=explainer.title, exact=True)).to_have_attribute(
            "aria-selected", "true"
        )
        page.click(f"#{key}-run")
        expect(status(page, key)).to_have_value(DONE, timeout=PATIENCE)
        expect(page.locator(f"#{key}-picture img")).to_have_count(2)
        expect(page.locator(f"#{key}-legend")).to_contain_text(re.compile(r"\d"))


def test_compare_puts_methods_on_one_scale(browser, address, photo):
    names = COMPARED
    with visit(browser, address) as page:
        give(page, photo)
        for title in (load_registry().explainer(name).title for name in names):
            page.locator("#compare-methods").get_by_label(title, exact=True).check()
        page.click("#compare-run")
        expect(status(page, "compare")).to_have_value(
            re.compile(rf"^Done: {len(names)} methods"), timeout=PATIENCE
        )
        expect(page.locator("#compare-grid img")).to_have_count(len(names))
        expect(page.locator("#compare-legend .wl-bar")).to_have_count(1)
        sources = "[...document.querySelectorAll('#compare-grid img')].map(i => i.src).join()"
        before = page.evaluate(sources)
        page.get_by_label("The same raw values").check()
        page.wait_for_function(f"before => {sources} !== before", arg=before)
        expect(page.locator("#compare-download")).to_be_enabled()


def test_stop_stops_and_keeps_the_partial_map(browser, address, photo):
    with visit(browser, f"{address}/?method=occlusion") as page:
        give(page, photo)
        page.locator("#occlusion-stride input[type=number]").fill("4")
        page.locator("#occlusion-window input[type=number]").fill("16")
        page.locator("#occlusion-window input[type=number]").blur()
        # Gradio's last messages come in any order: once is luck.
        for _ in range(4):
            page.click("#occlusion-run")
            expect(status(page, "occlusion")).to_have_value(
                re.compile(r"^\d+% done.*left"), timeout=PATIENCE
            )
            page.click("#occlusion-stop")
            expect(status(page, "occlusion")).to_have_value(re.compile(r"^Stopped at \d+%"))
        expect(page.locator("#occlusion-picture img")).to_have_count(2)
        expect(page.locator("#occlusion-download")).to_be_enabled()
        expect(status(page, "occlusion")).to_have_value(re.compile(r"^Stopped at \d+%"))


def test_another_class_gives_another_explanation(browser, address, photo):
    with visit(browser, f"{address}/?method=grad-cam") as page:
        give(page, photo)
        page.click("#grad-cam-run")
        expect(status(page, "grad-cam")).to_have_value(DONE)
        first = page.locator("#grad-cam-picture img").last.get_attribute("src")
        page.locator("#target input").fill("goldfish")
        page.get_by_role("option", name="goldfish").click()
        expect(status(page, "grad-cam")).to_have_value(re.compile("question has changed"))
        expect(page).to_have_url(re.compile(r"target=1(&|$)"))
        page.click("#grad-cam-run")
        expect(status(page, "grad-cam")).to_have_value(re.compile("^Done.*goldfish"))
        expect(page.locator("#grad-cam-picture img").last).not_to_have_attribute("src", first)


def test_a_contrast_asks_for_the_other_class(browser, address, photo):
    with visit(browser, f"{address}/?method=grad-cam&target=3") as page:
        give(page, photo)
        page.click("#more button")
        page.get_by_label("Contrast: A rather than B").check()
        expect(page.locator("#versus")).to_be_visible()
        page.click("#grad-cam-run")
        expect(status(page, "grad-cam")).to_have_value(re.compile("^Done.* rather than "))


def test_a_link_brings_back_model_method_and_class(browser, address):
    with visit(browser, f"{address}/?model=a-toy&method=score-cam&target=7") as page:
        expect(page.get_by_role("tab", name="Score-CAM")).to_have_attribute("aria-selected", "true")
        expect(page.locator("#model input")).to_have_value("a-toy")
        expect(page.locator("#target input")).to_have_value(re.compile(r"\(7\)"))
        open_tab(page, "Plugins")
        expect(page).to_have_url(re.compile("method=plugins"))
        expect(page).to_have_url(re.compile("model=a-toy"))


def test_the_download_holds_picture_values_and_manifest(browser, address, photo):
    with visit(browser, f"{address}/?method=grad-cam") as page:
        give(page, photo)
        page.click("#grad-cam-run")
        expect(page.locator("#grad-cam-download")).to_be_enabled(timeout=PATIENCE)
        with page.expect_download() as download:
            page.click("#grad-cam-download")
        archive = zipfile.ZipFile(download.value.path())
        manifest = json.loads(archive.read("grad-cam/manifest.json"))
        values = np.load(io.BytesIO(archive.read("grad-cam/values.npy")))
        picture = Image.open(io.BytesIO(archive.read("grad-cam/overlay.png")))
    assert picture.size == (320, 240)
    assert list(values.shape) == manifest["map"]["shape"]
    assert float(values.max()) == pytest.approx(manifest["map"]["maximum"])
    assert manifest["command"].startswith("whylens explain")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("local-dir:/etc", "never loaded"),
        ("hf-hub:someone/something", "never loaded"),
        ("../../etc/passwd", "never loaded"),
        ("resnet51", "Did you mean"),
        ("vit_giant_patch14_reg4_dinov2", "million parameters"),
        ("resnet50.a1_in1k", "local checkpoint"),
    ],
)
def test_a_wrong_model_name_is_answered_in_words(browser, address, typed, said):
    with visit(browser, address) as page:
        page.locator("#model input").fill(typed)
        page.locator("#model input").press("Enter")
        expect(page.get_by_test_id("toast-body")).to_contain_text(said, timeout=PATIENCE)
        expect(page.locator("#model-card")).to_contain_text("a-toy")


def test_a_file_that_is_no_photo_is_answered_in_words(browser, address, tmp_path):
    path = tmp_path / "fake.png"
    path.write_text("this is text")
    with visit(browser, address) as page:
        page.set_input_files("#photo input[type=file]", str(path))
        expect(page.get_by_test_id("toast-body").first).to_contain_text("not a readable PNG")


def test_no_photo_is_answered_in_words(browser, address):
    with visit(browser, f"{address}/?method=grad-cam") as page:
        page.click("#grad-cam-run")
        expect(page.get_by_test_id("toast-body")).to_contain_text("no photo yet")
        expect(status(page, "grad-cam")).to_have_value(re.compile("did not work"))


def test_an_example_can_be_explained_by_keyboard_alone(browser, address):
    with visit(browser, f"{address}/?method=grad-cam") as page:
        page.locator("button.gallery-item").first.focus()
        page.keyboard.press("Enter")
        expect(status(page, "compare")).to_have_value(DONE, timeout=PATIENCE)
        page.locator("#grad-cam-run").focus()
        page.keyboard.press("Enter")
        expect(status(page, "grad-cam")).to_have_value(DONE, timeout=PATIENCE)


def test_opacity_and_colours_redraw_without_computing(browser, address, photo):
    with visit(browser, f"{address}/?method=grad-cam") as page:
        give(page, photo)
        page.click("#grad-cam-run")
        expect(status(page, "grad-cam")).to_have_value(DONE)
        picture = page.locator("#grad-cam-picture img").last
        before = picture.get_attribute("src")
        page.click("#colours input")
        page.get_by_role("option", name="viridis").click()
        expect(picture).not_to_have_attribute("src", before)


def test_a_phone_shows_everything_without_scrolling_sideways(browser, address, photo):
    with visit(browser, address, width=390, height=844) as page:
        expect(page.locator("#photo")).to_be_in_viewport()
        give(page, photo)
        for title in ("Compare", "Grad-CAM", "Occlusion", "Plugins"):
            open_tab(page, title)
            wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{title} is {wide} pixels too wide"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_enough_contrast(browser, address, photo, theme):
    from axe_playwright_python.sync_playwright import Axe

    options = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
    with visit(browser, f"{address}/?__theme={theme}") as page:
        give(page, photo)
        for title in ("Compare", "Grad-CAM", "Occlusion", "Plugins"):
            open_tab(page, title)
            found = Axe().run(page, options=options).response["violations"]
            nodes = [node["html"] for violation in found for node in violation["nodes"]]
            assert nodes == [], f"{title}, {theme}"


def test_labels_of_a_model_are_text_and_nothing_else(browser, address, photo):
    with visit(browser, f"{address}/?model=hostile&method=grad-cam&target=1") as page:
        give(page, photo)
        page.click("#grad-cam-run")
        expect(status(page, "grad-cam")).to_have_value(DONE)
        expect(page.locator("#predictions")).to_contain_text("<script>")
        open_tab(page, "Compare")
        page.locator("#target input").click()
        assert page.evaluate("window.harmed") is None


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
        expect(status(page, "grad-cam")).to_have_value(re.compile("^Done.*bull mastiff"))
        open_tab(page, "CAM")
        expect(page.locator("#cam-notice")).to_contain_text("Not on this model")
        expect(page.locator("#cam-run")).to_be_disabled()
