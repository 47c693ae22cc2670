"""The verdict on the page: under the answer and in Compare."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from tests.support.browser import PATIENCE, await_status, give, serve, visit
from whylens.core.engine import Engine
from whylens.core.outputs.ranking import WORDS

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address():
    """A page that tests every map; its networks are the shipped ones."""
    from whylens.ui.page.layout import build_page

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYLENS_CHECKPOINTS", str(ROOT / "checkpoints"))
        page = build_page(Engine())
        yield serve(page)
        page.close()


@pytest.mark.slow  # what is judged and how it is told is asked of the handlers in test_judging.py
@pytest.mark.parametrize("compares", [False, True], ids=["answer", "compare"])
def test_every_map_is_judged_and_the_best_come_first(browser, address, compares):
    # Opened with another picture than the one that is given.
    with visit(browser, f"{address}/?model=painted-cats-breed&example=emberface") as page:
        give(page, ROOT / "examples" / "painted" / "bluebell.jpg")
        verdict = page.locator("#answer-verdict .wl-judged")
        expect(verdict.locator("b")).to_have_text("Holds.", timeout=PATIENCE)
        verdict.locator("summary").click()
        expect(verdict.locator("svg polyline")).to_have_count(2)
        # Colours redraw map and legend; what was found out stays.
        page.click("#look button")
        page.get_by_label("Viridis").check()
        expect(verdict.locator("b")).to_have_text("Holds.")
        if not compares:
            return
        page.click("#compare-run")
        await_status(page, "compare", "^Done: .*Judged in ")
        words = page.locator("#compare-grid .wl-word").all_inner_texts()
        assert len(words) >= 2
        assert words == sorted(words, key=WORDS.index)
        expect(page.locator("#compare-legend th").nth(1)).to_have_text("Verdict")
        page.get_by_text("How far the maps agree").click()
        expect(page.locator("#compare-legend details td").first).to_have_text("1.00")
