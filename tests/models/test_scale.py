"""The page on scale: its arithmetic, and that it says what was not measured."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scale import photos, steady, tree_bytes
from benchmarks.scale_page import START, Cost, Measurements, Run, page, seconds_on
from benchmarks.twin_scale import KINDS, WIDTH, random_gallery
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "scale.md"
RUN = Run("local", 2000, 2, 100.0, 25.0, 10**9, 5 * 10**8, 3 * 10**9, 40_000_000, 8_000_000)
COSTS = (
    Cost("Slow", 8, 3.6, 2, 4000.0),
    Cost("Quick", 8, 0.0072, 2, 4000.0),
    Cost("Middle", 8, 0.5, 2, 4000.0),
)
FOUND = Measurements(
    method="Quick", model="toy", machine="a machine", load=(0.1, 0.2),
    runs=(RUN, replace(RUN, engine="ray", seconds=150.0, steady=20.0)), same=True,
    fewer=replace(RUN, images=250), costs=COSTS, refusals={"Odd": "no attention"}, gpu=(),
    gpu_name="", galleries=(),
)  # fmt: skip


def test_hours_are_those_of_the_formula():
    assert COSTS[0].hours == pytest.approx(500)
    assert COSTS[1].hours == pytest.approx(1)
    assert seconds_on(64, 100_000_000, COSTS[0]) == pytest.approx(START + 3.6e8 / 128)


def test_the_page_states_measured_and_computed_figures():
    text = page(FOUND)
    assert "| Quick | 8 | 7 ms | 1.0 hours | 4 GB |" in text
    assert "| Slow | 8 | 3.60 s | 20.8 days | 4 GB |" in text
    assert text.index("| Quick | 8") < text.index("| Middle | 8") < text.index("| Slow | 8")
    assert "For the whole command Ray took 1.50 times as long; once running it did 20.0" in text
    assert "byte for byte" in text
    assert "Computed, not measured: 64 machines" in text
    assert "- Odd: no attention" in text
    assert "390,625 parts" in text
    # 100 million of (4,000 of maps + 8,000,000 / 2,000 of the manifest) bytes.
    assert "| Quick | 1.6 hours | " in text.split("## What 64 nodes")[1]
    assert "| 800 GB |" in text.split("## What 64 nodes")[1]


def test_the_page_says_whether_a_gpu_was_measured():
    assert "No GPU was measured" in page(FOUND)
    text = page(replace(FOUND, gpu=(Cost("Quick", 8, 0.0036, 1, 4000.0),), gpu_name="a GPU"))
    assert "No GPU" not in text
    assert "A million images on a GPU" in text
    assert "| Quick | 8 | 7 ms | 1.0 hours | 4 GB | 1.0 hours |" in text
    assert "| Slow | 8 | 3.60 s | 20.8 days | 4 GB | - |" in text


def test_the_page_does_not_hide_that_bytes_differ():
    assert "**The two did not write the same bytes.**" in page(replace(FOUND, same=False))


def test_the_pace_counts_from_the_first_part_on():
    log = [{"at": 100.0, "images": 8}, {"at": 102.0, "images": 8}, {"at": 104.0, "images": 4}]
    assert steady(log) == pytest.approx(3)
    assert steady(log[:1]) == 0


def test_no_two_files_are_alike(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    place = photos(tmp_path / "made", 150, [tmp_path / "one.png"])
    digests = {hashlib.sha256(path.read_bytes()).digest() for path in place.iterdir()}
    assert len(digests) == 150


@pytest.mark.parametrize("kind", KINDS)
def test_synthetic_vectors_are_unit_and_those_of_a_class_alike(kind):
    rows, labels = random_gallery(2000, kind, np.random.default_rng(1))
    assert rows.shape == (2000, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    similarities = rows @ rows.T
    same_class = (labels[:, None] == labels[None]) & ~np.eye(2000, dtype=bool)
    expected = 0.5 if kind == "classes" else 0.0
    assert similarities[same_class].mean() == pytest.approx(expected, abs=0.03)
    assert similarities[~same_class & ~np.eye(2000, dtype=bool)].mean() == pytest.approx(
        0, abs=0.03
    )


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="memory of processes is read from /proc")
def test_memory_is_that_of_a_process_and_of_what_it_started():
    code = (
        "import subprocess, sys\n"
        "inner = subprocess.Popen([sys.executable, '-c', "
        "'x = bytearray(80_000_000); print(1, flush=True); input()'],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "inner.stdout.readline()\n"
        "print(1, flush=True)\n"
        "input()\n"
        "inner.communicate(b'\\n')\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    child.stdout.readline()
    memory = tree_bytes(child.pid)
    child.communicate(b"\n")
    assert 80_000_000 < memory < 300_000_000


def test_the_page_on_disk_was_written_by_the_script():
    if not PAGE.is_file():
        pytest.skip("docs/scale.md is not written yet: run `python -m benchmarks.scale --write`")
    text = PAGE.read_text()
    assert "is written by `python -m benchmarks.scale" in text
    for heading in ("## One machine", "## Memory", "## Cost of a million", "## What 64 nodes",
                    "## Twin"):  # fmt: skip
        assert heading in text
