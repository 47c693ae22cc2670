"""Files of weights made into models: what is written, what disagrees, labels and scores."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import whylens
from tests.conftest import ROOT
from tests.support.networks import seeded
from tests.support.weight_files import PHOTO, make, prefixed
from whylens.core.engine import Engine
from whylens.core.errors import BadArtifact, BadInput, NotAllowed, WeightsUnavailable
from whylens.core.explanation import Question
from whylens.core.inputs.photo import read_photo
from whylens.core.models import checkpoints
from whylens.core.models.black_box import ONNX_FILE
from whylens.core.models.checkpoints import (
    MANIFEST,
    WEIGHTS,
    CheckpointManifest,
    checkpoint_folders,
    checkpoint_places,
    new_model_place,
    read_manifest,
)
from whylens.core.models.import_options import ImportOptions
from whylens.core.models.import_weights import import_weights
from whylens.core.models.label_files import read_labels
from whylens.core.models.load import build, from_folder, load
from whylens.core.models.model_names import parse_model_name
from whylens.core.models.public_models import check_public_model
from whylens.core.storage.files import file_sha256
from whylens.core.targets import Target, target_of
from whylens.ui.cli.app import app

PHOTO_OF_A_CAT = read_photo(PHOTO.read_bytes())


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
    def fail(*_):
        raise BadArtifact("no")

    monkeypatch.setattr("whylens.core.models.import_weights._predict", fail)
    with pytest.raises(BadArtifact, match="no"):
        make(file)
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_model_is_never_written_over(file):
    make(file)
    with pytest.raises(BadInput, match=r"There is a model in .* already"):
        make(file)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, ONNX_FILE])
def test_no_file_that_lies_there_is_written_over_or_removed(file, tensors, name):
    mine = file.parent / "model" / name
    mine.parent.mkdir()
    mine.write_bytes(b"my own")
    with pytest.raises(BadInput, match=r"There is a .*model already.*Give another --name or --out"):
        make(file)
    save_file({**tensors, "fc.bias": tensors["fc.bias"] * torch.nan}, file)
    with pytest.raises(BadInput, match="There is a "):
        make(file)
    assert mine.read_bytes() == b"my own"
    assert [p.name for p in mine.parent.iterdir()] == [name]


@pytest.mark.parametrize("fails", ["the proof", "the last file"])
def test_an_import_that_fails_leaves_a_folder_of_the_user_as_it_was(file, monkeypatch, fails):
    def broken(*_):
        raise BadArtifact("no")

    if fails == "the proof":
        monkeypatch.setattr("whylens.core.models.import_weights._predict", broken)
    else:
        rename = Path.rename
        monkeypatch.setattr(
            Path, "rename", lambda a, b: broken() if a.name == MANIFEST else rename(a, b)
        )
    with pytest.raises(BadArtifact, match="no"):
        make(file, out=file.parent, name=file.parent.name)
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_folder_of_the_user_becomes_the_model_beside_what_is_in_it(file):
    (file.parent / "model").mkdir()
    (file.parent / "model" / "notes.txt").write_text("mine")
    imported = make(file)
    names = sorted(p.name for p in imported.folder.iterdir())
    assert names == [MANIFEST, WEIGHTS, "notes.txt"]
    assert imported.backbone.identity.folder == imported.folder
    assert imported.backbone.identity.digest == file_sha256(imported.folder / WEIGHTS)


@pytest.mark.parametrize("name", ["CON", "aux", "nul.v2", "Com1", "model."])
def test_a_name_that_no_folder_of_windows_has_is_refused(file, name):
    with pytest.raises(BadInput, match=r"no folder of Windows has it.*--name"):
        make(file, name=name)
    assert make(file, name="console", out=file.parent).folder.name == "console"


def test_weights_of_8_bits_are_read(tmp_path, tensors):
    small = {
        name: t.to(torch.float8_e4m3fn) if t.is_floating_point() else t
        for name, t in tensors.items()
    }
    save_file(small, tmp_path / "w.safetensors")
    weights = make(tmp_path / "w.safetensors").backbone.module.state_dict()
    assert torch.equal(weights["fc.weight"], small["fc.weight"].float())
    small["fc.bias"] = (tensors["fc.bias"] * torch.nan).to(torch.float8_e4m3fn)
    save_file(small, tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=r"not finite: fc\.bias"):
        make(tmp_path / "w.safetensors", out=tmp_path / "b")


# --- what disagrees -------------------------------------------------------------------------------


def test_everything_that_disagrees_is_said_at_once(tmp_path, tensors):
    wrong_tensors = {k: v.clone() for k, v in tensors.items() if k != "layer1.0.bn1.weight"}
    wrong_tensors["layer2.0.conv1.weight"] = torch.ones(1, 2, 3, 3)
    wrong_tensors["extra.weight"] = torch.ones(2)
    wrong_tensors["fc.bias"][0] = torch.nan
    save_file(wrong_tensors, tmp_path / "w.safetensors")
    with pytest.raises(BadInput) as error:
        import_weights(
            ImportOptions(
                file=tmp_path / "w.safetensors", photo=tmp_path / "none.jpg", out=tmp_path / "_m",
                architecture="test_resnet", labels="cat,dog", size="big", mean="0.1,0.2",
                std="x", crop=7.0, interpolation="magic",
            )
        )  # fmt: skip
    lines = str(error.value).splitlines()
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


@pytest.mark.parametrize(
    ("factor", "classes", "count"), [(1e-3, 24, 1), (100, 24, 0), (1e-3, 4, 0)]
)
def test_guesses_that_are_all_alike_are_said_to_be(tmp_path, factor, classes, count):
    tensors = seeded(build("test_resnet", classes=classes)).state_dict()
    tensors |= {name: factor * tensors[name] for name in ("fc.weight", "fc.bias")}
    save_file(tensors, tmp_path / "w.safetensors")
    labels = ",".join(f"thing {n}" for n in range(classes))
    doubts = [n for n in make(tmp_path / "w.safetensors", labels=labels).notes if "chance" in n]
    assert len(doubts) == count
    assert all("4.2 % at most, of 24 classes" in d and "--mean" in d for d in doubts), doubts


def test_an_input_that_the_network_cannot_take_is_refused_with_the_labels(tmp_path):
    save_file(build("test_vit", classes=3).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=r"(?s)fed photos of 100 x 100.*--size.*2 labels"):
        make(tmp_path / "w.safetensors", size="100", labels="a,b")


@pytest.mark.parametrize("head_name", ["fc.1", "head", "classifier.linear"])
def test_a_head_under_another_name_is_told_with_the_lines_that_rename_it(
    tmp_path, tensors, head_name
):
    renamed_tensors = {
        (name.replace("fc.", f"{head_name}.", 1) if name.startswith("fc.") else name): tensor
        for name, tensor in tensors.items()
    }
    save_file(renamed_tensors, tmp_path / "mine.safetensors")
    options = ImportOptions(tmp_path / "mine.safetensors", photo=PHOTO, architecture="test_resnet")
    with pytest.raises(BadInput, match=f"{re.escape(head_name)} may be its classifier") as error:
        import_weights(options)
    line = re.search(r"^ +(weights\[.*)$", str(error.value), re.MULTILINE)
    for part in ("weight", "bias"):
        exec(line.group(1), {"weights": renamed_tensors, "part": part})
    assert renamed_tensors.keys() == tensors.keys()


# --- labels, and what the scores are of -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "cat\n dog \n\nowl\n"),
        ("a.json", '["cat", "dog", "owl"]'),
        ("b.json", '{"1": "dog", "0": "cat", "2": "owl"}'),
        ("c.json", '{"owl": 2, "cat": 0, "dog": 1}'),
        ("d.json", '{"0": ["n1", "cat"], "1": ["n2", "dog"], "2": ["n3", "owl"]}'),
        ("b.txt", "dog 1\ncat 0\nowl 2\n"),
        ("c.txt", "dog\t1\ncat\t0\nowl\t2\n"),
        ("d.txt", "2: dog\n1: cat\n3: owl"),
        ("e.csv", "1,dog\n0,cat\n2,owl"),
        (
            "e.json",
            '[{"id": 7, "name": "dog"}, {"id": 1, "name": "cat"}, {"id": 9, "name": "owl"}]',
        ),
        ("f.json", json.dumps({"categories": [{"name": n} for n in ("cat", "dog", "owl")]})),
        ("config.json", '{"model_type": "vit", "id2label": {"1": "dog", "0": "cat", "2": "owl"}}'),
    ],
)  # fmt: skip
def test_labels_are_read_from_lines_and_json(tmp_path, name, content):
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / name).write_text(content, encoding)
        assert read_labels(str(tmp_path / name)) == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    "lines", ["class 1\nclass 0", "Boeing 737\nAirbus 320", "cat 0\ndog 1\nowl", "class 0"]
)
def test_a_number_that_belongs_to_a_name_is_no_index(tmp_path, lines):
    (tmp_path / "a.txt").write_text(lines)
    assert read_labels(str(tmp_path / "a.txt")) == tuple(lines.splitlines())


def test_more_labels_than_a_file_s_name_is_long_are_labels():
    labels = tuple(f"thing {n}" for n in range(99))
    assert read_labels(",".join(labels)) == labels


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "café\ncat".encode("latin-1"), "a.txt is not in UTF-8.* Save it as UTF-8"),
        ("a.txt", "cat\ndog".encode("utf-16-le"), "a.txt is not in UTF-8"),
        ("a.txt", b"0 1\n1 2\n2 0", "which of the two numbers"),
        ("a.json", b'["cat", "", "owl"]', "a.json has an empty label, number 1"),
        ("a.json", b'["cat", null]', "None is no label"),
        ("a.json", b'[{"id": 0, "title": "cat"}]', "None is no label"),
        ("a.json", b'[{"id": 0, "name": "cat"}, {"id": 0, "name": "dog"}]', "one id is given"),
    ],
)
def test_labels_that_would_be_wrong_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=words):
        read_labels(str(tmp_path / name))
    with pytest.raises(BadInput, match="--labels has an empty label, number 1"):
        read_labels("a,,c")


def test_labels_of_a_file_are_written(file):
    (file.parent / "a.txt").write_text("cat\ndog\nowl\n")
    manifest = read_manifest(make(file, labels=str(file.parent / "a.txt")).folder)
    assert manifest.labels == ("cat", "dog", "owl")


def test_labels_that_cannot_be_read_are_refused(file):
    for content in ('{"0": "cat", "2": "owl"}', "3", "{"):
        (file.parent / "l.json").write_text(content)
        with pytest.raises(BadInput, match="holds no labels"):
            make(file, labels=str(file.parent / "l.json"))
    with pytest.raises(BadInput, match="There is no file of labels"):
        make(file, labels="classes.txt")


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64)))


def test_labels_that_may_hold_together_have_a_sigmoid_each(file, monkeypatch):
    imported = make(file, labels="cat,dog,owl", outputs="labels")
    engine, name = Engine(), str(imported.folder)
    assert engine.card(name).outputs == "labels"
    question = Question(name, PHOTO_OF_A_CAT, target=1, quantity="probability")
    scores = engine.predict(question).classes
    expected = sigmoid([score.logit for score in scores])
    assert [score.probability for score in scores] == pytest.approx(expected, rel=1e-5)
    assert [p.probability for p in imported.predictions] == pytest.approx(expected, rel=1e-5)
    assert abs(sum(expected) - 1) > 0.05
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


@pytest.mark.slow  # the test of two commands ends with one
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
