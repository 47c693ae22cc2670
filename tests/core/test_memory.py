"""What models may take: the budget holds, what is evicted is gone, estimates come before loads."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, NotAllowed
from whylens.core.explanation import Question
from whylens.core.models.backbone import wrap
from whylens.core.models.footprint import HELD_SHARE, footprint
from whylens.core.models.public_models import check_public_model
from whylens.core.needs import Need
from whylens.core.registry import load_registry
from whylens.core.storage.cache import ByteLRU
from whylens.core.storage.memory import (
    MEMORY_VARIABLE,
    SHARES,
    machine_memory,
    memory_for,
    memory_limit,
)


def toy():
    return wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))


def test_one_variable_says_it_all(monkeypatch):
    assert 0.98 < sum(SHARES.values()) <= 1
    for text, size in (("4 GB", 4e9), ("1.5g", 1.5e9), ("800MB", 8e8), ("123", 123)):
        monkeypatch.setenv(MEMORY_VARIABLE, text)
        assert memory_limit() == size
    assert memory_for("models") == int(SHARES["models"] * 123)
    monkeypatch.setenv(MEMORY_VARIABLE, "plenty")
    with pytest.raises(BadInput, match="no size such as '4 GB'"):
        memory_limit()
    monkeypatch.delenv(MEMORY_VARIABLE)
    assert memory_limit() == int(0.6 * machine_memory())


def test_a_network_that_is_evicted_is_gone_with_all_that_is_known_of_inputs():
    page = Engine(loader=lambda *_: toy(), model_bytes=int(1.5 * toy().prepare().bytes))
    photo, networks = np.zeros((32, 32, 3), np.uint8), []
    for name in "abc":
        *_, _ = page.explain(Question(name, photo), "grad-cam")
        networks.append(weakref.ref(page.backbone(name)))
    gc.collect()
    assert [network() is None for network in networks] == [True, True, False]
    assert page.models.cached_keys() == ["c"]


def test_the_faster_copy_counts_and_what_it_shares_counts_once():
    network = toy()
    module_bytes = sum(t.numel() * t.element_size() for t in network.module.state_dict().values())
    assert network.bytes == module_bytes
    copy_bytes = network.prepare().bytes
    assert network.fast_module is not network.module
    assert module_bytes < copy_bytes <= 2.2 * module_bytes


def test_what_is_loaded_at_once_fits_the_budget_together():
    cache: ByteLRU[str, int] = ByteLRU(100, lambda v: v)
    cache.put("old", 50)
    first, second = threading.Event(), threading.Event()
    cached, order = [], []

    def make(name, begun, finish):
        def work() -> int:
            order.append(name)
            cached.append(cache.cached_keys())
            begun.set()
            assert finish.wait(10)
            return 60

        return work

    first_end = threading.Event()
    loading = threading.Thread(
        target=cache.get, args=("a", make("a", first, first_end)), kwargs={"expected": lambda: 60}
    )
    loading.start()
    assert first.wait(10)
    assert cached == [[]]  # room was made before it was loaded
    always = threading.Event()
    always.set()
    two = threading.Thread(
        target=cache.get, args=("b", make("b", second, always)), kwargs={"expected": lambda: 60}
    )
    two.start()
    assert not second.is_set()
    first_end.set()
    loading.join(10)
    two.join(10)
    assert order == ["a", "b"]
    assert cache.cached_keys() == ["b"]


def test_a_value_that_is_replaced_or_forgotten_is_reported_once():
    removals = []
    cache: ByteLRU[str, list[int]] = ByteLRU(10, len, removals.append)
    first, second, third = [0] * 4, [0] * 5, [0] * 8
    for value in (first, first, second):
        cache.put("a", value)
    cache.put("b", third)
    cache.forget("b")
    cache.forget("b")
    assert [id(value) for value in removals] == [id(first), id(second), id(third)]


def test_an_input_s_memory_is_known_before_anything_is_allocated():
    import timm

    takes = footprint("test_resnet.r160_in1k")
    module = timm.create_model("test_resnet").eval()
    output_bytes = 0

    def add(_module, _args, out):
        nonlocal output_bytes
        output_bytes += out.numel() * out.element_size()

    for part in module.modules():
        if not list(part.children()) and not isinstance(part, torch.nn.Identity):
            part.register_forward_hook(add)
    with torch.no_grad():
        module(torch.zeros(1, 3, 160, 160))
    # Results of leaves, but for what they do in place and for the sums between them.
    assert takes.per_input == pytest.approx(HELD_SHARE * output_bytes, rel=0.5)


def test_a_network_of_few_weights_and_many_places_is_refused(monkeypatch):
    # 90 million parameters, 1024 x 1024 pixels, every token looks at all others.
    monkeypatch.setenv(MEMORY_VARIABLE, "9.6 GB")
    with pytest.raises(NotAllowed, match=r"takes about 9\.0 GB for a single input"):
        check_public_model("untrained:samvit_base_patch16", [])
    assert check_public_model("vit_base_patch16_224", []).kind == "timm"
    monkeypatch.setenv(MEMORY_VARIABLE, "1 GB")
    with pytest.raises(NotAllowed, match=r"about 1\.0 GB, and this server has 0\.5 GB"):
        check_public_model("vit_base_patch16_224", [])


def test_batches_are_smaller_where_inputs_take_more(monkeypatch):
    page = Engine(loader=lambda *_: toy())
    network = page.backbone("a")
    question = Question("a", np.zeros((32, 32, 3), np.uint8))
    assert page.subject(question).batch_size == 16
    monkeypatch.setenv(MEMORY_VARIABLE, str(int(5.5 * network.per_input_bytes / SHARES["work"])))
    assert page.subject(question).batch_size == 5
    monkeypatch.setenv(MEMORY_VARIABLE, "1")
    assert page.subject(question).batch_size == 1


class InPlace(GapNet):
    """Writes over its activations, as most published networks do."""

    def __init__(self):
        super().__init__()
        self.act, self.pool = torch.nn.ReLU(inplace=True), torch.nn.MaxPool2d(2)

    def features(self, x):
        return self.pool(self.act(self.conv(x)))


GRADIENT_METHODS = [
    e.name for e in load_registry().explainers.values()
    if Need.GRADIENTS in e.needs and not e.artifact_kind
]  # fmt: skip


def test_no_activation_outlives_its_explanation():
    # What is held by a graph that holds itself is never freed: collecting circles does not see it.
    network = wrap(seeded(InPlace()), input_spec=plain_spec(16, 16))
    page = Engine(loader=lambda *_: network)
    photo = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    gc.collect()
    gc.freeze()  # what is there already is no more walked through, dozens of times

    def tensors_after(name):
        brief = page.registry.explainers[name].test_params
        params = {} if brief is None else brief.model_dump(exclude_unset=True)
        *_, _ = page.explain(Question("toy", photo), name, params)
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    usable = set(GRADIENT_METHODS) - set(page.unavailable("toy"))
    assert len(usable) > 12
    growth = {name: -tensors_after(name) + tensors_after(name) for name in sorted(usable)}
    assert not {name: count for name, count in growth.items() if count > 0}
