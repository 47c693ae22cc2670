"""Data sets that plugins offer: listed, asked for by name, isolated, and trained on."""

from __future__ import annotations

import json
import textwrap
from importlib import metadata

import numpy as np
import pytest
from typer.testing import CliRunner

from whylens import BadInput, CoreError, Dataset, DatasetSource
from whylens.core.datasets.by_name import load_dataset, load_registered
from whylens.core.errors import DatasetFailed
from whylens.core.models.load import from_folder
from whylens.core.progress import run
from whylens.core.registry import PluginProblem, PluginSource, Registry, load_registry
from whylens.core.train.signals import train_on_signals
from whylens.ui.cli.app import app

TILES = """
import hashlib
import numpy as np
from whylens import Dataset, DatasetSource, Item, hookimpl

class Tiles(Dataset):
    labels, licence = ("dark", "light"), "drawn for a test"

    def __init__(self, side):
        self.name, self.side = f"tiles:{side}", {"small": 8, "large": 24}[side]
        self.items = tuple(Item(str(i), i % 2, "val" if i > 5 else "train") for i in range(8))

    def pixels(self, index):
        return np.full((self.side, self.side, 3), 40 + 120 * (index % 2), np.uint8)

    def parts(self, index):
        return {"tile": np.ones((self.side, self.side), bool)}

    def content_digest(self, index):
        return hashlib.sha256(self.pixels(index).tobytes()).hexdigest()

@hookimpl
def datasets():
    return [DatasetSource("tiles", "Plain tiles.", Tiles, options=("small", "large"))]
"""


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Return a maker of registries of one plugin each, given its source."""
    monkeypatch.syspath_prepend(str(tmp_path))
    count = iter(range(100))

    def make(*sources: str, strict: bool = False) -> Registry:
        points = []
        for source in sources:
            name = f"sets_{tmp_path.name}_{next(count)}".replace("-", "_")
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
            point = metadata.EntryPoint(name, name, "whylens.explainers")
            points.append(PluginSource(point, "stranger", "1"))
        return load_registry(points, strict=strict)

    return make


def test_a_plugin_may_offer_data_sets_alone(registry):
    plugins = registry(TILES)
    assert plugins.problems == ()
    assert not plugins.entries
    assert plugins.datasets["tiles"].names == ("tiles:small", "tiles:large")
    data = load_dataset("tiles:large", plugins.datasets)
    assert (data.name, data.pixels(1).shape, len(data.of("val"))) == ("tiles:large", (24, 24, 3), 2)
    assert data.parts(0)["tile"].all()
    assert data.digest != load_dataset("tiles:small", plugins.datasets).digest
    with pytest.raises(BadInput, match=r"no data set 'tiles:huge'.*tiles:small and tiles:large"):
        load_dataset("tiles:huge", plugins.datasets)
    with pytest.raises(BadInput, match="no data set 'tiles'"):
        load_dataset("tiles", plugins.datasets)
    assert load_registered("other", plugins.datasets) is None


@pytest.mark.parametrize(
    ("change", "stage", "words"),
    [
        (("return [DatasetSource", "return [1 / 0, DatasetSource"), "hook", "division by zero"),
        (("return [DatasetSource", "return 3 #"), "hook", "TypeError"),
        (("[DatasetSource", "[3 or DatasetSource"), "check", "gave int, not a DatasetSource"),
        (('"tiles", "Plain', '"My Tiles", "Plain'), "check", "kebab-case"),
        (('("small", "large"))', '("small", "small"))'), "check", "an option twice"),
        (('("small", "large"))', '("a:b",))'), "check", "kebab-case"),
        (('"Plain tiles."', '""'), "check", "a summary"),
        (("Tiles, options", "None, options"), "check", "a function"),
    ],
)
def test_what_is_wrong_with_a_data_set_becomes_a_problem(registry, change, stage, words):
    assert change[0] in TILES
    source = TILES.replace(*change)
    fine = TILES.replace('"tiles", "Plain', '"other", "Plain')
    plugins = registry(source, fine)
    assert list(plugins.datasets) == ["other"]
    (problem,) = plugins.problems
    assert problem.stage == stage
    assert words in problem.message
    with pytest.raises(PluginProblem):
        registry(source, strict=True)


def test_data_sets_that_fail_leave_the_same_plugin_its_explainers(registry):
    source = (
        TILES.replace("return [Data", "return [1 / 0, Data")
        + """
