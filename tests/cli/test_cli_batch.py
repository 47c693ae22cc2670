"""A folder on the command line: killed and continued, stopped, refused; by Ray, and at length."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.batch.test_batch import Here, tree
from tests.cli.test_cli import environment, whylens
from tests.core.test_photo_report import Page
from tests.support.browser import toy_checkpoint
from tests.support.quick import some_quick
from whylens.core.batch.run import LOG, FolderProgress
from whylens.core.batch.shards import finished_shards
from whylens.core.batch.worker import engine_for
from whylens.core.explanation import Question
from whylens.core.inputs.photo import read_photo
from whylens.core.outputs.export import explanation_picture
from whylens.core.outputs.photo_report import thumbnail
from whylens.ui.cli import explain_folder

WORDS = (
    "--model", "toy", "--method", "grad-cam,smoothgrad", "--param", "samples=4", "--shard", "2",
)  # fmt: skip
KILLED = """
import os, signal, sys, whylens.ui.cli.app
from whylens.core.batch import run
from whylens.core.batch.shards import finished_shards
explain = run.explain_folder
def killed(request, *a, **k):
    for step in explain(request, *a, **k):
        yield step
        if finished_shards(request.out):
            os.kill(os.getpid(), signal.SIGKILL)
run.explain_folder = killed
whylens.ui.cli.app.main()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a toy checkpoint and one of photos, of which one is broken."""
    folder = tmp_path_factory.mktemp("cli-batch")
    toy_checkpoint(folder / "checkpoints" / "toy", labels=("ant", "bee", "cat", "dog"))
    pictures(folder / "photos", 9)
    (folder / "photos" / "3.png").write_bytes(b"broken")
    return folder


def pictures(folder, count):
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(count):
        pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def in_own_process(place, *words, code="import whylens.ui.cli.app; whylens.ui.cli.app.main()"):
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=place, env=environment(place), capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(place):
    """What is written where nobody stops it, in this process: others take seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYLENS_CHECKPOINTS", str(place / "checkpoints"))
        runner = Here(engine=engine_for("cpu", 16))
        patch.setattr(explain_folder, "_runner", lambda *_: runner)
        run = whylens(place, "explain", "photos", *WORDS, "--out", "unbroken")
    assert run.exit_code == 0, run.stderr
    assert run.stdout.split() == ["unbroken/manifest"]
    assert "18 rows, 2 of them with an error" in run.stderr
    lines = re.findall(r"^(\d\.png)  (.*)$", run.stderr, re.MULTILINE)
    assert [name for name, _ in lines] == [f"{number}.png" for number in range(9)]
    for name, words in lines:
        assert re.fullmatch(r"(ant|bee|cat|dog) \d+\.\d %", words) or name == "3.png"
    assert "not a readable PNG" in dict(lines)["3.png"]
    return place / "unbroken"


@pytest.mark.slow
def test_after_kill_9_the_same_command_goes_on_to_the_bytes_of_an_unbroken_run(place, unbroken):
    words = ("explain", "photos", *WORDS, "--workers", "1", "--out", "killed")
    child = in_own_process(place, *words, code=KILLED)
    assert child.returncode == -9, child.stderr
    out = place / "killed"
    before = {
        part: (out / f"manifest/part-{part:05d}.parquet").stat() for part in finished_shards(out)
    }
    assert 0 < len(before) < 5
    run = whylens(place, *words)
    assert run.exit_code == 0, run.stderr
    assert f"{2 * len(before)} were there before" in run.stderr
    assert tree(out) == tree(unbroken)
    for part, stat in before.items():  # not written again
        assert (out / f"manifest/part-{part:05d}.parquet").stat().st_ino == stat.st_ino
    rows = pq.read_table(out / "manifest").to_pylist()
    assert len({(row["path"], row["method"]) for row in rows}) == len(rows) == 18


def test_a_finished_run_asked_for_again_does_nothing(place, unbroken):
    before = tree(unbroken)
    run = whylens(place, "explain", "photos", *WORDS, "--out", "unbroken")
    assert run.exit_code == 0, run.stderr
    assert "0 files explained; 9 were there before" in run.stderr
    assert tree(unbroken) == before


