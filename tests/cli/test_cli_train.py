"""`whylens train`: a folder becomes a model; errors are one sentence; Ctrl-C keeps the best."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.pictures import SLIM, colour_folder
from whylens.core.train.report import read_report
from whylens.ui.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
# As a shell starts what it puts into the background.
IN_BACKGROUND = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "whylens.ui.cli.app", *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of pictures and a recipe for a slim network."""
    root = tmp_path_factory.mktemp("train")
    colour_folder(root / "fruit", {"cherry": 24, "kiwi": 24})
    recipe = {"backbone": "resnet18", "arguments": SLIM, "size": 32, "batch": 16, "lr": 0.05}
    (root / "slim.json").write_text(json.dumps(recipe))
    return root


def whylens(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_folder_becomes_a_model_that_is_known_by_name(place, monkeypatch):
    out = place / "checkpoints" / "fruits"
    run = whylens(
        "train", place / "fruit", "--recipe", place / "slim.json", "--epochs", 6, "--out", out
    )
    assert run.exit_code == 0, run.stderr
    assert run.stdout.strip() == str(out)
    assert "of 8 validation pictures are recognised" in run.stderr
    report = read_report(out)
    assert (report.name, report.recipe["epochs"], report.test.accuracy) == ("fruits", 6, 1.0)
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(place / "checkpoints"))
    assert "fruits" in whylens("models", "fruits").stdout
    repeat = whylens("train", place / "fruit", "--recipe", place / "slim.json", "--out", out)
    assert repeat.exit_code == 1
    assert "holds a model already. Add --resume" in repeat.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere", "--backbone", "resnet18"), "whylens: There is no folder nowhere."),
        (("fruit",), "whylens: Which network? Give --backbone"),
        (("fruit", "--backbone", "resnet19"), "Did you mean"),
        (("fruit", "--backbone", "resnet18", "--epochs", "0"), "wrong at 'epochs'"),
        (("fruit", "--backbone", "resnet18", "--weights", "no.safetensors"), "cannot be read"),
        (("painted-cats:lion", "--backbone", "resnet18"), "no data set 'painted-cats:lion'"),
    ],
)
def test_errors_are_one_sentence(place, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(place)
    run = whylens("train", *words, "--out", tmp_path / "m")
    assert run.exit_code == 1
    assert message in " ".join(run.stderr.split())
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_reports_it_and_says_how_to_go_on(place, tmp_path):
    command = [
        sys.executable, "-c", IN_BACKGROUND, "train", str(place / "fruit"),
        "--recipe", str(place / "slim.json"), "--epochs", "500", "--out", str(tmp_path / "m"),
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith("epoch 3"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "go on with the same command and --resume" in " ".join(err.split())
    report = read_report(tmp_path / "m")
    assert not report.complete
    assert 3 <= len(report.epochs) < 500
    assert any("stopped after" in note for note in report.notes)


def test_help_needs_nothing_heavy():
    code = (
        "import sys; sys.argv = ['whylens', 'train', '--help']\n"
        "import whylens.ui.cli.app\n"
        "try:\n    whylens.ui.cli.app.app()\nexcept SystemExit:\n    pass\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules or 'rich' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0
    assert "--resume" in run.stdout
