"""Names, manifests and weights as other programs write them: read, or refused with the fix."""

from __future__ import annotations

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

import whylens
from tests.support.pictures import Colours
from whylens.core.errors import BadArtifact, BadInput, CoreError, NotAllowed, UnknownName
from whylens.core.inputs.spec import InputSpec
from whylens.core.models import load as loading
from whylens.core.models.checkpoints import MANIFEST, place_problems, write_checkpoint
from whylens.core.models.load import from_folder, load
from whylens.core.models.model_names import near_names, parse_model_name
from whylens.core.storage.files import file_sha256
from whylens.core.train import network
from whylens.core.train.network import RandomState, build_network, fetch_start
from whylens.core.train.recipe import Recipe
from whylens.core.train.run import check_can_start

SLIM = {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16)}
DESCRIPTION = {
    "architecture": "resnet18",
    "arguments": SLIM,
    "input_size": [32, 32],
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "labels": ["Hündin", "cat"],
    "licence": "mine",
}


def slim(classes=2):
    torch.manual_seed(0)
    return timm.create_model("resnet18", num_classes=classes, **SLIM)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path / "own"))
    write_checkpoint(tmp_path / "own" / "mine", slim().state_dict(), DESCRIPTION)
    return tmp_path / "own" / "mine"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ResNet18", "resnet18"),
        ("efficientnet-b0", "efficientnet_b0"),
        ("timm/resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("vit_b_16", "torchvision:vit_b_16"),
        ("ViT-B/16", "torchvision:vit_b_16"),
        ("google/vit-base-patch16-224", "hf:google/vit-base-patch16-224"),
        ("somewhere/mine", "mine"),
        ("torchvision.models.resnet18", "resnet18"),
        ("ViT_B_16_Weights.IMAGENET1K_V1", "torchvision:vit_b_16"),
        ("resnet_81", "resnet18"),
    ],
)
def test_names_that_are_spelt_in_another_way_are_offered(text, name):
    assert name in near_names(text, ["mine"])
    with pytest.raises((UnknownName, NotAllowed), match=f"Did you mean .*{name}"):
        parse_model_name(text, ["mine"])


@pytest.mark.parametrize("code", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_manifest_of_a_windows_editor_is_read(folder, code):
    path = folder / MANIFEST
    digest = file_sha256(folder / "model.safetensors")
    text = path.read_text().replace(digest, digest.upper()).replace("\\u00fc", "ü")
    path.write_bytes(text.encode(code))
    assert from_folder(folder).labels == ("Hündin", "cat")


def test_names_that_a_parallel_network_put_a_word_before_are_read(folder):
    weights = {f"module.{name}": tensor for name, tensor in slim().state_dict().items()}
    write_checkpoint(folder, weights, DESCRIPTION)
    assert from_folder(folder).labels == ("Hündin", "cat")


def test_one_score_may_have_two_labels(folder):
    write_checkpoint(folder, slim(1).state_dict(), DESCRIPTION)
    assert from_folder(folder).has_single_score
    write_checkpoint(folder, slim(3).state_dict(), DESCRIPTION)
    with pytest.raises(BadArtifact, match="do not fit resnet18"):
        from_folder(folder)


def test_a_folder_that_no_model_can_be_called_is_named_with_another(folder, monkeypatch):
    folder.rename(folder.parent / "mein Netz")
    with pytest.raises(UnknownName, match=r"Rename its folder .* as to mein-Netz"):
        load("mein Netz")
    with pytest.raises(
        UnknownName, match=r"by its folder's path, or .* WHYLENS_CHECKPOINTS.*rename it, as to mein"
    ):
        load("nowhere")
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(folder / "gone"))
    assert place_problems() == [f"WHYLENS_CHECKPOINTS names {folder / 'gone'}, which is no folder."]


