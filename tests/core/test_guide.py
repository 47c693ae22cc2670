"""The guide: what it recommends follows from fields and figures, and its document from both."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.guide import BENCHMARKED, DOCUMENT, document, with_benchmark
from whylens.core.engine import Engine
from whylens.core.errors import BadArtifact
from whylens.core.outputs.guide import (
    AT_ONCE,
    Measured,
    Measurements,
    entries,
    measurements,
    recommend,
)
from whylens.core.registry import load_registry
from whylens.ui.page.guide import table
from whylens.ui.page.session import MEASURED

REGISTRY = load_registry()
KNOWN = measurements(MEASURED)
GUIDE = entries(REGISTRY, KNOWN)


def test_the_document_is_made_from_the_registry_and_the_measurements():
    assert DOCUMENT.read_text(encoding="utf-8") == document(GUIDE, KNOWN)


def test_every_method_that_needs_no_fitting_was_measured_or_cannot_run_on_that_network():
    names = [e.name for e in GUIDE if e.measured is None and not e.artifact_kind]
    for name in names:  # what the measured network does not offer
        assert REGISTRY.explainers[name].needs or REGISTRY.explainers[name].why_not
    assert len(names) <= 4
    assert set(KNOWN.methods) <= set(REGISTRY.explainers)


def test_every_built_in_says_when_to_use_it():
    assert not [e.name for e in GUIDE if not e.when]


def method_with(
    name: str, *, family="A", kind="where", needs=(), forwards=1.0, hits=5, blind=False
):
    base = GUIDE[0]
    figures = Measured(forwards=forwards, hits=hits, objects=10, inside=0.5)
    return replace(
        base, name=name, family=family, question_kind=kind, needs=needs, artifact_kind="",
        class_blind=blind, measured=figures,
    )  # fmt: skip


METHODS = [
    method_with("blind", family="C", blind=True, hits=10),
    method_with("worse", needs=("gradients",), hits=6),
    method_with("better", needs=("gradients",), hits=9),
    method_with("slow", family="B", forwards=900, hits=10),
    method_with("other", kind="what if"),
]
ALL = {m.name for m in METHODS}


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, ["better", "blind", "worse"]),  # one per family first, the class-blind behind
        ({"forwards": float("inf")}, ["slow", "better", "blind"]),
        ({"inside": False}, ["blind"]),
        ({"inside": False, "forwards": float("inf")}, ["slow", "blind"]),
        ({"question_kind": "what if"}, ["other"]),
        ({"question_kind": "like what"}, []),
        ({"available": ALL - {"better"}}, ["worse", "blind"]),
    ],
)
def test_what_is_recommended_fits_all_three_answers_best_first(asked, wanted):
    asked = {
        "question_kind": "where", "inside": True, "forwards": AT_ONCE, "available": ALL, **asked
    }  # fmt: skip
    assert recommend(METHODS, **asked) == wanted


def test_what_beats_more_random_maps_comes_first_and_a_benchmark_says_what_does():
    runs = [
        {
            "model": model,
            "rows": [{"method": m, "figures": {"random-maps": {"mean": v}}} for m, v in rows],
        }
        for model, rows in (
            ("mnist1d", [("worse", 0.1), ("better", 0.7), ("(edges)", 1.0)]),
            (BENCHMARKED[0], [("worse", 0.85)]),
        )
    ]
    figures = with_benchmark({m.name: m.measured for m in METHODS}, runs)
    assert figures["worse"].beaten == pytest.approx(0.85)
    assert figures["better"].beaten == 0.7
    assert figures["slow"].beaten is None
    entries = [replace(m, measured=figures[m.name]) for m in METHODS]
    choices = {"question_kind": "where", "inside": True, "forwards": AT_ONCE, "available": ALL}
    assert recommend(entries, **choices) == ["worse", "blind", "better"]


def test_a_method_never_measured_counts_as_slow_unless_it_answers_at_once():
    quick = replace(METHODS[1], measured=None, quick=True)
    slow = replace(METHODS[2], measured=None, quick=False)
    names = recommend(
        [slow, quick], question_kind="where", inside=True, forwards=AT_ONCE, available=ALL
    )
    assert names == ["worse"]


def test_foreign_text_in_the_table_is_escaped():
    empty = Measurements(setting="", methods={})
    html = table([replace(GUIDE[0], title="<script>x</script>")], empty)
    assert "<script>" not in html


def test_a_file_of_another_kind_is_refused_and_none_is_no_measurement(tmp_path):
    assert measurements(tmp_path / "none.json").methods == {}
    (tmp_path / "other.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(BadArtifact, match=r"is wrong at .*Write the measurements anew"):
        measurements(tmp_path / "other.json")


def test_the_guide_ticks_only_what_the_model_allows(
    squeezenet, squeezenet_checkpoints, monkeypatch
):
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(squeezenet_checkpoints))
    from whylens.ui.page.guide import _INSIDE, _TIME, _chooser
    from whylens.ui.page.page_store import PageStore
    from whylens.ui.page.session import Session

    page = Engine(loader=lambda *_: squeezenet)
    choose = _chooser(Session(page, PageStore()), GUIDE)
    names = choose("squeezenet", "where", next(iter(_INSIDE)), next(iter(_TIME)), "me")
    assert names
    assert not set(names) & set(page.unavailable("squeezenet"))
