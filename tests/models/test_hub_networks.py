"""Networks by their names from a Hub on loopback, and then without it.

They are loaded in this process, where torch is there already.
"""

from __future__ import annotations

import json

import pytest
import torch

from tests.support.loopback_hub import NOT_OURS, Repo, sha
from tests.support.networks import seeded
from whylens.core.errors import WeightsUnavailable


@pytest.fixture
def load_online(hub, home):
    """Load a network by its name with the Hub in reach; return what it is, or how it is refused."""
    from huggingface_hub import constants

    from whylens.core.errors import CoreError
    from whylens.core.models.load import load

    def answer(name: str) -> dict:
        with pytest.MonkeyPatch.context() as patch:
            for variable in NOT_OURS:
                patch.delenv(variable, raising=False)
            patch.setenv("HF_ENDPOINT", hub.address)  # for the child that downloads
            patch.setenv("HF_HOME", str(home))
            at_hub = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.address)
            patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", at_hub)
            patch.setattr(constants, "ENDPOINT", hub.address)
            patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
            patch.setattr(constants, "HF_HUB_OFFLINE", False)
            try:
                net = load(name)
            except CoreError as error:
                return {"error": type(error).__name__, "message": str(error)}
        return {
            "sha256": net.identity.digest,
            "classes": len(net.labels),
            "licence": net.identity.licence,
            "source": net.identity.source,
            "logits": net.logits(net.probe_inputs())[0, :5].tolist(),
        }

    return answer


def put_network(hub, name: str) -> torch.Tensor:
    """Put a network with random weights on the Hub; return some of its logits."""
    import timm
    from safetensors.torch import save

    from whylens.core.inputs.spec import probe_inputs
    from whylens.core.models.load import timm_spec

    module = seeded(timm.create_model(name))
    hub.repos[f"timm/{name}"] = Repo(save(module.state_dict()))
    with torch.no_grad():
        return module(probe_inputs(timm_spec(module)))[0, :5]


# The second is one of timm's names whose old files were .npz, which timm reads in another way.
NETWORKS = [
    "test_resnet.r160_in1k",
    pytest.param("vit_tiny_patch16_224.augreg_in21k_ft_in1k", marks=pytest.mark.slow),
]


@pytest.mark.slow  # networks come from the Hub below; a manifest's words are in test_checkpoints.py
def test_a_repository_that_timm_wrote_is_a_model_by_its_name(load_online, hub):
    import timm
    from safetensors.torch import save

    from whylens.core.inputs.spec import InputSpec, probe_inputs

    module = seeded(timm.create_model("test_resnet", num_classes=3, in_chans=1))
    config = {
        "architecture": "test_resnet",
        "num_classes": 3,
        "label_names": ["a", "b", "c"],
        "model_args": {"in_chans": 1},
        "pretrained_cfg": {
            "input_size": [1, 64, 64], "mean": [0.5], "std": [0.2], "license": "cc0-1.0",
        },
    }  # fmt: skip

    def publish(name: str, **changes) -> str:
        hub.repos[f"acme/{name}"] = Repo(save(module.state_dict()))
        hub.repos[f"acme/{name}/config.json"] = Repo(json.dumps({**config, **changes}).encode())
        return f"hf-hub:acme/{name}"

    answer = load_online(publish("mine"))
    assert (answer.get("classes"), answer["licence"]) == (3, "cc0-1.0"), answer
    input_spec = InputSpec(size=(64, 64), channels=1, mean=(0.5,), std=(0.2,))
    with torch.no_grad():
        expected = module(probe_inputs(input_spec))[0]
    assert answer["logits"] == pytest.approx(expected.tolist(), rel=1e-4)
    for name, changes, words in (
        ("huge", {"architecture": "vit_giant_patch14_224", "model_args": {}}, "do not fit"),
        ("path", {"model_args": {"checkpoint_path": "/etc/passwd"}}, "no part of an architecture"),
        ("evil", {"architecture": "hf-hub:acme/mine"}, "no known architecture"),
        ("none", {"num_classes": 0}, "num_classes"),
    ):
        answer = load_online(publish(name, **changes))
        assert answer.get("error") == "BadArtifact", answer
        assert words in answer["message"]


def put_transformers(hub, folder, name: str, **changes) -> str:
    """Put what lies in a folder of transformers on the Hub, its config.json changed."""
    for path in folder.iterdir():
        content = path.read_bytes()
        if path.name == "config.json":
            content = json.dumps({**json.loads(content), **changes}).encode()
        hub.repos[f"acme/{name}/{path.name}"] = Repo(content)
    hub.repos[f"acme/{name}"] = Repo(b"", "empty")
    return f"hf:acme/{name}"


