"""The notebook runs from top to bottom in a kernel of its own and shows what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_quickstart_runs_and_shows_its_pictures(tmp_path, monkeypatch):
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # the file itself stays small
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": EXAMPLES}}
    ).execute()
    outputs = {
        cell.source.splitlines()[-1]: [output.get("data", {}) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    for line in ("why", "step"):
        (data,) = [d for d in outputs[line] if "text/html" in d]
        assert "data:image/jpeg;base64," in data["text/html"]
        assert "image/png" in data
    (row,) = [d for line, (d, *_) in outputs.items() if line.startswith("whylens.compare")]
    assert row["text/html"].count("<img") == 3
    text = "".join(d.get("text/plain", "") for parts in outputs.values() for d in parts)
    for words in ("label='cat'", "logit per position", "nan", "not legrad:", "manifest.json"):
        assert words in text
