"""The recorded benchmark: its page is written from its file, and what has to hold does."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ROOT
from whylens.core.bench.columns import groups_of
from whylens.core.bench.plan import EDGES, RANDOM_MAP, TRUE_MASK
from whylens.core.bench.summary import read_summary
from whylens.ui.cli.bench_table import markdown, plot_name, plot_svg

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def runs():
    summaries = json.loads((DOCS / "benchmark.json").read_text())
    return [read_summary(json.dumps(run).encode()) for run in summaries]


def test_page_and_plots_are_those_of_the_recorded_runs(runs):
    groups = groups_of({})
    assert (DOCS / "benchmark.md").read_text() == markdown(runs, groups)
    for run in runs:
        assert (DOCS / plot_name(run)).read_text() == plot_svg(run, groups)


def test_the_order_that_is_known_holds(runs):
    for run in runs:
        rows = {row.method: row.figures for row in run.rows}
        for name in ("mass-in-mask", "rank-in-mask"):
            assert rows[TRUE_MASK][name].mean == pytest.approx(1)
            assert all(row[name].mean <= 1 for row in rows.values() if name in row)
        chance = rows[RANDOM_MAP]["random-maps"]
        if run.random_maps is None:
            assert chance.low <= 0.5 <= chance.high, run.model
        else:
            assert chance.mean == pytest.approx(0.5, abs=0.03), run.model
        # A detector of edges is the same whatever was learnt, and for every class.
        assert rows[EDGES]["random-weights"].mean == pytest.approx(1)
        assert rows[EDGES]["random-logit"].mean == pytest.approx(1)
        means = {name: row["parts"].mean for name, row in rows.items() if "parts" in row}
        if means:
            assert rows[TRUE_MASK]["target-sensitivity"].mean == 1
            assert all(means[TRUE_MASK] > means[name] for name in means if name != TRUE_MASK)
        sums = [row["completeness-gap"].mean for row in rows.values() if "completeness-gap" in row]
        assert all(gap < 0.05 for gap in sums), run.model
