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
SHOWN = {"controls.py", "html.py", "report.py", "photo_report.py", "explain_folder.py"}


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


def test_every_number_is_that_of_the_code():
    rows = ROW.findall(TEXT)
    assert len(rows) > 40
    assert len(rows) == len(re.findall(r"`(?:core|ui)\.", TEXT))
    for number, percent, path in rows:
        assert float(number.replace(",", "")) == value_of(path) * (100 if percent else 1), path


def test_every_limit_is_there():
    limits = set()
    for place in ("core", "ui"):
        for path in sorted((ROOT / place).rglob("*.py")):
            names = [
                name.id
                for node in ast.parse(path.read_text(encoding="utf-8")).body
                if isinstance(node, ast.Assign)
                for target in node.targets
                for name in ast.walk(target)
                if isinstance(name, ast.Name)
            ]
            at_the_door = path.name in ("gate.py", "janitor.py")
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            limits |= {
                f"{module}.{name}"
                for name in names
                if (name.startswith("MOST_") and path.name not in SHOWN)
                or (at_the_door and re.fullmatch(r"[A-Z]\w*_(BYTES|SECONDS|ITEMS)", name))
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
