"""docs/limits.md says the numbers of the code, of every limit."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re

from tests.conftest import ROOT

TEXT = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
ROW = re.compile(r"\| [^|]+ \| ([\d,.]+) ?(%?)[^|]*\| `((?:core|ui)\.[^`]+)` \|")
# What is laid out, not refused.
SHOWN = {"controls", "html", "report", "photo_report", "explain_folder"}


def value_of(path: str) -> float:
    """Return what a dotted path names in the code, an entry of a mapping among it."""
    dotted, _, key = path.partition("[")
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        if (ROOT / "/".join(parts[:cut])).with_suffix(".py").is_file():
            break
    thing = importlib.import_module("whylens." + ".".join(parts[:cut]))
    for name in parts[cut:]:
        thing = getattr(thing() if dataclasses.is_dataclass(thing) else thing, name)
    return thing[key.strip('"]')] if key else thing


def trees_of(*places: str) -> dict[str, ast.Module]:
    """Return the code of all modules below some folders, by their dotted names."""
    paths = [path for place in places for path in sorted((ROOT / place).rglob("*.py"))]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in paths
    }


def assigned(tree: ast.Module) -> dict[str, ast.expr]:
    """Return what a module gives to each of its names."""
    given: dict[str, ast.expr] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                given[target.id] = value
            elif isinstance(target, ast.Tuple):
                parts = value.elts if isinstance(value, ast.Tuple) else [value] * len(target.elts)
                given |= {name.id: part for name, part in zip(target.elts, parts, strict=True)}
    return given


def numbers_of(tree: ast.Module) -> set[str]:
    """Return the names to which a module gives a number of its own."""
    return {name for name, value in assigned(tree).items() if is_number(value)}


def is_number(node: ast.AST) -> bool:
    """Return whether code computes a number from nothing but numbers that stand there."""
    if isinstance(node, ast.UnaryOp):
        return is_number(node.operand)
    if isinstance(node, ast.BinOp):
        return is_number(node.left) and is_number(node.right)
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def bare_times(tree: ast.AST) -> list[int]:
    """Return the lines in which a time to wait is a number without a name."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            waits = name in ("join", "wait", "poll", "receive", "get", "acquire", "sleep")
            named = [k.value for k in node.keywords if re.search("seconds|timeout", k.arg or "")]
            lines += [node.lineno for value in (given if waits else named) if is_number(value)]
        if isinstance(node, ast.FunctionDef):
            every = [*node.args.posonlyargs, *node.args.args]
            pairs = [
                *zip(reversed(every), reversed(node.args.defaults), strict=False),
                *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
            ]
            lines += [
                node.lineno
                for argument, default in pairs
                if re.search("seconds|timeout|patience", argument.arg)
                and default is not None
                and is_number(default)
                and ast.literal_eval(default) != 0
            ]
    return lines


def test_every_number_of_the_working_processes_has_a_name_and_is_there():
    trees = trees_of("core/workers")
    numbers = {f"{module}.{name}" for module, tree in trees.items() for name in numbers_of(tree)}
    assert len(numbers) > 20
    assert not sorted(name for name in numbers if f"`{name}`" not in TEXT)
    trees |= {"core.engine": trees_of("core")["core.engine"]}
    assert {module: bare_times(tree) for module, tree in trees.items() if bare_times(tree)} == {}


def test_what_is_looked_for_is_found():
    tree = ast.parse(
        "A, _B = 1.0, 2\nC: int = -3 * 10**6\nD = [4]\ndef f(seconds: float = 5.0, *, n=6): ...\n"
        "def g(seconds=0.0):\n    process.join(7)\n    run(timeout=8.0)\n    wait(lines, A)"
    )
    assert numbers_of(tree) == {"A", "_B", "C"}
    assert bare_times(tree) == [4, 6, 7]


def test_every_number_is_that_of_the_code():
    rows = ROW.findall(TEXT)
    assert len(rows) > 40
    sentences = re.findall(r"([\d,.]+), `((?:core|ui)\.[^`]+)`", TEXT)  # a number just before
    rows += [(number, "", path) for number, path in sentences]
    assert len(rows) == len(re.findall(r"`(?:core|ui)\.", TEXT))
    for number, percent, path in rows:
        assert float(number.replace(",", "")) == value_of(path) * (100 if percent else 1), path


def test_every_limit_is_there():
    limits = set()
    for module, tree in trees_of("core", "ui").items():
        file = module.rpartition(".")[2]
        door = r"[A-Z]\w*_(BYTES|SECONDS|ITEMS)" if file in ("gate", "janitor") else "(?!)"
        limits |= {
            f"{module}.{name}"
            for name in assigned(tree)
            if (name.startswith("MOST_") and file not in SHOWN) or re.fullmatch(door, name)
        }
    assert len(limits) > 25
    assert not sorted(limit for limit in limits if f"`{limit}`" not in TEXT)


def test_every_variable_of_the_memory_the_disk_and_the_hosts_is_there():
    for module, name in (
        ("core.storage.memory", "MEMORY_VARIABLE"),
        ("ui.page.janitor", "DISK_VARIABLE"),
        ("ui.page.gate", "HOSTS_VARIABLE"),
    ):
        assert f"`{getattr(importlib.import_module(f'whylens.{module}'), name)}`" in TEXT


def test_the_page_for_a_class_says_how_many_may_wait():
    from whylens.ui.page.fair_queue import MOST_IN_ALL, MOST_WAITING

    text = (ROOT / "docs" / "tutorials" / "class-of-30.md").read_text(encoding="utf-8")
    assert f"{MOST_WAITING} questions may wait, in all {MOST_IN_ALL:,};" in text
