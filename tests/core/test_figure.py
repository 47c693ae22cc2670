"""Figures for papers: exactly the page's pictures, of the width asked for, with text as text."""

from __future__ import annotations

import base64
import gc
import io
import re
import sys
import weakref
import zlib
from dataclasses import replace
from functools import cache
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.support.networks import GapNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, NotInstalled
from whylens.core.explanation import Question
from whylens.core.models.backbone import wrap
from whylens.core.outputs.export import bundle_files, write_files
from whylens.core.outputs.figure import FigureLayout, save_figure
from whylens.core.outputs.render import Style, render_explanation, scales_together
from whylens.ui.cli.app import app

mpl = pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
STYLE = Style("viridis", 0.8)
SVG = "{http://www.w3.org/2000/svg}"
WHOLE = FigureLayout(letters=True)


@pytest.fixture(scope="module")
def answers():
    """Two maps of a wide photo by a toy network: one from zero up, one around zero."""
    engine = Engine(
        loader=lambda name, progress: wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    )
    pixels = np.random.default_rng(2).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    question = Question("toy", pixels, target=1)
    methods = {"grad-cam": {}, "occlusion": {"window": 16, "stride": 8}}
    return [(list(engine.explain(question, m, params))[-1], STYLE) for m, params in methods.items()]


@pytest.fixture(scope="module")
def whole(answers, tmp_path_factory):
    """Return what gives the figure of both, of a kind, and its file of citations; drawn once."""
    place = tmp_path_factory.mktemp("whole")
    return cache(lambda kind: save_figure(answers, place / f"fig.{kind}", WHOLE))


def pictures(answers) -> list[np.ndarray]:
    """Return the photo and the maps as the page's grid shows them."""
    scales = scales_together([answer.result for answer, _ in answers])
    maps = [render_explanation(a, s, scale=c) for (a, s), c in zip(answers, scales, strict=True)]
    return [answers[0][0].question.pixels, *map(np.asarray, maps)]


def svg_of(path) -> tuple[ET.Element, list[str], list[np.ndarray]]:
    """Return the root of an SVG, its texts and its pictures."""
    root = ET.fromstring(path.read_text(encoding="utf-8"))
    texts = ["".join(e.itertext()) for e in root.iter(f"{SVG}text")]
    links = [e.attrib["{http://www.w3.org/1999/xlink}href"] for e in root.iter(f"{SVG}image")]
    images = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(link.split(",", 1)[1]))).convert("RGB"))
        for link in links
    ]
    return root, texts, images


def test_an_svg_holds_the_pictures_pixel_for_pixel_and_text_as_text(answers, whole):
    path, citation = whole("svg")
    root, texts, images = svg_of(path)
    assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(174 / 25.4 * 72, abs=0.2)
    for image, expected in zip(images, pictures(answers), strict=True):
        assert np.array_equal(image, expected)
    first, second = (answer for answer, _ in answers)
    for text in (
        "a) Photo",
        f"b) {first.title}",
        f"c) {second.title}",
        second.question_text,
        second.result.unit,
    ):
        assert text in texts
    assert f"{100 * first.probability:.1f} %" in " ".join(texts)
    high = scales_together([answer.result for answer, _ in answers])[1].high
    assert any(text.endswith(f"{high:.4g}") for text in texts)
    assert citation.read_text().count("@misc{") == 2


def test_captions_of_a_row_begin_at_one_height_however_long_a_unit_is(answers, tmp_path):
    (first, style), (second, _) = answers
    unit = "share of the largest value, weighed by the probability of the class"
    long = replace(second, result=replace(second.result, unit=unit))
    answers = [(first, style), (long, style)]
    path, _ = save_figure(answers, tmp_path / "f.svg", FigureLayout(width=85, original=False))
    root, texts, _ = svg_of(path)
    assert unit not in texts, "it takes more than one line"
    heights = {"".join(e.itertext()): float(e.attrib["y"]) for e in root.iter(f"{SVG}text")}
    assert heights[first.title] == heights[second.title]
    assert heights[first.result.unit] < heights[first.title]


def test_a_pdf_is_as_wide_as_asked_with_embedded_fonts_and_pictures_at_their_own_pixels(
    answers, whole
):
    path, _ = whole("pdf")
    content = path.read_bytes()
    (box,) = re.findall(rb"/MediaBox \[([^\]]*)\]", content)
    assert float(box.split()[2]) == pytest.approx(174 / 25.4 * 72, abs=0.2)
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    sizes = zip(
        *(re.findall(rb"/%s (\d+)" % key, content) for key in (b"Width", b"Height")), strict=True
    )
    assert [tuple(map(int, size)) for size in sizes] == [(90, 50)] * 3
    texts = b""
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
        try:
            operators = zlib.decompress(stream)
        except zlib.error:
            continue
        if b"BT" in operators and b"TJ" in operators:
            texts += b"".join(re.findall(rb"\(((?:\\.|[^\\)])*)\)", operators, re.DOTALL))
    text = texts.replace(b"\0", b"").replace(b"\\", b"").decode("latin-1")
    for answer, _ in answers:
        assert answer.title in text
        assert answer.result.unit in text


