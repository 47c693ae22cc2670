"""The Compare tab: what it asks its methods, and what is taken home of it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from PIL import Image
from pydantic import Field

from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.pages import (
    FORM,
    REGISTRY,
    events_filling,
    fake,
    html_text,
    page_of,
    registry_of,
)
from whylens.core.engine import Engine
from whylens.core.models.backbone import wrap
from whylens.core.params import Params
from whylens.core.results import Heatmap
from whylens.ui.page.layout import build_page


def test_compare_asks_with_the_options_of_a_method_s_panel_and_says_so(photo):
    class Windows(Params):
        window: int = Field(3, ge=1, le=20)

    class Method(type(fake(1))):
        name, title = "windows", "Windows"
        Params = Windows

        def explain(self, subject, params):
            return Heatmap([[0.0, float(params.window)]], "units")

    page, request = page_of(Method(), fake(1))
    form = FORM | {"photo": photo}
    tab = {**form, "methods": ["windows", "fake-1"], "networks": [], "order": "As chosen"}
    tab["scaling"] = "Each map its own"
    compare, *_ = events_filling(page, "compare-grid", "compare-legend", "compare-status")
    run, *_ = events_filling(page, *(f"windows-{n}" for n in ("picture", "examples", "legend",
                                                              "status", "head")))  # fmt: skip

    def table() -> str:
        *_, (_, legend, _) = compare.fn(request, **tab)
        return html_text(legend)

    assert "Options" not in table()
    *_, _ = run.fn(request, **form, window=9)
    assert "Options: window 9." in table()
    assert re.search(r"Windows[^W]*\b9\b", table()), "full colour is its largest value"


def test_what_is_taken_home_of_compare_says_what_it_is_and_how_to_make_it_again():
    import zipfile

    from whylens.core.explanation import Question
    from whylens.ui.page.compare import RELATIVE
    from whylens.ui.page.page_store import PageStore

    backbone, store = wrap(seeded(GapNet()), input_spec=plain_spec(32, 32)), PageStore()
    methods = ["cam", "occlusion"]
    registry = registry_of(*map(REGISTRY.explainer, methods))
    engine = Engine(registry, loader=lambda name, progress: backbone)
    pixels = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    for method, seconds in zip(methods, (2.0, 1.0), strict=True):
        *_, answer = engine.explain(Question("toy", pixels), method)
        store.put_answer("x", f"compare 0 {method}", replace(answer, seconds=seconds), "q")
    page = build_page(engine, store=store)
    ids = {b["id"]: b["props"].get("elem_id") for b in page.config["components"]}
    (pack,) = (
        page.fns[d["id"]]
        for d in page.config["dependencies"]
        if [(ids.get(i), name) for i, name in d["targets"]] == [("compare-download", "click")]
    )
    request = type("Request", (), {"session_hash": "x"})()
    values = {"photo": "/a/cat.png", "methods": methods, "networks": [], "scaling": RELATIVE}
    values |= {"colormap": "heat", "opacity": 0.7, "significant_only": False, "under": "auto"}
    values["order"] = "Time"
    assert set(pack.input_keyword_names) == set(values)
    ((path, _),) = pack.fn(request, **values)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        texts = {name: archive.read(name).decode() for name in names if name[-3:] in ("txt", "bib")}
        with archive.open("sheet.png") as sheet, Image.open(sheet) as picture:
            assert picture.width == round(174 / 25.4 * 300)
    assert [name for name in names if name.endswith(".bib")] == ["methods.bib"]
    assert texts["methods.bib"].count("@misc{") == 2
    commands = texts["command.txt"].splitlines()
    # In the order of the grid on the screen, the quicker first.
    for method, command in zip(reversed(methods), commands, strict=True):
        assert command.startswith("whylens explain cat.png --model toy ")
        assert f"--method {method} " in command
        assert f"{method}/manifest.json" in names
    for title in ("CAM", "Occlusion", "sheet.png", "values.npy"):
        assert title in texts["README.txt"]
