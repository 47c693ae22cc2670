"""`whylens fit`: from pictures to artifacts beside a checkpoint, and one sentence for all else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.support.browser import toy_checkpoint
from tests.support.pictures import Tinted
from whylens.core.storage.artifacts import is_artifact
from whylens.ui.cli.app import app

LABELS = ("ant", "bee", "cat")


@pytest.fixture
def place(tmp_path, monkeypatch):
    toy_checkpoint(tmp_path / "models" / "toy", labels=LABELS)
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path / "models"))
    return tmp_path


@pytest.fixture
def photos(tmp_path):
    data = Tinted()
    for i, item in enumerate(data.items):
        folder = tmp_path / "photos" / data.labels[item.label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(data.pixels(i))).save(folder / f"{i}.png")
    return tmp_path / "photos"


def run(*words):
    return CliRunner().invoke(app, ["fit", *map(str, words)])


def test_what_was_fitted_lies_beside_the_checkpoint_and_is_used(place, photos):
    result = run("toy", photos, "--method", "twin", "--param", "limit=12")
    assert result.exit_code == 0, result.output
    assert is_artifact(place / "models" / "toy" / "twin")
    from whylens.core.engine import Engine
    from whylens.core.explanation import Question

    question = Question("toy", Tinted().pixels(0))
    *_, answer = Engine().explain(question, "twin")
    assert {item.key.split("/")[0] for item in answer.result.items} <= set(LABELS)


def test_a_folder_that_no_search_finds_keeps_what_its_model_was_fitted_with(
    place, photos, monkeypatch
):
    folder = (place / "models").rename(place / "elsewhere") / "toy"
    monkeypatch.delenv("WHYLENS_CHECKPOINTS")
    result = run(folder, photos, "--method", "twin", "--param", "limit=12")
    assert result.exit_code == 0, result.output
    assert is_artifact(folder / "twin")
    from whylens.core.engine import Engine
    from whylens.core.explanation import Question

    *_, answer = Engine().explain(Question(str(folder), Tinted().pixels(0)), "twin")
    assert answer.result.items


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("toy", "nowhere"), "nowhere"),
        (("toy", "PHOTOS", "--method", "cam"), "needs nothing but the model"),
        (("toy", "PHOTOS", "--method", "twin", "--param", "limits=3"), "no parameter 'limits'"),
        (("toy", "PHOTOS", "--param", "limit"), "takes name=value"),
        (("toys", "PHOTOS", "--method", "twin"), "toys"),
    ],
)
def test_mistakes_are_told_in_one_sentence(place, photos, words, message):
    result = run(*(photos if word == "PHOTOS" else word for word in words))
    assert result.exit_code == 1
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output
