"""What `Why` and `SideBySide` show and write."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from html import escape

import numpy as np
import pytest
from PIL import Image

import whylens
from tests.support.networks import GapNet, seeded
from whylens.core.errors import BadInput
from whylens.core.evaluation.verdict import Verdict
from whylens.core.inputs.view import on_original
from whylens.core.outputs.export import bundle_files
from whylens.core.outputs.render import scale_of, scale_words
from whylens.why import Why

PLAIN = {"size": (24, 24), "mean": 0.0, "std": 1.0}


@pytest.fixture(scope="module")
def model():
    """A toy network with a label that HTML could read."""
    return whylens.load_model(seeded(GapNet()), labels=("<b>cat</b>", "dog", "cow"), **PLAIN)


@pytest.fixture(scope="module")
def photo():
    """A photo that is wider than the network sees."""
    return np.random.default_rng(11).integers(0, 256, (30, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def why(model, photo):
    """One answer."""
    return whylens.explain(model, photo, "grad-cam", target=0)


def test_scores_say_in_a_word_whether_to_believe(model, photo):
    why = whylens.explain(model, photo, "grad-cam", target=0)
    verdict = why.scores()
    assert verdict.word in ("holds", "mixed", "no better than chance", "cannot be judged here")
    assert verdict.reason
    assert verdict.fraction == 1
    assert Why(why.explanation, why.prediction).scores() is verdict
    unjudged = replace(why.explanation, verdict=None)
    with pytest.raises(BadInput, match="explain the input anew"):
        Why(unjudged, why.prediction).scores()


def test_what_was_judged_is_kept_and_saved(why, tmp_path):
    questions = []

    def judge(explanation):
        questions.append(explanation)
        for word in (None, "mixed"):
            yield replace(explanation, verdict=Verdict(word, "For tests.", fraction=1.0))

    fresh = Why(why.explanation, why.prediction, judge=judge)
    fresh.save(tmp_path / "before")
    assert fresh.scores() is fresh.scores()
    assert questions == [why.explanation]
    fresh.save(tmp_path / "after")
    before, after = (
        json.loads((tmp_path / when / "grad-cam" / "manifest.json").read_text())
        for when in ("before", "after")
    )
    scores = json.loads(json.dumps(fresh.scores().as_dict()))
    assert "scores" not in before
    assert after == before | {"scores": scores}
    assert scores["verdict"] == "mixed"
    assert why.explanation.verdict is None


def test_on_photo_has_the_photo_s_size_and_gaps_where_nothing_was_seen(why):
    overlay = why.on_photo()
    values, visible = on_original(np.asarray(why.values), why.explanation.view)
    assert overlay.shape == (30, 60)
    assert np.isnan(overlay[:, :15]).all()
    assert np.isnan(overlay[:, 45:]).all()
    assert np.array_equal(overlay[:, 15:45], values[:, 15:45])
    assert np.array_equal(np.isnan(overlay), ~visible)


def test_a_picture_of_the_photo_s_size_and_the_files_of_the_zip(why, tmp_path):
    assert why.image().size == (60, 30)
    assert why.image(colormap="viridis") != why.image()
    paths = why.save(tmp_path)
    call = json.loads((tmp_path / "grad-cam" / "manifest.json").read_text())["command"]
    files = dict(bundle_files(why.explanation, command=call))
    assert {str(path.relative_to(tmp_path)) for path in paths} == set(files)
    assert all((tmp_path / name).read_bytes() == content for name, content in files.items())
    manifest = json.loads((tmp_path / "grad-cam" / "manifest.json").read_text())
    assert manifest["target"]["label"] == "<b>cat</b>"


def test_the_manifest_s_command_makes_the_map_again(model, photo, why, tmp_path):
    why.save(tmp_path)
    call = json.loads((tmp_path / "grad-cam" / "manifest.json").read_text())["command"]
    repeat = eval(call, {"whylens": whylens, "model": model.module, "image": photo})
    assert np.array_equal(repeat.values, why.values)
    contrast = whylens.explain(model, photo, "rise", versus=1, target=0, masks=256, seed=3)
    contrast.save(tmp_path)
    call = json.loads((tmp_path / "rise" / "manifest.json").read_text())["command"]
    repeat = eval(call, {"whylens": whylens, "model": model.module, "image": photo})
    assert np.array_equal(repeat.values, contrast.values)


def test_what_cannot_be_written_is_one_sentence_of_our_own(model, photo, why, tmp_path):
    (tmp_path / "taken").write_text("")
    row = whylens.compare(model, photo, ["grad-cam"])
    for write in (
        lambda: why.save(tmp_path / "taken"),
        lambda: row.save(tmp_path / "taken"),
        lambda: why.figure(tmp_path / "taken" / "x.png"),
        lambda: row.figure(tmp_path / "taken" / "x.png"),
    ):
        with pytest.raises(whylens.CoreError, match=r"taken.* cannot be read or written: .*\.$"):
            write()
    assert (tmp_path / "taken").read_text() == ""


def test_a_notebook_shows_picture_legend_prediction_and_note(why):
    html = why._repr_html_()
    legend = scale_words(scale_of(why.result))
    for words in (
        "data:image/jpeg;base64,",
        "linear-gradient",
        why.unit,
        legend,
        "Predicted: ",
        f"{100 * why.prediction.probability:.1f} %",
        "&lt;b&gt;cat&lt;/b&gt;",
    ):
        assert words in html
    assert "<b>cat</b>" not in html
    assert Image.open(io.BytesIO(why._repr_png_())).size == (60, 30)


def test_notes_reach_the_reader(photo):
    clear = Image.fromarray(np.dstack([photo, np.zeros(photo.shape[:2], np.uint8)]))
    net = seeded(GapNet())
    why = whylens.explain(net, clear, "grad-cam")
    for words in ("Transparent parts", "No size= was given", "those of ImageNet"):
        assert words in why.note
        assert escape(words) in why._repr_html_()


def test_compare_is_one_row_and_each_map_has_its_own_colours_unless_shared(model, photo):
    row = whylens.compare(
        model, photo, ["grad-cam", "occlusion", "attention-rollout"], target=0,
        params={"occlusion": {"window": 8, "stride": 8}},
    )  # fmt: skip
    assert [why.method for why in row] == ["grad-cam", "occlusion"]
    assert "attention" in row.problems["attention-rollout"]
    assert row["occlusion"].params["window"] == 8
    for scale, why in zip(row.scales(), row, strict=True):
        assert scale == scale_of(why.result)
        assert scale.largest == np.abs(why.values).max()
    assert [scale.low < 0 for scale in row.scales()] == [False, True]  # occlusion has both signs
    shared = whylens.compare(
        model, photo, ["grad-cam", "hires-cam", "occlusion"], target=0, shared=True
    )
    assert len({why.unit for why in shared}) == 2  # of Grad-CAM one colour is another value
    highs = [scale_of(why.result).high for why in shared]
    assert highs[1] != highs[2]
    largest = max(highs[1:])
    assert [scale.high for scale in shared.scales()] == [highs[0], largest, largest]
    assert {scale.low < 0 for scale in shared.scales()} == {True}
    width, height = row.image().size
    assert width > 2 * 280
    assert height < 330
    html = row._repr_html_()
    assert html.count("<img") == 2
    assert "attention-rollout" in html
    assert row._repr_png_().startswith(b"\x89PNG")


def test_answers_become_figures(model, photo, why, tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
    path, citation = why.figure(tmp_path / "one.png", colormap="viridis")
    with Image.open(path) as picture:
        assert picture.width == round(85 / 25.4 * 300)
    assert "Selvaraju" in citation.read_text()
    row = whylens.compare(model, photo, ["grad-cam", "hires-cam"], target=0, shared=True)
    path, citation = row.figure(tmp_path / "row.svg", original=False)
    high = {f"> {scale.high:.4g}" for scale in row.scales()}
    assert len(high) == 1
    assert path.read_text().count(escape(high.pop())) >= 2
    assert citation.read_text().count("@misc") == 2


def test_compare_fails_where_no_method_answers(model, photo):
    with pytest.raises(whylens.CoreError, match="attention"):
        whylens.compare(model, photo, ["attention-rollout"])
    with pytest.raises(whylens.CoreError, match="Did you mean grad-cam"):
        whylens.compare(model, photo, ["grad-cam", "gradcam"])


def test_the_import_costs_no_torch():
    code = (
        "import sys, whylens; dir(whylens)\n"
        "sys.exit(bool({'torch', 'numpy', 'PIL', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
