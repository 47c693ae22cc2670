"""Shared by the tests of networks: files of weights, and a Hub on loopback."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def network():
    """A network of three classes, each tensor of its own values."""
    from tests.support.networks import seeded
    from whylens.core.models.load import build

    return seeded(build("test_resnet", classes=3))


@pytest.fixture(scope="module")
def tensors(network):
    return network.state_dict()


@pytest.fixture
def file(tmp_path, tensors):
    from safetensors.torch import save_file

    save_file(tensors, tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


@pytest.fixture
def in_process(monkeypatch):
    """Pickles are read here, without limits: starting torch anew takes seconds."""
    from whylens.core.models.pickle_child import convert

    def run(file, place):
        try:
            report = convert(str(file), Path(place) / "weights.safetensors")
        except Exception as exc:  # noqa: BLE001 - as the child does
            report = {"error": type(exc).__name__, "message": str(exc)}
        (Path(place) / "report.json").write_text(json.dumps(report))
        return 0

    monkeypatch.setattr("whylens.core.models.state_dicts._run_child", run)


@pytest.fixture(scope="module")
def hub():
    from tests.support.loopback_hub import Hub

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("hub-home")
