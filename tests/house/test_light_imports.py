"""Libraries are there without torch's compiler, and do what they do with it."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import pytest
import torch
import torchvision

from whylens import light_imports
from whylens.core.speed.eager_mode import EagerMode


def test_what_is_changed_is_there_in_what_is_installed():
    # Else the change is none, and each start takes seconds longer.
    for name, changes in light_imports.CHANGES.items():
        module = importlib.import_module(name)
        source = module.__loader__.get_data(module.__file__).decode()
        assert [text for text in changes if text not in source] == [], name
    assert torch.compiler.disable.__module__ == "torch.compiler"  # as it was before timm
    assert hasattr(EagerMode, "_should_skip_dynamo")


def test_the_compiler_is_asked_when_the_function_is_called(monkeypatch):
    compiler = SimpleNamespace(is_compile_supported=lambda device: f"asked of {device}")
    monkeypatch.setitem(sys.modules, "torch._dynamo", SimpleNamespace(utils=compiler))
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", compiler)
    assert torchvision.ops.roi_align.__globals__["is_compile_supported"]("cpu") == "asked of cpu"


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimiser_steps_without_the_compiler_and_tells_one_that_is_there(kind, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    weight = torch.nn.Parameter(torch.ones(2))
    optimiser = kind([weight], lr=0.25)
    optimiser.zero_grad()
    (weight**2).sum().backward()
    optimiser.step()
    assert float(weight.detach().max()) < 1
    assert "torch._dynamo" not in sys.modules
    breaks = []
    compiler = SimpleNamespace(graph_break=lambda: breaks.append(torch.is_grad_enabled()))
    monkeypatch.setitem(sys.modules, "torch._dynamo", compiler)
    monkeypatch.setitem(vars(torch), "_dynamo", compiler)
    optimiser.step()
    assert breaks == [False, False]
