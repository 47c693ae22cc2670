"""What the browser tests share: a running page, a real Chromium, and what must never happen."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from whylens.core.registry import load_registry
from whylens.ui.page.html import slug

SECONDS = 1000
PATIENCE = 90 * SECONDS


def chromium_path() -> str | None:
    """Return the installed Chromium, or None."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def toy_checkpoint(folder: Path, *, labels: tuple[str, ...] | None = None, side: int = 64) -> Path:
    """Write a small network with random weights, by default of 1,000 classes; return its folder."""
    from whylens.core.models.checkpoints import write_checkpoint
    from whylens.core.models.load import build
    from whylens.core.models.random_weights import randomize_weights

    module = randomize_weights(
        build("test_resnet", classes=len(labels) if labels else 1000), seed=5
    )
    write_checkpoint(
        folder,
        module.state_dict(),
        {
            "architecture": "test_resnet",
            "input_size": (side, side),
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "crop": 0.95,
            "interpolation": "bicubic",
            "labels": labels or "imagenet-1k",
            "licence": "none: random numbers",
            "trained": False,
        },
    )
    return folder


def serve(page, **options) -> str:
    """Serve a page of Blocks on a free loopback port and return its address."""
    import socket

    from whylens.ui.page.server import launch

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return launch(page, host="127.0.0.1", port=port, block=False, **options).rstrip("/")


@contextlib.contextmanager
def chromium() -> Iterator[object]:
    """Yield a headless Chromium; skip where there is none."""
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium here: install it, or set CHROMIUM to its path")
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    sync.expect.set_options(timeout=30 * SECONDS)  # as clicks have: a busy machine is no failure
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                # Nothing but this machine has a name: asking for it fails, and is seen by `Watch`.
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        # One context for all visits, and no route: either would keep the page's scripts out of the
        # cache, and reading them anew takes most of a visit's time.
        context = browser.new_context(reduced_motion="reduce", accept_downloads=True)
        context.set_default_timeout(30 * SECONDS)
        yield context
        browser.close()


class Watch:
    """Collects what must not happen on a page: errors, refusals, requests to other hosts."""

    def __init__(self, page) -> None:
        self.seen: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.seen.append(f"page error: {error}"))
        page.on("response", self._response)
        page.on("request", self._request)

    def _console(self, message) -> None:
        if message.type == "error":
            self.seen.append(f"console: {message.text}")

    def _response(self, response) -> None:
        if response.status >= 400:
            self.seen.append(f"HTTP {response.status}: {response.url}")

    def _request(self, request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.seen.append(f"external request: {request.url}")


@contextlib.contextmanager
def visit(
    browser, address: str, *, width: int = 1360, height: int = 900, watched: bool = True
) -> Iterator[object]:
    """Yield an open, loaded page; on leaving, nothing forbidden may have happened.

    Args:
        watched: False for a visit that leaves the page and comes back: streams break on the way.
    """
    page = browser.new_page()
    page.set_viewport_size({"width": width, "height": height})
    watch = Watch(page)
    try:
        page.goto(address)
        is_loaded = "document.querySelector('#model-card')?.textContent.includes('classes')"
        page.wait_for_function(is_loaded, timeout=PATIENCE, polling=100)
        yield page
        assert not (watched and watch.seen), watch.seen
    finally:
        page.close()
        browser.clear_cookies()


# Returns the colour of the page's text when what fades has faded.
TEXT_COLOUR_JS = """async () => {
  const fades = document.getAnimations().filter(a => a instanceof CSSTransition);
  await Promise.allSettled(fades.map(a => a.finished));
  return getComputedStyle(document.querySelector('.gradio-container')).color;
}"""
IS_DARK_JS = "dark => document.body.classList.contains('dark') === dark"


def check_barriers(page, title: str, place: str | None = "#tabs") -> None:
    """Fail where axe finds a critical or serious barrier, in light or in dark.

    Args:
        place: What is looked at; None for all of the page.
    """
    from axe_playwright_python.sync_playwright import Axe

    colours = set()
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.wait_for_function(IS_DARK_JS, arg=theme == "dark")
        colours.add(page.evaluate(TEXT_COLOUR_JS))
        # But for colours a page is the same in the dark.
        rules = {"runOnly": ["color-contrast"]} if theme == "dark" else {}
        nodes = [
            f"{node['html']} {node['failureSummary']}"
            for violation in Axe().run(page, context=place, options=rules).response["violations"]
            if violation["impact"] in ("critical", "serious")
            for node in violation["nodes"]
        ]
        assert nodes == [], f"{title}, {theme}: {nodes}"
    assert len(colours) == 2


def status(page, key: str):
    """Return the status field of a tab."""
    return page.locator(f"#{key}-status textarea")


def await_status(page, key: str, pattern: str) -> None:
    """Wait until the status field of a tab matches a pattern that Python and JavaScript both read.

    Playwright's own expectations look again after up to a second.
    """
    from playwright.sync_api import TimeoutError as TooLate
    from playwright.sync_api import expect

    script = "([id, p]) => new RegExp(p).test(document.querySelector(id)?.value ?? '')"
    with contextlib.suppress(TooLate):  # the expectation says what the field holds instead
        arguments = [f"#{key}-status textarea", pattern]
        page.wait_for_function(script, arg=arguments, timeout=PATIENCE, polling=100)
    expect(status(page, key)).to_have_value(re.compile(pattern))


NAMES = {e.title: name for name, e in load_registry().explainers.items()}


INSIDE = {"Many photos": "Your pictures", "Train on a folder": "Your pictures"}


def open_tab(page, title: str) -> None:
    """Open a tab by its title, one inside another as well, or a method's panel by its card."""
    if title in NAMES:
        page.get_by_role("tab", name="All methods", exact=True).click()
        page.click(f"#card-{slug(NAMES[title])}")
        page.locator(f"#{slug(NAMES[title])}-run").wait_for()
        return
    if title == "Plugins":
        page.get_by_role("tab", name="All methods", exact=True).click()
        if not page.locator("#plugins").is_visible():
            page.click("#plugins-fold button")
        return
    if title in INSIDE:
        page.get_by_role("tab", name=INSIDE[title], exact=True).click()
    page.get_by_role("tab", name=title, exact=True).click()


DONE = "^Done"
NEXT_FRAME_JS = """() => new Promise(
  done => requestAnimationFrame(() => requestAnimationFrame(done)))"""
# Whether the question is another one, and both the card and Compare answer it.
ANSWERED_JS = """before => {
  const of = box => document.querySelector(`${box} [data-question]`)?.dataset.question;
  const now = of('#question-id');
  return now !== before && of('#answer-legend') === now && of('#compare-legend') === now;
}"""


def give(page, path) -> None:
    """Upload a photo and wait until the quick methods have explained it, and not an example."""
    await_status(page, "compare", f"{DONE}|reads signals|take their time")
    before = page.locator("#question-id span").get_attribute("data-question")
    page.set_input_files("#photo input[type=file]", str(path))
    page.wait_for_function(ANSWERED_JS, arg=before, timeout=PATIENCE)
