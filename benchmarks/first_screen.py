"""How soon a page that is opened and not touched has a map in sight.

Needs a Chromium: the CHROMIUM variable, or one on the path.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys

from benchmarks.page_server import demo
from benchmarks.table import markdown

SIZES = {"a desk": (1440, 900), "a phone": (390, 844)}
VISITS = 5
SHARE = 0.6  # of the map's height
# Milliseconds since the visit began until the network's card is there, and until a map is in sight.
WATCH_JS = """addEventListener('DOMContentLoaded', () => {
  const seen = window.firstScreen = {};
  const look = () => {
    if (/classes/.test(document.querySelector('#model-card')?.textContent))
      seen.card ??= performance.now();
    const image = document.querySelector('#answer-picture img');
    const box = document.querySelector('#answer-picture')?.getBoundingClientRect();
    const share = box && (Math.min(innerHeight, box.bottom) - Math.max(0, box.top)) / box.height;
    if (image?.complete && image.naturalWidth && share >= SHARE) seen.map ??= performance.now();
    if (!seen.map) requestAnimationFrame(look);
  };
  look();
})""".replace("SHARE", f"{SHARE}")


def main() -> None:
    """Print the seconds from opening to the network's card and to a map, on a desk and a phone."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    rows = []
    with demo() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, (width, height) in SIZES.items():
            context = browser.new_context(viewport={"width": width, "height": height})
            records = []
            for _ in range(1 + VISITS):  # the first has no script of the page in its cache
                page = context.new_page()
                page.add_init_script(WATCH_JS)
                page.goto(server.page.address)
                page.wait_for_function("window.firstScreen?.map", timeout=120_000)
                records.append(page.evaluate("[firstScreen.card, firstScreen.map]"))
                page.close()
            cards, maps = zip(*records[1:], strict=True)
            gaps = [(b - a) / 1000 for a, b in zip(cards, maps, strict=True)]
            card, gap = statistics.median(cards) / 1000, statistics.median(gaps)
            rows.append((name, f"{card:.1f} s", f"{gap:.2f} s", f"{max(gaps):.2f} s"))
        browser.close()
    heads = ("Opened on", "Network's card after", "Map in sight after the card", "At most")
    sys.stdout.write(markdown(heads, rows) + "\n")


if __name__ == "__main__":
    main()
