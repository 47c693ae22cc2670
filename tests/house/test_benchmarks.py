"""The comparison with the peers: its table, its words, and that the page on disk has every row."""

from __future__ import annotations

import re

import pytest

from benchmarks import compare
from benchmarks.peers import Bench
from benchmarks.table import HEADINGS, Contest, Measured, Row, cells, markdown, race, verdicts
from tests.conftest import ROOT
from tests.support.networks import GapNet, seeded
from whylens.core.registry import load_registry

PAGE = ROOT / "docs" / "performance.md"


def tiny(architecture: str) -> Bench:
    """Return a toy in place of a network; all our benchmarks and most peers run on it."""
    module = seeded(GapNet(width=6, classes=4))
    return Bench(architecture, module, 64, layer=lambda m: m.conv, registry=load_registry())


def all_rows() -> list[Row]:
    return list(compare.rows(compare.Setup(tiny, growth=lambda *_: 0.25)))


def row(*, at_least: bool = True, goal: float = 2.0) -> Row:
    return Row("a row", "units", goal, at_least, 3, lambda: 1.0)


def test_titles_are_unique_and_cover_what_was_promised():
    titles = [r.title for r in all_rows()]
    assert len(set(titles)) == len(titles)
    for words in ("together, ResNet-50", "together, ViT-S", "Score-CAM, fast", "Occlusion",
                  "Integrated Gradients", "First Grad-CAM"):  # fmt: skip
        assert any(words in title for title in titles), words
    for method in compare.MEASURED:
        assert f"Peak memory of {method}, ResNet-50" in titles


@pytest.mark.parametrize(
    "part",
    ["cam + grad-cam", "cam, ResNet-18", "fast against exact", "Occlusion", "Integrated"],
)
def test_a_quick_run_on_a_toy_gives_every_figure(part, capsys, monkeypatch):
    monkeypatch.setattr(compare, "ALIKE", -1.0)  # a convolution without its ReLU is another map
    rows = [r for r in all_rows() if part.lower() in r.title.lower()][:1]
    (result,) = compare.run(rows, quick=True)
    assert result.figure > 0
    assert result.row.title in capsys.readouterr().out
    text = compare.page([result], quick=True, load=(1.0, 2.0))
    assert result.row.title in text
    assert "A quick run" in text


def test_maps_that_are_not_alike_are_not_timed():
    values = compare.np.arange(6.0).reshape(2, 3)
    assert "1.0000" in compare._agreement(values, {"peer": lambda: 2 * values + 1})
    for peer_values in (-values, 0 * values):  # opposite, and flat: no correlation at all
        with pytest.raises(AssertionError, match="not maps of the same method"), \
             compare.np.errstate(all="ignore"):  # fmt: skip
            compare._agreement(values, {"peer": lambda peer_values=peer_values: peer_values})


def test_everyone_runs_once_a_round_in_turning_order_after_one_untimed_run():
    calls = []
    works = {name: lambda name=name: calls.append(name) for name in "opq"}
    race(row(), Contest(works["o"], {k: works[k] for k in "pq"}, "", over=True), rounds=2)
    assert "".join(calls) == "opq" + "opq" + "pqo"


@pytest.mark.parametrize(("over", "figure"), [(True, 2.0), (False, 0.5)])
def test_the_figure_is_held_against_the_fastest_peer(over, figure, monkeypatch):
    clock = [0.0]

    def takes(seconds):
        def work():
            clock[0] += seconds

        return work

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("time.process_time", lambda: clock[0])
    contest = Contest(takes(1), {"slow": takes(5), "quick": takes(2)}, "", over=over)
    result = race(row(), contest, rounds=3)
    assert result.figure == pytest.approx(figure)
    assert result.seconds == {"whylens": 1, "slow": 5, "quick": 2}
    assert result.labour == pytest.approx(result.ratios)


@pytest.mark.parametrize(
    ("at_least", "figure", "reached"),
    [(True, 2.0, True), (True, 1.9, False), (False, 2.0, True), (False, 2.1, False)],
)
def test_verdicts_are_in_words(at_least, figure, reached):
    result = Measured(row(at_least=at_least), figure)
    assert result.reached == reached
    assert ("**not reached**" in cells(result)) != reached
    assert verdicts([result]).startswith(f"{int(reached)} of 1 goals were reached")
    assert ("Not reached:" in verdicts([result])) != reached


def test_a_bar_in_a_cell_does_not_end_it():
    line = markdown(HEADINGS, [["a|b"] * len(HEADINGS)]).splitlines()[-1]
    assert line.count(" | ") == len(HEADINGS) - 1


def test_the_machine_is_named_without_names_of_hosts_or_folders():
    import platform

    assert "threads" in compare.facts()
    assert platform.node() not in compare.facts().split()
    assert str(ROOT) not in compare.facts()


def test_the_page_on_disk_was_written_by_this_script_with_every_row():
    if not PAGE.is_file():
        pytest.skip("docs/performance.md is not written yet: run `make bench`")
    text = PAGE.read_text()
    assert "Written by `python -m benchmarks.compare" in text
    titles = re.findall(r"^\| (.+?) \|", text, flags=re.MULTILINE)[2:]
    assert titles == [r.title for r in all_rows()]
