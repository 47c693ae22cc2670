"""The layers hold: who may import whom, and that nobody but the registry knows a method."""

from __future__ import annotations

import ast
import copy
import functools
from pathlib import Path

import pytest

from core.registry import load_registry

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    [
        *(path for room in ("core", "plugins", "ui") for path in ROOT.glob(f"{room}/**/*.py")),
        ROOT / "demo.py",
    ]
)
# Rooms of core by height; a module imports only what lies on its own level or below.
LEVELS = [
    {
        "errors",
        "results",
        "explainer",
        "hookspecs",
        "targets",
        "atomic",
        "cache",
        "headers",
        "relay",
    },
    {"models", "images", "signals", "preprocess", "view", "datasets", "artifacts", "estimates"},
    {"trace", "subject", "layers", "metrics", "fitted", "guard", "train"},
    {"registry", "answers"},
    {"render", "tiles", "bundle", "guide"},
    {"engine"},
    {"conformance"},
    {"means", "batch"},
]
SIBLINGS = ({"registry", "render"}, {"registry", "bundle"})


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """Return what a file says, parsed once for all tests; not to be changed."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, *, run_time_only: bool = False) -> set[str]:
    """Return the dotted names that a file imports, inside functions as well."""
    found: set[str] = set()
    tree = tree_of(path)
    if run_time_only:
        tree = copy.copy(tree)
        tree.body = [node for node in tree.body if not _is_type_checking(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} uses a relative import"
            found.add(node.module or "")
    return found


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def room(module: str) -> str:
    """Return the room of core that a dotted name lies in."""
    return module.split(".")[1]


def level(name: str) -> int:
    """Return the height of a room."""
    return next(i for i, rooms in enumerate(LEVELS) if name in rooms)


def relative(path: Path) -> str:
    """Return a readable id."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_gradio_is_imported_by_the_screens_only(path):
    allowed = path.name == "demo.py" or "ui" in path.parts
    assert allowed or not any(name.split(".")[0] == "gradio" for name in imports(path))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nobody_imports_a_plugin_but_the_entry_points(path):
    parts = path.relative_to(ROOT).parts
    used = {n for n in imports(path) if n.split(".")[0] == "plugins"}
    if parts[0] == "plugins":
        used = {n for n in used if not n.startswith("plugins._")}  # arithmetic they share
        # A plugin that is a package knows its own files.
        used = {n for n in used if len(parts) < 3 or n.split(".")[1] != parts[1]}
    assert not used


@pytest.mark.parametrize("path", [p for p in SOURCES if "plugins" in p.parts], ids=relative)
def test_plugins_know_only_the_public_surface_of_core(path):
    import core

    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "core":
            assert node.module == "core", f"{path.name} imports {node.module}"
            assert {alias.name for alias in node.names} <= set(core.__all__)


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.is_relative_to(ROOT / "core")], ids=relative
)
def test_core_imports_point_down(path):
    parts = path.relative_to(ROOT / "core").with_suffix("").parts
    if parts == ("__init__",):
        return
    own = parts[0]
    for name in imports(path, run_time_only=True):
        if name.split(".")[0] == "core" and "." in name and room(name) != own:
            other = room(name)
            assert level(other) <= level(own), f"{relative(path)} imports {name} from above"
            assert not any({own, other} == pair for pair in SIBLINGS), f"{own} imports {other}"


@pytest.fixture(scope="module")
def method_names() -> set[str]:
    """The identifiers and titles of all methods."""
    entries = load_registry().entries
    return {*entries, *(entry.explainer.title for entry in entries.values())}


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_method_is_known_by_name_outside_its_plugin(path, method_names):
    if "plugins" in path.relative_to(ROOT).parts:
        return
    words = {
        node.value
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not method_names & words


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_file_is_longer_than_350_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_sources_hold_none_of_the_forbidden_calls(path):
    tree = tree_of(path)
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }
    forbidden = {"backward", "zero_grad", "inference_mode", "eval_js", "exec"}
    if path.is_relative_to(ROOT / "core" / "train"):
        forbidden -= {"backward", "zero_grad"}  # nowhere else does a network learn
    # manual_seed is fine on a private generator, never on torch itself.
    text = path.read_text(encoding="utf-8")
    assert not called & forbidden
    assert "torch.manual_seed(" not in text
    assert "np.random.seed(" not in text
    assert "weights_only=False" not in text


def test_layer_zero_costs_no_torch():
    import subprocess
    import sys

    code = "import core, sys; sys.exit('torch' in sys.modules or 'gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_core_is_the_one_of_this_checkout():
    import core

    assert Path(core.__file__).resolve().parents[1] == ROOT