from whylens import Explainer, Heatmap, NoParams
class Flat(Explainer[NoParams]):
    name, title, family = "flat", "Flat", "Test"
    summary, limits, source, cost = "s", "l", "p", "c"
    needs, Params = frozenset(), NoParams
    def explain(self, subject, params):
        return Heatmap([[1.0, 2.0]], "units")
@hookimpl
def explainers():
    return [Flat()]
"""
    )
    plugins = registry(source)
    assert (list(plugins.entries), list(plugins.datasets)) == (["flat"], [])
    assert [problem.stage for problem in plugins.problems] == ["hook"]


def test_the_first_owner_of_a_data_set_s_name_keeps_it(registry):
    plugins = registry(TILES, TILES.replace('"Plain tiles."', '"Others."'))
    assert plugins.datasets["tiles"].summary == "Plain tiles."
    (problem,) = plugins.problems
    assert (problem.stage, "stranger" in problem.message) == ("clash", True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"small": 8', '"small": 1 / 0'), "ZeroDivisionError: division by zero"),
        (("DatasetSource(\"tiles\", \"Plain tiles.\", Tiles",
          "DatasetSource(\"tiles\", \"Plain tiles.\", len"), "it gave int, not a Dataset"),
        (('f"tiles:{side}"', '"tiles"'), "a set called 'tiles'"),
    ],
)  # fmt: skip
def test_a_data_set_that_cannot_be_made_is_named(registry, change, words):
    assert change[0] in TILES
    plugins = registry(TILES.replace(*change))
    with pytest.raises(DatasetFailed, match=words) as error:
        load_dataset("tiles:small", plugins.datasets)
    assert "'tiles:small'" in str(error.value)


def test_a_plugin_s_own_words_are_left_as_they_are(registry):
    source = TILES.replace("import Dataset", "import BadInput, Dataset").replace(
        "        self.name,", "        raise BadInput('Buy it first.')\n        self.name,"
    )
    with pytest.raises(CoreError, match=r"^Buy it first\.$"):
        load_dataset("tiles:small", registry(source).datasets)


def test_the_command_lists_data_sets():
    run = CliRunner().invoke(app, ["plugins", "--json"])
    names = {name for row in json.loads(run.stdout)["datasets"] for name in row["names"]}
    assert names == {n for source in load_registry().datasets.values() for n in source.names}


class Steps(Dataset):
    """Two-channel signals that step up early or late, after an offset of their own."""

    name, labels = "steps", ("early", "late")

    def __init__(self):
        from whylens import Item

        self.items = tuple(Item(str(i), i % 2, "train" if i < 200 else "test") for i in range(260))

    def pixels(self, index):
        raise AssertionError("a network for signals asks for signals")

    def signal(self, index):
        rng = np.random.default_rng(index)
        step = (np.arange(24) >= (6, 16)[index % 2]).astype(np.float32)
        noise = rng.normal(0, 0.2, (2, 24)).astype(np.float32)
        return np.stack([3 + step, -2 - 4 * step]) + noise

    def content_digest(self, index):
        return str(index)


def test_any_set_of_signals_can_be_trained_on(tmp_path):
    assert DatasetSource("steps", "Steps.", lambda _: Steps(), kind="signals").names == ("steps",)
    accuracy = run(train_on_signals(Steps(), tmp_path / "m", epochs=6, seed=2))
    assert accuracy > 0.95
    backbone = from_folder(tmp_path / "m")
    assert (backbone.input_spec.size, backbone.input_spec.channels) == ((24,), 2)
    values = np.stack([Steps().signal(i) for i in range(200)])
    assert np.allclose(backbone.input_spec.mean, values.mean((0, 2)), rtol=1e-4)
    assert np.allclose(backbone.input_spec.std, values.std((0, 2)), rtol=1e-4)
    assert "trained here on steps (not stated)" in backbone.identity.licence


def test_signals_without_a_test_are_refused_before_training(tmp_path):
    data = Steps()
    data.items = data.items[:200]
    with pytest.raises(BadInput, match="test split of steps is empty"):
        run(train_on_signals(data, tmp_path / "m"))
    assert not (tmp_path / "m").exists()
