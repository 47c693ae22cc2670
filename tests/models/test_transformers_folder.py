"""Tiny random image classifiers of transformers, saved to a folder and read from it."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import whylens
from tests.conftest import ROOT
from tests.support.quick import some_quick
from whylens.core.errors import BadArtifact, NotAllowed, NotInstalled
from whylens.core.inputs.photo import read_photo
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.models.load import load
from whylens.core.models.public_models import check_public_model
from whylens.core.needs import Need
from whylens.ui.cli.app import app

# Imported where it is first needed: a second of every process that only collects tests.
pytestmark = pytest.mark.skipif(
    find_spec("transformers") is None, reason="the extra [transformers] is absent"
)

PHOTO = ROOT / "examples" / "photos" / "cat.jpg"
LABELS = {0: "ant", 1: "bee", 2: "cat"}
NAMES = {"id2label": LABELS, "label2id": {v: k for k, v in LABELS.items()}}
TOKENS = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "image_size": 64, "patch_size": 8, **NAMES,
}  # fmt: skip
STAGES = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], **NAMES}
SQUARE = {"height": 64, "width": 64}


def networks():
    """Return configuration, network and processor of every family, by name."""
    import transformers as t

    squash = t.ViTImageProcessor(size=SQUARE)
    crop = t.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875)
    return {
        "vit": (t.ViTConfig(**TOKENS), t.ViTForImageClassification, squash),
        "deit": (
            t.DeiTConfig(**TOKENS), t.DeiTForImageClassification,
            t.DeiTImageProcessor(size={"height": 72, "width": 72}, crop_size=SQUARE),
        ),
        "beit": (t.BeitConfig(**TOKENS), t.BeitForImageClassification, squash),
        "dinov2": (
            t.Dinov2Config(**{k: v for k, v in TOKENS.items() if k != "intermediate_size"}),
            t.Dinov2ForImageClassification,
            t.BitImageProcessor(size={"shortest_edge": 72}, crop_size=SQUARE),
        ),
        "swin": (
            t.SwinConfig(
                embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, image_size=64,
                patch_size=4, **NAMES,
            ),
            t.SwinForImageClassification, squash,
        ),
        "convnext": (t.ConvNextConfig(**STAGES), t.ConvNextForImageClassification, crop),
        "resnet": (
            t.ResNetConfig(embedding_size=8, layer_type="basic", **STAGES),
            t.ResNetForImageClassification, crop,
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders by family, and what was saved in each."""
    place = tmp_path_factory.mktemp("transformers")
    originals = {}
    for name, (config, network_type, processor) in networks().items():
        with torch.random.fork_rng():
            torch.manual_seed(4)
            network = network_type(config).eval()
        network.save_pretrained(place / name)
        processor.save_pretrained(place / name)
        originals[name] = (network, processor)
    return place, originals


@pytest.mark.parametrize(
    "name",
    some_quick(
        ["vit", "deit", "beit", "dinov2", "swin", "convnext", "resnet"],
        lambda _, name: name in ("vit", "dinov2", "swin", "resnet"),
    ),
)
def test_a_folder_gives_the_network_its_labels_and_what_its_processor_does(folders, name):
    place, originals = folders
    network, processor = originals[name]
    backbone = load(str(place / name))
    assert backbone.labels == ("ant", "bee", "cat")
    assert backbone.name == name
    photo = read_photo(PHOTO.read_bytes())
    x, _ = photo_tensor(photo, backbone.input_spec)
    expected = processor(Image.fromarray(photo.pixels), return_tensors="pt")["pixel_values"]
    assert x.shape == expected.shape
    assert float((x - expected).abs().max()) < 0.03  # two grey levels
    with torch.no_grad():
        torch.testing.assert_close(backbone.logits(x), network(pixel_values=x).logits)


