"""What the README claims; what it tells to type is run by test_docs.py."""

from __future__ import annotations

import json
import re
import runpy
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whylens.core.registry import PluginSource, load_registry

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_explainer_of_the_readme_is_found_and_explains(tmp_path, monkeypatch, rng):
    from tests.conftest import GapNet, plain_spec, seeded
    from whylens.core.engine import Engine
    from whylens.core.explanation import Question
    from whylens.core.inputs.preprocess import photo_tensor
    from whylens.core.models.backbone import wrap

    (code,) = (b for b in blocks("python") if "hookimpl" in b)
    assert len(code.strip().splitlines()) <= 30
    (tmp_path / "feature_norm_of_the_readme.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    point = metadata.EntryPoint("x", "feature_norm_of_the_readme", "whylens.explainers")
    registry = load_registry([PluginSource(point, "readme", "1")], strict=True)
    backbone = wrap(seeded(GapNet()), spec=plain_spec(32, 32))
    engine = Engine(registry, loader=lambda name, progress: backbone)
    photo = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    (answer,) = engine.explain(Question("toy", photo), "feature-norm", {"power": 1.0})
    x, _ = photo_tensor(answer.question.photo, backbone.spec)
    expected = backbone.features(x).map[0].abs().sum(0).detach()
    assert np.allclose(answer.result.values, expected, rtol=1e-5)


def run_first_block(place: Path, photo: Path) -> dict[str, object]:
    """Return the names of the README's first block, run in `place` on another photo."""
    text = README[README.index("```") :]
    assert text.startswith("```python\nimport whylens\n")
    code = text[: text.index("\n```")].removeprefix("```python\n")
    assert 'photo = "examples/photos/cat.jpg"' in code
    script = place / "first_block.py"
    script.write_text(code.replace("examples/photos/cat.jpg", str(photo)))
    return runpy.run_path(str(script))


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """An empty folder to work in, and the shipped networks in reach."""
    monkeypatch.setattr("whylens.core.models.checkpoints.SHIPPED", ROOT / "checkpoints")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_picture_of_the_first_block_is_what_it_makes(shipped):
    # Where it is not: run the block in the checkout and make docs/row.png of its row.png, as here.
    run_first_block(shipped, ROOT / "examples" / "photos" / "cat.jpg")
    drawn = Image.open(shipped / "row.png").quantize(256, dither=Image.Dither.NONE).convert("RGB")
    kept = Image.open(ROOT / "docs" / "row.png").convert("RGB")
    assert drawn.size == kept.size
    assert np.abs(np.asarray(drawn, float) - np.asarray(kept, float)).mean() < 3
    assert (ROOT / "docs" / "row.png").stat().st_size < 300_000


def test_the_first_block_points_at_the_cat_of_a_real_photo(shipped, shared):
    names = run_first_block(shipped, shared / "photos" / "Persian_cat.jpg")
    why = names["why"]
    assert why.prediction.label == "cat"
    assert why.probability > 0.5
    photos = json.loads((shared / "photos" / "boxes.json").read_text())
    boxes = next(p["objects"] for p in photos if p["file"] == "Persian_cat.jpg")
    values = why.on_photo()
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    y, x = row / values.shape[0], column / values.shape[1]
    assert any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in (b["box"] for b in boxes))
    assert (shipped / "out" / "grad-cam" / "manifest.json").is_file()


def test_the_table_of_methods_has_every_built_in():
    for entry in load_registry().entries.values():
        assert f"| {entry.explainer.title} |" in README


def test_linked_files_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
