"""What the README claims; what it tells to type is run by test_docs.py."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from whylens.core.registry import PluginSource, load_registry

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_explainer_of_the_readme_is_found_and_explains(tmp_path, monkeypatch, rng):
    import numpy as np

    from tests.conftest import GapNet, plain_spec, seeded
    from whylens.core.engine import Engine
    from whylens.core.explanation import Question
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
    expected = engine._trace(answer.question, backbone)[0].features[0].abs().sum(0)
    assert np.allclose(answer.result.values, expected, rtol=1e-5)


def test_the_table_of_methods_has_every_built_in():
    for entry in load_registry().entries.values():
        assert f"| {entry.explainer.title} |" in README


def test_linked_files_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
