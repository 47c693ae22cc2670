"""Files of weights in every wrapping, damaged, hostile or of something else, as state dicts."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.support.weight_files import PHOTO, make, prefixed
from whylens.core.errors import BadArtifact, BadInput
from whylens.core.models import architectures
from whylens.core.models.import_options import ImportOptions
from whylens.core.models.import_weights import import_weights
from whylens.core.models.pickle_child import architecture_hints, unwrap
from whylens.core.models.state_dicts import read_state_dict, strip_prefixes

# --- wrappings ------------------------------------------------------------------------------------


METRIC = {"val_accuracy.correct": torch.zeros(4), "criterion.weight": torch.ones(3)}
WRAPPINGS = {
    "plain": lambda t: t,
    "state_dict": lambda t: {"epoch": 3, "state_dict": t, "optimizer": {"state": {0: t}}},
    "model": lambda t: {"model": t, "opt": {"hypers": []}},
    "fastai": lambda t: {"model": t, "opt": {"state": [{"grad_avg": torch.ones(2)}]}},
    "model_state_dict": lambda t: {"model_state_dict": t, "loss": torch.tensor(0.5)},
    "net": lambda t: {"net": t, "acc": 93.2},
    "averaged": lambda t: {
        "state_dict": {k: v * 2 for k, v in t.items()},
        "state_dict_ema": t,
        "arch": "test_resnet",
    },
    "nested": lambda t: {"model": {"state_dict": t}},
    "parallel": lambda t: prefixed("module.", t),
    "compiled": lambda t: prefixed("_orig_mod.", t),
    "compiled-parallel": lambda t: {"model": prefixed("_orig_mod.module.", t)},
    "lightning": lambda t: {
        "state_dict": {**prefixed("model.", t), **METRIC},
        "hyper_parameters": {"arch": "test_resnet", "lr": 0.1},
        "pytorch-lightning_version": "2.5.0",
    },
    "lightning-compiled": lambda t: {"state_dict": prefixed("net._orig_mod.backbone.", t)},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_wrapping_is_taken_off(wrapping, tensors):
    content, path = unwrap(WRAPPINGS[wrapping](tensors), torch.Tensor)
    levels = strip_prefixes(content)
    level, fit = architectures.best_level("test_resnet", levels)
    assert (fit.exact, fit.classes) == (True, 3)
    assert all(torch.equal(levels[level][name], value) for name, value in tensors.items())
    assert ("ema" in path) == (wrapping == "averaged")


def test_a_prefix_that_few_names_carry_is_part_of_them():
    names = {"model.0.weight": 1, "model.0.bias": 2, "head.weight": 3}
    assert strip_prefixes(names) == [names]
    assert strip_prefixes({"net.a": 1, "module.net.a": 2, "net.b": 3}) == [
        {"net.a": 1, "module.net.a": 2, "net.b": 3}
    ]


def test_of_a_teacher_and_its_student_the_teacher_is_taken(tmp_path):
    names = [f"block.{i}.weight" for i in range(5)]
    tensors = {f"student.backbone.{n}": torch.zeros(2) for n in names}
    tensors |= {f"teacher.backbone.{n}": torch.ones(2) for n in names} | {"centre": torch.ones(3)}
    save_file(tensors, tmp_path / "both.safetensors")
    state = read_state_dict(tmp_path / "both.safetensors")
    assert state.wrapper == "teacher"
    assert state.levels[-1].keys() == {n.removeprefix("block.") for n in names}
    assert all(t.eq(1).all() for t in state.levels[-1].values())
    # One of several parts of a network is no average of the others.
    parts = {f"{part}.{n}.{part}": torch.zeros(2) for part in ("teacher", "head") for n in names}
    save_file(parts, tmp_path / "parts.safetensors")
    assert read_state_dict(tmp_path / "parts.safetensors").wrapper == ""
    content = {"student": {"a": torch.zeros(1)}, "teacher": {"module.a": torch.ones(1)}, "epoch": 3}
    weights, path = unwrap(content, torch.Tensor)
    assert (weights.keys(), path) == ({"module.a"}, "teacher")


def test_whatever_word_all_names_carry_is_taken_off():
    names = {f"encoder.resnet.{i}.weight": i for i in range(20)}
    assert strip_prefixes(names)[2] == {f"{i}.weight": i for i in range(20)}
    assert strip_prefixes({}) == [{}]


def test_two_names_are_never_made_one():
    names = {f"model.{i}": i for i in range(20)} | {"0": 99}
    assert strip_prefixes(names) == [names]


def test_what_a_training_notes_of_its_architecture_is_read():
    assert architecture_hints({"arch": "resnet18"}) == ["resnet18"]
    assert architecture_hints({"args": argparse.Namespace(model="vit_x")}) == ["vit_x"]
    assert architecture_hints({"hyper_parameters": {"model_name": "m", "lr": 1}}) == ["m"]
    assert architecture_hints([torch.zeros(1)]) == []


# --- files ----------------------------------------------------------------------------------------


class Evil:
    """Runs a command where a pickle of it is trusted."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


