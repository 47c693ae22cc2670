"""The benchmark on a linear network, whose evidence is known to the pixel."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from tests.support.cases import contributions
from tests.support.networks import plain_spec
from tests.support.toys import LinearNet
from whylens import (
    Dataset,
    DatasetSource,
    Dissection,
    Explainer,
    Heatmap,
    Hybrid,
    Item,
    Metric,
    Need,
    NoParams,
    Partial,
    Shortcut,
)
from whylens.core.bench import measure
from whylens.core.bench.columns import groups_of
from whylens.core.bench.measure import mask_in_view
from whylens.core.bench.mosaics import mosaic_around
from whylens.core.bench.plan import EDGES, RANDOM_MAP, TRUE_MASK, Bench, BenchPlan, quick_methods
from whylens.core.bench.rows import ROWS
from whylens.core.bench.run import run_bench
from whylens.core.bench.summary import interval, read_summary
from whylens.core.engine import Engine
from whylens.core.errors import BadInput
from whylens.core.evaluation.builtin import BUILTIN
from whylens.core.models.backbone import wrap
from whylens.core.registry import Entry, Registry
from whylens.ui.cli.app import app
from whylens.ui.cli.bench_table import badge_svg, markdown, plot_svg

ROWS_HIGH, COLUMNS, LABELS = 12, 18, ("left", "middle", "right")


def place(label: int) -> np.ndarray:
    """Return where a class has its evidence: a block in its third of the picture."""
    mask = np.zeros((ROWS_HIGH, COLUMNS), bool)
    mask[3:9, 6 * label + 1 : 6 * label + 5] = True
    return mask


class Blocks(Dataset):
    """Noise with a bright block where the class says."""

    name, labels = "blocks", LABELS
    items = tuple(
        Item(f"{split}-{i}", i * 3 // count, split)
        for split, count in (("train", 60), ("test", 60), ("val", 6))
        for i in range(count)
    )

    def pixels(self, index):
        pixels = np.random.default_rng(index).integers(60, size=(ROWS_HIGH, COLUMNS, 3))
        pixels[self.evidence(index)] += 150
        return pixels.astype(np.uint8)

    def evidence(self, index):
        return place(self.items[index].label)

    def dissection(self, index):
        pixels, label = self.pixels(index), LABELS[self.items[index].label]
        masks = {name: place(i) for i, name in enumerate(LABELS)}

        def without(names):
            removed_mask = np.logical_or.reduce(
                [masks[name] for name in names] or [np.zeros_like(pixels[..., 0], bool)]
            )
            return np.where(removed_mask[..., None], 0, pixels).astype(np.uint8)

        around = LABELS[(LABELS.index(label) + 1) % 3]
        part_names = tuple(name for name in LABELS if name != around)
        return Dissection(part_names, (around,), frozenset({label}), masks, without)

    def hybrid(self, index):
        pixels = self.pixels(index).copy()
        pixels[place(0) | place(1)] = 200
        pixels[place(2)] = 0
        without = tuple(np.where(place(i)[..., None], 0, pixels).astype(np.uint8) for i in (0, 1))
        return Hybrid(pixels, (0, 1), (place(0), place(1)), without)

    def shortcut(self, index):
        corner = np.zeros((ROWS_HIGH, COLUMNS), bool)
        corner[11:, :3] = True
        return Shortcut(0, bool(index % 2), corner)

    def content_digest(self, index):
        return f"{index:020}"


class Exact(Explainer[NoParams]):
    """What each pixel adds to the score."""

    name, title, family = "exact", "Exact", "Test"
    summary = limits = source = cost = "For tests."
    needs = frozenset({Need.GRADIENTS})
    Params = NoParams

    def explain(self, subject, params):
        return contributions(subject)


class Stepping(Exact):
    """As exact, in steps."""

    name, title = "stepping", "Stepping"

    def explain(self, subject, params):
        yield Partial(contributions(subject), 1.0)


class Broken(Exact):
    """A stranger's mistake."""

    name, title = "broken", "Broken"

    def explain(self, subject, params):
        raise ZeroDivisionError("of a stranger")


class Flat(Exact):
    """A map of too few axes."""

    name, title = "flat", "Flat"

    def explain(self, subject, params):
        return Heatmap(np.ones(4), "nothing")


class Unfit(Exact):
    """One that refuses the network."""

    name, title = "unfit", "Unfit"

    def why_not(self, backbone):
        return "it wants another network."


