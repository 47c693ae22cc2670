"""The pictures of README and docs that show the page: made by it, never by hand.

`python -m tests.support.screenshots [NAME ...]` writes them into docs/, all or those named, and
the README's strip and row of maps; tests/docs/test_pictures.py compares. Look at each before it is
committed.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from PIL import Image

import whylens
from tests.support.browser import DONE, PATIENCE, await_status, chromium, open_tab, serve, visit
from tests.support.doc_blocks import EXAMPLE, run_first_block
from whylens.core.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PHOTOS = ROOT / "examples" / "photos"
# What is out of sight may be fetched once it is seen.
READY_JS = """() => [...document.images].every(image => image.complete
    || image.getBoundingClientRect().bottom < 0 || image.getBoundingClientRect().top > innerHeight)
  && document.getAnimations().every(a => !(a instanceof CSSTransition))"""


@dataclass(frozen=True)
class Screenshot:
    """One picture of the page.

    Attributes:
        name: Of the file in docs/.
        query: Of the page's address: network, example or tab.
        prepare: Clicks until there is what the picture shows.
        top: Selector of what stands at the upper edge; "" for the top of the page.
        size: Width and height of the window in pixels.
    """

    name: str
    query: str
    prepare: Callable[[Any], None]
    top: str = ""
    size: tuple[int, int] = (1440, 900)


def _await_answer(page: Any) -> None:
    page.wait_for_function(
        "() => /goes from/.test(document.querySelector('#answer-truth')?.textContent ?? '')",
        timeout=PATIENCE,
    )
    await_status(page, "compare", DONE)
    page.locator("#answer-verdict .wl-judged b").first.wait_for(timeout=PATIENCE)


def _compare(page: Any) -> None:
    _await_answer(page)
    page.locator("#compare-networks input").fill("photos-10")
    page.locator("#compare-networks input").press("Enter")
    page.keyboard.press("Escape")
    before = page.locator("#compare-grid img").count()
    page.click("#compare-run")
    page.wait_for_function(
        "count => document.querySelectorAll('#compare-grid img').length >= count",
        arg=2 * before,
        timeout=PATIENCE,
    )
    await_status(page, "compare", "Judged in ")


def _many_photos(page: Any) -> None:
    _await_answer(page)
    open_tab(page, "Many photos")
    page.set_input_files("#photos-files input[type=file]", sorted(PHOTOS.glob("*.jpg")))
    page.locator("#photos-files").get_by_text("squirrel").first.wait_for()
    page.click("#photos-run")
    await_status(page, "photos", DONE)


def _mistakes(page: Any) -> None:
    page.locator("#report-matrix button").first.wait_for(timeout=PATIENCE)
    wrong = page.locator("#report-matrix button.wl-wrong")
    counts = [int(text) for text in wrong.all_inner_texts()]
    wrong.nth(counts.index(max(counts))).click()
    page.locator("#report-mistakes button img").first.click(timeout=PATIENCE)
    await_status(page, "report", "is the photo")
    _await_answer(page)


def _method(name: str) -> Callable[[Any], None]:
    def prepare(page: Any) -> None:  # what an address opens is asked at once, if quick
        _await_answer(page)
        if not page.locator(f"#{name}-run.wl-quick").count():
            page.click(f"#{name}-run")
        await_status(page, name, DONE)

    return prepare


BREED = "model=painted-cats-breed"
SCREENSHOTS = (
    Screenshot("page.jpg", "example=squirrel", _await_answer),
    Screenshot("phone.jpg", "example=squirrel", _await_answer, size=(390, 844)),
    Screenshot("compare.jpg", "example=cat", _compare, "#tabs", (1200, 1100)),
    Screenshot("many-photos.jpg", "example=squirrel", _many_photos, "#tabs", (1200, 1000)),
    Screenshot("mistakes.jpg", f"{BREED}&method=report", _mistakes, "#report-matrix", (1100, 960)),
    Screenshot(
        "twin.jpg", f"{BREED}&example=emberface&method=twin", _method("twin"), "#panel-twin",
        (1100, 1000),
    ),
    Screenshot(
        "prototypes.jpg", f"{BREED}&example=emberface&method=protopnet", _method("protopnet"),
        "#panel-protopnet", (1100, 1000),
    ),
)  # fmt: skip


STRIP, ROW = "strip.jpg", "row.jpg"
STRIP_METHODS = ("grad-cam", "sise", "occlusion", "lime", "smoothgrad", "deeplift")


def write_row(path: Path) -> None:
    """Write what the README's first block draws of all that it compares."""
    with tempfile.TemporaryDirectory() as place:
        run_first_block(Path(place), ROOT / EXAMPLE)
        with Image.open(Path(place) / "row.png") as row:
            row.convert("RGB").save(path, "JPEG", quality=90, optimize=True)


def write_strip(path: Path) -> None:
    """Write six maps of one photo, each with its method and the class's score."""
    row = whylens.compare(
        "imagenet-lite0",
        PHOTOS / "squirrel.jpg",
        STRIP_METHODS,
        framing="whole",
        params={"lime": {"samples": 400}, "sise": {"masks": 32}, "smoothgrad": {"samples": 16}},
    )
    sheet = path.with_suffix(".png")
    row.figure(sheet, width=174, dpi=150, columns=len(STRIP_METHODS), original=False)
    with Image.open(sheet) as figure:
        figure.convert("RGB").save(path, "JPEG", quality=90, optimize=True)
    sheet.unlink()
    sheet.with_suffix(".bib").unlink()


def take(screenshots: Iterable[Screenshot] = SCREENSHOTS) -> Iterator[tuple[Screenshot, bytes]]:
    """Yield each picture as JPEG, from one page that is started for them."""
    from whylens.ui.page.layout import build_page

    blocks = build_page(Engine())
    address = serve(blocks)
    with chromium() as browser:
        for shot in screenshots:
            width, height = shot.size
            with visit(browser, f"{address}/?{shot.query}", width=width, height=height) as page:
                shot.prepare(page)
                page.evaluate(
                    "top => top ? document.querySelector(top).scrollIntoView() : scrollTo(0, 0)",
                    shot.top,
                )
                page.mouse.move(0, 0)
                page.wait_for_function(READY_JS)
                picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=85, optimize=True)
            yield shot, file.getvalue()
    blocks.close()


if __name__ == "__main__":
    chosen = [shot for shot in SCREENSHOTS if not sys.argv[1:] or shot.name in sys.argv[1:]]
    for shot, content in take(chosen):
        (DOCS / shot.name).write_bytes(content)
        sys.stdout.write(f"{shot.name}: {len(content)} bytes\n")
    for name, write in ((STRIP, write_strip), (ROW, write_row)):
        if not sys.argv[1:] or name in sys.argv[1:]:
            write(DOCS / name)
    os._exit(0)  # the server's threads need not be waited for
