"""Files of weights in every wrapping, damaged, hostile or of something else, made into models."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import whylens
from tests.conftest import ROOT
from tests.support.networks import seeded
from whylens.core.engine import Engine
from whylens.core.errors import BadArtifact, BadInput, NotAllowed, WeightsUnavailable
from whylens.core.explanation import Question
from whylens.core.inputs.photo import read_photo
from whylens.core.models import architectures, checkpoints
from whylens.core.models.architectures import compare, find_fits, read_index
from whylens.core.models.checkpoints import (
    WEIGHTS,
    CheckpointManifest,
    checkpoint_folders,
    checkpoint_places,
    new_model_place,
    read_manifest,
)
from whylens.core.models.import_options import ImportOptions
from whylens.core.models.import_weights import import_weights
from whylens.core.models.load import build, from_folder, load
from whylens.core.models.model_names import (
    parse_model_name,
    timm_architectures,
    torchvision_names,
)
from whylens.core.models.pickle_child import architecture_hints, convert, unwrap
from whylens.core.models.public_models import check_public_model
from whylens.core.models.random_weights import randomize_weights
from whylens.core.models.state_dicts import read_state_dict, strip_prefixes
from whylens.core.needs import Need
from whylens.core.storage.files import file_sha256
from whylens.core.targets import Target, target_of
from whylens.ui.cli.app import app

PHOTO = ROOT / "examples" / "photos" / "cat.jpg"
PHOTO_OF_A_CAT = read_photo(PHOTO.read_bytes())


@pytest.fixture(scope="module")
def network():
    """A network of three classes, each tensor of its own values."""
    return seeded(build("test_resnet", classes=3))


@pytest.fixture(scope="module")
def tensors(network):
    return network.state_dict()


@pytest.fixture
def file(tmp_path, tensors):
    save_file(tensors, tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


@pytest.fixture
def in_process(monkeypatch):
    """Pickles are read here, without limits: starting torch anew takes seconds."""

    def run(file, place):
        try:
            report = convert(str(file), Path(place) / "weights.safetensors")
        except Exception as exc:  # noqa: BLE001 - as the child does
            report = {"error": type(exc).__name__, "message": str(exc)}
        (Path(place) / "report.json").write_text(json.dumps(report))
        return 0

    monkeypatch.setattr("whylens.core.models.state_dicts._run_child", run)


def make(file: Path, **options):
    """Return what `file` is made into, below its own folder."""
    options.setdefault("out", file.parent / "model")
    return import_weights(ImportOptions(file=file, photo=PHOTO, **options))


def prefixed(prefix: str, tensors: dict) -> dict:
    return {prefix + name: value for name, value in tensors.items()}


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
    found, path = unwrap(content, torch.Tensor)
    assert (found.keys(), path) == ({"module.a"}, "teacher")


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


# The test of two commands reads by the process that this is for; starting torch takes it seconds.
@pytest.mark.parametrize("here", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(
    tmp_path, tensors, zipped, here, request
):
    if here:
        request.getfixturevalue("in_process")
    marker, file = tmp_path / "ran", tmp_path / "evil.pth"
    torch.save(
        {"state_dict": tensors, "extra": Evil(marker)}, file, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(BadInput, match=r"asks for 'posix.system'.*could run code") as caught:
        make(file, architecture="test_resnet")
    assert "torch.save(model.state_dict()" in str(caught.value)
    assert not marker.exists()
    assert not (tmp_path / "model").exists()
    torch.load(file, weights_only=False)  # it is as dangerous as it looks
    assert marker.exists()


def test_a_whole_network_is_refused_with_three_lines_that_save_its_weights(
    tmp_path, network, in_process
):
    file = tmp_path / "whole.pt"
    torch.save(network, file)
    with pytest.raises(BadArtifact, match=r"timm\.models\.resnet\.ResNet") as caught:
        read_state_dict(file)
    assert str(caught.value).count("\n  ") == 3


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


@pytest.mark.parametrize("theirs", ["fc.1", "head", "classifier.linear"])
def test_a_head_under_another_name_is_told_with_the_lines_that_rename_it(tmp_path, tensors, theirs):
    renamed = {
        (name.replace("fc.", f"{theirs}.", 1) if name.startswith("fc.") else name): tensor
        for name, tensor in tensors.items()
    }
    save_file(renamed, tmp_path / "mine.safetensors")
    options = ImportOptions(tmp_path / "mine.safetensors", photo=PHOTO, architecture="test_resnet")
    with pytest.raises(BadInput, match=f"{re.escape(theirs)} may be its classifier") as caught:
        import_weights(options)
    line = re.search(r"^ +(weights\[.*)$", str(caught.value), re.MULTILINE)
    for part in ("weight", "bias"):
        exec(line.group(1), {"weights": renamed, "part": part})
    assert renamed.keys() == tensors.keys()


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


# --- from a file to a map -------------------------------------------------------------------------


def test_a_pth_of_a_parallel_training_becomes_a_map_in_two_commands(tmp_path, tensors, monkeypatch):
    monkeypatch.setenv("WHYLENS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WHYLENS_CHECKPOINTS", raising=False)
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": prefixed("module.", tensors)}, tmp_path / "run 7.pth")
    run = CliRunner().invoke(app, ["import", "run 7.pth", "--labels", "cat,dog,owl"])
    assert run.exit_code == 0, run.output
    assert "It is a test_resnet" in run.stdout
    assert "'module.' was taken off" in run.stdout
    assert "Assumed, as timm feeds test_resnet: size 160 x 160" in run.stdout
    assert (
        sum(line.strip().endswith(("cat", "dog", "owl")) for line in run.stdout.splitlines()) == 3
    )
    command = run.stdout.strip().splitlines()[-1].split()
    assert command[1:3] == ["explain", "photo.jpg"]
    assert command[3:] == ["--method", "grad-cam", "--model", "run-7"]
    run = CliRunner().invoke(
        app, [*command[1:2], str(PHOTO), *command[3:], "--target", "dog", "--out", "out"]
    )
    assert run.exit_code == 0, run.output
    manifest = json.loads((tmp_path / "out" / "grad-cam" / "manifest.json").read_text())
    assert manifest["target"]["label"] == "dog"


def test_what_is_written_is_the_network_of_the_file(file, network, tensors):
    imported = make(file, labels="cat,dog,owl", size="96x80", mean="0.5", std="0.1,0.2,0.3")
    manifest = read_manifest(imported.folder)
    assert manifest.sha256 == file_sha256(imported.folder / WEIGHTS)
    assert (manifest.input_size, manifest.mean, manifest.std) == (
        (96, 80),
        (0.5, 0.5, 0.5),
        (0.1, 0.2, 0.3),
    )
    backbone = from_folder(imported.folder)
    x = backbone.probe_inputs()
    torch.testing.assert_close(backbone.logits(x), network.eval()(x))
    assert sorted(score.label for score in imported.predictions) == ["cat", "dog", "owl"]
    assert sum(score.probability for score in imported.predictions) == pytest.approx(1)
    assert imported.model == str(imported.folder)  # no search finds it there


def test_an_import_that_fails_leaves_nothing(file, monkeypatch):
    def broken(*_):
        raise BadArtifact("no")

    monkeypatch.setattr("whylens.core.models.import_weights._predict", broken)
    with pytest.raises(BadArtifact, match="no"):
        make(file)
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_model_is_never_written_over(file):
    make(file)
    with pytest.raises(BadInput, match=r"There is a model in .* already"):
        make(file)


# --- what disagrees -------------------------------------------------------------------------------


def test_everything_that_disagrees_is_said_at_once(tmp_path, tensors):
    broken = {k: v.clone() for k, v in tensors.items() if k != "layer1.0.bn1.weight"}
    broken["layer2.0.conv1.weight"] = torch.ones(1, 2, 3, 3)
    broken["extra.weight"] = torch.ones(2)
    broken["fc.bias"][0] = torch.nan
    save_file(broken, tmp_path / "w.safetensors")
    with pytest.raises(BadInput) as caught:
        import_weights(
            ImportOptions(
                file=tmp_path / "w.safetensors", photo=tmp_path / "none.jpg", out=tmp_path / "_m",
                architecture="test_resnet", labels="cat,dog", size="big", mean="0.1,0.2",
                std="x", crop=7.0, interpolation="magic",
            )
        )  # fmt: skip
    lines = str(caught.value).splitlines()
    assert lines[0] == f"w.safetensors cannot be imported; {len(lines) - 1} things disagree:"
    for words in (
        "'_m' cannot be a model's name",
        "The photo .*none.jpg cannot be read",
        "--size is 224, or 224x160",
        "--std is a number per channel",
        r"1 tensor of test_resnet missing: layer1\.0\.bn1\.weight\. Give",
        r"1 tensor unknown to test_resnet: extra\.weight\. Give",
        r"1 tensor of another shape: layer2\.0\.conv1\.weight is 1 x 2 x 3 x 3, not ",
        r"1 tensor with values that are not finite: fc\.bias",
        "--mean has 2 values, but the first layer reads 3 channels",
        "--crop cannot be used",
        "--interpolation cannot be used",
        "Its head gives 3 scores, but there are 2 labels",
    ):
        assert any(re.search(words, line) for line in lines[1:]), words
    assert len(lines) == 13


def test_another_architecture_is_refused_with_what_differs(file):
    with pytest.raises(BadInput, match=r"(?s)missing.*unknown to vgg11.*Give the --architecture"):
        make(file, architecture="vgg11")
    with pytest.raises(BadInput, match=r"no known architecture.*Did you mean"):
        make(file, architecture="test_resnett")


def test_tensors_of_nothing_known_are_refused_in_words(tmp_path):
    save_file({"my.layer": torch.ones(3, 4)}, tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=r"no architecture of timm or torchvision.*my\.layer"):
        make(tmp_path / "w.safetensors")


def test_an_input_that_the_network_cannot_take_is_refused_with_the_labels(tmp_path):
    save_file(build("test_vit", classes=3).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=r"(?s)fed photos of 100 x 100.*--size.*2 labels"):
        make(tmp_path / "w.safetensors", size="100", labels="a,b")


# --- what is found out ----------------------------------------------------------------------------


QUICK = ["test_vit", "test_efficientnet", "torchvision:squeezenet1_1", "test_convnext"]
LONG = [
    "mobilenetv3_small_050", "resnet18", "resnet50", "torchvision:vgg11", "densenet121",
    "torchvision:mobilenet_v3_small", "efficientnet_b0", "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224", "regnety_002", "mixer_s32_224", "ghostnet_050",
    "torchvision:densenet121", "mobilevit_xxs", "deit_tiny_distilled_patch16_224",
]  # fmt: skip


@pytest.mark.parametrize("name", QUICK + [pytest.param(n, marks=pytest.mark.slow) for n in LONG])
def test_the_architecture_is_found_out_from_the_tensors(name):
    with torch.device("meta"):
        tensors = build(name, classes=7).state_dict()
    fits = find_fits([tensors])
    assert all(fit.exact for _, fit in fits)
    assert name in [fit.architecture for _, fit in fits]
    assert fits[0][1].classes == 7


def test_of_those_that_fit_the_plainest_is_taken_unless_the_file_names_another():
    with torch.device("meta"):
        tensors = build("torchvision:resnet18", classes=5).state_dict()
    assert find_fits([tensors])[0][1].architecture == "resnet18"
    names = [fit.architecture for _, fit in find_fits([tensors])]
    assert "torchvision:resnet18" in names


def test_the_name_of_the_file_decides_between_those_that_fit(monkeypatch):
    pair = ["efficientnet_b0", "tf_efficientnet_b0"]
    monkeypatch.setattr(architectures, "candidates", lambda levels: pair)
    with torch.device("meta"):
        tensors = build("tf_efficientnet_b0", classes=5).state_dict()
    assert [fit.architecture for _, fit in find_fits([tensors])] == pair
    names = [fit.architecture for _, fit in find_fits([tensors], ["tf_efficientnet-b0_run3"])]
    assert names == pair[::-1]


class ByHand(nn.Module):
    """What fastai's documentation prints of `vision_learner(dls, resnet18)`, written out."""

    def __init__(self) -> None:
        super().__init__()
        resnet = torchvision.models.resnet18(weights=None)
        self.body = nn.Sequential(
            resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool,
            resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4,
        )  # fmt: skip
        self.average, self.maximum = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.first, self.second = nn.BatchNorm1d(1024), nn.BatchNorm1d(512)
        self.hidden, self.last = nn.Linear(1024, 512, bias=False), nn.Linear(512, 3, bias=False)

    def forward(self, x):
        cells = self.body(x)
        pooled = torch.cat([self.maximum(cells), self.average(cells)], 1).flatten(1)
        return self.last(self.second(torch.relu(self.hidden(self.first(pooled)))))

    def saved(self) -> dict:
        """Return what `learn.save` writes: the names are places in two sequences."""
        names = {
            "body.": "0.", "first.": "1.2.", "hidden.": "1.4.", "second.": "1.6.", "last.": "1.8.",
        }  # fmt: skip
        tensors = {}
        for name, value in self.state_dict().items():
            (old,) = (old for old in names if name.startswith(old))
            tensors[names[old] + name.removeprefix(old)] = value
        return {"model": tensors, "opt": {"hypers": [{"lr": 0.001}]}}