METHODS = ("exact", "broken", "flat", "unfit")


def toy_engine() -> Engine:
    module = LinearNet(ROWS_HIGH, COLUMNS)
    weights = np.stack([np.broadcast_to(place(i), (3, ROWS_HIGH, COLUMNS)) for i in range(3)])
    with torch.no_grad():
        module.fc.weight.copy_(torch.tensor(weights.reshape(3, -1) / 10))
        module.fc.bias.zero_()
    backbone = wrap(module.eval(), input_spec=plain_spec(ROWS_HIGH, COLUMNS), labels=LABELS)
    methods = (Exact(), Broken(), Flat(), Unfit(), Stepping())
    entries = {method.name: Entry(method, method.name, "toys", "1") for method in methods}
    source = DatasetSource("blocks", "Blocks.", lambda option: Blocks())
    registry = Registry(entries, datasets={"blocks": source})
    return Engine(registry, loader=lambda name, progress: backbone)


def finish(work):
    """Return the shares that a run yielded, and what it returned."""
    shares = []
    while True:
        try:
            shares.append(next(work))
        except StopIteration as end:
            return shares, end.value


@pytest.fixture(scope="module")
def engine():
    return toy_engine()


@pytest.fixture(scope="module")
def bench(engine):
    return Bench("toy", "blocks", METHODS, pictures=7, few=2, fit=2, random_maps=60)


@pytest.fixture(scope="module")
def bench_run(engine, bench, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    shares, summary = finish(run_bench(engine, bench, out))
    return out, shares, summary


def test_the_true_mask_beats_all_and_a_random_map_is_like_random_maps(bench_run):
    _, shares, summary = bench_run
    rows = {row.method: row for row in summary.rows}
    assert [row.method for row in summary.rows] == [TRUE_MASK, RANDOM_MAP, EDGES, *METHODS]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)
    assert summary.recognised == 1
    assert summary.pictures == 7
    truth = rows[TRUE_MASK].figures
    for name in ("mass-in-mask", "rank-in-mask", "pointing-game"):
        assert truth[name].mean == 1
        assert truth[name].low == truth[name].high == 1
        for row in summary.rows:
            if row.figures:
                assert row.figures[name].mean <= 1
    assert truth["mass-in-mask"].chance == pytest.approx(24 / (ROWS_HIGH * COLUMNS), abs=1e-6)
    assert truth["random-maps"].mean > 0.95
    random = rows[RANDOM_MAP].figures
    # 60 of them: a mean of uniform shares, give or take 2.5 of its standard deviations.
    assert random["random-maps"].mean == pytest.approx(0.5, abs=2.5 * 0.29 / 60**0.5)
    assert random["random-maps"].low < 0.5 < random["random-maps"].high
    assert random["mass-in-mask"].mean < 0.3
    exact = rows["exact"].figures
    assert exact["mass-in-mask"].mean == 1
    assert "grid-pointing" not in exact  # the network takes inputs of one size
    assert exact["random-maps"].mean > 0.95
    # Only the label's own block counts for its score, and the exact map knows it.
    for name in ("signs-covered", "preservation", "part-deletion", "distractibility"):
        assert exact[name].mean == pytest.approx(1)
    for name in ("single-deletion", "target-sensitivity", "parts", "shortcut"):
        assert truth[name].mean == pytest.approx(1)
        assert random[name].mean < 1
    assert exact["single-deletion"].mean == exact["target-sensitivity"].mean == 1
    assert random["target-sensitivity"].mean == 0.5  # one map for both classes
    assert exact["shortcut"].mean < 0.5  # the network does not look there
    assert exact["shortcut"].pictures == 3  # of 7, those in which the hint is
    assert exact["parts"].mean == pytest.approx(1)
    assert rows["exact"].threshold == pytest.approx(0.01)
    assert summary.background == 1
    # A detector of edges owes the weights nothing; the costly metrics see the first pictures only.
    assert rows[EDGES].figures["random-weights"].mean == pytest.approx(1)
    assert abs(exact["random-weights"].mean) < 0.5
    assert exact["random-weights"].pictures == 2
    assert exact["mass-in-mask"].pictures == 7


