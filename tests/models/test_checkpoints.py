"""Checkpoints: written and read back as they were; what is damaged or does not fit is refused."""

from __future__ import annotations

import json
import os

import pytest
import torch
from torch import nn

from tests.support.modules import noise
from tests.support.networks import seeded
from whylens.core.errors import BadArtifact, NotAllowed, UnknownName
from whylens.core.models.checkpoints import (
    MANIFEST,
    WEIGHTS,
    checkpoint_folders,
    read_manifest,
    read_weights,
    write_checkpoint,
)
from whylens.core.models.load import build, from_folder, load
from whylens.core.storage import files
from whylens.core.storage.files import file_sha256, parameters_sha256, write_atomically


def test_the_digest_of_parameters_sees_names_shapes_types_and_values():
    def digest(**tensors):
        module = nn.Module()
        for name, value in tensors.items():
            module.register_buffer(name, value)
        return parameters_sha256(module)

    tensor = torch.ones(2, 3)
    kinds = [
        digest(a=tensor),
        digest(b=tensor),
        digest(a=torch.ones(3, 2)),
        digest(a=tensor.double()),
        digest(a=tensor * 2),
        digest(a=tensor, b=tensor),
        digest(a=torch.tensor(1.0)),
    ]
    assert len(set(kinds)) == len(kinds)
    assert digest(a=tensor.T.contiguous().T) == digest(a=tensor)


DESCRIPTION = {
    "architecture": "test_resnet",
    "input_size": [32, 48],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "labels": ["cat", "dog", "owl"],
    "licence": "CC0",
    "note": "For tests.",
}


@pytest.fixture(scope="module")
def weights():
    return seeded(build("test_resnet", classes=3)).state_dict()


@pytest.fixture
def folder(tmp_path, weights):
    write_checkpoint(tmp_path / "owls", weights, DESCRIPTION)
    return tmp_path / "owls"


@pytest.mark.parametrize(
    "name",
    [
        "test_resnet",
        "test_vit",
        pytest.param("torchvision:squeezenet1_0", marks=pytest.mark.slow),
    ],
)
def test_weights_that_come_from_a_file_are_not_drawn_first(tmp_path, name):
    small = {"img_size": [32, 48]} if name == "test_vit" else {}
    whole = seeded(build(name, classes=3, arguments=small))
    description = {**DESCRIPTION, "architecture": name, "arguments": small}
    write_checkpoint(tmp_path / "m", whole.state_dict(), description)
    state = torch.get_rng_state()
    net = from_folder(tmp_path / "m")
    assert torch.equal(torch.get_rng_state(), state), "nobody else's random numbers change"
    x = noise(1, 3, 32, 48)
    torch.testing.assert_close(net.logits(x), whole(x).detach())


def test_a_manifest_may_narrow_its_architecture(tmp_path):
    narrow = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
    state = seeded(build("resnet18", classes=3, arguments=narrow)).state_dict()
    write_checkpoint(
        tmp_path / "thin", state, {**DESCRIPTION, "architecture": "resnet18", "arguments": narrow}
    )
    net = from_folder(tmp_path / "thin")
    assert net.linear is not None
    assert net.linear.weight.shape == (3, 16)
    edit(tmp_path / "thin", arguments={"no_such_option": 1})
    with pytest.raises(BadArtifact, match="cannot be built"):
        from_folder(tmp_path / "thin")


def edit(folder, **changes) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))


def test_a_checkpoint_comes_back_as_it_was_written(folder, weights):
    net = from_folder(folder)
    state = net.module.state_dict()
    assert all(torch.equal(state[k], weights[k]) for k in weights)
    assert net.labels == ("cat", "dog", "owl")
    assert net.input_spec.size == (32, 48)
    assert net.identity.digest == file_sha256(folder / WEIGHTS)
    assert net.identity.licence == "CC0"
    assert net.identity.trained
    assert net.identity.notes == ("For tests.",)
    torch.testing.assert_close(
        net.head(net.features(net.probe_inputs())), net.logits(net.probe_inputs())
    )


def test_a_checkpoint_is_found_in_the_folders_of_the_environment_and_loads_by_name(
    folder, monkeypatch
):
    inner = folder.parent  # a folder of checkpoints; the second entry is a checkpoint itself
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", os.pathsep.join([str(inner), str(folder), "/none"]))
    assert checkpoint_folders(root=inner / "nothing-here") == {"owls": folder}
    assert load("owls").identity.source == "local checkpoint"
    monkeypatch.delenv("WHYLENS_CHECKPOINTS")
    with pytest.raises((UnknownName, NotAllowed)):
        load("owls")


def test_folders_with_odd_names_or_half_a_checkpoint_are_passed_over(folder, weights):
    root = folder.parent
    write_checkpoint(root / ".hidden", weights, DESCRIPTION)
    (root / "half").mkdir()
    (root / "half" / MANIFEST).write_text("{}")
    assert set(checkpoint_folders(root=root)) == {"owls"}


