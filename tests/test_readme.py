"""What the README says is run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from core.registry import Found, load_registry

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", [b for b in blocks("python") if "hookimpl" not in b])
def test_python_snippets_run(code, tmp_path):
    path = tmp_path / "snippet.py"
    path.write_text(code)
    run = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env={**__import__("os").environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_the_explainer_of_the_readme_is_found_and_explains(tmp_path, monkeypatch, rng):
    import numpy as np

    from core.answers import Question
    from core.engine import Engine
    from core.models.backbone import wrap
    from tests.conftest import GapNet, plain_spec, seeded

    (code,) = (b for b in blocks("python") if "hookimpl" in b)
    assert len(code.strip().splitlines()) <= 30
    (tmp_path / "feature_norm_of_the_readme.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    point = metadata.EntryPoint("x", "feature_norm_of_the_readme", "whylens.explainers")
    registry = load_registry([Found(point, "readme", "1")], strict=True)
    backbone = wrap(seeded(GapNet()), spec=plain_spec(32, 32))
    engine = Engine(registry, loader=lambda name, progress: backbone)
    photo = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    (answer,) = engine.explain(Question("toy", photo), "feature-norm", {"power": 1.0})
    expected = engine._trace(answer.question, backbone)[0].features[0].abs().sum(0)
    assert np.allclose(answer.result.values, expected, rtol=1e-5)


def test_make_targets_and_commands_of_the_readme_exist():
    from ui.cli import app

    makefile = (ROOT / "Makefile").read_text()
    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    for line in "\n".join(blocks("bash")).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
        if words[:1] == ["whylens"]:
            assert words[1] in commands


def test_the_table_of_methods_has_every_built_in():
    for entry in load_registry().entries.values():
        assert f"| {entry.explainer.title} |" in README


def test_linked_files_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_plugin_table_of_the_readme_is_valid_toml():
    (table,) = blocks("toml")
    assert "whylens.explainers" in tomllib.loads(table)["project"]["entry-points"]