def test_a_method_that_fails_is_a_row_with_its_reason(bench_run):
    _, _, summary = bench_run
    rows = {row.method: row for row in summary.rows}
    assert "of a stranger" in rows["broken"].reason
    assert rows["broken"].failed == 7
    assert "no map of 2 axes" in rows["flat"].reason
    assert "it wants another network" in rows["unfit"].reason
    assert rows["unfit"].failed == 0
    assert all(not rows[name].figures for name in ("broken", "flat", "unfit"))
    table = markdown([summary], groups_of({}))
    assert "| broken |" not in table
    assert "- broken: 7 of 7 inputs. " in table
    assert "Chance: Mass in the mask 0.11" in table
    assert "| Points from |" in table
    svg = plot_svg(summary, groups_of({}))
    # Three references and one method, five figures; of two references no weights are known.
    assert svg.count("<circle") == 5 * 4 - 2
    assert "broken" not in svg


@pytest.mark.slow
def test_a_metric_of_a_stranger_that_fails_leaves_a_gap_and_its_reason(engine, tmp_path):
    def fail(case):
        raise IndexError("of a stranger")
        yield

    odd = Metric("odd", "Odd", "Nothing.", "Nobody.", "higher", fail)
    strange = Engine(replace(engine.registry, metrics={"odd": odd}), loader=engine._loader)
    bench = Bench("toy", "blocks", ("exact",), pictures=1, few=1, fit=2, random_maps=2)
    _, summary = finish(run_bench(strange, bench, tmp_path))
    (row,) = (row for row in summary.rows if row.method == "exact")
    assert row.failed == 0
    assert "odd" not in row.figures
    assert row.figures["mass-in-mask"].mean == 1
    assert row.reason == "A metric failed: Odd (IndexError: of a stranger)."


@pytest.mark.parametrize(
    ("falls", "whether"),
    # What each class loses without the first sign, and without the second.
    [(((6, 9), (5, 10)), True), (((5, 1), (6, 9)), False), (((6, 9), (5, 9)), False)],
)
def test_a_hybrid_counts_where_each_class_loses_most_with_its_own_sign(falls, whether, monkeypatch):
    picture, *without = (np.full((2, 2, 3), number, np.uint8) for number in range(3))
    marks = (np.eye(2, dtype=bool), ~np.eye(2, dtype=bool))
    hybrid = Hybrid(picture, (0, 1), marks, tuple(without))
    logits = [np.array([10.0, 10.0]), *(10 - np.array(fall) for fall in falls)]
    monkeypatch.setattr(measure, "_logits", lambda plan, pixels: logits[int(pixels[0, 0, 0])])
    plan = SimpleNamespace(dataset=SimpleNamespace(hybrid=lambda index: hybrid))
    assert (measure._hybrid(plan, 0, torch.from_numpy) is not None) is whether


def test_a_run_that_was_stopped_ends_with_the_same_file(bench_run, engine, bench, tmp_path):
    out, _, summary = bench_run
    work = run_bench(engine, bench, tmp_path)
    for _ in range(20):
        next(work)
    work.close()
    with (tmp_path / ROWS).open("ab") as stream:
        stream.write(b'{"method": "exa')  # the machine was switched off
    shares, repeat = finish(run_bench(engine, bench, tmp_path))
    assert (tmp_path / ROWS).read_bytes() == (out / ROWS).read_bytes()
    assert repeat == summary
    assert 0 < shares[0] < 1
    shares, repeat = finish(run_bench(engine, bench, tmp_path))
    assert shares == [1.0]
    assert repeat == summary


COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255,) * 3}


class Lights(Blocks):
    """A patch of its class's colour on black; every sixth has that of the next class."""

    name, labels = "lights", tuple(COLOURS)
    items = tuple(Item(f"test-{i}", i % 4, "test") for i in range(12))
    dissection, hybrid, shortcut = Dataset.dissection, Dataset.hybrid, Dataset.shortcut

    def evidence(self, index):
        return place(index % 3)

    def pixels(self, index):
        pixels = np.zeros((ROWS_HIGH, COLUMNS, 3), np.uint8)
        colour = (self.items[index].label + (index % 6 == 5)) % 4
        pixels[self.evidence(index)] = tuple(COLOURS.values())[colour]
        return pixels


class LightsNet(nn.Module):
    """How much there is of each colour: of inputs of any size, by what each place shows."""

    def __init__(self):
        super().__init__()
        self.colour = nn.Conv2d(3, 4, 1)
        pure = 2 * torch.eye(3) - 1
        with torch.no_grad():
            self.colour.weight.copy_(torch.cat([pure, torch.ones(1, 3)])[..., None, None])
            self.colour.bias.copy_(torch.tensor([0.0, 0, 0, -2]))

    def forward(self, x):
        return 100 * self.colour(x).relu().flatten(2).mean(-1)