def test_what_fastai_saves_is_recognised_and_computes_the_same(tmp_path, in_process):
    network = randomize_weights(
        ByHand(), seed=3, probe=torch.rand(8, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    ).eval()
    torch.save(network.saved(), tmp_path / "fast.pth")
    made = make(tmp_path / "fast.pth", labels="cat,dog,cow", size="96")
    assert "It is a fastai:resnet18: all its 132 tensors" in " ".join(made.notes)
    assert "as fastai feeds fastai:resnet18: mean 0.485" in " ".join(made.notes)
    assert made.backbone.input_spec.crop == 1
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = network(x)
        torch.testing.assert_close(made.backbone.logits(x), wanted)
    assert float(wanted.std()) > 0.01
    assert made.backbone.why_not(frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})) is None
    with pytest.raises(BadArtifact, match="no known architecture"):
        build("fastai:vgg16", classes=2)


def test_the_index_knows_what_is_installed():
    index = read_index()
    every_name = {*timm_architectures(), *(f"torchvision:{n}" for n in torchvision_names())}
    assert len(every_name - index.keys()) <= 0.02 * len(every_name), "write the index anew"
    for name in ("test_resnet", "torchvision:squeezenet1_0", "fastai:resnet18"):
        with torch.device("meta"):
            state = build(name, classes=1000).state_dict()
        assert index[name] == architectures.sketch({k: tuple(v.shape) for k, v in state.items()})


