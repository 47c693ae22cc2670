"""Names of networks: taken apart, corrected, and refused before a library sees them."""

from __future__ import annotations

import pytest
import torch

from whylens.core.errors import NotAllowed, UnknownName
from whylens.core.models.footprint import footprint
from whylens.core.models.load import load
from whylens.core.models.model_names import parse_model_name, timm_architectures, timm_names
from whylens.core.models.public_models import check_public_model


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("resnet18.a1_in1k", "timm", "resnet18.a1_in1k"),
        ("resnet18", "timm", "resnet18"),
        ("torchvision:resnet18", "torchvision", "resnet18"),
        ("untrained:resnet18", "untrained", "resnet18"),
        ("hf:Owner/vit-base.v2", "hub", "Owner/vit-base.v2"),
        ("My-Net.v2", "checkpoint", "My-Net.v2"),
    ],
)
def test_a_name_is_taken_apart(text, kind, name):
    parsed_name = parse_model_name(text, ["My-Net.v2"])
    assert (parsed_name.kind, parsed_name.name) == (kind, name)
    assert str(parsed_name) == text


def test_a_local_checkpoint_goes_before_a_network_of_the_same_name():
    assert parse_model_name("resnet18", ["resnet18"]).kind == "checkpoint"


@pytest.mark.parametrize(
    ("text", "close"),
    [
        ("resnet18.a1_in1", "resnet18.a1_in1k"),
        ("convnext_tinyy.fb_in1k", "convnext_tiny.fb_in1k"),
        ("torchvision:resnet19", "resnet18"),
        ("untrained:resnet_18", "resnet18"),
        ("my_cats_and_doggs", "my_cats_and_dogs"),
    ],
)
def test_an_unknown_name_offers_close_ones(text, close):
    with pytest.raises(UnknownName, match=f"Did you mean .*{close}"):
        parse_model_name(text, ["my_cats_and_dogs"])


NEVER = [
    "local-dir:/etc",
    "hf-hub:acme/evil",
    "hf_hub:acme/evil",
    "hf:acme",
    "hf:../etc",
    "hf:/etc/passwd",
    "hf:acme/net/file",
    "hf:acmé/net",
    "hf:acme/a..b",
    "hf:acme/net.git",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\weights",
    "acme/net",
    "https://example.com/x",
    "resnet18\0",
    "resnet18\n",
    "r" * 5000,
    "ResNet18",
    "résnet18",
    "",
    ".",
    "..",
    "resnet18.a1_in1k.more",
    "local-dir:" + "x" * 5000,
]


@pytest.mark.parametrize("text", NEVER, ids=[repr(t[:20]) for t in NEVER])
def test_paths_and_addresses_never_reach_a_library(text, monkeypatch):
    def touched(*args, **kwargs):
        raise AssertionError("a library saw the name")

    import timm

    assert timm_names() | timm_architectures()  # listed once, before
    monkeypatch.setattr(timm, "create_model", touched)
    monkeypatch.setattr(timm, "list_models", touched)
    monkeypatch.setattr(timm, "is_model", touched)
    asks = [parse_model_name, lambda t: check_public_model(t, []), load]
    for ask in asks[:2] if text.startswith(("hf-hub:", "hf_hub:")) else asks:
        with pytest.raises(NotAllowed, match="is not a model name") as error:
            ask(text)
        message = str(error.value)
        assert len(message) < 400
        assert message.isprintable()


@pytest.mark.parametrize("text", ["torchvision:../x", "untrained:" + "x" * 5000, "torchvision:"])
def test_a_path_behind_a_prefix_is_only_an_unknown_name(text):
    with pytest.raises(UnknownName, match="There is no model called") as error:
        parse_model_name(text)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "name",
    [
        "untrained:vit_giant_patch14_224",
        pytest.param("eva02_enormous_patch14_clip_224", marks=pytest.mark.slow),
    ],
)
def test_a_network_too_large_is_refused_without_allocating_it(name, monkeypatch):
    import timm

    devices, create = [], timm.create_model

    def recording_create(*args, **kwargs):
        devices.append(torch.empty(0).device.type)
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", recording_create)
    footprint.cache_clear()
    with pytest.raises(NotAllowed, match=r"has \d{4} million parameters; .* up to 100 million"):
        check_public_model(name, [])
    assert devices == ["meta"], "weights were allocated"


def test_the_size_of_a_network_is_counted_without_its_weights():
    import timm

    expected = sum(p.numel() for p in timm.create_model("test_resnet").parameters())
    assert footprint("test_resnet.r160_in1k").parameters == expected
    assert check_public_model("test_resnet", [], limit=expected).name == "test_resnet"
    with pytest.raises(NotAllowed, match="Choose a smaller model"):
        check_public_model("test_resnet", [], limit=expected - 1)


def test_the_page_loads_local_checkpoints_but_not_torchvision():
    assert check_public_model("mine", ["mine"]).kind == "checkpoint"
    with pytest.raises(NotAllowed, match="timm models and local checkpoints only"):
        check_public_model("torchvision:resnet18", [])
