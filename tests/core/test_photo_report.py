"""The page of many photos: what stands in it and in which order, and that names are only text."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from whylens.core.inputs.view import View
from whylens.core.outputs import photo_report
from whylens.core.outputs.photo_report import (
    SIDE,
    PhotoRow,
    Tally,
    map_thumbnail,
    order_key,
    report_html,
    thumbnail,
    true_labels,
)
from whylens.core.outputs.render import Style, overlay
from whylens.core.results import Heatmap

HOSTILE = "\"><img src=x onerror='harmed()'><script>harmed()</script>&amp;.png"
ROWS = [
    PhotoRow("b.png", "cat", 0.9, "cat", {"Seconds": 0.5}),
    PhotoRow("a.png", "dog", 0.4, "dog"),
    PhotoRow("sure.png", "dog", 0.8, "cat", notes=("Transparent parts were laid on white.",)),
    PhotoRow("unsure.png", "dog", 0.3, "cat"),
    PhotoRow("broken.png", notes=("The file is empty.",)),
    PhotoRow("free.png", "dog", 0.6),
]


CELLS = ("td", "th", "button", "span", "small", "b")


class Page(HTMLParser):
    """Collects what a browser would see: cells by row, pictures, and every element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[tuple[str, dict]] = []
        self._inside = ""
        self.texts: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("img", "br"):
            self._inside = tag

    def handle_data(self, data):
        self.texts[self._inside] = self.texts.get(self._inside, "") + data
        if self.rows and self.rows[-1] and self._inside in CELLS:
            self.rows[-1][-1] += data.strip()

    def pictures(self) -> list[Image.Image]:
        addresses = [attrs["src"] for tag, attrs in self.tags if tag == "img"]
        head = "data:image/jpeg;base64,"
        assert all(address.startswith(head) for address in addresses)
        return [Image.open(io.BytesIO(base64.b64decode(a[len(head) :]))) for a in addresses]


def page_of(rows, methods=(), **more) -> Page:
    return Page(report_html(rows, model="net", weights_sha256="ab" * 32, methods=methods, **more))


def test_a_row_has_what_is_known_of_the_photo_and_nothing_else():
    page = page_of(ROWS)
    assert page.rows[0] == [
        "Photo", "Prediction", "Probability", "True class", "Right", "Seconds", "Notes",
    ]  # fmt: skip
    assert page.rows[1] == ["b.png", "cat", "90.0 %", "cat", "right", "0.50", ""]
    note = "Transparent parts were laid on white."
    assert page.rows[3] == ["sure.png", "dog", "80.0 %", "cat", "wrong", "", note]
    assert page.rows[5] == ["broken.png", "", "", "", "", "", "The file is empty."]
    assert page.rows[6] == ["free.png", "dog", "60.0 %", "", "", "", ""]
    assert len(page.rows) == 7
    assert page_of(ROWS[5:]).rows == [
        ["Photo", "Prediction", "Probability", "Notes"], ["free.png", "dog", "60.0 %", ""],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("least sure", "unsure a free sure b broken"),
        ("wrong", "sure unsure a free b broken"),
        ("name", "a b broken free sure unsure"),
    ],
)
def test_rows_are_sorted_by_what_deserves_a_look(order, names):
    rows = sorted(ROWS, key=order_key(order))
    assert [row.name.removesuffix(".png") for row in rows] == names.split()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            ROWS,
            "2 of 4 named right; the class of 1 more is not known; least sure: unsure.png "
            "(dog, 30.0 %); no prediction for 1.",
        ),
        (ROWS[:2], "2 of 2 named right; least sure: a.png (dog, 40.0 %)."),
        (ROWS[5:], "1 photo; least sure: free.png (dog, 60.0 %)."),
        (ROWS[4:5], "1 photo; no prediction for 1."),
        ([], "0 photos."),
    ],
)
def test_one_sentence_says_what_came_of_all(rows, words):
    assert Tally(rows).sentence() == words
    assert page_of(rows).texts["h1"].strip() == words