def test_what_a_folder_lacks_to_be_a_checkpoint_is_said(folder, monkeypatch):
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(folder.parent))
    weights, manifest = folder / "model.safetensors", (folder / MANIFEST).read_text()
    (folder / MANIFEST).unlink()
    for name in (folder.name, str(folder)):
        with pytest.raises((UnknownName, NotAllowed), match=r"holds no model\.json: make a model"):
            load(name)
    weights.unlink()
    (folder / MANIFEST).write_text(manifest)
    with pytest.raises(UnknownName, match=r"holds a model\.json, and no model\.safetensors or"):
        load(folder.name)


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
def test_a_checkpoint_named_by_a_file_of_it_is_told_its_folder(folder, file):
    for model in (str(folder / file), folder / file):
        with pytest.raises(NotAllowed, match=f"give its folder, {folder}"):
            whylens.load_model(model)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)),
        ((103.9, 116.8, 123.7), (1.0, 1.0, 1.0)),
        ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    ],
)
def test_means_of_bytes_are_refused_with_the_fix(mean, std):
    with pytest.raises(ValidationError, match="divide them by 255, mean 0"):
        InputSpec(size=(32, 32), mean=mean, std=std)
    InputSpec(size=(32, 32), channels=6, mean=(900.0,) * 6, std=(300.0,) * 6)  # as they are
    with pytest.raises(BadInput, match="divide them by 255"):
        build_network(Recipe(backbone="resnet18", mean=mean, std=std), 2, RandomState(0))


# --- what a training starts from ------------------------------------------------------------------


def test_weights_without_classes_are_a_start_at_any_size(monkeypatch):
    encoder = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=0, img_size=64)

    def pretrained(name, arguments):
        assert (name, arguments["img_size"]) == ("vit_tiny_patch16_224", 64)
        return encoder, loading.ModelSource(name, "0" * 64)

    monkeypatch.setattr(network, "load_pretrained", pretrained)
    recipe = Recipe(
        backbone="vit_tiny_patch16_224",
        arguments={"depth": 1},
        weights="pretrained",
        size=64,
        mode="head",
    )
    start = build_network(recipe, 2, RandomState(0))
    weight = "blocks.0.attn.qkv.weight"
    assert torch.equal(start.module.state_dict()[weight], encoder.state_dict()[weight])
    assert start.trained
    assert start.notes == ()


def test_a_file_of_weights_under_other_names_is_a_start(tmp_path):
    module = slim(5)
    weights = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    file = tmp_path / "mine.safetensors"
    save_file(weights, file)
    recipe = Recipe(backbone="resnet18", arguments=SLIM, weights=str(file))
    start = build_network(recipe, 2, RandomState(0))
    assert torch.equal(start.module.conv1.weight, module.conv1.weight)
    missing_recipe = recipe.model_copy(update={"weights": str(tmp_path / "nope.safetensors")})
    with pytest.raises(CoreError, match=r"nope\.safetensors cannot be read: No such file"):
        build_network(missing_recipe, 2, RandomState(0))


def test_a_head_on_random_features_is_noted():
    recipe = Recipe(backbone="resnet18", arguments=SLIM, mode="head")
    assert "features of random weights" in build_network(recipe, 2, RandomState(0)).notes[0]


def test_it_is_known_at_once_that_weights_cannot_be_had(monkeypatch):
    monkeypatch.setattr(network, "pretrained_file", offline)
    with pytest.raises(CoreError, match="Training was not begun: no line"):
        fetch_start(Recipe(backbone="resnet18.a1_in1k", weights="pretrained"))
    fetch_start(Recipe(backbone="resnet18"))


def offline(*_args, **_kwargs):
    raise network.WeightsUnavailable("no line.")


@pytest.mark.parametrize("name", ["resnet18", "mine"])
def test_a_new_model_hides_no_other(tmp_path, folder, name):
    assert (
        check_can_start(Colours(), Recipe(backbone="resnet18"), folder / "x", resume=False) is None
    )
    with pytest.raises(BadInput, match="one would hide the other"):
        check_can_start(Colours(), Recipe(backbone="resnet18"), tmp_path / name, resume=False)
