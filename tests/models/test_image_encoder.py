"""Towers: which vector a network of each kind is asked for, on small networks with real names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from whylens.core.datasets.tensors import to_tensor
from whylens.core.errors import BadArtifact, NotAllowed, UnknownName
from whylens.core.models import image_encoder
from whylens.core.models.backbone import ModelSource
from whylens.core.models.random_weights import randomize_weights

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"
CLASSIFIER = "vit_small_patch16_224.augreg_in21k_ft_in1k"
DINO = "vit_small_patch16_224.dino"
CLIP = "vit_base_patch32_clip_224.openai"


@pytest.fixture
def encoder_networks(monkeypatch):
    """Networks of real names, one block deep and with random weights, instead of a download."""
    networks = {}

    def small(name, **_):
        module = timm.create_model(name, depth=1, embed_dim=48, num_heads=3).eval()
        networks[name] = randomize_weights(module, seed=2)
        return networks[name], ModelSource(name=name, digest="d" * 64, licence="", source="")

    monkeypatch.setattr(image_encoder, "load_pretrained", small)
    return networks


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40, 56, 3), dtype=np.uint8) for _ in range(3)]


def test_a_clip_tower_gives_its_projection(encoder_networks, pictures):
    eyes = image_encoder.load_encoder(CLIP)
    x = torch.cat([to_tensor(p, eyes.input_spec) for p in pictures])
    with torch.no_grad():
        expected = encoder_networks[CLIP].head(
            encoder_networks[CLIP].fc_norm(encoder_networks[CLIP].forward_features(x)[:, 0])
        )
    assert expected.shape == (3, 512)
    assert eyes.encode(pictures) == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", [DINO, CLASSIFIER])
def test_others_give_what_a_head_would_read(encoder_networks, pictures, name):
    eyes = image_encoder.load_encoder(name)
    x = torch.cat([to_tensor(p, eyes.input_spec) for p in pictures])
    with torch.no_grad():
        expected = encoder_networks[name].forward_features(x)[:, 0]
    assert expected.shape == (3, 48)
    assert eyes.encode(pictures) == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-4)


def test_what_has_no_such_name_or_takes_no_pictures_is_refused(monkeypatch):
    with pytest.raises(UnknownName):
        image_encoder.load_encoder("vit_small_patch16_224.dinoo")
    with pytest.raises(NotAllowed):
        image_encoder.load_encoder("/etc/passwd")
    monkeypatch.setattr("whylens.core.models.checkpoints.SHIPPED", SHIPPED)
    with pytest.raises(BadArtifact, match="takes no images"):
        image_encoder.load_encoder("mnist1d")