@pytest.fixture
def in_this_process(place, monkeypatch):
    """The engine by which a folder is explained, without a process of its own."""
    engine = engine_for("cpu", 16)
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(place / "checkpoints"))
    monkeypatch.setattr(explain_folder, "_runner", lambda *_: Here(engine=engine))
    return engine


def test_pictures_of_a_folder_are_those_of_single_photos_and_none_is_written_over(
    place, in_this_process
):
    for number, sub in ((1, "a"), (2, "b")):
        (place / "twice" / sub).mkdir(parents=True)
        shutil.copy(place / "photos" / f"{number}.png", place / "twice" / sub / "cat.png")
    words = ("--model", "toy", "--method", "grad-cam,occlusion", "--param", "stride=64")
    words = (*words, "--param", "window=64")
    run = whylens(place, "explain", "twice", *words, "--format", "picture", "--out", "pictures")
    assert run.exit_code == 0, run.stderr
    rows = pq.read_table(place / "pictures" / "manifest").to_pylist()
    assert [(r["path"], r["method"]) for r in rows] == [
        (f"{sub}/cat.png", method) for sub in "ab" for method in ("grad-cam", "occlusion")
    ]
    assert len({row["map"] for row in rows}) == 4
    for row in rows[::3]:
        assert re.search(r"/0000000\d-cat-(grad-cam|occlusion)\.png$", row["map"])
        single = ("explain", f"twice/{row['path']}", *words, "--target", str(row["target"]))
        out = f"single-{row['index']}"
        assert whylens(place, *single, "--out", out).exit_code == 0
        overlay = place / out / row["method"] / "overlay.png"
        assert (place / "pictures" / row["map"]).read_bytes() == overlay.read_bytes()


# How each kind of map is stored and read is asked in batch/test_batch.py.
@pytest.mark.parametrize(
    "kind", some_quick(("npy", "png", "picture"), lambda _, kind: kind == "npy")
)
def test_a_report_shows_every_file_with_its_map_and_can_be_had_afterwards(
    place, in_this_process, kind
):
    classes = place / "classes"
    if not classes.exists():
        for number, name in enumerate(("ant/one.png", "bee/<b>two.png", "CAT/three.png")):
            (classes / name).parent.mkdir(parents=True)
            shutil.copy(place / "photos" / f"{number}.png", classes / name)
        (classes / "broken.png").write_bytes(b"broken")
    words = ("explain", "classes", "--model", "toy", "--method", "grad-cam", "--format", kind)
    out = place / f"report-{kind}"
    assert whylens(place, *words, "--out", out.name).exit_code == 0
    before = tree(out)
    run = whylens(place, *words, "--out", out.name, "--report")
    assert run.exit_code == 0, run.stderr
    assert run.stdout.split() == [f"{out.name}/manifest", f"{out.name}/report.html"]
    assert "0 files explained; 4 were there before" in run.stderr
    after = tree(out)
    page = Page(after.pop("report.html").decode())
    assert after == before
    rows = {row["path"]: row for row in pq.read_table(out / "manifest").to_pylist()}
    assert len(page.rows) == 5
    by_name = {cells[0]: cells for cells in page.rows[1:]}
    assert page.rows[-1][0] == "broken.png"
    assert "not a readable PNG" in page.rows[-1][-1]
    for name in ("ant/one.png", "bee/<b>two.png", "CAT/three.png"):
        _, _, predicted_label, share, true, right, seconds, note = by_name[name]
        assert predicted_label == rows[name]["predicted_label"]
        assert share == f"{100 * rows[name]['predicted_probability']:.1f} %"
        assert true == name[:3].lower()
        assert right == ("right" if predicted_label == true else "wrong")
        assert float(seconds) >= 0
        assert note == (rows[name]["blank_because"] or "")
    photos = page.pictures()
    assert [picture.size for picture in photos] == [(48, 40)] * 6
    *_, answer = in_this_process.explain(
        Question("toy", read_photo((classes / page.rows[1][0]).read_bytes())), "grad-cam"
    )
    with Image.open(io.BytesIO(thumbnail(explanation_picture(answer)))) as expected:
        difference = np.asarray(photos[1], float) - np.asarray(expected, float)
    assert np.abs(difference).mean() < (0.5 if kind == "png" else 1e-9)


