"""Discovery: isolation of every stage, clashes, blocking, both readers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from whylens.core.errors import UnknownName
from whylens.core.evaluation.builtin import BUILTIN
from whylens.core.registry import (
    MOST_DETAIL_LETTERS,
    PluginProblem,
    PluginSource,
    all_entry_points,
    load_registry,
)

ROOT = Path(__file__).resolve().parents[2]

GOOD = """
from whylens import Explainer, Heatmap, NoParams, hookimpl
class {cls}(Explainer[NoParams]):
    name, title, family = "{name}", "{cls}", "Test"
    summary, limits, source, cost = "s", "l", "p", "c"
    needs, Params = frozenset(), NoParams
    def explain(self, subject, params):
        return Heatmap([[1.0, 2.0]], "units")
@hookimpl
def explainers():
    return [{cls}()]
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Return a maker of importable plugins; each call gives an entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(module: str, source: str, *, point: str | None = None, owner: str = "stranger"):
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        entry = metadata.EntryPoint(point or module, module, "whylens.explainers")
        return PluginSource(entry, owner, "1.2")

    return make


def good(name: str, cls: str = "Good") -> str:
    return GOOD.format(name=name, cls=cls)


def test_built_ins_come_in_table_order_without_problems():
    registry = load_registry()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table = project["entry-points"]["whylens.explainers"]
    sets = [name for name in table if name in registry.datasets]
    assert list(registry.datasets) == sets == ["painted-cats", "mnist1d"]
    methods = [entry.plugin for entry in registry.entries.values()]
    assert methods == [name for name in table if name not in (*sets, "metrics")]
    assert tuple(registry.metrics.values()) == BUILTIN
    assert list(registry.entries)[:3] == ["cam", "grad-cam", "grad-cam++"]
    assert registry.problems == ()
    assert all(e.distribution == "whylens" for e in registry.entries.values())


@pytest.mark.parametrize(
    ("source", "stage", "message"),
    [
        ("raise ImportError('no such thing')", "load", "no such thing"),
        ("import sys; sys.exit(3)", "load", "SystemExit"),
        ("raise KeyboardInterrupt", "load", "KeyboardInterrupt"),
        ("import asyncio\nraise asyncio.CancelledError", "load", "CancelledError"),
        ("raise type('Odd', (BaseException,), {'__str__': lambda _: 1 / 0})", "load", "no words"),
        ("raise ValueError('e' * 10**6)", "load", "ValueError: eee"),
        (
            "from whylens import hookimpl\n@hookimpl\ndef explainers(): raise KeyboardInterrupt",
            "hook",
            "KeyboardInterrupt",
        ),
        (
            good("leaves") + "Good.title = property(lambda _: exit(2))",
            "check",
            "SystemExit: 2",
        ),
        ("import nowhere_at_all", "load", "nowhere_at_all"),
        ("x = 1", "register", "no hook"),
        (
            "from whylens import hookimpl\n@hookimpl\ndef explainerz(): return []",
            "register",
            "explainerz",
        ),
        (
            "from whylens import hookimpl\n@hookimpl\ndef explainers(surplus): return []",
            "register",
            "surplus",
        ),
        (
            "from whylens import hookimpl\n@hookimpl\ndef explainers():\n yield from []\n 1 / 0",
            "hook",
            "division by zero",
        ),
        ("from whylens import hookimpl\n@hookimpl\ndef explainers(): return [3]", "check", "int"),
        (
            good("Not Kebab"),
            "check",
            "kebab-case",
        ),
        (
            good("undrawable").replace(
                "class Good", "class Bad(Params):\n    words: list = []\nclass Good"
            )
            .replace("needs, Params = frozenset(), NoParams", "needs, Params = frozenset(), Bad")
            .replace("NoParams, hookimpl", "NoParams, Params, hookimpl"),
            "check",
            "words",
        ),
    ],
)  # fmt: skip
def test_a_bad_plugin_becomes_a_problem_and_the_others_live(plugin, source, stage, message):
    bad = plugin("bad_plugin_" + str(abs(hash(source)) % 10**8), source, point="bad")
    fine = plugin("fine_plugin", good("fine"))
    registry = load_registry([bad, fine], strict=False)
    assert list(registry.entries) == ["fine"]
    (problem,) = registry.problems
    assert (problem.stage, problem.plugin, problem.distribution) == (stage, "bad", "stranger")
    assert message in problem.message + problem.details
    assert len(problem.message + problem.details) < 2 * MOST_DETAIL_LETTERS
    with pytest.raises(PluginProblem, match="bad"):
        load_registry([bad, fine], strict=True)


def test_ctrl_c_while_a_plugin_loads_ends_the_start(plugin):
    source = "import signal\nsignal.raise_signal(signal.SIGINT)"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            load_registry([plugin("pressed_plugin", source)], strict=False)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_plugin_that_fails_validation_does_not_answer_hooks(plugin):
    half = plugin(
        "half_registered",
        good("half") + "\n@hookimpl\ndef unknown_hook(): return 1\n",
    )
    assert "half" not in load_registry([half], strict=False).entries


METRIC = """
from whylens import Metric, Score, hookimpl
def half(case):
    yield Score(0.5, 0.5)
@hookimpl
def metrics():
    return [Metric("half", "Half", "Is it?", "None.", "higher", half)]
"""


