"""One Chromium and a page or two for all tests of this folder, which one process runs.

They end with the folder: what a running page makes, Gradio adds to one that is built later.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, shared_data
from tests.support.browser import chromium, serve, toy_checkpoint
from tests.support.pictures import train_mislabelled
from whylens.core.engine import Engine
from whylens.core.registry import load_registry

# A browser's work grows with the square of the methods on the page: most tests do with these.
FEW = {
    *("cam", "grad-cam", "grad-cam++", "hires-cam", "integrated-gradients", "saliency"),
    *("occlusion", "rise"),
}  # fmt: skip
PAYLOAD = "<img src=x onerror='window.harmed=1'><script>window.harmed=1</script>"
HERE = Path(__file__).parent
OPEN = pytest.StashKey[ExitStack]()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Close page and Chromium after the last test of this folder."""
    if nextitem is None or HERE not in nextitem.path.parents:
        stack = item.config.stash.get(OPEN, None)
        if stack is not None:
            stack.close()


@pytest.fixture(scope="session")
def exit_stack(request) -> ExitStack:
    """What is closed after the last test of this folder."""
    return request.config.stash.setdefault(OPEN, ExitStack())


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory, request, exit_stack):
    """Toy networks, one that errs, one with hostile labels, and the real SqueezeNet."""
    place = tmp_path_factory.mktemp("browser-checkpoints")
    toy_checkpoint(place / "a-toy")
    train_mislabelled(place / "mistaken")
    toy_checkpoint(place / "hostile", labels=(PAYLOAD, f"2{PAYLOAD}", "=HYPERLINK(1)"))
    folders = [str(place), str(ROOT / "checkpoints")]
    if shared_data() is not None:
        folders.append(str(request.getfixturevalue("squeezenet_checkpoints")))
    patch = exit_stack.enter_context(pytest.MonkeyPatch.context())
    patch.setenv("WHYLENS_CHECKPOINTS", ":".join(folders))


@pytest.fixture(scope="session")
def addresses(request, checkpoints, exit_stack) -> dict[str, str]:
    """The pages that tests of this run ask for, all built before one of them runs."""
    explainers = load_registry().explainers
    fitted = {name for name, explainer in explainers.items() if explainer.artifact_kind}
    by_family = {e.family: name for name, e in explainers.items() if name not in fitted}
    wide = {*fitted, *by_family.values(), "grad-cam", "score-cam", "legrad"}
    requested = {name for item in request.session.items for name in item.fixturenames}
    pages = {"address": FEW, "wide_address": wide}
    return {name: _served(exit_stack, pages[name]) for name in sorted(requested & pages.keys())}


@pytest.fixture(scope="session")
def address(addresses):
    """The page of a few methods that most of these tests visit."""
    return addresses["address"]


@pytest.fixture(scope="session")
def wide_address(addresses):
    """A page of methods of every family, and of all that are fitted."""
    return addresses["wide_address"]


def _served(exit_stack: ExitStack, names: Collection[str]) -> str:
    from whylens.ui.page.layout import build_page

    registry = load_registry()
    entries = {name: entry for name, entry in registry.entries.items() if name in names}
    # Testing every map that they make would cost these tests more than all else they do.
    page = build_page(Engine(replace(registry, entries=entries)), judges=False)
    exit_stack.callback(page.close)
    return serve(page)


@pytest.fixture(scope="session")
def browser(exit_stack):
    """A Chromium."""
    return exit_stack.enter_context(chromium())


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    """A made-up photo with something to see, wider than high."""
    y, x = np.mgrid[:240, :320]
    spot = np.exp(-((x - 220) ** 2 + (y - 90) ** 2) / 1800)
    pixels = np.stack([255 * spot, 90 + 60 * np.sin(x / 9), 90 + 60 * np.cos(y / 7)], -1)
    path = tmp_path_factory.mktemp("photo") / "spot.png"
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path