class Seen(Exact):
    """What each place adds."""

    def explain(self, subject, params):
        with torch.no_grad():
            values = subject.backbone.module.colour(subject.x).relu()[0, subject.target.index]
        return Heatmap(values.numpy(), "x")


class SeenInSteps(Seen):
    """The same, in steps."""

    name, title = "stepping", "Stepping"

    def explain(self, subject, params):
        yield Partial(super().explain(subject, params), 1.0)


@pytest.mark.slow
def test_an_input_among_others_is_found_in_its_own_tile(tmp_path):
    backbone = wrap(
        LightsNet().eval(), input_spec=plain_spec(ROWS_HIGH, COLUMNS), labels=tuple(COLOURS)
    )
    entry = Entry(Seen(), "exact", "toys", "1")
    source = DatasetSource("lights", "Lights.", lambda option: Lights())
    stepping = Entry(SeenInSteps(), "stepping", "toys", "1")
    registry = Registry({"exact": entry, "stepping": stepping}, datasets={"lights": source})
    engine = Engine(registry, loader=lambda name, progress: backbone)
    settings = Bench("toy", "lights", ("exact", "stepping"), few=2, random_maps=2)
    plan = BenchPlan(engine, settings)
    # One of four classes in each tile, the input's own in every place in turn; what the network
    # does not know is in no mosaic.
    for sight in plan.sights:
        mosaic = mosaic_around(plan, sight)
        if sight.index % 6 == 5:
            assert mosaic is None
            continue
        x, size = mosaic.subject.x, (ROWS_HIGH, COLUMNS)
        tiles = [x[0, :, i : i + size[0], j : j + size[1]] for i in (0, 12) for j in (0, 18)]
        pixels = engine.subject(plan.question(sight)).x[0]
        assert [bool((tile == pixels).all()) for tile in tiles].index(True) == sight.position % 4
        assert sorted(int(backbone.logits(tile[None]).argmax()) for tile in tiles) == [0, 1, 2, 3]
        assert mosaic.tile.float().mean() == mosaic.chance == 1 / 4
        assert mosaic.subject.target.index == sight.index % 4
    _, summary = finish(run_bench(engine, plan.bench, tmp_path))
    truth, random, edges, exact, stepping = (row.figures["grid-pointing"] for row in summary.rows)
    assert truth.mean == exact.mean == stepping.mean == 1
    assert (exact.chance, exact.pictures) == (1 / 4, 2)
    assert max(random.mean, edges.mean) < 1 / 2


def test_methods_of_many_steps_have_the_figures_that_repeat_them_where_these_are_asked_for(
    engine, bench
):
    def runs_metric(repeats, name, metric):
        plan = BenchPlan(engine, replace(bench, methods=(name,), few=3, repeats=repeats))
        return [plan.asks(name, metric, sight) for sight in plan.sights if sight.split == "test"]

    first = [True] * 3 + [False] * 4  # of seven inputs those that dear figures see
    assert (
        runs_metric(0, "exact", "random-weights") == runs_metric(0, "stepping", "deletion") == first
    )
    assert runs_metric(0, "stepping", "random-weights") == [False] * 7
    assert runs_metric(2, "stepping", "max-sensitivity") == [True] * 2 + [False] * 5
    assert runs_metric(9, "stepping", "max-sensitivity") == first
    assert runs_metric(2, "exact", "max-sensitivity") == first
    assert runs_metric(0, "stepping", "mass-in-mask") == [True] * 7


def test_the_table_says_which_figures_methods_of_many_steps_have(bench_run):
    _, _, summary = bench_run
    assert "have no figures of whether a map depends on what was" in markdown([summary], ())
    short_summary = replace(summary, repeats=2)
    assert "no more than the first 2 for the figures of whether" in markdown([short_summary], ())


def test_a_file_of_another_run_is_refused(bench_run, bench, engine, tmp_path):
    out, _, _ = bench_run
    with pytest.raises(BadInput, match="other weights, pictures or metrics"):
        finish(run_bench(engine, Bench("toy", "blocks", METHODS, pictures=6, few=2), out))
    (tmp_path / ROWS).write_text("nothing\n")
    with pytest.raises(BadInput, match="damaged"):
        finish(run_bench(engine, bench, tmp_path))


