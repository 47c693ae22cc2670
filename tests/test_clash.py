"""Another package with a name of ours is found at the start and named."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ui.clash import clash_in

ROOT = Path(__file__).resolve().parents[1]


def distribution(root: Path, name: str, *files: str) -> None:
    """Write the metadata of an installed package."""
    folder = root / f"{name.replace('-', '_')}-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (folder / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages, ours among them, as a wheel would lie there."""
    for name in ("core", "plugins", "ui"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "demo.py").write_text("")
    monkeypatch.setattr(
        "ui.clash.importlib.util.find_spec",
        lambda name: type("Spec", (), {"origin": str(
            tmp_path / ("demo.py" if name == "demo" else f"{name}/__init__.py"))}),
    )  # fmt: skip
    distribution(tmp_path, "whylens", "core/__init__.py", "demo.py", "ui/cli.py")
    distribution(tmp_path, "innocent", "innocent/core/__init__.py", "innocent/demo.py", "corex.py")
    return tmp_path


def test_this_checkout_has_no_clash():
    assert clash_in(ROOT) == ""


def test_an_environment_of_its_own_has_no_clash(site):
    assert clash_in(site) == ""


@pytest.mark.parametrize("file", ["core/base.py", "plugins/__init__.py", "demo.py"])
def test_a_package_with_files_among_ours_is_named(site, file):
    distribution(site, "some-core", "some_core/x.py", file)
    said = clash_in(site)
    assert "some-core 1.2" in said
    assert str(site / file.split("/")[0]) in said
    assert "python -m venv" in said


def test_a_module_found_elsewhere_is_named(tmp_path):
    said = clash_in(tmp_path)
    assert f"`import core` finds {ROOT / 'core'} instead of {tmp_path / 'core'}" in said


def test_the_command_says_it_in_one_sentence_and_starts_nothing(tmp_path):
    # As in an environment into which another package named core was installed as well.
    for name in ("core", "plugins", "ui"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "demo.py").symlink_to(ROOT / "demo.py")
    distribution(tmp_path, "some-core", "core/__init__.py")
    code = (
        "import pathlib, sys; sys.path.insert(0, '.')\n"
        "import ui.cli; ui.cli.__file__ = str(pathlib.Path('ui/cli.py').absolute())\n"
        "pathlib.Path.resolve = pathlib.Path.absolute\n"
        "sys.argv = ['whylens', 'plugins']; ui.cli.main()"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith("whylens: some-core 1.2 brought files")
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_the_look_around_costs_next_to_nothing():
    site = next(p for p in sys.path if p.endswith("site-packages"))
    began = time.process_time()
    clash_in(Path(site))
    assert time.process_time() - began < 0.5
