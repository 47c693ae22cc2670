"""What long runs leave: no memory, descriptor, thread, hook or file, and networks in a budget."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.core.test_memory import InPlace
from tests.support.networks import plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.explanation import Question
from whylens.core.models.backbone import wrap
from whylens.core.plugin_calls import model_state
from whylens.core.registry import load_registry
from whylens.core.storage.memory import MEMORY_VARIABLE, release_memory

ANSWERS, WARM_UP, MOST_GROWTH = 1_000, 100, 20_000_000
PHOTOS = np.random.default_rng(0).integers(0, 255, (8, 16, 16, 3), np.uint8)


def resident() -> int:
    """Return the bytes of memory that this process takes, without what is free to be used again."""
    gc.collect()
    release_memory()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_things() -> tuple[int, int, list[str]]:
    """Return how many descriptors and threads there are, and the temporary files."""
    files = sorted(map(str, Path(tempfile.gettempdir()).rglob("*")))
    return len([*Path("/proc/self/fd").iterdir()]), threading.active_count(), files


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is not told here")
@pytest.mark.parametrize(
    "name", [e.name for e in load_registry().explainers.values() if not e.artifact_kind]
)
def test_a_thousand_answers_leave_nothing(name, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    network = wrap(seeded(InPlace()), input_spec=plain_spec(16, 16))
    page = Engine(loader=lambda *_: network)
    if reason := page.unavailable("toy").get(name):
        pytest.skip(reason)
    brief = page.registry.explainers[name].test_params
    params = {} if brief is None else brief.model_dump(exclude_unset=True)

    def answer(count: int) -> None:
        for number in range(count):
            photo = PHOTOS[number % len(PHOTOS)]
            *_, _ = page.explain(Question("toy", photo), name, params)

    answer(WARM_UP)
    before, things, state = resident(), open_things(), model_state(network, values=True)
    answer(ANSWERS)
    assert resident() - before < MOST_GROWTH
    assert open_things() == things
    assert model_state(network, values=True) == state


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is not told here")
def test_large_networks_in_turn_are_answered_within_the_budget(monkeypatch):
    monkeypatch.setenv(MEMORY_VARIABLE, "3GB")
    page, before = Engine(), resident()
    photo = np.random.default_rng(0).integers(0, 255, (240, 240, 3), np.uint8)
    for name in ("mixer_b16_224", "vgg16", "convnext_large", "resnet152", "vit_base_patch16_224"):
        *_, answer = page.explain(Question(f"untrained:{name}", photo), "grad-cam")
        assert answer.finished
        assert resident() - before < 3e9