def test_channels_and_size_are_read_off_the_tensors():
    grey = build("test_resnet", classes=3, arguments={"in_chans": 1}).state_dict()
    fit = compare("test_resnet", grey)
    assert (fit.exact, fit.arguments) == (True, {"in_chans": 1})
    large = build("test_vit", classes=3, arguments={"img_size": 96}).state_dict()
    fit = compare("test_vit", large)
    assert (fit.exact, fit.arguments) == (True, {"img_size": 96})


def test_a_network_of_grey_photos_reads_them(tmp_path):
    grey = build("test_resnet", classes=3, arguments={"in_chans": 1}).state_dict()
    save_file(grey, tmp_path / "w.safetensors")
    manifest = read_manifest(make(tmp_path / "w.safetensors").folder)
    assert (len(manifest.mean), dict(manifest.arguments)) == (1, {"in_chans": 1})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "cat\n dog \n\nowl\n"),
        ("a.json", '["cat", "dog", "owl"]'),
        ("b.json", '{"1": "dog", "0": "cat", "2": "owl"}'),
        ("c.json", '{"owl": 2, "cat": 0, "dog": 1}'),
        ("d.json", '{"0": ["n1", "cat"], "1": ["n2", "dog"], "2": ["n3", "owl"]}'),
    ],
)
def test_labels_are_read_from_lines_and_json(file, name, content):
    (file.parent / name).write_text(content)
    manifest = read_manifest(make(file, labels=str(file.parent / name)).folder)
    assert manifest.labels == ("cat", "dog", "owl")


