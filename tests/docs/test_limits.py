"""docs/limits.md says the numbers of the code, of every limit."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re

from tests.conftest import ROOT
from whylens.core.inputs.photo import ImageLimits

TEXT = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
ROW = re.compile(r"\| [^|]+ \| ([\d,.]+) ?(%?)[^|]*\| `whylens\.((?:core|ui)\.[^`]+)` \|")
# By such a name a number is a limit, whatever it is of,
LIMIT = re.compile(
    r"_?(MOST|MAX|LIMITS?|LARGEST|LONGEST|WIDEST|SECONDS)(_\w+)?|\w*_(BYTES|SECONDS|ITEMS|LIMITS?)"
)
# and so is every number of what stands between strangers and the rest.
DOORS = re.compile(
    r"core\.workers\.\w+|core\.inputs\.file_parts"
    r"|ui\.page\.(gate|janitor|upload_parts|fair_queue)"
)
# What is laid out, not refused,
SHOWN = re.compile(
    r"ui\.page\.(controls|html|report|set_preview)|ui\.cli\.explain_folder|core\.train\.(report|evaluate)"
    r"|core\.outputs\.photo_report"
)
# and named as an example, or shared out.
NO_LIMITS = {
    "core.batch.folder_rows._MOST_CAPTIONS", "core.batch.run._MOST_NAMED",
    "core.batch.plan._LARGEST",
}  # fmt: skip
# What a library is told by a number without a name, and what is made with one.
TOLD = re.compile(r"max_(size|threads|workers|file_size)|\w*(concurrency_limit|capacity)")
MADE = ("ByteLRU", "Semaphore", "BoundedSemaphore")


def value_of(path: str) -> float:
    """Return what a dotted path names in the code, an entry of a mapping among it."""
    dotted, _, key = path.partition("[")
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        if (ROOT / "/".join(parts[:cut])).with_suffix(".py").is_file():
            break
    thing = importlib.import_module("whylens." + ".".join(parts[:cut]))
    for name in parts[cut:]:
        is_class = isinstance(thing, type) and dataclasses.is_dataclass(thing)
        thing = getattr(thing() if is_class else thing, name)
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
    values: dict[str, ast.expr] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                values[target.id] = value
            elif isinstance(target, ast.Tuple):
                parts = value.elts if isinstance(value, ast.Tuple) else [value] * len(target.elts)
                values |= {name.id: part for name, part in zip(target.elts, parts, strict=True)}
    return values


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
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            waits = name in ("join", "wait", "poll", "receive", "get", "acquire", "sleep")
            if name == "get" and len(node.args) == 2:  # of a mapping
                continue
            times = [k.value for k in node.keywords if re.search("seconds|timeout", k.arg or "")]
            lines += [
                node.lineno
                for value in (arguments if waits else times)
                if is_number(value) and ast.literal_eval(value) != 0
            ]
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


def bare_bounds(tree: ast.AST) -> list[int]:
    """Return the lines in which something is bounded by a number without a name."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            bounds = [k.value for k in node.keywords if TOLD.fullmatch(k.arg or "")]
            sizes = node.args[:1] if name in MADE else []
            lines += [node.lineno for value in [*bounds, *sizes] if is_number(value)]
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            lines += [
                value.lineno
                for key, value in pairs
                if isinstance(key, ast.Constant)
                and TOLD.fullmatch(f"{key.value}")
                and is_number(value)
            ]
    return lines


def limits_of(module: str, tree: ast.Module) -> set[str]:
    """Return the dotted names of a module's limits: by their names, or by where they stand."""
    if SHOWN.fullmatch(module):
        return set()
    limits = {f"{module}.{name}" for name in numbers_of(tree) if DOORS.fullmatch(module)}
    for path in (f"{module}.{name}" for name in assigned(tree) if LIMIT.fullmatch(name)):
        value = value_of(path)
        if isinstance(value, ImageLimits):
            changes = dataclasses.asdict(value).items() - dataclasses.asdict(ImageLimits()).items()
            limits |= {f"{path}.{field}" for field, _ in changes}
        elif isinstance(value, int | float):
            limits.add(path)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Limits", "Timeouts")):
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
            limits |= {f"{module}.{node.name}.{field.target.id}" for field in fields}
    return limits - NO_LIMITS


def test_what_is_looked_for_is_found():
    tree = ast.parse(
        "A, _B = 1.0, 2\nC: int = -3 * 10**6\nD = [4]\ndef f(seconds: float = 5.0, *, n=6): ...\n"
        "def g(seconds=0.0):\n    process.join(7)\n    run(timeout=8.0)\n    wait(lines, A)\n"
        "launch(max_threads=9, max_lines=4, capacity=A)\nByteLRU(10, size)\n"
        "E = {'concurrency_limit': 11, 'n': 1}"
    )
    assert numbers_of(tree) == {"A", "_B", "C"}
    assert bare_times(tree) == [4, 6, 7]
    assert bare_bounds(tree) == [9, 10, 11]


def test_every_number_is_that_of_the_code():
    rows = ROW.findall(TEXT)
    assert len(rows) > 40
    # In sentences a number stands just before.
    sentences = re.findall(r"([\d,.]+), `whylens\.((?:core|ui)\.[^`]+)`", TEXT)
    rows += [(number, "", path) for number, path in sentences]
    assert len(rows) == len(re.findall(r"`whylens\.(?:core|ui)\.", TEXT))
    for number, percent, path in rows:
        assert float(number.replace(",", "")) == value_of(path) * (100 if percent else 1), path


def test_every_limit_has_a_name_and_is_there():
    trees = trees_of("core", "ui")
    limits = set().union(*(limits_of(module, tree) for module, tree in trees.items()))
    assert limits > {
        "core.workers.pool.QUICK_PATIENCE", "core.datasets.folder.LIMITS.pixels",
        "core.models.hub.Timeouts.stall", "core.inputs.photo.ImageLimits.shortest",
        "core.storage.files.MOST_HEADER_BYTES", "ui.page.gate.PATH_BYTES",
    }  # fmt: skip
    assert not sorted(limit for limit in limits if f"`whylens.{limit}`" not in TEXT)
    for bare in (bare_times, bare_bounds):
        assert {module: bare(tree) for module, tree in trees.items() if bare(tree)} == {}


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
