"""A folder on the command line: killed and continued, stopped, refused; by Ray, and at length."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.batch.test_batch import tree
from tests.cli.test_cli import environment, whylens
from tests.support.browser import toy_checkpoint
from whylens.core.batch.run import LOG, FolderProgress
from whylens.core.batch.shards import finished

WORDS = (
    "--model", "toy", "--method", "grad-cam,smoothgrad", "--param", "samples=4", "--shard", "2",
)  # fmt: skip
KILLED = """
import os, signal, sys, whylens.ui.cli.app
from whylens.core.batch import run
from whylens.core.batch.shards import finished
explain = run.explain_folder
def killed(request, *a, **k):
    for step in explain(request, *a, **k):
        yield step
        if finished(request.out):
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
    """What a process writes that nobody stops."""
    run = whylens(place, "explain", "photos", *WORDS, "--workers", "1", "--out", "unbroken")
    assert run.exit_code == 0, run.stderr
    assert run.stdout.split() == ["unbroken/manifest"]
    assert "18 rows, 2 of them with an error" in run.stderr
    return place / "unbroken"


@pytest.mark.slow
def test_after_kill_9_the_same_command_goes_on_to_the_bytes_of_an_unbroken_run(place, unbroken):
    words = ("explain", "photos", *WORDS, "--workers", "1", "--out", "killed")
    child = in_own_process(place, *words, code=KILLED)
    assert child.returncode == -9, child.stderr
    out = place / "killed"
    before = {part: (out / f"manifest/part-{part:05d}.parquet").stat() for part in finished(out)}
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


def test_ctrl_c_says_that_the_same_command_goes_on(place, monkeypatch):
    def interrupted(*_, **__):
        yield FolderProgress(0, 9, 0)
        raise KeyboardInterrupt

    monkeypatch.setattr("whylens.core.batch.run.explain_folder", interrupted)
    run = whylens(place, "explain", "photos", *WORDS, "--out", "stopped")
    assert run.exit_code == 130
    assert "The same command goes on from the finished parts in stopped" in run.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photos", "photos/1.png"], "one folder and nothing else"),
        (["photos/1.png", "--format", "png"], "are for a folder"),
        (["photos/1.png", "--workers", "2"], "are for a folder"),
        (["photos", "--format", "tiff"], "--format is npy or png, not 'tiff'"),
        (["photos", "--engine", "dask"], "--engine is local or ray, not 'dask'"),
        (["photos", "--quantity", "odds"], "A quantity is logit or probability"),
        (["photos", "--param", "sampels=3"], "parameter 'sampels'"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_sentence(place, words, said):
    run = whylens(
        place, "explain", *words, "--model", "toy", "--method", "grad-cam", "--out", "none"
    )
    assert run.exit_code == 1
    assert said in run.stderr
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
        lines = [json.loads(line) for line in (place / f"out-{count}" / LOG).open()]
        peaks[count] = (max(line["peak_bytes"] for line in lines[:-1]), lines[-1]["peak_bytes"])
    for few, many in zip(peaks[60], peaks[600], strict=True):
        assert many - few < 40_000_000, peaks
