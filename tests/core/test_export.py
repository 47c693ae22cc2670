"""What is taken home: complete, reproducible, whole or not at all."""

from __future__ import annotations

import io
import json
import os
import shlex
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.support.answers import occlusion
from whylens.core.errors import BadInput
from whylens.core.evaluation.metric import Score
from whylens.core.evaluation.verdict import Verdict
from whylens.core.explanation import Question
from whylens.core.inputs.view import View
from whylens.core.outputs.export import (
    bibliography,
    bundle_files,
    command_line,
    manifest,
    read_explanation,
    write_files,
    write_zip,
)
from whylens.core.outputs.render import Style, render_explanation, scale_of
from whylens.core.results import Example, Examples, Heatmap
from whylens.core.storage.files import write_atomically


@pytest.fixture(scope="module")
def answer():
    """An occlusion of a wide photo by a toy network."""
    return occlusion()


def test_the_picture_has_the_size_of_the_photo_and_the_values_are_raw(answer):
    files = dict(bundle_files(answer, source="my cat.png"))
    photo = f"photo-{answer.question.digest()[:8]}.png"
    assert sorted(files) == [
        "occlusion/manifest.json",
        "occlusion/map.png",
        "occlusion/methods.bib",
        "occlusion/overlay.png",
        "occlusion/values.npy",
        photo,
    ]
    assert np.array_equal(Image.open(io.BytesIO(files[photo])), answer.question.pixels)
    map_alone = render_explanation(answer, Style(under="alone"))
    assert np.array_equal(Image.open(io.BytesIO(files["occlusion/map.png"])), map_alone)
    assert Image.open(io.BytesIO(files["occlusion/overlay.png"])).size == (90, 50)
    values = np.load(io.BytesIO(files["occlusion/values.npy"]), allow_pickle=False)
    assert np.array_equal(values, answer.result.values)


def test_the_manifest_tells_all_that_is_needed_to_do_it_again(answer):
    facts = json.loads(dict(bundle_files(answer, source="my cat.png"))["occlusion/manifest.json"])
    assert facts["model"]["weights_sha256"] == answer.model.digest
    assert facts["parameters"] == {"window": 16, "stride": 8, "fill": "blur"}
    assert facts["target"]["quantity"] == "contrast"
    assert facts["target"]["index"] == 1
    assert facts["seed"] == 4
    assert facts["finished"] is True
    assert set(facts["versions"]) >= {"python", "torch", "timm", "numpy", "whylens"}
    view = facts["view"]
    copy = View(tuple(view.pop("original")), tuple(view.pop("model")), **view)
    assert copy == answer.view
    high = scale_of(answer.result).high
    assert facts["map"]["colour_scale"] == [-high, high]
    assert facts["style"]["under"] == "auto"


def test_the_scores_of_a_judged_answer_are_taken_home_as_well(answer):
    verdict = Verdict("mixed", "For tests.", deletion=Score(0.2, 0.4, span=(0.1, 0.3)), lead=1.5)
    stream = io.BytesIO()
    write_zip(stream, bundle_files(replace(answer, verdict=verdict)))
    facts = json.loads(zipfile.ZipFile(stream).read("occlusion/manifest.json"))
    assert facts["scores"] == json.loads(json.dumps(verdict.as_dict()))
    assert facts["scores"]["deletion"]["value"] == 0.2
    assert " --scores " in facts["command"]
    plain = json.loads(dict(bundle_files(answer))["occlusion/manifest.json"])
    assert facts == plain | {"scores": facts["scores"], "command": facts["command"]}


def test_what_was_explained_is_read_back_from_the_files_alone(answer, tmp_path):
    style = Style("viridis", 0.8, under="faded")
    write_files(tmp_path, bundle_files(answer, source="my cat.png", style=style))
    copy, style_copy = read_explanation(tmp_path / "occlusion" / "manifest.json")
    assert style_copy == style
    assert np.array_equal(copy.result.values, answer.result.values)
    picture = render_explanation(copy, style_copy)
    assert np.array_equal(picture, render_explanation(answer, style))
    for name in ("method", "title", "plugin", "target", "labels", "score", "view", "reference"):
        assert getattr(copy, name) == getattr(answer, name), name
    assert manifest(copy, source="my cat.png", style=style_copy) == manifest(
        answer, source="my cat.png", style=style
    )


