"""`whylens new-plugin`: the package it makes, and a plugin's life from there to the page."""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import socket
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.conftest import ROOT
from tests.support.browser import PATIENCE, chromium, open_tab, status, toy_checkpoint, visit
from whylens.core.conformance.outcome import NotApplicable
from whylens.core.conformance.suite import CHECKS
from whylens.core.conformance.under_test import ExplainerUnderTest
from whylens.core.registry import PluginSource, load_registry
from whylens.ui.cli.app import app

LONGEST = "a-name-of-thirty-letters-or-so"


def whylens(*words: str):
    """Return the result of a command, run in this process."""
    return CliRunner().invoke(app, list(words))


def test_a_package_is_made_with_four_files_and_next_steps(tmp_path):
    run = whylens("new-plugin", "edge-glow", "--dir", str(tmp_path / "made"))
    assert run.exit_code == 0, run.stderr
    folder = tmp_path / "made" / "whylens-edge-glow"
    assert f"pip install -e {folder}" in run.stdout
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md", "pyproject.toml", "test_whylens_edge_glow.py", "whylens_edge_glow.py",
    ]  # fmt: skip
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["whylens.explainers"] == {"edge-glow": "whylens_edge_glow"}
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    "name", ["", "Edge", "edge_glow", "3d", "-x", "x-", "a--b", "../up", "a b", "é", "x" * 31]
)
def test_a_name_that_would_not_do_is_refused(tmp_path, name):
    run = whylens("new-plugin", "--dir", str(tmp_path), "--", name)
    assert run.exit_code == 1
    assert "as in edge-glow" in run.stderr
    assert not any(tmp_path.iterdir())


def test_a_name_that_is_taken_is_refused(tmp_path):
    for name in ("grad-cam", "grad-cam-plus-plus"):
        run = whylens("new-plugin", name, "--dir", str(tmp_path))
        assert run.exit_code == 1
        assert "already" in run.stderr
    assert not any(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "whylens-edge-glow").mkdir()
    run = whylens("new-plugin", "edge-glow", "--dir", str(tmp_path))
    assert run.exit_code == 1
    assert "nothing is overwritten" in run.stderr
    assert not any((tmp_path / "whylens-edge-glow").iterdir())


def test_a_failure_midway_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("whylens.core.storage.files.write_atomically", full)
    run = whylens("new-plugin", "edge-glow", "--dir", str(tmp_path))
    assert run.exit_code == 1
    assert "No space left on device. Choose another --dir." in run.stderr
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module", params=["edge-glow", pytest.param(LONGEST, marks=pytest.mark.slow)])
def package(request, tmp_path_factory):
    """The folder of a new package."""
    place = tmp_path_factory.mktemp("packages")
    assert whylens("new-plugin", request.param, "--dir", str(place)).exit_code == 0
    return place / f"whylens-{request.param}"


def test_the_package_is_as_ruff_wants_it(package):
    ruff = Path(sys.executable).with_name("ruff")
    assert len(LONGEST) == 30
    for words in (["check"], ["format", "--check"], ["check", "--config", ROOT / "pyproject.toml"]):
        ignore_option = ["--ignore", "S101,I001,D102,D103"] if "--config" in words else []
        command = [str(word) for word in (ruff, *words, *ignore_option, "--no-cache", package)]
        run = subprocess.run(command, cwd=package, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr


def test_the_packages_own_test_passes(package, monkeypatch):
    monkeypatch.syspath_prepend(str(package))
    test_module = runpy.run_path(str(next(package.glob("test_*.py"))))
    tests = [function for name, function in test_module.items() if name.startswith("test_")]
    for test in tests:
        (mark,) = test.pytestmark
        for values in mark.args[1]:
            test(*values)
    assert tests


@pytest.mark.slow  # what it says is asked above
def test_the_packages_own_test_runs_by_pytest(package):
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package)],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert "2 passed" in run.stdout, run.stdout + run.stderr


