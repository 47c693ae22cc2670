"""The fold A network of your own: a file becomes the chosen model, or says all that disagrees."""

from __future__ import annotations

import gradio as gr
import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import ROOT
from tests.support.networks import seeded
from whylens.core.engine import Engine
from whylens.core.inputs.photo import read_photo
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.models.load import build, load
from whylens.core.registry import Registry
from whylens.ui.page.import_model import FAILED, importer

PHOTO = ROOT / "examples" / "photos" / "squirrel.jpg"


def form_values(path, **changes):
    empty = dict.fromkeys(
        ("name", "architecture", "labels", "size", "mean", "std", "crop", "interpolation", "unit"),
        "",
    )
    return {**empty, "path": str(path), "outputs": "classes", "photo": str(PHOTO), **changes}


def updates_of(handler):
    """Yield what a handler that fails says before."""
    with pytest.raises(gr.Error):
        yield from handler


def test_a_file_becomes_the_chosen_model_or_says_all_that_disagrees(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path / "models"))
    network = seeded(build("test_resnet", classes=3)).eval()
    save_file(network.state_dict(), tmp_path / "run7.safetensors")
    form = form_values(
        tmp_path / "run7.safetensors", labels="ant, bee, cat", name="mine", size="64"
    )
    run = importer(Engine(Registry({}, ())))
    *_, (status, box) = run(**form)
    assert status.startswith("Done: mine is chosen.")
    assert (box.value, "mine" in [name for _, name in box.choices]) == ("mine", True)
    assert "give “Mean”" in status
    assert "--" not in status
    backbone = load("mine")
    x, _ = photo_tensor(read_photo(PHOTO.read_bytes()), backbone.input_spec)
    with torch.no_grad():
        probabilities = network(x).softmax(1)[0]
    for label, probability in zip(("ant", "bee", "cat"), probabilities, strict=True):
        assert f"  {label} {100 * probability:.1f} %" in status
    labels = form_values(form["path"], name="tags", size="64", outputs="labels")
    *_, (status, _) = run(**labels)
    assert "Each label has a probability of its own." in status

    for changes, words in (
        ({"path": " "}, ["no path yet"]),
        ({"crop": "half"}, ["“Crop” is a share such as 0.875, not 'half'"]),
        ({"path": "/nowhere/at/all.pth"}, ["cannot be read: No such file"]),
        ({}, ["There is a model called 'mine' already. Give another “Name of the new model”"]),
        (
            {"name": "other", "labels": "a,b", "mean": "1,2", "outputs": "value"},
            ["2 things disagree", "“Mean” has 2 values", "“One number” reads one number"],
        ),
    ):
        *_, (status, _) = updates_of(run(**{**form, **changes}))
        assert status.startswith(FAILED)
        assert all(part in status for part in words), status
