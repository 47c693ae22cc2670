"""A stranger's model.json asks for nothing that could take the memory or hours."""

from __future__ import annotations

import json

import pytest

from tests.support.browser import toy_checkpoint
from whylens.core.errors import BadArtifact
from whylens.core.models.load import from_folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return toy_checkpoint(tmp_path_factory.mktemp("sound") / "net", labels=("a", "b"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_size": [60_000, 60_000]}, "4,096 places along a side"),
        ({"input_size": [4096, 4096, 4096]}, "50,000,000 values"),
        ({"input_size": [100_000]}, "65,536 places along a side"),
        ({"arguments": {"layers": [100_000, 2, 2, 2]}}, "larger than 65,536"),
        ({"arguments": {"layers": [900, 900]}}, "more than 1,000 layers"),
        ({"arguments": {"depth": 5000}}, "more than 1,000 layers"),
        ({"arguments": {"channels": [8] * 2000}}, "too long"),
        ({"arguments": {"act_layer": "x" * 20_000}}, "too long"),
        ({"labels": ["x"] * 100_001}, "100,000 labels"),
        ({"arguments": {"channels": [2048, 4096, 8192, 16384]}}, "numbers are stored, and it has"),
        ({"architecture": "vit_large_patch16_224"}, "numbers are stored, and it has"),
    ],
)
def test_what_asks_too_much_is_refused_before_it_is_allocated(sound, tmp_path, change, message):
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(sound / "model.safetensors")
    manifest = json.loads((sound / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(BadArtifact, match=message):
        from_folder(folder)