def test_the_packages_explainer_passes_the_conformance_tests(package, monkeypatch):
    from importlib import metadata

    monkeypatch.syspath_prepend(str(package))
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    ((name, module),) = project["entry-points"]["whylens.explainers"].items()
    point = metadata.EntryPoint(name, module, "whylens.explainers")
    registry = load_registry([PluginSource(point, project["name"], "1")], strict=True)
    candidate, passed_ids = ExplainerUnderTest(registry.explainer(name)), set()
    for check in CHECKS:
        if not check.slow:
            with contextlib.suppress(NotApplicable):
                check.run(candidate)
                passed_ids.add(check.number)
    assert passed_ids >= {1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}


class Environment:
    """A fresh virtual environment that sees the packages of this one, and no network."""

    def __init__(self, folder: Path) -> None:
        make = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(make, check=True, capture_output=True)
        self.python = str(folder / "bin" / "python")
        self.site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        (self.site / "parent.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(self, *words: str, **more) -> subprocess.CompletedProcess:
        return subprocess.run([self.python, *words], capture_output=True, text=True, **more)


def environment(place: Path) -> dict[str, str]:
    return {
        **{k: v for k, v in os.environ.items() if k != "WHYLENS_STRICT_PLUGINS"},
        "PYTHONPATH": str(ROOT),
        "WHYLENS_CHECKPOINTS": str(place / "checkpoints"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }


@contextlib.contextmanager
def served(venv: Environment, place: Path):
    """Yield the address of the page, served by another process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = subprocess.Popen(
        [venv.python, "-u", "-m", "whylens.ui.cli.app", "demo", "--port", str(port)],
        cwd=ROOT,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lines = []
        for line in child.stdout:
            lines.append(line)
            if "Whylens is at" in line:
                break
        assert child.poll() is None, "".join(lines)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.kill()
        child.communicate()


@pytest.mark.slow
@pytest.mark.browser
def test_a_plugin_from_its_making_to_the_page_and_to_its_problem(tmp_path):
    expect = pytest.importorskip("playwright.sync_api").expect
    assert whylens("new-plugin", "edge-glow", "--dir", str(tmp_path)).exit_code == 0
    venv = Environment(tmp_path / "venv")
    # As a stranger installs it, but for the network: the build tools are those of the parent.
    installed = venv.run(
        "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation",
        str(tmp_path / "whylens-edge-glow"),
    )  # fmt: skip
    assert installed.returncode == 0, installed.stdout + installed.stderr
    module = venv.site / "whylens_edge_glow.py"
    assert module.is_file()
    toy_checkpoint(tmp_path / "checkpoints" / "a-toy")
    photo = tmp_path / "photo.png"
    pixels = np.random.default_rng(4).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo)
    words = ("-m", "pytest", "-p", "no:cacheprovider", "--explainer", "edge-glow", "-k", "07")
    plugin_option = ("-p", "whylens.ui.pytest_plugin")
    quiet = {**environment(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = venv.run(*words, *plugin_option, env=quiet, cwd=tmp_path)
    assert "3 passed" in run.stdout, run.stdout + run.stderr

    with chromium() as browser:
        with (
            served(venv, tmp_path) as address,
            visit(browser, f"{address}/?model=a-toy&method=edge-glow") as page,
        ):
            expect(page.locator("#edge-glow-run")).to_be_visible()
            page.set_input_files("#photo input[type=file]", str(photo))
            expect(status(page, "compare")).to_have_value(re.compile("^Done"), timeout=PATIENCE)
            page.click("#edge-glow-run")
            done_text = re.compile("^Done")
            expect(status(page, "edge-glow")).to_have_value(done_text, timeout=PATIENCE)
            expect(page.locator("#edge-glow-picture img")).to_have_count(2)
            expect(page.locator("#edge-glow-legend")).to_contain_text("per pixel")

        module.write_text(module.read_text().replace("def explainers()", "def explainers("))
        with served(venv, tmp_path) as address, visit(browser, address) as page:
            open_tab(page, "Plugins")
            problem = page.locator(".wl-problem textarea")
            expect(problem).to_have_value(re.compile("SyntaxError"))
            expect(page.locator(".wl-problem")).to_contain_text("edge-glow of whylens-edge-glow")
            expect(page.locator("#plugins")).to_contain_text("grad-cam")
            expect(page.locator("#plugins")).not_to_contain_text("edge-glow")