def test_it_is_explained_by_its_folder_and_refused_on_a_page(folders, tmp_path):
    place, _ = folders
    run = CliRunner().invoke(
        app,
        ["explain", str(PHOTO), "--model", str(place / "convnext"), "--method", "occlusion",
         "--target", "bee", "--param", "stride=32", "--out", str(tmp_path)],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    assert (
        json.loads((tmp_path / "occlusion" / "manifest.json").read_text())["target"]["index"] == 1
    )
    why = whylens.explain(place / "vit", PHOTO, "integrated-gradients", target="cat", steps=8)
    assert np.abs(why.values).max() > 0
    with pytest.raises(NotAllowed):
        check_public_model(str(place / "vit"), [])


@pytest.mark.parametrize(
    "name",
    [
        "vit",
        "deit",
        "swin",
        "resnet",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("beit", "dinov2", "convnext")),
    ],
)
def test_its_graph_cannot_be_traced_and_yet_it_is_cut_after_its_last_blocks(folders, name):
    place, originals = folders
    backbone = load(str(place / name))
    assert not backbone.unmet.keys() & {Need.SPATIAL_FEATURES, Need.GRADIENTS}
    x = backbone.probe_inputs()
    with torch.no_grad():
        expected = originals[name][0](pixel_values=x).logits
        torch.testing.assert_close(backbone.head(backbone.features(x)), expected)
    why = whylens.explain(place / name, PHOTO, "grad-cam", target="bee", signed=True)
    assert np.isfinite(why.values).all()
    assert np.abs(why.values).max() > 0


def test_the_map_of_a_network_with_a_linear_head_is_its_last_stage(folders):
    network, _ = folders[1]["resnet"]
    backbone = load(str(folders[0] / "resnet"))
    x = backbone.probe_inputs()
    with torch.no_grad():
        torch.testing.assert_close(
            backbone.features(x).map, network.resnet(pixel_values=x).last_hidden_state
        )
    assert Need.POOLED_LINEAR_HEAD not in backbone.unmet


def test_attention_is_read_where_every_token_attends_to_all(folders):
    for name in ("vit", "deit", "beit", "dinov2"):
        why = whylens.explain(folders[0] / name, PHOTO, "attention-rollout")
        assert why.values.shape == (8, 8)


def tiny(kind, labels, bias=None):
    """Return a network that was trained for a kind of problem, its scores far from chance."""
    import transformers as t

    names = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}}
    network = t.ViTForImageClassification(t.ViTConfig(**{**TOKENS, **names}, problem_type=kind))
    torch.manual_seed(4)
    with torch.no_grad():
        network.classifier.weight.normal_(0, 1)
        if bias is not None:
            network.classifier.bias.fill_(bias)
    return network.eval()


def both_ways(network, place):
    """Yield a network as read from its folder and as given, and its own answer to the photo."""
    import transformers as t

    network.save_pretrained(place)
    t.ViTImageProcessor(size=SQUARE).save_pretrained(place)
    for backbone in (load(str(place)), whylens.load_model(network, size=64, mean=0.5, std=0.5)):
        x, _ = photo_tensor(read_photo(PHOTO.read_bytes()), backbone.input_spec)
        with torch.no_grad():
            yield backbone, network(pixel_values=x).logits[0]


def test_a_regression_of_one_number_is_that_number(tmp_path):
    for backbone, wanted in both_ways(tiny("regression", {0: "age"}, bias=34.2), tmp_path):
        (score,) = whylens.predict(backbone, PHOTO)
        assert (backbone.outputs, score.label, score.probability) == ("value", "age", None)
        assert score.logit == pytest.approx(float(wanted), rel=1e-4)
    assert whylens.load_model(tiny("regression", {0: "LABEL_0"}), size=64).labels == ("value",)