# The test of two commands, in test_import.py, reads by the process that this is for; starting
# torch takes it seconds.
@pytest.mark.parametrize("in_process", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(
    tmp_path, tensors, zipped, in_process, request
):
    if in_process:
        request.getfixturevalue("in_process")
    marker, file = tmp_path / "ran", tmp_path / "evil.pth"
    torch.save(
        {"state_dict": tensors, "extra": Evil(marker)}, file, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(BadInput, match=r"asks for 'posix.system'.*could run code") as error:
        make(file, architecture="test_resnet")
    assert "torch.save(model.state_dict()" in str(error.value)
    assert not marker.exists()
    assert not (tmp_path / "model").exists()
    torch.load(file, weights_only=False)  # it is as dangerous as it looks
    assert marker.exists()


def test_a_whole_network_is_refused_with_three_lines_that_save_its_weights(
    tmp_path, network, in_process
):
    file = tmp_path / "whole.pt"
    torch.save(network, file)
    with pytest.raises(BadArtifact, match=r"timm\.models\.resnet\.ResNet") as error:
        read_state_dict(file)
    assert str(error.value).count("\n  ") == 3


def test_a_file_that_was_cut_short_is_refused_in_words(tmp_path, tensors, in_process):
    file = tmp_path / "cut.pth"
    torch.save(tensors, file)
    file.write_bytes(file.read_bytes()[:50_000])
    with pytest.raises(BadArtifact, match=r"cut\.pth is damaged"):
        read_state_dict(file)
    save_file(tensors, tmp_path / "cut.safetensors")
    content = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-5])
    with pytest.raises(BadArtifact, match="is not a safetensors file"):
        read_state_dict(tmp_path / "cut.safetensors")


def test_files_of_other_kinds_are_refused_with_what_to_do(tmp_path):
    (tmp_path / "export.pkl").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"(?s)fastai's export.*learn\.model\.state_dict\(\)"):
        read_state_dict(tmp_path / "export.pkl")
    with pytest.raises(BadInput, match="no file of weights"):
        read_state_dict(tmp_path / "net.onnx")
    with pytest.raises(BadInput, match=r"cannot be read: No such file"):
        read_state_dict(tmp_path / "none.pth")


@pytest.mark.parametrize("name", ["mine.bin", "mine.pth", "mine.ckpt"])
def test_safetensors_under_another_name_are_read(file, tensors, name):
    file = file.rename(file.with_name(name))
    assert read_state_dict(file).levels[0].keys() == tensors.keys()


def test_a_pickle_called_safetensors_or_tar_is_read(tmp_path, tensors, in_process, monkeypatch):
    monkeypatch.setenv("WHYLENS_HOME", str(tmp_path / "home"))
    for name in ("mine.safetensors", "model_best.pth.tar"):
        torch.save({"state_dict": tensors}, tmp_path / name)
        assert read_state_dict(tmp_path / name).levels[0].keys() == tensors.keys()
    options = ImportOptions(tmp_path / "model_best.pth.tar", photo=PHOTO)
    folder = import_weights(options).folder
    assert folder.name == tmp_path.name.replace("_", "-") or folder.name == tmp_path.name


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"hello", r"no file of torch's\. Copy it again")]
)
def test_what_is_no_file_of_torch_is_told_without_its_own_words(
    tmp_path, in_process, content, words
):
    (tmp_path / "mine.pth").write_bytes(content)
    with pytest.raises(BadArtifact, match=words):
        read_state_dict(tmp_path / "mine.pth")


def test_numbers_and_settings_beside_the_weights_do_no_harm(tmp_path, tensors, in_process):
    file = tmp_path / "last.ckpt"
    content = {
        "state_dict": prefixed("model.", tensors),
        "args": argparse.Namespace(model="test_resnet", lr=0.1),
        "best": np.float64(0.5),
    }
    torch.save(content, file)
    state = read_state_dict(file)
    assert state.levels[-1].keys() == tensors.keys()
    assert (state.wrapper, state.hints) == ("state_dict", ("test_resnet",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>", "web page"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_a_download_left_instead_of_weights_is_said(tmp_path, content, message, suffix):
    file = tmp_path / f"net{suffix}"
    file.write_bytes(content)
    with pytest.raises(BadArtifact, match=message):
        read_state_dict(file)
