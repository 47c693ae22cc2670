"""Several files that are one answer: killed at any step, the old answer or the new is whole."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.support.answers import occlusion
from tests.support.killed import killed_at
from tests.support.networks import plain_spec
from whylens.core.errors import BadInput
from whylens.core.outputs.class_means import DESCRIPTION, MeanMap, write_means
from whylens.core.outputs.export import (
    MANIFEST,
    bundle_files,
    read_explanation,
    recorded_files,
    write_files,
)
from whylens.core.outputs.figure import FigureLayout, save_figure
from whylens.core.outputs.render import Style
from whylens.core.results import Heatmap
from whylens.core.storage.files import file_sha256, find_file

SPEC = plain_spec(8, 8)
SMALL = FigureLayout(width=40, dpi=50, captions=False)


@cache
def answers():
    """Return two answers of one method, the first of which has a file that the other has not."""
    heats = (
        Heatmap(np.full((2, 2), 0.0), "u", error=np.full((2, 2), 0.5)),
        Heatmap(np.full((2, 2), 1.0), "u"),
    )
    return tuple(replace(occlusion(), result=heat) for heat in heats)


@cache
def files_of(number):
    """Return the files of one of them."""
    return tuple(bundle_files(answers()[number]))


class Answers:
    """What `whylens explain` writes."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, number):
        write_files(self.folder, files_of(number))

    def read(self):
        copy, _ = read_explanation(self.folder / "occlusion" / MANIFEST)
        number = int(copy.result.values[0, 0])
        assert (copy.result.error is not None) == (number == 0)
        return number


class Means:
    """What `whylens means` writes."""

    def __init__(self, folder: Path):
        self.folder = folder / "means"

    def write(self, number):
        picture = np.full((8, 8, 3), 99, np.uint8)
        heat = Heatmap(np.full((2, 2), number), "u", error=[[1.0] * 2] * 2 if number else None)
        labels = {label: label for label in ("ant", "bee")[: 2 - number]}
        means = {label: MeanMap(heat, picture, 7) for label in labels}
        write_means(self.folder, means, labels, SPEC, {"number": number})

    def read(self):
        content = (self.folder / DESCRIPTION).read_bytes()
        manifest = json.loads(content)
        for name, sha256 in recorded_files(content).items():
            path = find_file(self.folder / name, sha256)
            assert path is not None, name
            if name.endswith("values.npy"):
                assert (np.load(path) == manifest["number"]).all()
        assert len(manifest["classes"]) == 2 - manifest["number"]
        assert len(manifest["files"]) == 4 - manifest["number"]  # the one class has an error too
        return manifest["number"]


class Figure:
    """What `whylens figure` writes."""

    drawn = [0]

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, number):
        self.drawn[0] = number
        answer = replace(answers()[number], title=f"Title {number}")
        save_figure([(answer, Style())], self.folder / "figure.png", SMALL)

    def read(self):
        text = (self.folder / "figure.bib").read_text()
        sha256 = text.splitlines()[0].split()[-1]
        assert find_file(self.folder / "figure.png", sha256) is not None
        return int("Title 1" in text)


@pytest.mark.parametrize("kind", [Answers, Means, Figure])
def test_killed_at_any_step_the_old_answer_or_the_new_is_whole(kind, tmp_path, monkeypatch):
    # What is drawn is no matter here, and the disk is as fast as memory.
    monkeypatch.setattr(
        "whylens.core.outputs.figure._figure_bytes", lambda *_: b"%d" % Figure.drawn[0]
    )
    monkeypatch.setattr("os.fsync", lambda _: None)
    place = kind(tmp_path)
    place.write(0)
    outcomes, step = [], 1
    while killed_at(step, monkeypatch, lambda: place.write(1)):
        outcomes.append(place.read())
        place.write(0)  # whatever was left
        assert place.read() == 0
        step += 1
    assert sorted(outcomes) == outcomes  # old up to a moment, then new
    assert {0, 1} == set(outcomes)
    assert place.read() == 1
    assert not list(tmp_path.rglob(".*.next"))


def test_without_a_description_there_is_no_answer_until_it_is_whole(tmp_path, monkeypatch):
    step = 1
    while True:
        place = Answers(tmp_path / f"{step}")
        if not killed_at(step, monkeypatch, lambda place=place: place.write(0)):
            break
        if (place.folder / "occlusion" / MANIFEST).exists():
            assert place.read() == 0
        step += 1
    assert step > 10


def test_what_is_not_what_its_manifest_names_is_refused(tmp_path):
    place = Answers(tmp_path)
    place.write(0)
    np.save(tmp_path / "occlusion" / "values.npy", np.zeros((2, 2)))
    with pytest.raises(BadInput, match=r"values\.npy is not what was written with it"):
        place.read()


def test_what_fails_leaves_the_old_answer_and_nothing_else(tmp_path):
    place = Answers(tmp_path)
    place.write(0)
    before = {path: file_sha256(path) for path in tmp_path.rglob("*") if path.is_file()}

    def failing():
        yield from files_of(1)[:3]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_files(tmp_path, failing())
    assert {path: file_sha256(path) for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_waits_in_vain_is_removed_but_not_from_under_who_writes(tmp_path):
    place, folder = Answers(tmp_path), tmp_path / "occlusion"
    place.write(0)
    old, fresh = (folder / f".example-{name}.png.next" for name in ("07", "08"))
    for path in (old, fresh):
        path.write_bytes(b"of an answer that was never finished")
    os.utime(old, (1e9, 1e9))
    place.write(1)
    assert (old.exists(), fresh.exists(), place.read()) == (False, True, 1)


@pytest.mark.parametrize("name", ["../notes.txt", "/notes.txt", "a/notes.txt", ".notes.txt"])
def test_no_manifest_reaches_out_of_its_folder(tmp_path, name):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    folder = tmp_path / "occlusion"
    folder.mkdir()
    content = json.dumps({"files": {name: file_sha256(notes)}})
    with pytest.raises(ValueError, match="not lie beside"):
        recorded_files(content.encode())
    (folder / MANIFEST).write_text(content)
    Answers(tmp_path).write(0)
    assert notes.read_text() == "mine"