def test_a_data_set_without_evidence_or_with_other_classes_is_refused(engine, tmp_path):
    class Silent(Blocks):
        name, evidence = "silent", Dataset.evidence

    class Other(Blocks):
        name, labels = "other", ("a", "b", "c")

    sources = {
        kind.name: DatasetSource(kind.name, "For tests.", lambda _, kind=kind: kind())
        for kind in (Silent, Other)
    }
    registry = replace(engine.registry, datasets=sources)
    backbone = engine.backbone("toy")
    other_engine = Engine(registry, loader=lambda *_: backbone)
    with pytest.raises(BadInput, match="does not say where the evidence lies"):
        BenchPlan(other_engine, Bench("toy", "silent", METHODS))
    with pytest.raises(BadInput, match="other classes"):
        BenchPlan(other_engine, Bench("toy", "other", METHODS))


def test_a_summary_comes_back_from_its_file(bench_run):
    _, _, summary = bench_run
    assert read_summary(json.dumps(asdict(summary)).encode()) == summary
    for wrong in (b"{}", b"[]", b"", b'{"rows": [{}]}'):
        with pytest.raises(ValueError, match=r"."):
            read_summary(wrong)


def test_classes_come_in_turn(bench_run):
    out, _, _ = bench_run
    lines = [json.loads(line) for line in (out / ROWS).read_text().splitlines()[1:]]
    keys = list(dict.fromkeys(line["picture"] for line in lines if line["split"] == "test"))
    assert keys[:4] == ["test-0", "test-20", "test-40", "test-1"]


def test_a_mask_is_cut_as_the_photo_is():
    input_spec = plain_spec(4, 4).model_copy(update={"crop": 0.5})
    mask = np.zeros((8, 12), bool)
    mask[2:4, 4:6] = True  # the centre's upper left quarter
    view_mask = mask_in_view(mask, input_spec)
    assert view_mask.tolist() == [[True, True, False, False]] * 2 + [[False] * 4] * 2


def test_an_interval_holds_the_mean_and_one_value_has_none():
    values = np.random.default_rng(3).random(200)
    low, high = interval(values)
    half = 1.96 * values.std() / np.sqrt(200)
    assert low == pytest.approx(values.mean() - half, abs=0.01)
    assert high == pytest.approx(values.mean() + half, abs=0.01)
    assert interval([0.3]) is None


def test_every_built_in_metric_has_its_column():
    columns = {c.name for group in groups_of({}) for c in group.columns}
    assert {metric.name for metric in BUILTIN} <= columns
    assert groups_of({m.name: m for m in BUILTIN})[-1].columns == ()


def test_by_default_the_methods_of_a_single_step_are_asked(engine):
    assert quick_methods(engine.registry) == METHODS


def test_the_command_writes_table_summary_and_badge(monkeypatch, tmp_path):
    monkeypatch.setattr("whylens.core.engine.Engine", toy_engine)
    words = [
        "bench",
        "exact",
        "--model",
        "toy",
        "--data",
        "blocks",
        "--pictures",
        "2",
        "--random-maps",
        "2",
        "--workers",
        "1",
    ]
    run = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "b"), "--badge"])
    assert run.exit_code == 0, run.output
    assert "| exact | 1.00 (1.00 to 1.00) |" in (tmp_path / "b" / "benchmark.md").read_text()
    summary = json.loads((tmp_path / "b" / "benchmark.json").read_text())
    assert summary[0]["rows"][3]["figures"]["mass-in-mask"]["mean"] == 1
    assert "](badge-exact-toy.svg)" in run.stdout
    svg = (tmp_path / "b" / "badge-exact-toy.svg").read_text()
    assert "mass in the mask 1.00" in svg
    assert svg.count("http") == 1
    run = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "b"), "--json"])
    assert json.loads(run.stdout) == summary
    for wrong, reason in (
        (["bench", "--badge"], "for named methods"),
        (["bench", "exact", "--all"], "or give --all"),
        (["bench", "--model", "toy"], "Give its inputs with --data"),
        (["bench", "exact", "--data", "blocks"], "name it with --model"),
        (["bench", "exakt", *words[2:]], "Did you mean exact"),
    ):
        run = CliRunner().invoke(app, [*wrong, "--out", str(tmp_path / "c")])
        assert run.exit_code == 1
        assert reason in run.output


def test_a_badge_quotes_what_a_name_may_hold():
    assert "<b>" not in badge_svg("<b>", "a & b")
