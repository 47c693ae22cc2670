"""Examples as pictures and as HTML: marks where they belong, nothing foreign unescaped."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from whylens.core.errors import BadInput
from whylens.core.outputs.example_images import draw_marks, likeness, sheet, tile
from whylens.core.results import Comparison, Example, Examples, NumberedBox, Prototypes
from whylens.ui.page.html import tiles_html

GREY = np.full((60, 90, 3), 128, np.uint8)
EVIL = "<script>alert(1)</script>'\""


def example(value=1.0, **kwargs) -> Example:
    return Example(GREY, kwargs.pop("caption", "a cat"), value, **kwargs)


def changed_places(picture: Image.Image) -> np.ndarray:
    return np.argwhere((np.asarray(picture) != 128).any(2))


def test_a_mark_is_drawn_at_its_box_and_nowhere_else():
    places = changed_places(
        draw_marks(Image.fromarray(GREY), (NumberedBox(1, 0.2, 0.25, 0.6, 0.75),))
    )
    (top, left), (bottom, right) = places.min(0), places.max(0)
    assert abs(top - 0.25 * 59) <= 2
    assert abs(bottom - 0.75 * 59) <= 2
    assert abs(left - 0.2 * 89) <= 2
    assert abs(right - 0.6 * 89) <= 2


def test_one_number_has_one_colour_and_two_numbers_have_two():
    def ink(number):
        picture = np.asarray(
            draw_marks(Image.fromarray(GREY), (NumberedBox(number, 0.1, 0.1, 0.9, 0.9),))
        )
        return tuple(picture[round(0.5 * 59), round(0.1 * 89)])

    assert ink(1) == ink(1) != ink(2)


@pytest.mark.parametrize(
    "box", [(0.5, 0, 0.4, 1), (-0.1, 0, 1, 1), (0, 0.2, 1, 0.2), (0, 0, 1.1, 1)]
)
def test_marks_outside_the_picture_are_refused(box):
    with pytest.raises(BadInput, match="within the picture"):
        NumberedBox(1, *box)


def test_likeness_colours_where_it_is_high_and_leaves_the_rest():
    similarity = np.full((2, 3), -0.5, np.float32)
    similarity[0, 2] = 1
    pixels = np.asarray(likeness(Image.fromarray(GREY), similarity, "heat"), int)
    assert np.abs(pixels[5, 85] - 128).max() > 40
    assert (pixels[50, 10] == 128).all()


def test_a_tile_shows_the_view_at_the_left_of_the_example():
    comparison = Comparison(np.zeros((30, 30, 3), np.uint8))
    picture = np.asarray(tile(example(comparison=comparison), side=60))
    assert picture.shape[0] == 60
    assert (picture[30, 5] == 0).all()
    assert (picture[30, -5] == 128).all()
    assert tile(example(), side=60).size == (90, 60)


@pytest.mark.parametrize("count", [0, 1, 5, 9])
def test_a_sheet_holds_the_first_examples(count):
    items = tuple(example() for _ in range(count))
    picture = sheet(Examples(items, "cosine"), side=40)
    assert picture.width > 0
    if count:
        grey = (np.asarray(picture) == 128).all(2).sum()
        assert grey == pytest.approx(min(count, 6) * 40 * 60, rel=0.02)


def test_captions_keys_groups_and_notes_are_escaped():
    items = (example(caption=EVIL, key=EVIL, group=EVIL),)
    for result in (
        Examples(items, EVIL),
        Prototypes(items, EVIL, predicted=EVIL, score=1.0),
        Examples((), EVIL, note=EVIL),
    ):
        assert "<script" not in tiles_html(result, colormap="heat")


def test_groups_come_as_headings_in_order_and_prototypes_with_their_sum():
    items = (example(2.0, group="for"), example(1.0, group="for"), example(-0.5, group="against"))
    html = tiles_html(
        Prototypes(items, "points towards cat", "cat", 2.75, rest=0.25), colormap="heat"
    )
    assert re.findall("<h3>(.*?)</h3>", html) == ["for", "against"]
    assert "+2.00 +1.00 -0.50" in html
    assert "+0.25" in html
    assert "<b>2.75</b>" in html
    assert re.findall(r"width:(\d+)%", html) == ["100", "50", "25"]
    assert html.count("wl-against") == 1
    assert html.count("<img src='data:image/jpeg;base64,") == 3
