"""Networks of which only answers are known: functions, and files of ONNX."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional
from typer.testing import CliRunner

import whylens
from tests.conftest import ROOT
from tests.support.networks import GapNet, seeded
from tests.support.onnx_files import FLOAT16, UINT8, onnx_file
from whylens.core.errors import BadArtifact, BadInput, NeedsNotMet, NotAllowed, NotInstalled
from whylens.core.models.checkpoints import checkpoint_folders, read_manifest
from whylens.core.models.import_options import ImportOptions
from whylens.core.models.import_weights import import_weights
from whylens.core.models.load import from_folder, load
from whylens.core.needs import Need
from whylens.core.storage.files import file_sha256
from whylens.core.train.training_jobs import start_fields
from whylens.ui.cli.app import app

PHOTO = ROOT / "examples" / "photos" / "cat.jpg"
SIZE = (24, 32)
PIXELS = np.random.default_rng(5).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
X = torch.from_numpy(PIXELS / np.float32(255)).permute(2, 0, 1)[None]
METHODS = ("occlusion", "rise", "lime", "kernel-shap")


@pytest.fixture(scope="module")
def net():
    return seeded(GapNet())


# --- functions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_function_has_the_map_of_the_network_that_it_calls(net, method):
    def scores(batch):
        assert batch.dtype == torch.float32
        return net(batch).detach().numpy()

    labels = ["ant", "bee", "cat"]
    params = {"occlusion": {"window": 8}, "rise": {"masks": 128}}.get(method, {})
    reference = whylens.explain(net, PIXELS, method, size=SIZE, mean=0, std=1, target=1, **params)
    actual = whylens.explain(
        scores, PIXELS, method, size=SIZE, labels=labels, target="bee", **params
    )
    largest = np.abs(reference.values).max()
    assert largest > 0
    np.testing.assert_allclose(actual.values, reference.values, atol=1e-4 * largest)
    assert actual.explanation.model.name == "scores"


def test_what_looks_inside_says_that_a_function_cannot_be_looked_into(net):
    names = whylens.methods(net.forward, size=SIZE)
    assert set(METHODS) <= set(names)
    assert {"grad-cam", "integrated-gradients", "cam", "attention-rollout"} <= set(
        names.unavailable
    )
    with pytest.raises(NeedsNotMet, match="gradients"):
        whylens.explain(net.forward, PIXELS, "integrated-gradients", size=SIZE)
    backbone = whylens.load_model(net.forward, size=SIZE)
    assert {Need.GRADIENTS, Need.SPATIAL_FEATURES} <= backbone.unmet.keys()
    assert (backbone.input_spec.mean, backbone.input_spec.std) == ((0.0,) * 3, (1.0,) * 3)
    doubled_net = whylens.load_model(lambda batch: 2 * net(batch), size=SIZE)
    assert len({backbone.identity.digest, doubled_net.identity.digest}) == 2


def test_probabilities_of_a_function_stay_what_they_are(net):
    why = whylens.explain(
        lambda batch: net(batch).softmax(1), PIXELS, "occlusion", window=8, size=SIZE
    )
    with torch.no_grad():
        probabilities = net(X).softmax(1)[0]
    assert why.probability == pytest.approx(float(probabilities.max()), rel=1e-5)
    assert "taken for probabilities" in why.note


def test_a_function_may_give_a_number_several_heads_or_a_failure(net):
    def heads(batch):
        return {"kind": net(batch), "age": net(batch).sum(1)}

    why = whylens.explain(heads, PIXELS, "occlusion", size=SIZE, output="age", unit="years")
    with torch.no_grad():
        assert why.score == pytest.approx(float(net(X).sum()), rel=1e-5)

    def failing(batch):
        raise KeyError("weights")

    with pytest.raises(BadArtifact, match="KeyError: 'weights'"):
        whylens.load_model(failing, size=SIZE)
    with pytest.raises(BadInput, match="a function or what load_model returned, not a type"):
        whylens.load_model(GapNet, size=SIZE)


# --- files of ONNX --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _runtime(request):
    if "onnx" in request.node.name:
        pytest.importorskip("onnxruntime", reason="the extra [onnx] is absent")


def parts(*, channels=3, classes=3, kind=np.float32):
    rng = np.random.default_rng(9)
    shapes = ((6, channels, 4, 4), (classes, 6), (classes,))
    return [rng.standard_normal(shape).astype(kind) for shape in shapes]


def expected(x, kernel, weight, bias):
    kernel, weight, bias = (torch.from_numpy(part).float() for part in (kernel, weight, bias))
    maps = functional.conv2d(x, kernel, stride=4).relu()
    return functional.linear(maps.mean((2, 3)), weight, bias)


def make(place, content, **options):
    (place / "net.onnx").write_bytes(content)
    options = {"out": place / "model", "size": "32x48", **options}
    return import_weights(ImportOptions(file=place / "net.onnx", photo=PHOTO, **options))


@pytest.mark.parametrize(
    ("shape", "size", "kind"),
    [
        (("n", 3, "h", "w"), "32x48", np.float32),
        ((1, 3, 32, 48), None, np.float32),
        ((4, 3, 32, 48), None, np.float32),
        (("n", 32, 48, 3), None, np.float32),
        (("n", 1, "h", "w"), "32x48", np.float32),
        (("n", 3, "h", "w"), "32x48", np.float16),
    ],
    ids=["any", "one by one", "four", "channels last", "grey", "16 bits"],
)
def test_an_onnx_file_becomes_a_model_with_the_same_scores(tmp_path, shape, size, kind):
    layers = parts(channels=1 if 1 in shape[1:] else 3, kind=kind)
    code = FLOAT16 if kind is np.float16 else 1
    imported = make(tmp_path, onnx_file(*layers, shape=shape, kind=code), size=size)
    manifest = read_manifest(imported.folder)
    assert (manifest.architecture, manifest.input_size) == ("onnx", (32, 48))
    assert manifest.sha256 == file_sha256(imported.folder / "model.onnx")
    assert manifest.labels == ("class 0", "class 1", "class 2")
    backbone = load(str(imported.folder))
    x = torch.randn(
        3, backbone.input_spec.channels, 32, 48, generator=torch.Generator().manual_seed(1)
    )
    tolerance = 2e-2 if kind is np.float16 else 1e-5
    torch.testing.assert_close(
        backbone.logits(x), expected(x, *layers), atol=tolerance, rtol=tolerance
    )
    assert Need.GRADIENTS in backbone.unmet
    with pytest.raises(BadInput, match="cannot learn further"):
        start_fields(imported.folder)


def test_an_onnx_file_is_explained_by_what_needs_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path))
    layers = parts()
    file = tmp_path / "net.onnx"
    file.write_bytes(onnx_file(*layers))
    ask = ["--labels", "ant,bee,cat", "--size", "32", "--mean", "0.5", "--std", "0.25"]
    ask += ["--crop", "1"]
    run = CliRunner().invoke(app, ["import", str(file), *ask, "--name", "mine"])
    assert run.exit_code == 0, run.output
    assert "--method" in run.output
    assert checkpoint_folders()["mine"] == tmp_path / "mine"
    backbone = load("mine")
    assert (backbone.labels, backbone.input_spec.mean) == (("ant", "bee", "cat"), (0.5,) * 3)
    why = whylens.explain("mine", PHOTO, "occlusion", target="bee", window=8, stride=8)
    torch_net = lambda batch: expected(batch, *layers)  # noqa: E731
    reference = whylens.explain(
        torch_net, why.explanation.question.photo.image(), "occlusion", target=1, window=8,
        stride=8, size=32, mean=0.5, std=0.25,
    )  # fmt: skip
    assert why.score == pytest.approx(reference.score, rel=1e-4)
    np.testing.assert_allclose(why.values, reference.values, atol=1e-4)
    unavailable = whylens.methods("mine").unavailable
    assert "grad-cam" in unavailable
    assert not set(METHODS) & set(unavailable)


def test_probabilities_of_an_onnx_file_stay_what_they_are(tmp_path):
    layers = parts()
    imported = make(tmp_path, onnx_file(*layers, softmax=True))
    assert "taken for probabilities" in " ".join(imported.notes)
    assert read_manifest(imported.folder).arguments == {"probabilities": True}
    backbone = from_folder(imported.folder)
    x = backbone.probe_inputs()
    probabilities = expected(x, *layers).softmax(1)
    torch.testing.assert_close(backbone.probabilities(backbone.logits(x)), probabilities)


def test_all_that_disagrees_with_an_onnx_file_is_listed_at_once(tmp_path):
    content = onnx_file(*parts(), shape=("n", 3, 32, 48), heads=("kind", "breed"))
    with pytest.raises(BadInput) as error:
        make(tmp_path, content, size="64", labels="a,b", architecture="resnet18")
    for words in (
        "Leave --architecture out",
        "several outputs that may be meant: kind, breed. Give --output",
        "reads inputs of 32 x 48 and no others",
        "gives 3 scores, but there are 2 labels",
    ):
        assert words in str(error.value)
    imported = make(tmp_path, content, size=None, output="breed")
    assert read_manifest(imported.folder).arguments == {"output": "breed"}
    with pytest.raises(BadInput, match="no output 'colour'"):
        make(tmp_path, content, size=None, output="colour", out=tmp_path / "other")


def test_an_onnx_file_that_is_damaged_or_no_network_for_pictures_is_refused(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="cannot be read as a single file of ONNX"):
        make(tmp_path, b"junk")
    with pytest.raises(BadInput, match="not pictures: one input"):
        make(tmp_path, onnx_file(*parts(), kind=UINT8))
    imported = make(tmp_path, onnx_file(*parts()))
    path = imported.folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0e")
    with pytest.raises(BadArtifact, match="another sha256"):
        from_folder(imported.folder)
    content = json.loads((imported.folder / "model.json").read_text())
    content["arguments"] = {"providers": "evil"}
    (imported.folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(BadArtifact, match="'providers' says nothing"):
        from_folder(imported.folder)
    with pytest.raises(NotAllowed, match=r"whylens import net.onnx"):
        load("net.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BadInput, match=r"extra \[onnx\]"):
        make(tmp_path, b"", out=tmp_path / "third")
    (imported.folder / "model.json").write_text(json.dumps({**content, "arguments": {}}))
    with pytest.raises(NotInstalled, match=r"extra \[onnx\]"):
        from_folder(imported.folder)