def test_a_line_says_what_was_done_to_the_photo_and_what_failed():
    from whylens.core.batch.rows import SCHEMA

    row = dict.fromkeys(SCHEMA.names) | {
        "predicted": 0, "predicted_label": "ant", "predicted_probability": 0.5,
        "photo_notes": ["Laid on white."], "method": "cam",
    }  # fmt: skip
    words = explain_folder._file_words([row, {**row, "method": "lime", "error": "It failed."}])
    assert words.startswith("ant 50")
    assert words.endswith("; Laid on white; lime: It failed.")


@pytest.mark.slow
def test_lines_are_aligned_ended_after_a_number_and_can_be_left_out(
    place, in_this_process, monkeypatch
):
    (place / "names").mkdir()
    for name in ("a.png", "much-longer.png", "\x1b[2Jodd.png", "z.png"):
        shutil.copy(place / "photos" / "1.png", place / "names" / name)
    words = ("explain", "names", "--model", "toy", "--method", "cam", "--shard", "2")
    monkeypatch.setattr(explain_folder, "MOST_LINES", 3)
    run = whylens(place, *words, "--out", "lines")
    names = re.findall(r"^(\S+ +)(?:ant|bee|cat|dog) [\d.]+ %$", run.stderr, re.MULTILINE)
    assert names == ["?[2Jodd.png  ", "a.png        ", "much-longer.png  "]
    assert "\x1b" not in run.stderr
    monkeypatch.setattr(explain_folder, "MOST_LINES", 1)
    run = whylens(place, *words, "--out", "one")
    assert "others is in one/manifest" in run.stderr
    run = whylens(place, *words, "--out", "none-of-them", "--quiet")
    assert run.exit_code == 0
    assert "a.png" not in run.stderr


def test_ctrl_c_says_that_the_same_command_goes_on(place, monkeypatch):
    def interrupted(*_, **__):
        yield FolderProgress(0, 9, 0)
        raise KeyboardInterrupt

    monkeypatch.setattr("whylens.core.batch.run.explain_folder", interrupted)
    run = whylens(place, "explain", "photos", *WORDS, "--out", "stopped")
    assert run.exit_code == 130
    assert "The same command goes on from the finished shards in stopped" in run.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["photos", "photos/1.png"], "one folder and nothing else"),
        (["photos/1.png", "--format", "png"], "are for a folder"),
        (["photos/1.png", "--report"], "are for a folder"),
        (["photos/1.png", "--workers", "2"], "are for a folder"),
        (["photos", "--format", "tiff"], "--format is npy, png or picture, not 'tiff'"),
        (["photos", "--engine", "dask"], "--engine is local or ray, not 'dask'"),
        (["photos", "--quantity", "odds"], "A quantity is logit or probability"),
        (["photos", "--param", "sampels=3"], "parameter 'sampels'"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_sentence(place, words, message):
    run = whylens(
        place, "explain", *words, "--model", "toy", "--method", "grad-cam", "--out", "none"
    )
    assert run.exit_code == 1
    assert message in run.stderr
    assert run.stdout == ""
    assert not (place / "none").exists()


def test_without_ray_the_remedy_is_named(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    run = whylens(place, "explain", "photos", *WORDS, "--engine", "ray", "--out", "none")
    assert run.exit_code == 1
    assert "pip install '.[ray]'` in the checkout" in run.stderr
    assert not (place / "none").exists()


@pytest.mark.slow
def test_ray_writes_the_same_bytes(place, unbroken):
    pytest.importorskip("ray")
    words = ("explain", "photos", *WORDS, "--engine", "ray", "--workers", "2", "--out", "ray")
    run = in_own_process(place, *words)
    assert run.returncode == 0, run.stderr
    assert tree(place / "ray") == tree(unbroken)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pictures(place):
    peaks = {}
    for count in (60, 600):
        pictures(place / f"photos-{count}", count)
        words = ("--model", "toy", "--method", "grad-cam", "--workers", "1", "--shard", "30")
        run = in_own_process(place, "explain", f"photos-{count}", *words, "--out", f"out-{count}")
        assert run.returncode == 0, run.stderr
        text = (place / f"out-{count}" / LOG).read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        peaks[count] = (max(line["peak_bytes"] for line in lines[:-1]), lines[-1]["peak_bytes"])
    for low, high in zip(peaks[60], peaks[600], strict=True):
        assert high - low < 40_000_000, peaks