def test_labels_that_cannot_be_read_are_refused(file):
    for content in ('{"0": "cat", "2": "owl"}', "3", "{"):
        (file.parent / "l.json").write_text(content)
        with pytest.raises(BadInput, match="holds no labels"):
            make(file, labels=str(file.parent / "l.json"))
    with pytest.raises(BadInput, match="There is no file of labels"):
        make(file, labels="classes.txt")


# --- what the scores are of -----------------------------------------------------------------------


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64)))


def test_labels_that_may_hold_together_have_a_sigmoid_each(file, monkeypatch):
    imported = make(file, labels="cat,dog,owl", outputs="labels")
    engine, name = Engine(), str(imported.folder)
    assert engine.card(name).outputs == "labels"
    question = Question(name, PHOTO_OF_A_CAT, target=1, quantity="probability")
    scores = engine.predict(question).classes
    wanted = sigmoid([score.logit for score in scores])
    assert [score.probability for score in scores] == pytest.approx(wanted, rel=1e-5)
    assert [p.probability for p in imported.predictions] == pytest.approx(wanted, rel=1e-5)
    assert abs(sum(wanted) - 1) > 0.05
    *_, answer = engine.explain(question, "occlusion", {"stride": 64})
    dog = next(score.probability for score in scores if score.index == 1)
    assert (answer.probability, answer.score) == pytest.approx((dog, dog), rel=1e-4)
    run = CliRunner().invoke(
        app, ["explain", str(PHOTO), "--model", name, "--method", "grad-cam",
              "--out", str(file.parent / "out")],
    )  # fmt: skip
    sure = [
        f"{score.label} {100 * score.probability:.1f} %"
        for score in scores
        if score.probability >= 0.5
    ]
    assert f"cat.jpg  {', '.join(sure) or scores[0].label}" in run.stderr
    assert "Each label has a probability of its own." in run.stderr


