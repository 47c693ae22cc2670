"""The pictures of README and docs: each is made by the program, and shows what it makes today."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from tests.support.doc_blocks import PAGES
from tests.support.screenshots import DOCS, ROW, SCREENSHOTS, STRIP, take, write_row, write_strip

OTHERS = {"figure.png"}  # test_docs.py makes it from the commands of the page that shows it
BLOCK = 16
MOST_BYTES = 260_000


@pytest.fixture
def shipped(monkeypatch):
    """Shipped networks in reach, and no others."""
    monkeypatch.setattr("whylens.core.models.checkpoints.SHIPPED", DOCS.parent / "checkpoints")
    monkeypatch.delenv("WHYLENS_CHECKPOINTS", raising=False)


def difference(picture: Image.Image, committed_picture: Image.Image) -> float:
    """Return the mean difference of 0 to 255 in blocks, in which letters and their fonts blur."""
    pair = [
        np.asarray(
            image.convert("RGB").resize(
                (image.width // BLOCK, image.height // BLOCK), Image.Resampling.BOX
            ),
            float,
        )
        for image in (picture, committed_picture)
    ]
    return float(np.abs(pair[0] - pair[1]).mean())


def assert_shows(picture: Image.Image, name: str) -> None:
    """Fail where a picture in docs/ is of another size or clearly of something else."""
    remedy = f"Run `python -m tests.support.screenshots {name}`, and look at docs/{name}."
    with Image.open(DOCS / name) as committed_picture:
        assert picture.size == committed_picture.size, f"docs/{name} is of another size. {remedy}"
        unlike = difference(picture, committed_picture)
    assert unlike < 4, f"docs/{name} is out of date: {unlike:.1f} of 255 off. {remedy}"


def test_every_picture_that_is_shown_is_there_and_made_by_the_program():
    page_lines = {
        target.rsplit("/", 1)[-1]: page.name
        for page in PAGES
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
        if not target.startswith("benchmark-")  # of test_benchmark_page.py
    }
    names = {shot.name for shot in SCREENSHOTS} | {STRIP, ROW} | OTHERS
    assert set(page_lines) == names
    files = {path.name for path in DOCS.iterdir() if path.suffix in (".png", ".jpg", ".gif")}
    assert files == names
    assert all((DOCS / name).stat().st_size < MOST_BYTES for name in names)


def test_what_a_picture_shows_is_told_from_another(rng):
    with Image.open(DOCS / "page.jpg") as page:
        noisy_page = np.asarray(page.convert("RGB"), float) + rng.normal(0, 8, (page.height, 1, 1))
        assert difference(Image.fromarray(noisy_page.clip(0, 255).astype(np.uint8)), page) < 4
        changed_page = page.copy()
        with Image.open(DOCS / "twin.jpg") as twin:
            changed_page.paste(twin.resize((760, 700)), (110, 140))
        assert difference(changed_page, page) > 4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "write"), [(STRIP, write_strip), (ROW, write_row)])
def test_maps_in_the_readme_are_what_the_program_makes(shipped, tmp_path, name, write):
    write(tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert_shows(picture, name)


@pytest.mark.slow
@pytest.mark.browser
def test_the_pictures_of_the_page_show_it_as_it_is(shipped):
    for shot, content in take():
        assert_shows(Image.open(io.BytesIO(content)), shot.name)
