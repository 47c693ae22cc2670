"""Gradio is imported in half the time where it writes no type stubs for editors.

At each import it parses the source of its components, writes a stub beside each and reads that
again: half of what importing it costs. Nothing that runs reads those stubs.
"""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType

from whylens.light_imports import ImportChange

MODULE, WRITER = "gradio.component_meta", "create_or_modify_pyi"


class _NoStubs(SourceFileLoader):
    """Loads Gradio's module as it is, but for the function that writes stubs."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if WRITER in vars(module):
            vars(module)[WRITER] = lambda *_: None


def skip_type_stubs() -> None:
    """Keep Gradio from writing type stubs when it is imported; too late, it changes nothing."""
    sys.meta_path.insert(0, ImportChange({MODULE: _NoStubs}))
