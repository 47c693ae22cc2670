"""`pytest --explainer NAME` in a folder of its own: what is run, skipped, told and left out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from whylens.core.registry import load_registry

METHODS = list(load_registry().entries)
pytest_plugins = ["pytester"]

# The plugin is loaded by name alone, whatever is installed where these tests run.
LOADED = ("-p", "whylens.ui.pytest_plugin", "-p", "no:cacheprovider")


@pytest.fixture
def run(pytester, monkeypatch):
    """Return what runs pytest, in this process, in an empty folder."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # pytester would unload what a run loaded, and torch can be loaded only once in a process.
    monkeypatch.setattr("_pytest.pytester.SysModulesSnapshot.restore", lambda self: None)
    return lambda *words: pytester.runpytest_inprocess(*LOADED, *words)


def test_a_sound_method_passes_and_the_rest_is_skipped_with_reasons(run):
    result = run("--explainer", "grad-cam", "-v", "-rs", "-m", "not slow", "-k", "03 or 08")
    result.assert_outcomes(passed=3, skipped=1, deselected=27)
    result.stdout.fnmatch_lines(
        ["*grad-cam::03-linear-rank PASSED*", "*grad-cam::08-state-restored PASSED*"]
    )
    result.stdout.fnmatch_lines(["SKIPPED*does not claim completeness*"])


def test_several_methods_run_one_after_the_other(run):
    result = run("--explainer", "cam", "--explainer", "hires-cam", "-k", "04-cam-identity", "-v")
    result.assert_outcomes(passed=1, skipped=1, deselected=60)
    result.stdout.fnmatch_lines(["*cam::04-cam-identity PASSED*", "*hires-cam::04*SKIPPED*"])


def test_all_stands_for_every_method_that_is_found(run):
    result = run("--explainer", "all", "--collect-only", "-q", "-k", "01-one-segment")
    collected = [line for line in result.outlines if line.endswith("::01-one-segment")]
    assert [line.split("::")[0] for line in collected] == METHODS


def test_metrics_are_held_to_theirs(run):
    result = run("--metric", "mass-in-mask", "--metric", "max-sensitivity", "-v", "-rs")
    result.assert_outcomes(passed=13, skipped=3)
    result.stdout.fnmatch_lines(["*mass-in-mask::03-chance-level PASSED*"])
    result.stdout.fnmatch_lines(["SKIPPED*states no chance level*"])
    unknown = run("--metric", "mass-in-masks")
    assert unknown.ret == pytest.ExitCode.USAGE_ERROR
    unknown.stderr.fnmatch_lines(["*no metric called 'mass-in-masks'*mass-in-mask*"])


def test_the_tests_of_the_folder_run_only_where_they_are_named(run, pytester):
    path = pytester.makepyfile(test_of_the_folder="def test_own():\n    pass\n")
    result = run("--explainer", "cam", "-k", "own or 04")
    result.assert_outcomes(passed=1, deselected=30)
    named_run = run("--explainer", "cam", "-k", "own or 04", str(path))
    named_run.assert_outcomes(passed=2, deselected=30)


def test_an_unknown_name_is_told_with_close_ones(run):
    result = run("--explainer", "gradcam")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no method called 'gradcam'*grad-cam*"])


BROKEN = """
from whylens import Explainer, Heatmap, Need, NoParams, hookimpl

class Leaky(Explainer[NoParams]):
    name, title, family = "leaky", "Leaky", "Test"
    summary = limits = source = cost = "x"
    needs, Params = frozenset({Need.GRADIENTS}), NoParams

    def explain(self, subject, params):
        subject.backbone.module.register_forward_hook(lambda *_: None)
        if len(subject.size) != 2:
            raise IndexError("two axes, please")
        worth = subject.input_gradients(subject.x) * (subject.x - subject.baseline("black"))
        return Heatmap(worth[0].sum(0).numpy(), subject.unit, signed=True)

@hookimpl
def explainers():
    return [Leaky()]
"""


@pytest.fixture
def stranger(pytester, monkeypatch):
    """Return a maker of an installed plugin; its module stays loaded, so each needs its own."""

    def make(module: str, source: str) -> None:
        (pytester.path / f"{module}.py").write_text(source)
        info = pytester.path / "leaky-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[whylens.explainers]\nleaky = {module}\n")
        monkeypatch.syspath_prepend(str(pytester.path))

    return make


def test_a_failure_tells_what_to_mend_and_where_it_was_raised(run, stranger):
    stranger("leaky_plugin", BROKEN)
    result = run("--explainer", "leaky", "-k", "08-state-restored or 17")
    result.assert_outcomes(failed=3, deselected=28)
    output = result.stdout.str()
    assert "hooks were left: remove them in a finally block." in output
    assert "explain() raised IndexError: two axes, please." in output
    assert 'leaky_plugin.py", line 12, in explain' in output
    assert "core/conformance" not in output.split("08-state-restored", 1)[1].split("17-axes")[0]


def test_a_plugin_that_does_not_load_is_told_with_its_problem(run, stranger):
    stranger("lost_plugin", "import nowhere_at_all")
    result = run("--explainer", "leaky")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no method called 'leaky'*", "*nowhere_at_all*"])


def test_a_run_of_other_tests_is_not_slowed_down(tmp_path):
    (tmp_path / "test_light.py").write_text(
        "import sys\n\n\ndef test_light():\n"
        "    assert not {'torch', 'core', 'numpy', 'pydantic'} & set(sys.modules)\n"
    )
    environment = {
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PATH": "/usr/bin:/bin",
    }
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *LOADED, "-q", "--rootdir", str(tmp_path), str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_distribution_offers_it_to_pytest():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"whylens": "whylens.ui.pytest_plugin"}
