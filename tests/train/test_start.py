"""Networks that timm keeps without a classifier: a training begins, or their twin is named."""

from __future__ import annotations

import pytest
import torch

from whylens.core.errors import BadInput
from whylens.core.storage.files import folder_lock
from whylens.core.train.network import RandomState, build_network, head_name
from whylens.core.train.recipe import Recipe
from whylens.core.train.training_jobs import remove_without_network

TINY = {"embed_dim": 16, "depth": 1, "num_heads": 2, "global_attn_indexes": [0], "img_size": 64}


def test_an_encoder_of_segmentation_has_its_classifier_found_behind_the_pool():
    recipe = Recipe(backbone="samvit_base_patch16", arguments=TINY, size=64)
    network = build_network(recipe, 3, RandomState(0))
    assert network.head == "head.fc"
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = network.module.forward_features(x)
    expected = network.head_layer(maps.mean((2, 3)))
    assert torch.allclose(network.logits(x), expected, atol=1e-5)


def test_an_encoder_that_cannot_classify_is_refused_with_the_name_of_the_one_that_can():
    recipe = Recipe(
        backbone="qwen3_vit_88m_enc", arguments={"embed_dim": 24, "depth": 1, "num_heads": 2}
    )
    with pytest.raises(BadInput, match="The same network with one is qwen3_vit_88m\\."):
        build_network(recipe, 3, RandomState(0))


def test_a_layer_before_a_classifier_of_another_kind_is_not_taken_for_it():
    class Headless(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.norm = torch.nn.Linear(8, 3), torch.nn.Identity()

        def get_classifier(self) -> torch.nn.Module:
            return self.norm

    with pytest.raises(BadInput, match="does not end in one layer"):
        head_name(Headless(), 3, "headless")


def test_a_training_that_was_refused_leaves_the_folder_to_the_one_that_runs(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "state").write_bytes(b"of another training, before its first network")
    with folder_lock(folder):
        remove_without_network(folder)
        assert (folder / "state").exists()
    remove_without_network(folder)
    assert not folder.exists()
    remove_without_network(folder)
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    remove_without_network(folder)
    assert folder.exists()