@pytest.mark.parametrize(
    ("change", "stage", "words"),
    [
        (("return [Metric", "return [1 / 0, Metric"), "hook", "division by zero"),
        (("[Metric(", "[3 or Metric("), "check", "gave int, not a Metric"),
        (('"half", "Half"', '"Half Done", "Half"'), "check", "kebab-case"),
        (('"Is it?"', '""'), "check", "needs a summary"),
        (('"higher"', '"upwards"'), "check", "no direction 'upwards'"),
        (('higher", half', 'higher", None'), "check", "a function `measure(case)`"),
        (("half)]", "half, frozenset({'luck'}))]"), "check", "may ask for method, mask"),
        (("return [", "return 2 * ["), "clash", "The metric 'half' belongs to"),
    ],
)
def test_what_is_wrong_with_a_metric_becomes_a_problem(plugin, change, stage, words):
    assert change[0] in METRIC
    name = "metric_" + str(abs(hash(change)) % 10**8)
    registry = load_registry(
        [plugin(name, METRIC.replace(*change)), plugin("fine_" + name, good("fine"))], strict=False
    )
    (problem,) = registry.problems
    assert (problem.stage, problem.plugin) == (stage, name)
    assert words in problem.message
    assert list(registry.entries) == ["fine"]
    assert list(registry.metrics) == (["half"] if stage == "clash" else [])


def test_a_metric_is_found_by_its_name_alone(plugin):
    registry = load_registry([plugin("half_metric", METRIC)])
    assert registry.metric("half") is registry.metrics["half"]
    with pytest.raises(UnknownName, match="half"):
        registry.metric("halve")


def test_the_first_owner_of_a_name_keeps_it(plugin):
    first = plugin("first_mod", good("same", "First"), owner="aaa")
    second = plugin("second_mod", good("same", "Second"), owner="bbb")
    registry = load_registry([first, second], strict=False)
    assert registry.entries["same"].distribution == "aaa"
    (problem,) = registry.problems
    assert problem.stage == "clash"
    assert "aaa" in problem.message
    assert problem.distribution == "bbb"


def test_a_taken_entry_point_name_is_refused_too(plugin):
    first = plugin("one_mod", good("one", "One"), point="point")
    second = plugin("two_mod", good("two", "Two"), point="point")
    registry = load_registry([first, second], strict=False)
    assert list(registry.entries) == ["one"]
    assert "already taken" in registry.problems[0].message


def test_a_plugin_can_be_blocked_by_name(plugin, monkeypatch):
    item = plugin("unwanted", good("unwanted"))
    monkeypatch.setenv("WHYLENS_BLOCK_PLUGINS", "unwanted,other")
    registry = load_registry([item])
    assert not registry.entries
    assert registry.problems[0].stage == "blocked"


def test_strangers_come_after_built_ins_sorted_by_owner(monkeypatch, tmp_path):
    for owner in ("zeta", "alpha"):
        info = tmp_path / f"{owner}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {owner}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[whylens.explainers]\n{owner}-x = {owner}_mod\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    owners = [item.distribution for item in all_entry_points()]
    assert owners[-2:] == ["alpha", "zeta"]
    assert set(owners[:-2]) == {"whylens"}


def test_an_unknown_method_names_close_ones():
    from whylens.core.errors import UnknownName

    with pytest.raises(UnknownName, match=r"grad-cam"):
        load_registry().explainer("gradcam")


@pytest.fixture(scope="module")
def bare_checkout(tmp_path_factory):
    """What a copy that is not installed says of itself, from a folder that has names like its own.

    Its copy lies in `place`. Only the dependencies are importable: the project's own metadata is
    hidden by copying the sources elsewhere and leaving the environment's .pth of the editable
    install out.
    """
    import shutil

    place, user = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("user")
    for part in ("whylens", "core", "plugins", "pyproject.toml"):
        source = ROOT / part
        if source.is_dir():  # with what was compiled, or all of it is compiled anew
            shutil.copytree(source, place / part)
        else:
            shutil.copy(source, place / part)
    for room in ("core", "plugins", "ui", "demo"):
        (user / room).mkdir()
        (user / room / "__init__.py").write_text("raise ImportError('not yours')")
    site = Path(sys.prefix, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    code = """
import sys, json
import whylens.core.train.report
from whylens.core.registry import load_registry
r = load_registry()
said = {"entries": list(r.entries), "problems": len(r.problems), "where": whylens.core.__file__}
print(json.dumps({**said, "timm": "timm" in sys.modules}))
"""
    run = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=user,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(place), str(site / "site-packages")]),
        },
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return {**json.loads(run.stdout), "place": str(place)}


@pytest.mark.slow
@pytest.mark.slow  # a process of its own, for seconds; all tests read the same table
def test_a_bare_checkout_finds_the_built_ins_without_being_installed(bare_checkout):
    assert len(bare_checkout["entries"]) >= 24
    assert bare_checkout["problems"] == 0


@pytest.mark.slow
def test_folders_of_the_user_with_the_names_of_rooms_are_in_nobodys_way(bare_checkout):
    assert bare_checkout["where"].startswith(bare_checkout["place"])


@pytest.mark.slow
def test_methods_and_reports_cost_no_library_of_networks(bare_checkout):
    assert not bare_checkout["timm"]
