"""The plugin of examples/ is installable, passes its own test and the conformance tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest

from tests.conftest import ROOT
from whylens.core.conformance.outcome import NotApplicable
from whylens.core.conformance.suite import CHECKS
from whylens.core.conformance.under_test import ExplainerUnderTest
from whylens.core.registry import PluginSource, load_registry

PACKAGE = ROOT / "examples" / "plugin-captum"
PROJECT = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.slow
def test_its_own_test_passes():
    pytest.importorskip("captum")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error::UserWarning",
         "--rootdir", str(PACKAGE), str(PACKAGE)],
        cwd=PACKAGE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert "6 passed" in run.stdout, run.stdout + run.stderr


@pytest.mark.slow  # the template's explainer goes through the same kit in test_new_plugin.py
def test_its_explainer_passes_the_conformance_tests(monkeypatch):
    pytest.importorskip("captum")
    monkeypatch.syspath_prepend(str(PACKAGE))
    ((name, module),) = PROJECT["entry-points"]["whylens.explainers"].items()
    point = metadata.EntryPoint(name, module, "whylens.explainers")
    registry = load_registry(
        [PluginSource(point, PROJECT["name"], PROJECT["version"])], strict=True
    )
    candidate, passed_ids = ExplainerUnderTest(registry.explainer(name)), set()
    for check in CHECKS:
        if not check.slow:
            with contextlib.suppress(NotApplicable):
                check.run(candidate)
                passed_ids.add(check.number)
    assert passed_ids >= {1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}


def test_what_it_needs_is_not_what_whylens_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(line.startswith("captum") for line in PROJECT["dependencies"])
    assert not any(line.startswith("captum") for line in project["dependencies"])