def test_a_regression_of_several_numbers_is_refused_and_a_function_of_it_is_not(tmp_path):
    network = tiny("regression", LABELS)
    with pytest.raises(BadArtifact, match=r"3 numbers .* regression\..* target="):
        next(both_ways(network, tmp_path))
    with pytest.raises(BadArtifact, match=r"3 numbers .* regression\..* target="):
        whylens.load_model(network, size=64)
    why = whylens.explain(
        network, PHOTO, "saliency", target=lambda output: output.logits[:, 1], size=64
    )
    assert np.abs(why.values).max() > 0


def test_labels_that_may_hold_together_have_a_sigmoid_each(tmp_path):
    network = tiny("multi_label_classification", LABELS)
    for backbone, logits in both_ways(network, tmp_path):
        wanted = logits.sigmoid().tolist()
        assert abs(sum(wanted) - 1) > 0.05
        scores = {s.label: s.probability for s in whylens.predict(backbone, PHOTO)}
        assert backbone.outputs == "labels"
        assert [scores[label] for label in LABELS.values()] == pytest.approx(wanted, rel=1e-4)


def test_a_module_s_config_names_its_classes_unless_its_owner_does():
    network = tiny(None, LABELS)
    assert whylens.load_model(network, size=64).labels == ("ant", "bee", "cat")
    assert whylens.load_model(network, size=64, labels=["x", "y", "z"]).labels == ("x", "y", "z")
    assert whylens.load_model(torch.nn.Sequential(network), size=64).labels[0] == "ant"
    network.classifier = torch.nn.Linear(32, 4)
    backbone = whylens.load_model(network, size=64)
    assert backbone.labels == ("class 0", "class 1", "class 2", "class 3")
    assert any("names 3 labels, and it gives 4 scores" in n for n in backbone.identity.notes)
    network = tiny("regression", {0: "age"})
    assert whylens.load_model(network, size=64, labels=["no", "yes"]).outputs == "classes"
    network.config.id2label = {0: "a", 2: "b"}
    with pytest.raises(BadArtifact, match=r"not 0, 1, 2 and so on\. Correct its id2label"):
        whylens.load_model(network, size=64)
    assert whylens.load_model(network, size=64, labels=["age"]).labels == ("age",)


def copy_of(folder, place):
    copy = place / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def test_a_network_without_a_trained_head_is_refused(folders, tmp_path):
    network, processor = folders[1]["vit"]
    network.vit.save_pretrained(tmp_path / "trunk")
    processor.save_pretrained(tmp_path / "trunk")
    with pytest.raises(BadArtifact, match=r"lacks weights: .*classifier"):
        load(str(tmp_path / "trunk"))


def test_what_is_damaged_or_not_safetensors_is_refused_in_words(folders, tmp_path):
    folder = copy_of(folders[0] / "vit", tmp_path)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-9])
    with pytest.raises(BadArtifact, match="cannot be read as an image classifier"):
        load(str(folder))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadArtifact, match="nothing else is read"):
        load(str(folder))


def test_weights_in_several_files_are_told_to_be(folders, tmp_path):
    network, _ = folders[1]["vit"]
    network.save_pretrained(tmp_path, max_shard_size="20KB")
    with pytest.raises(BadArtifact, match=r"lie in several files.*max_shard_size"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_mark_of_byte_order_is_named(folders, tmp_path, name):
    folder = copy_of(folders[0] / "vit", tmp_path)
    (folder / name).write_text((folder / name).read_text(), "utf-8-sig")
    with pytest.raises(BadArtifact, match=f"^{name} of copy begins with a mark of byte order"):
        load(str(folder))


def test_code_of_a_folder_is_never_run(folders, tmp_path):
    folder = copy_of(folders[0] / "vit", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "mine",
        "auto_map": {
            "AutoConfig": "code.Mine", "AutoModelForImageClassification": "code.Mine",
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: ...\n")
    with pytest.raises(BadArtifact, match="cannot be read as an image classifier"):
        load(str(folder))
    assert not (tmp_path / "ran").exists()


def test_without_the_package_its_extra_is_named(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(NotInstalled, match=r"\[transformers\]"):
        load(str(folders[0] / "vit"))