@pytest.mark.slow  # test_transformers_folder.py reads such folders; here one comes over a network
def test_a_classifier_of_transformers_is_a_model_by_its_name(
    load_online, hub, home, monkeypatch, tmp_path
):
    pytest.importorskip("transformers", reason="the extra [transformers] is absent")
    from tests.models.test_transformers_folder import networks
    from whylens.core.errors import NotAllowed
    from whylens.core.models.load import load
    from whylens.core.models.public_models import check_public_model

    config, network_type, processor = networks()["vit"]
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = network_type(config).eval()
    network.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    name = put_transformers(hub, tmp_path, "vit")
    answer = load_online(name)
    assert answer.get("classes") == 3, answer
    assert answer["source"] == "Hub: acme/vit"
    assert answer["sha256"] == sha((tmp_path / "model.safetensors").read_bytes())
    # This process has no network, and needs none once the files are there.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    backbone = load(name)
    assert (backbone.name, backbone.labels) == (name, ("ant", "bee", "cat"))
    x = backbone.probe_inputs()
    with torch.no_grad():
        expected = network(pixel_values=x).logits
    torch.testing.assert_close(backbone.logits(x), expected)
    assert answer["logits"] == pytest.approx(expected[0].tolist(), rel=1e-4)
    count = sum(p.numel() for p in network.parameters())
    assert check_public_model(name, [], limit=count).name == "acme/vit"
    with pytest.raises(NotAllowed, match="Choose a smaller model"):
        check_public_model(name, [], limit=count - 1)
    with pytest.raises(WeightsUnavailable, match="OFFLINE is set"):
        check_public_model("hf:acme/never-fetched", [])
    for name, changes, words in (
        ("deep", {"num_hidden_layers": 10**9}, "1,000,000,000 layers"),
        ("nested", {"vision_config": {"num_hidden_layers": 10**9}}, "1,000,000,000 layers"),
        ("repeats", {"num_block_repeats": [10**9]}, "1,000,000,000 layers"),
        ("empty", {"depths": [0] * 2000}, "2,000 layers"),
        ("wide", {"num_labels": 10**9}, "1,000,000,000 labels"),
        ("text", {"model_type": "bert"}, "cannot be read as an image classifier"),
        ("code", {"model_type": "mine", "auto_map": {"AutoConfig": "c.C"}}, "cannot be read"),
        ("timm", {"model_type": "timm_wrapper"}, "of another library"),
        ("file", {"model_args": {"checkpoint_path": "/etc/passwd"}}, "of another library"),
        ("part", {"backbone": "resnet18", "use_pretrained_backbone": True}, "another library"),
    ):
        answer = load_online(put_transformers(hub, tmp_path, name, **changes))
        assert answer.get("error") == "BadArtifact", answer
        assert words in answer["message"]
        assert hub.repos[f"acme/{name}/model.safetensors"].gets == []
    name = put_transformers(hub, tmp_path, "big")
    hub.repos["acme/big/model.safetensors"].content += b"x" * (8 * count + 10_000_000)
    answer = load_online(name)
    assert "at most 10." in answer["message"], answer
    assert hub.repos["acme/big/model.safetensors"].gets == []
    name = put_transformers(hub, tmp_path, "pickled")
    del hub.repos["acme/pickled/model.safetensors"]
    answer = load_online(name)
    assert "only safetensors are loaded" in answer["message"], answer


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_loads_from_the_hub_and_then_without_it(
    load_online, hub, home, monkeypatch, name
):
    from whylens.core.models.load import load

    expected = put_network(hub, name)
    online = load_online(name)
    # This process has no network: tests/conftest.py sets HF_HUB_OFFLINE before the client's import.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    repo = hub.repos[f"timm/{name}"]
    offline = load(name)
    logits = offline.logits(offline.probe_inputs())[0, :5]
    assert repo.gets == [0]
    assert online["classes"] == len(offline.labels) == 1000
    assert online["sha256"] == offline.identity.digest == sha(repo.content)
    assert online["source"] == offline.identity.source == f"Hub: timm/{name}"
    assert online["licence"] == offline.identity.licence
    assert online["licence"] not in ("", "None")
    torch.testing.assert_close(torch.tensor(online["logits"]), expected)
    torch.testing.assert_close(logits, expected)
    with pytest.raises(WeightsUnavailable, match=r"OFFLINE is set.*Choose a local checkpoint"):
        load("test_vit.r160_in1k")


def test_weights_of_another_network_are_refused_in_words(load_online, hub):
    from safetensors.torch import save

    hub.repos["timm/test_vit2.r160_in1k"] = Repo(save({"conv.weight": torch.zeros(3)}))
    answer = load_online("test_vit2.r160_in1k")
    assert answer["error"] == "BadArtifact"
    assert "do not fit its architecture" in answer["message"]


def test_a_network_without_classes_is_refused_before_anything_is_fetched(load_online, hub):
    name = "vit_small_patch14_dinov2.lvd142m"
    hub.repos[f"timm/{name}"] = repo = Repo(b"never read")
    answer = load_online(name)
    assert answer["error"] == "BadArtifact"
    assert "no decision to explain" in answer["message"]
    assert repo.gets == []