def test_of_two_checkpoints_of_one_name_the_first_is_used(folder, weights, tmp_path, monkeypatch):
    second = tmp_path / "elsewhere" / "owls"
    write_checkpoint(second, weights, DESCRIPTION)
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(second.parent))
    assert checkpoint_folders(root=folder.parent)["owls"] == folder


def test_weights_with_another_hash_are_refused(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(BadArtifact, match=r"owls/model.safetensors is damaged or was replaced"):
        from_folder(folder)


def test_missing_and_surplus_weights_are_refused(folder, weights, tmp_path):
    incomplete = {k: v for k, v in weights.items() if k != "fc.bias"}
    write_checkpoint(folder, incomplete, DESCRIPTION)
    with pytest.raises(BadArtifact, match=r"do not fit test_resnet: .*fc\.bias"):
        from_folder(folder)
    write_checkpoint(folder, {**weights, "more": torch.zeros(1)}, DESCRIPTION)
    with pytest.raises(BadArtifact, match=r"do not fit test_resnet: .*more"):
        from_folder(folder)


def test_a_number_of_labels_that_the_weights_do_not_have_is_refused(folder):
    edit(folder, labels=["cat", "dog"])
    with pytest.raises(BadArtifact, match="do not fit test_resnet"):
        from_folder(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"surprise": 1}, "wrong at 'surprise'"),
        ({"sha256": "abc"}, "wrong at 'sha256'"),
        ({"input_size": "big"}, "wrong at 'input_size'"),
        ({"input_size": []}, "wrong at 'size'"),
        ({"input_size": [0, 32]}, "must be positive"),
        ({"mean": [0.5]}, "one value per channel"),
        ({"std": [0.2, 0.2, 0]}, "must be positive"),
        ({"crop": 3}, "wrong at 'crop'"),
        ({"interpolation": "magic"}, "wrong at 'interpolation'"),
        ({"labels": "imagenet-22k"}, "labels must be a list, or 'imagenet-1k'"),
        ({"architecture": "local-dir:/etc"}, "no known architecture"),
        ({"architecture": "hf-hub:acme/evil"}, "no known architecture"),
        ({"architecture": "resnet_none"}, "no known architecture.*Did you mean"),
        ({"architecture": "torchvision:resnet_none"}, "no known architecture"),
        ({"architecture": "resnet18"}, "do not fit resnet18"),
    ],
    ids=str,
)
def test_a_manifest_that_says_something_impossible_is_refused_in_words(folder, changes, words):
    edit(folder, **changes)
    with pytest.raises(BadArtifact, match=words):
        from_folder(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b'{"a": 1}'])
def test_a_manifest_that_cannot_be_read_is_refused_in_words(folder, content):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BadArtifact, match=r"owls/model\.json is wrong"):
        read_manifest(folder)


def test_missing_files_are_refused_in_words_without_telling_the_path(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(
        BadArtifact, match=r"owls/model.safetensors cannot be read: No such"
    ) as first:
        from_folder(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(BadArtifact, match=r"owls/model.json cannot be read: No such") as second:
        from_folder(folder)
    for error in (first, second):
        assert str(folder.parent) not in str(error.value)


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(BadArtifact, match="is not a safetensors file"):
        read_weights(path, sha256=None)


def test_tied_weights_can_be_written(tmp_path):
    shared = torch.arange(4.0)
    write_checkpoint(tmp_path, {"a": shared, "b": shared, "c": shared[1:]}, DESCRIPTION)
    tensors = read_weights(tmp_path / WEIGHTS, sha256=read_manifest(tmp_path).sha256)
    assert tensors["c"].tolist() == [1, 2, 3]
    assert torch.equal(tensors["a"], tensors["b"])


def test_a_write_that_is_cut_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def power_cut(_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "fsync", power_cut)
    with pytest.raises(OSError, match="the disk is gone"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_checkpoint_cut_between_its_two_files_is_the_old_one(folder, weights, monkeypatch):
    before, write = from_folder(folder).identity.digest, files.write_atomically
    changed_weights = {k: v + 1 if v.is_floating_point() else v for k, v in weights.items()}

    def only_weights(path, content):
        if path.name == MANIFEST:
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomically", only_weights)
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(folder, changed_weights, DESCRIPTION)
    assert from_folder(folder).identity.digest == before
    write_checkpoint(folder, changed_weights, DESCRIPTION)
    assert from_folder(folder).identity.digest != before


def test_a_checkpoint_that_cannot_be_described_leaves_the_old_one_whole(folder, weights):
    before = from_folder(folder).identity.digest
    with pytest.raises(ValueError, match="input_size"):
        write_checkpoint(folder, weights, {**DESCRIPTION, "input_size": "large"})
    assert from_folder(folder).identity.digest == before