def test_examples_and_signals_are_read_back_as_well(answer, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (224, 200, 3), dtype=np.uint8)
    item = Example(pixels, "a cat", 0.5, key="k", group="near", diagnostics={"gap": 1.0})
    answers = [
        replace(answer, method="twin", result=Examples((item,), "cosine", "Near.")),
        replace(
            answer, method="signal", view=None, result=Heatmap([1.0, 2.0], "u", error=[0.1, 0.2]),
            question=Question("toy", signal=np.ones((1, 8), np.float32)),
        ),
    ]  # fmt: skip
    for before in answers:
        write_files(tmp_path, bundle_files(before))
        copy, style = read_explanation(tmp_path / before.method / "manifest.json")
        assert manifest(copy, source="", style=style) == manifest(before, source="", style=style)
        if isinstance(before.result, Examples):
            assert np.array_equal(copy.result.items[0].image, pixels)
        else:
            assert np.array_equal(copy.result.error, before.result.error)


@pytest.mark.parametrize("fault", ["photo", "values", "key", "json"])
def test_files_that_do_not_fit_are_refused_with_a_remedy(answer, tmp_path, fault):
    write_files(tmp_path, bundle_files(answer))
    path = tmp_path / "occlusion" / "manifest.json"
    if fault == "photo":
        (photo,) = tmp_path.glob("photo-*.png")
        Image.new("RGB", (90, 50)).save(photo)
    elif fault == "values":
        (path.parent / "values.npy").unlink()
    else:
        path.write_text("{" if fault == "json" else json.dumps({"style": {}}))
    with pytest.raises(BadInput, match=r"cannot be read back .* `whylens explain` wrote"):
        read_explanation(path)


def test_each_method_is_cited_once_as_its_explainer_says(answer):
    text = bibliography(
        [answer, answer, replace(answer, method="b", reference="By us, 50 % & {so}")]
    )
    assert text == (
        "@misc{occlusion,\n  title = {Occlusion},\n"
        "  note = {Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks, "
        "sec. 4.2},\n  author = {Zeiler and Fergus},\n  year = {2014},\n}\n\n"
        "@misc{b,\n  title = {Occlusion},\n  note = {By us, 50 \\% \\& \\{so\\}},\n}\n"
    )


def test_the_command_line_is_quoted_and_complete(answer):
    words = shlex.split(command_line(answer, "my cat.png"))
    assert words[:3] == ["whylens", "explain", "my cat.png"]
    assert words[words.index("--versus") + 1] == str(answer.target.versus)
    assert "stride=8" in words
    assert words[words.index("--seed") + 1] == "4"


def test_a_zip_of_the_same_files_has_the_same_bytes(answer):
    first, second = io.BytesIO(), io.BytesIO()
    write_zip(first, bundle_files(answer))
    write_zip(second, bundle_files(answer))
    assert first.getvalue() == second.getvalue()
    archive = zipfile.ZipFile(first)
    assert archive.testzip() is None
    assert {n: archive.read(n) for n in archive.namelist()} == dict(bundle_files(answer))


def test_files_are_written_whole(answer, tmp_path):
    paths = write_files(tmp_path / "new" / "folder", bundle_files(answer))
    assert all(path.stat().st_size > 0 for path in paths)
    assert not list((tmp_path / "new").rglob(".*"))


def test_nothing_of_an_earlier_answer_stays_beside_a_new_one(answer, tmp_path):
    folder = tmp_path / answer.method
    folder.mkdir()
    for name in ("example-07.png", "standard_error.npy", "notes.txt"):
        (folder / name).write_bytes(b"old")
    paths = write_files(tmp_path, bundle_files(answer))
    answer_files = {path for path in paths if path.parent == folder}
    assert set(folder.iterdir()) == answer_files | {folder / "notes.txt"}


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
