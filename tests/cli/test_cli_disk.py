"""A disk that is full or must not be written: one sentence and exit code 1 from every command."""

from __future__ import annotations

import errno
import os
from itertools import product

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.support.browser import toy_checkpoint
from whylens.ui.cli.app import app


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A network, and a folder of photos by class."""
    place = tmp_path_factory.mktemp("disk")
    toy_checkpoint(place / "models" / "toy", labels=("ant", "bee", "cat"))
    rng = np.random.default_rng(3)
    for number in range(18):
        path = place / "photos" / ("ant", "bee", "cat")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    return place


COMMANDS = {
    "explain": "explain {place}/photos/ant/0.png --model toy --method grad-cam --out {out}",
    "folder": "explain {place}/photos --model toy --method grad-cam --out {out}",
    "means": "means toy {place}/photos --method grad-cam --out {out}",
    "fit": "fit toy {place}/photos --method twin --param limit=6",
    "train": "train {place}/photos --out {out}/new --backbone resnet18 --epochs 1",
    "import": "import {place}/models/toy/model.safetensors --architecture test_resnet "
    "--labels ant,bee,cat --size 160 --name copy",
}


@pytest.mark.parametrize(
    ("command", "number"), [*product(COMMANDS, [errno.ENOSPC]), ("explain", errno.EROFS)]
)
def test_one_sentence_says_what_the_disk_said(place, tmp_path, monkeypatch, command, number):
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(place / "models"))

    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    words = COMMANDS[command].format(place=place, out=tmp_path / "out").split()
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 1, run.output
    assert isinstance(run.exception, SystemExit), run.exception
    assert os.strerror(number) in run.stderr.replace("\n", " ")
    assert "Traceback" not in run.output