def test_names_labels_and_notes_are_text_and_never_markup():
    row = PhotoRow(HOSTILE, HOSTILE, 0.5, HOSTILE, {HOSTILE: 1.0}, (HOSTILE,), b"", {})
    page = page_of([row], [HOSTILE])
    harmless = page_of([PhotoRow("a", "a", 0.5, "a", {"a": 1.0}, ("a",), b"", {})], ["a"])
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert [set(attrs) for _, attrs in page.tags] == [set(attrs) for _, attrs in harmless.tags]
    assert page.rows[1][0] == page.rows[1][2] == HOSTILE
    sorts = [attrs["data-sort"] for tag, attrs in page.tags if attrs.get("data-sort")]
    assert sorts.count(HOSTILE) == 4


def test_the_page_asks_for_nothing_from_elsewhere():
    row = replace(ROWS[0], photo=thumbnail(np.zeros((4, 4, 3), np.uint8)))
    page = page_of([row])
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "object", "base")
        assert not {"href", "srcset", "action"} & set(attrs)
        assert attrs.get("src", "data:").startswith("data:")
    (rule,) = (a["content"] for _, a in page.tags if "http-equiv" in a)
    assert rule.startswith("default-src 'none'")
    assert "prefers-color-scheme: dark" in page.texts["style"]


def test_pictures_are_embedded_up_to_a_number_and_the_page_says_so(monkeypatch):
    monkeypatch.setattr(photo_report, "MOST_PICTURES", 5)
    colour = thumbnail(np.full((30, 60, 3), 200, np.uint8))
    rows = [PhotoRow(f"{n}.png", "cat", 0.5, photo=colour, maps={"CAM": colour}) for n in range(4)]
    page = page_of(rows, ["CAM"])
    assert len(page.pictures()) == 4
    assert len(page.rows) == 5
    assert "Pictures are embedded for the first 2 only." in page.texts["p"]
    bare = [replace(row, photo=b"", maps={}) for row in rows[2:]]  # they need not be made at all
    assert "for the first 2 only" in page_of(rows[:2] + bare, ["CAM"]).texts["p"]
    fewer = page_of(rows[:2], ["CAM"])
    assert len(fewer.pictures()) == 4
    assert "embedded" not in fewer.texts["p"]
    first_page = page_of(rows[:2], ["CAM"], tally=Tally(rows))
    assert "the first 2 of 4 photos" in first_page.texts["p"]
    assert first_page.texts["h1"].startswith("4 photos;")


def test_a_thousand_photos_make_a_page_that_opens():
    noise = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    worst = thumbnail(noise)  # nothing compresses worse
    rows = [PhotoRow(f"{n}.png", "cat", 0.5, photo=worst, maps={"CAM": worst}) for n in range(1000)]
    text = report_html(rows, model="net", weights_sha256="", methods=["CAM"])
    assert text.count("<tr>") == 1001
    assert len(text) < 32_000_000


def test_thumbnails_are_small_and_a_map_lies_where_it_lies_on_the_photo():
    rng = np.random.default_rng(2)
    ramp = np.linspace(0, 255, 900).astype(np.uint8)
    photo = np.broadcast_to(ramp[None, :, None], (600, 900, 3)).copy()
    view = View((900, 600), (64, 64), 64 / 600, 64 / 600, 16.0, 0.0)
    heat = Heatmap(rng.random((4, 4), dtype=np.float32), "units")
    with Image.open(io.BytesIO(map_thumbnail(photo, heat, view, Style(opacity=1.0)))) as small:
        assert small.size == (SIDE, SIDE * 600 // 900)
        pixels = np.asarray(small, float)
    whole = overlay(photo, heat, view, Style(opacity=1.0)).resize(small.size)
    # The middle, which the network saw: no stripes, no photo.
    inner = np.s_[10:-10, 45:-45]
    assert np.abs(pixels - np.asarray(whole, float))[inner].mean() < 3
    with Image.open(io.BytesIO(thumbnail(photo[:20, :30]))) as tiny:
        assert tiny.size == (30, 20)


def test_a_class_is_known_by_the_name_of_the_folder():
    find = true_labels(("Siamese cat", "dog", "dog"))
    assert find("animals/Siamese_cat/1.png", "photos") == "Siamese cat"
    assert find("DOG/1.png", "photos") == "dog"
    assert find("1.png", "dog") == "dog"
    assert find("dog/other/1.png", "dog") == ""
    assert find("1.png", "photos") == ""
