"""What the import contracts of pyproject.toml cannot say of the sources."""

from __future__ import annotations

import ast
import gc
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from whylens.core.registry import load_registry

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("whylens", "core", "plugins", "ui")
SOURCES = sorted(path for room in ROOMS for path in ROOT.glob(f"{room}/**/*.py"))
TOOLS = ROOT / "benchmarks"
EVERY = [*SOURCES, ROOT / "demo.py"]
EVERY += [p for room in ("benchmarks", "examples", "tests") for p in ROOT.glob(f"{room}/**/*.py")]


@pytest.fixture(scope="module")
def nodes() -> Iterator[dict[Path, list[ast.AST]]]:
    """All nodes of every source file, parsed once."""
    gc.disable()  # it would go again and again through hundreds of thousands of nodes
    try:
        yield {p: list(ast.walk(ast.parse(p.read_text(encoding="utf-8")))) for p in SOURCES}
    finally:
        gc.enable()


def test_one_name_is_imported():
    old = re.compile(r"^\s*(?:from|import) (?:\.|(?:core|plugins|ui)\b)", re.MULTILINE)
    assert not [path for path in EVERY if old.search(path.read_text(encoding="utf-8"))]


def test_no_benchmark_imports_one_that_imports_it():
    texts = {path.stem: path.read_text(encoding="utf-8") for path in TOOLS.glob("*.py")}
    imports = {
        name: set(
            re.findall(r"\w+", " ".join(re.findall(r"from benchmarks(?:\.| import )(.+)", text)))
        )
        & texts.keys()
        for name, text in texts.items()
    }
    assert {"memory", "peers", "table"} <= imports["compare"]
    TopologicalSorter(imports).prepare()  # it raises CycleError


def test_no_method_and_no_data_set_is_known_by_name_outside_the_plugins(nodes):
    registry = load_registry()
    entries = registry.entries
    names = {*entries, *(entry.explainer.title for entry in entries.values())}
    for path, file_nodes in nodes.items():
        if "plugins" not in path.relative_to(ROOT).parts:
            words = {n.value for n in file_nodes if isinstance(n, ast.Constant)}
            assert not names & words, path
            sets = [name for name in registry.datasets for word in words if name in str(word)]
            assert not sets, path


def test_plugins_import_only_what_whylens_lists(nodes):
    import whylens

    for path, file_nodes in nodes.items():
        if "plugins" in path.relative_to(ROOT).parts:
            for node in file_nodes:
                if isinstance(node, ast.ImportFrom) and node.module == "whylens":
                    assert {alias.name for alias in node.names} <= set(whylens.__all__), path


def test_no_source_makes_a_forbidden_call(nodes):
    for path, file_nodes in nodes.items():
        forbidden = {"backward", "zero_grad", "inference_mode", "eval_js", "exec"}
        if path.is_relative_to(ROOT / "core" / "train"):
            forbidden -= {"backward", "zero_grad"}  # nowhere else does a network learn
        calls = {
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for node in file_nodes
            if isinstance(node, ast.Call)
            # What leaves inference mode may be called where it may not be entered.
            and not (node.args and getattr(node.args[0], "value", None) is False)
        }
        assert not calls & forbidden, path
        # manual_seed is fine on a private generator, never on torch itself.
        text = path.read_text(encoding="utf-8")
        for words in ("torch.manual_seed(", "np.random.seed(", "weights_only=False"):
            assert words not in text, path


def test_docstrings_describe_what_is_there(nodes):
    stale = []
    for path, file_nodes in nodes.items():
        for node in file_nodes:
            if isinstance(node, ast.FunctionDef):
                names = {n.arg for n in ast.walk(node.args) if isinstance(n, ast.arg)}
                described = _entries(node, "Args")
            elif isinstance(node, ast.ClassDef):
                parts = list(ast.walk(node))
                names = {getattr(n, "attr", getattr(n, "id", "")) for n in parts}
                names |= {n.name for n in parts if isinstance(n, ast.FunctionDef)}  # properties
                described = _entries(node, "Attributes")
            else:
                continue
            stale += [f"{path.name}, {node.name}: {n}" for n in described if n not in names]
    assert not stale


def _entries(node: ast.FunctionDef | ast.ClassDef, section: str) -> list[str]:
    text = (ast.get_docstring(node) or "").partition(f"{section}:\n")[2]
    body = re.match(r"(?:    .*\n?|\n)*", text)
    return re.findall(r"^    \*{0,2}(\w+):", body[0] if body else "", re.MULTILINE)


def test_no_file_is_longer_than_600_lines():
    assert not [p for p in EVERY if len(p.read_text(encoding="utf-8").splitlines()) > 600]


def test_the_distribution_lists_every_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = set(project["tool"]["setuptools"]["packages"])
    folders = {path.parent.relative_to(ROOT) for path in SOURCES} - {Path("whylens")}
    assert packages == {
        "whylens", "whylens.checkpoints", "whylens.examples",
        *(f"whylens.{'.'.join(path.parts)}" for path in folders),
    }  # fmt: skip


def test_the_public_names_cost_no_torch():
    code = (
        "import sys, whylens; from whylens import Explainer, Heatmap, hookimpl\n"
        "sys.exit('torch' in sys.modules or 'gradio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_whylens_is_the_one_of_this_checkout():
    import whylens.core

    assert Path(whylens.core.__file__).resolve().parents[1] == ROOT


def test_processes_are_started_where_their_end_is_seen_to(nodes):
    starters = {
        path.relative_to(ROOT).as_posix()
        for path, file_nodes in nodes.items()
        for node in file_nodes
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", ""))
        in ("Process", "ProcessPoolExecutor", "Pool", "fork")
    }
    # The pool of pictures ends with the training that waits for it.
    assert starters == {"core/storage/child_processes.py", "core/train/pictures.py"}


def test_what_nobody_may_write_to_says_how_it_crosses_between_processes(nodes):
    count = 0
    for path, within in nodes.items():
        for node in within:
            if isinstance(node, ast.ClassDef):
                methods = {m.name: m for m in node.body if isinstance(m, ast.FunctionDef)}
                names = ast.walk(methods.get("__post_init__", ast.Pass()))
                if any(getattr(name, "id", "") == "MappingProxyType" for name in names):
                    count += 1
                    assert "__reduce__" in methods, f"{path}: {node.name} cannot be pickled"
    assert count > 2