def test_a_png_has_its_dots_and_the_pictures_of_the_page(answers, whole):
    path, _ = whole("png")
    with Image.open(path) as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        paper = np.asarray(picture)
    assert paper.shape[1] == round(174 / 25.4 * 300)
    gap = round(2 / 25.4 * 300)
    side = (paper.shape[1] - 2 * gap) // 3
    height = round(side * 50 / 90)
    for number, expected in enumerate(pictures(answers)):
        left = number * (side + gap)
        resized_picture = Image.fromarray(expected).resize((side, height), Image.Resampling.LANCZOS)
        assert np.array_equal(paper[:height, left : left + side], np.asarray(resized_picture))
    assert (paper[:height, side : side + gap] == 255).all()
    bar = paper[height : height + 30, side + gap : 2 * side + gap]
    assert len(np.unique(bar.reshape(-1, 3), axis=0)) > 60


@pytest.mark.parametrize("kind", ["pdf", "svg", pytest.param("png", marks=pytest.mark.slow)])
def test_the_same_figure_has_the_same_bytes_and_leaves_matplotlib_as_it_was(
    answers, whole, tmp_path, kind
):
    first, _ = whole(kind)
    before = dict(mpl.rcParams)
    second, _ = save_figure(answers, tmp_path / f"a.{kind}", WHOLE)
    assert second.read_bytes() == first.read_bytes()
    assert dict(mpl.rcParams) == before


def test_captions_letters_the_photo_and_columns_are_the_user_s_choice(answers, tmp_path):
    def texts(**fields):
        layout = FigureLayout(width=85, **fields)
        return svg_of(save_figure(answers, tmp_path / "fig.svg", layout)[0])

    root, words, images = texts(captions=False, original=False)
    assert len(images) == 2
    assert not {answer.title for answer, _ in answers} & set(words)
    assert "a)" in texts(captions=False, letters=True)[1]
    column, _, _ = texts(captions=False, original=False, columns=1)
    tall = [float(r.attrib["height"].removesuffix("pt")) for r in (root, column)]
    assert tall[1] > 3 * tall[0]


def test_a_score_without_a_probability_stands_alone(answers, tmp_path):
    (answer, style), *_ = answers
    answer = replace(answer, probability=None)
    _, texts, _ = svg_of(save_figure([(answer, style)], tmp_path / "a.svg", WHOLE)[0])
    assert texts[-1] == f"score {answer.score:.4g}"


def test_a_photo_of_many_pixels_is_embedded_at_twice_the_dots(answers, tmp_path):
    (answer, style), *_ = answers
    large = np.random.default_rng(3).integers(0, 256, (90, 2400, 3), dtype=np.uint8)
    engine = Engine(
        loader=lambda name, progress: wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    )
    (answer,) = engine.explain(Question("toy", large), "grad-cam", {})
    layout = FigureLayout(width=85, original=False)
    _, _, (image,) = svg_of(save_figure([(answer, style)], tmp_path / "a.svg", layout)[0])
    assert image.shape[1] == 2 * round(85 / 25.4 * 300)


def test_what_no_figure_can_be_is_refused(answers, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"ends in \.pdf"):
        save_figure(answers, tmp_path / "fig.jpg", WHOLE)
    with pytest.raises(BadInput, match="at least one"):
        save_figure([], tmp_path / "fig.pdf", WHOLE)
    with pytest.raises(BadInput, match="40 columns do not fit into 85 mm"):
        save_figure(answers, tmp_path / "fig.pdf", FigureLayout(width=85, columns=40))
    for fields in ({"width": 5}, {"dpi": 10}, {"columns": 0}):
        with pytest.raises(BadInput):
            FigureLayout(**fields)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NotInstalled, match=r"\[figure\]"):
        save_figure(answers, tmp_path / "fig.pdf", WHOLE)
    assert not list(tmp_path.iterdir())


def test_the_command_draws_what_was_written_without_the_network(answers, whole, tmp_path):
    for answer, style in answers:
        write_files(tmp_path, bundle_files(answer, style=style))
    manifests = [str(tmp_path / answer.method / "manifest.json") for answer, _ in answers]
    to = tmp_path / "new" / "fig.svg"
    run = CliRunner().invoke(
        app, ["figure", *manifests, "--to", str(to), "--width", "174mm", "--letters"]
    )
    assert run.exit_code == 0, run.output
    assert run.stdout.split() == [str(to), str(to.with_suffix(".bib"))]
    assert to.read_bytes() == whole("svg")[0].read_bytes()
    for words in (["--width", "wide"], ["--width", "3mm"], ["--to", "fig.gif"]):
        run = CliRunner().invoke(app, ["figure", *manifests, *words])
        assert run.exit_code == 1
        assert run.stderr.startswith("whylens: ")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pdf", "png"])
def test_of_many_maps_one_alone_is_held_large(monkeypatch, tmp_path, kind):
    engine = Engine(
        loader=lambda name, progress: wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    )
    pixels = np.random.default_rng(2).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    *_, answer = engine.explain(Question("toy", pixels), "grad-cam")
    images, large = [], []

    def render(*args, **options):
        large.append(sum(picture() is not None for picture in images))
        picture = render_explanation(*args, **options)
        images.append(weakref.ref(picture))
        return picture

    monkeypatch.setattr("whylens.core.outputs.figure.render_explanation", render)
    gc.disable()  # nor does it wait for what collects circles
    try:
        save_figure([(answer, STYLE)] * 6, tmp_path / f"f.{kind}", FigureLayout(dpi=100))
    finally:
        gc.enable()
    assert len(large) == 6
    assert max(large) <= 1  # the one before, until this one takes its name
