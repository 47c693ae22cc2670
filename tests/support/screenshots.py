"""Pictures of the page as a visitor sees it: `python -m tests.support.screenshots FOLDER [MODEL]`.

The README's first picture is made by this with the real SqueezeNet:
`WHYLENS_CHECKPOINTS=... python -m tests.support.screenshots out squeezenet`, then `out/page.png`
is copied. The others are of the shipped checkpoint: `out --shipped` writes
`twin.png`, `prototypes.png` and `mistakes.png`.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.support.browser import PATIENCE, chromium, open_tab, serve, status, visit
from whylens.core.engine import Engine

READY = "[...document.querySelectorAll('#{} img')].every(i => i.complete)"
ROOT = Path(__file__).resolve().parents[2]


def take(folder: Path, model: str) -> None:
    """Write page.png, method.png, dark.png, phone.png and more into `folder`."""
    from playwright.sync_api import expect

    from whylens.ui.page.layout import build_page

    folder.mkdir(parents=True, exist_ok=True)
    photo = str(ROOT / "examples" / "photos" / "cat.jpg")
    done = re.compile("^Done")
    address = serve(build_page(Engine()))
    query = f"{address}/?model={model}"

    def give(page) -> None:
        page.set_input_files("#photo input[type=file]", photo)
        expect(status(page, "compare")).to_have_value(done, timeout=PATIENCE)

    with chromium() as browser:
        with visit(browser, query, width=1360, height=1000) as page:
            page.screenshot(path=folder / "empty.png")
            give(page)
            for title in ("Occlusion",):
                page.locator("#compare-methods input").fill(title)
                page.get_by_role("option", name=title, exact=True).click()
            page.click("#compare-run")
            all_done = re.compile("^Done: [34] maps")
            expect(status(page, "compare")).to_have_value(all_done, timeout=PATIENCE)
            page.wait_for_function(READY.format("compare-grid"))
            page.screenshot(path=folder / "page.png", full_page=True)
            for title, key in (("Grad-CAM", "grad-cam"), ("Occlusion", "occlusion")):
                open_tab(page, title)
                page.click(f"#{key}-run")
                expect(status(page, key)).to_have_value(done, timeout=PATIENCE)
                page.wait_for_function(READY.format(f"{key}-picture"))
                page.screenshot(path=folder / f"{key}.png", full_page=True)
            open_tab(page, "Plugins")
            page.screenshot(path=folder / "plugins.png")
        with visit(browser, f"{query}&__theme=dark") as page:
            give(page)
            page.screenshot(path=folder / "dark.png", full_page=True)
        with visit(browser, query, width=390, height=844) as page:
            give(page)
            page.screenshot(path=folder / "phone.png", full_page=True)


def take_shipped(folder: Path) -> None:
    """Write twin.png, prototypes.png and mistakes.png of the shipped checkpoint into `folder`."""
    from playwright.sync_api import expect

    from whylens.ui.page.layout import build_page

    folder.mkdir(parents=True, exist_ok=True)
    done = re.compile("^Done")
    address = serve(build_page(Engine()))
    photo = str(ROOT / "examples" / "painted" / "emberface.jpg")
    with chromium() as browser:
        for key, name in (("twin", "twin"), ("protopnet", "prototypes")):
            with visit(browser, f"{address}/?method={key}", width=1360, height=1000) as page:
                page.set_input_files("#photo input[type=file]", photo)
                expect(status(page, "compare")).to_have_value(done, timeout=PATIENCE)
                page.click(f"#{key}-run")
                expect(status(page, key)).to_have_value(done, timeout=PATIENCE)
                page.screenshot(path=folder / f"{name}.png", full_page=True)
        with visit(browser, f"{address}/?method=report", width=1360, height=1000) as page:
            expect(page.locator("#report-matrix button").first).to_be_visible(timeout=PATIENCE)
            wrong = page.locator("#report-matrix button.wl-wrong")
            counts = [int(text) for text in wrong.all_inner_texts()]
            wrong.nth(counts.index(max(counts))).click()
            pictures = page.locator("#report-mistakes button img")
            pictures.first.click(timeout=PATIENCE)
            expect(status(page, "compare")).to_have_value(done, timeout=PATIENCE)
            page.screenshot(path=folder / "mistakes.png", full_page=True)


if __name__ == "__main__":
    if "--shipped" in sys.argv:
        take_shipped(Path(sys.argv[1]))
        os._exit(0)
    take(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "untrained:resnet18")
    os._exit(0)  # the server's threads need not be waited for
