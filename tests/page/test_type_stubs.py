"""Gradio's writer of stubs is there, under the name that is known, and is not called."""

from __future__ import annotations

import inspect

from gradio import component_meta

from whylens.ui.page.type_stubs import WRITER


def test_a_component_that_is_defined_writes_no_stub(tmp_path):
    assert WRITER in inspect.getsource(component_meta.ComponentMeta)
    source = tmp_path / "mine.py"
    source.write_text("from gradio import HTML\n\n\nclass Mine(HTML):\n    pass\n")
    exec(compile(source.read_text(), source, "exec"), {"__name__": "mine"})
    assert not source.with_suffix(".pyi").exists()
    assert getattr(component_meta, WRITER)(object, "Nothing", []) is None