def test_the_probability_of_a_label_does_not_hang_on_the_others():
    logits = torch.tensor([[2.0, -1.0, 5.0]])
    target = Target(1, "probability", outputs="labels")
    assert float(target.score(logits)) == pytest.approx(float(sigmoid(-1)))
    assert float(Target(1, "probability").score(logits)) < 0.01
    assert target_of(logits[0], None, "probability", None, "labels").outputs == "labels"


def test_a_single_score_is_that_of_one_label(tmp_path):
    module = seeded(build("test_resnet", classes=1))
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    backbone = from_folder(make(tmp_path / "w.safetensors", labels="malignant").folder)
    assert backbone.labels == ("not malignant", "malignant")
    x = backbone.probe_inputs()
    z = module.eval()(x).detach().numpy()[:, 0]
    probabilities = backbone.probabilities(backbone.logits(x)).detach().numpy()
    assert probabilities[:, 1] == pytest.approx(sigmoid(z), rel=1e-5)
    assert probabilities.sum(1) == pytest.approx(1)


# --- folders as models ----------------------------------------------------------------------------


def test_a_folder_anywhere_is_a_model_by_its_path(file, tmp_path, monkeypatch):
    folder = make(file, labels="cat,dog,owl").folder
    assert load(str(folder)).labels == ("cat", "dog", "owl")
    assert whylens.predict(folder, PHOTO) == whylens.predict(str(folder), PHOTO)
    monkeypatch.chdir(tmp_path)
    assert load("model").name == load("./model").name == "model"
    run = CliRunner().invoke(
        app,
        ["explain", str(PHOTO), "--model", "./model", "--method", "grad-cam", "--out", "out"],
    )
    assert run.exit_code == 0, run.output
    with pytest.raises(NotAllowed, match="is not a model name"):
        check_public_model(str(folder), checkpoint_folders())


def test_without_a_home_the_models_of_the_shipped_folder_remain(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("WHYLENS_HOME")
    monkeypatch.delenv("WHYLENS_CHECKPOINTS", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert checkpoint_places() == [checkpoints.SHIPPED]
    assert new_model_place() == checkpoints.SHIPPED
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert new_model_place() == Path("/home/me/.whylens/checkpoints")


def test_a_folder_that_is_called_as_an_architecture_does_not_hide_it(file, tmp_path, monkeypatch):
    make(file, out=tmp_path / "test_resnet", labels="cat,dog,owl")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsUnavailable):  # timm's own, which are not on this disk
        load("test_resnet")
    assert load("./test_resnet").labels == ("cat", "dog", "owl")


@pytest.mark.parametrize("text", ["my.pth", "/data/my model.ckpt", "a.safetensors"])
def test_a_refused_file_names_the_command_that_makes_a_model_of_it(text):
    for ask in (parse_model_name, load, lambda t: check_public_model(t, [])):
        with pytest.raises(NotAllowed, match=r"whylens import .*--name my-model"):
            ask(text)


def test_every_field_of_a_manifest_is_in_the_docs():
    page = (ROOT / "docs" / "tutorials" / "my-own-model.md").read_text()
    table = page[page.index("| Field |") :].split("\n\n")[0]
    rows = [line.split("|")[1].strip().strip("`") for line in table.splitlines()[2:]]
    assert sorted(rows) == sorted(CheckpointManifest.model_fields)
    example = page[page.index("```text\n{") + 8 :].split("```")[0]
    CheckpointManifest.model_validate_json(example).input_spec()


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
