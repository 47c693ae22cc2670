"""What a fresh machine and a Space rely on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def lines(name: str) -> list[str]:
    text = (ROOT / name).read_text().splitlines()
    return [line.strip() for line in text if line.strip() and not line.startswith("#")]


def test_requirements_are_the_dependencies_of_the_project():
    assert lines("requirements.txt") == PROJECT["dependencies"]


def test_every_dependency_is_pinned_and_has_a_range():
    from packaging.requirements import Requirement

    pinned_versions = {
        Requirement(line).name.lower().replace("_", "-") for line in lines("constraints.txt")
    }
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
        requirement = Requirement(text)
        assert requirement.name.lower() in pinned_versions, (
            f"{requirement.name} is not in constraints.txt"
        )
        assert requirement.specifier, f"{requirement.name} has no range"


def test_the_installed_versions_fit_the_ranges():
    from packaging.requirements import Requirement

    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        assert metadata.version(requirement.name) in requirement.specifier


def test_every_entry_point_is_a_file_of_the_plugins_folder():
    table = PROJECT["entry-points"]["whylens.explainers"]
    for module in table.values():
        path = ROOT / module.removeprefix("whylens.").replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_no_weights_and_no_large_files_are_in_the_repository():
    process = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if process.returncode != 0:
        files = [p for p in ROOT.rglob("*") if p.is_file() and ".venv" not in p.parts]
    else:
        files = [ROOT / name for name in process.stdout.splitlines() if (ROOT / name).is_file()]
    assert all(path.stat().st_size < 10_000_000 for path in files)
    assert not [p for p in files if p.suffix in (".pth", ".pt", ".bin", ".ckpt", ".pkl")]


@pytest.mark.slow
def test_a_bare_checkout_builds_the_page_without_being_installed(tmp_path):
    # As a Space does it: the requirements are there, the project is only copied.
    checkout_run = subprocess.run(
        ["cp", "-r", *(str(ROOT / n) for n in ("whylens", "core", "plugins", "ui", "examples")),
         str(ROOT / "demo.py"), str(ROOT / "pyproject.toml"), str(tmp_path)]
    )  # fmt: skip
    assert checkout_run.returncode == 0
    code = (
        "import demo, whylens.core\n"
        "from whylens.core.engine import Engine\n"
        "from whylens.ui.page.layout import build_page\n"
        "page = build_page(Engine())\n"
        "names = {f.api_name for f in page.fns.values()}\n"
        "print(whylens.core.__file__, sorted(n for n in names if n))"
    )
    site = next(p for p in sys.path if p.endswith("site-packages"))
    run = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), site])},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(str(tmp_path))
    assert "'grad-cam-plus-plus'" in run.stdout


def test_a_busy_machine_does_not_stop_the_start(monkeypatch):
    import urllib.request

    import gradio as gr

    from tests.support.browser import serve

    with gr.Blocks() as page:
        gr.Markdown("here")
    # What Gradio finds when its own first page takes longer than 3 s.
    monkeypatch.setattr("gradio.networking.url_ok", lambda address: False)
    try:
        with urllib.request.urlopen(f"{serve(page)}/health") as answer:
            assert answer.status == 200
    finally:
        page.close()


def test_ci_runs_what_the_makefile_offers():
    script = (ROOT / ".ci" / "run").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", script, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
