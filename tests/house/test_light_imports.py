"""Libraries are there without torch's compiler, and do what they do with it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import torch
import torchvision  # noqa: F401 - its module is looked at

from whylens import light_imports
from whylens.core.speed.eager_mode import EagerMode


def test_what_is_changed_is_there_in_what_is_installed():
    # Else the change is none, and each start takes seconds longer.
    source = sys.modules[light_imports.ROI_ALIGN].__loader__.get_data(
        sys.modules[light_imports.ROI_ALIGN].__file__
    )
    assert light_imports.IMPORT in source.decode()
    assert torch.compiler.disable.__module__ == "torch.compiler"  # as it was before timm
    assert hasattr(EagerMode, "_should_skip_dynamo")


def test_the_compiler_is_asked_when_the_function_is_called(monkeypatch):
    compiler = SimpleNamespace(is_compile_supported=lambda device: f"asked of {device}")
    monkeypatch.setitem(sys.modules, "torch._dynamo", SimpleNamespace(utils=compiler))
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", compiler)
    assert sys.modules[light_imports.ROI_ALIGN].is_compile_supported("cpu") == "asked of cpu"
