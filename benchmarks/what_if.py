"""How soon What if answers, in a browser: from a click to the bars of the changed photo.

`python -m benchmarks.what_if` marks the strongest 10 % of a map of the page's first photo, and then
puts one fill after the other there. Needs a Chromium: the CHROMIUM variable, or one on the path.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys

from benchmarks.page_server import demo
from benchmarks.table import markdown, this_machine

ROUNDS = 5
# Milliseconds at a click, and at the first change of the bars since.
WATCH_JS = """() => {
  addEventListener('click', event => {
    if (event.target.closest('button, input')) window.whatIf = {clicked: performance.now()};
  }, true);
  new MutationObserver(changes => {
    const bars = document.querySelector('#whatif-bars');
    if (window.whatIf && changes.some(({target}) => bars.contains(target)))
      window.whatIf.answered ??= performance.now();
  }).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""
MARK = "Mark by the map"
FILLS = 3  # those that need no other photo


def main() -> None:
    """Print the seconds from a click to the bars, by what was clicked."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    seconds: dict[str, list[float]] = {}
    with demo() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(server.page.address)
        page.wait_for_selector("#answer-picture img", timeout=120_000)
        page.get_by_role("tab", name="What if", exact=True).click()
        page.wait_for_function("document.querySelector('#whatif-map input')?.value")
        page.evaluate(WATCH_JS)
        fills = page.locator("#whatif-fill label")
        names = [name.strip() for name in fills.all_inner_texts()]
        # The fill that is chosen at first comes last: a click on what is chosen asks nothing.
        order = [*names[1:FILLS], names[0]]
        for _ in range(1 + ROUNDS):  # the first builds the network's fast copy
            for name in (MARK, *order):
                page.evaluate("window.whatIf = null")
                if name == MARK:
                    page.click("#whatif-mark")
                else:
                    fills.nth(names.index(name)).click()
                page.wait_for_function("window.whatIf?.answered")
                took = "window.whatIf.answered - window.whatIf.clicked"
                seconds.setdefault(name, []).append(page.evaluate(took) / 1000)
                # Whether the maps foresaw it is told later, and computed before the next click.
                page.wait_for_function(
                    "document.querySelector('#whatif-bars').textContent.includes('foresee')"
                )
        browser.close()
    rows = [
        (name, f"{statistics.median(took[1:]):.2f} s", f"{max(took[1:]):.2f} s")
        for name, took in seconds.items()
    ]
    sys.stdout.write(f"{this_machine()}\n\n")
    sys.stdout.write(markdown(("Click", "Bars after", "At most"), rows) + "\n")


if __name__ == "__main__":
    main()
