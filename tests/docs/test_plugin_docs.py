"""docs/plugins.md names every hook, field and test there is, and nothing that there is not."""

from __future__ import annotations

import ast
import dataclasses
import re

import pytest

import whylens.core.results
from tests.conftest import ROOT
from whylens.core import hookspecs
from whylens.core.conformance.metric_suite import METRIC_CHECKS
from whylens.core.conformance.suite import CHECKS
from whylens.core.datasets.dataset import Dataset
from whylens.core.explainer import Explainer
from whylens.core.needs import Need
from whylens.core.params import ControlSpec

TEXT = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def tables(heading: str) -> list[dict[str, list[str]]]:
    """Return the tables below a heading: first cell, without its backticks, to the others."""
    _, separator, text = TEXT.partition(f"\n{heading}\n")
    assert separator, f"there is no heading {heading}"
    section, rows_of_tables = re.split(r"\n#{2,3} ", text)[0], []
    for block in re.findall(r"(?:^\|.*\n)+", section + "\n", re.MULTILINE):
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()
        ]
        names = [row[0].strip("`") for row in rows[2:]]
        assert len(set(names)) == len(names), f"{heading} names something twice"
        rows_of_tables.append({name: row[1:] for name, row in zip(names, rows[2:], strict=True)})
    return rows_of_tables


def default_of(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    return "`{}`" if field.default_factory is not dataclasses.MISSING else ""


def test_every_hook_is_there():
    specs = {name for name, thing in vars(hookspecs).items() if hasattr(thing, "whylens_spec")}
    assert set(tables("### Hooks")[0]) == specs


def test_every_attribute_of_an_explainer_is_there_with_its_default():
    attributes, methods = tables("### `Explainer`")
    assert set(attributes) == set(Explainer.__annotations__)
    for name, (default, _) in attributes.items():
        if hasattr(Explainer, name):
            value = getattr(Explainer, name)
            text = value.__name__ if isinstance(value, type) else repr(value)
            assert default == f"`{text}`", name
        else:
            assert default == "", name
    public = {n for n, thing in vars(Explainer).items() if callable(thing) and n[0] != "_"}
    assert set(methods) == {n for n in public if not isinstance(vars(Explainer)[n], type)}


def test_every_need_is_there_in_its_own_words():
    (needs,) = tables("### `Need`")
    assert {name: words for name, (words,) in needs.items()} == {n.name: n.value for n in Need}


def test_every_kind_of_parameter_is_there():
    (kinds,) = tables("### `Params`")
    assert set(kinds) == set(ControlSpec.model_fields["kind"].annotation.__args__)


RESULTS = ["Heatmap", "Examples", "Example", "Prototypes", "NumberedBox", "Comparison", "Partial",
           "Progress", "Artifact", "DatasetSource", "Item", "Metric",
           "Case", "Score"]  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_every_field_of_a_value_is_there_with_its_default(name):
    (rows,) = tables(f"### `{name}`")
    fields = {f.name: default_of(f) for f in dataclasses.fields(getattr(whylens, name))}
    assert {field: cells[0] for field, cells in rows.items()} == fields


def test_every_result_is_described():
    results = {kind.__name__ for kind in whylens.core.results.Result.__args__}
    assert results <= set(RESULTS)


def test_everything_of_a_data_set_is_there():
    (rows,) = tables("### `Dataset`")
    attributes = {n for n in {*vars(Dataset), *Dataset.__annotations__} if n[0] != "_"}
    assert set(rows) == attributes


@pytest.mark.parametrize("name", ["Subject", "FeatureLayer"])
def test_everything_that_a_question_offers_is_there(name):
    (rows,) = tables(f"### `{name}`")
    kind = getattr(whylens, name)
    attributes = {f.name for f in dataclasses.fields(kind)} | {n for n in vars(kind) if n[0] != "_"}
    assert set(rows) == attributes


def test_every_public_name_is_there():
    described_names = set(re.findall(r"^### `(\w+)`$", TEXT, re.MULTILINE))
    (further_names,) = tables("## Everything else that `whylens` offers")
    for_plugins = {
        name
        for module, names in whylens._NAMES_BY_MODULE.items()
        if module.startswith("whylens.core.")
        for name in names
    }
    assert described_names | set(further_names) == for_plugins <= set(whylens.__all__)
    assert not described_names & set(further_names)


def test_every_conformance_test_is_there_with_its_own_sentence():
    (rows,) = tables("## The conformance tests")
    assert {name: cells[-1] for name, cells in rows.items()} == {c.id: c.says for c in CHECKS}


def test_every_identity_of_metrics_is_there_with_its_own_sentence():
    (rows,) = tables("### The identities")
    assert {name: cells[-1] for name, cells in rows.items()} == {
        c.id: c.says for c in METRIC_CHECKS
    }


def test_every_stage_of_loading_is_there():
    tree = ast.parse((ROOT / "core" / "registry.py").read_text(encoding="utf-8"))
    stages = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("note", "_stage")
        and isinstance(node.args[0], ast.Constant)
    }
    assert stages
    (rows,) = tables("## When something is wrong")
    assert set(rows) == stages


def test_the_code_on_the_page_is_valid_and_its_links_lead_somewhere():
    import tomllib

    for language, code in re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL):
        if language == "python":
            ast.parse(code)
        if language == "toml":
            assert "whylens.explainers" in tomllib.loads(code)["project"]["entry-points"]
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target


def test_the_commands_on_the_page_exist():
    from whylens.ui.cli.app import app

    commands = {c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands}
    assert set(re.findall(r"^whylens (\S+)", TEXT, re.MULTILINE)) <= commands
