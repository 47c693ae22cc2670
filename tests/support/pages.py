"""Pages of made-up methods for the tests of the page: built, and their events found."""

from __future__ import annotations

import numpy as np

from tests.support.networks import GapNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.explainer import Explainer
from whylens.core.models.backbone import wrap
from whylens.core.params import NoParams
from whylens.core.registry import Entry, Registry, load_registry
from whylens.core.results import Example, Examples, Heatmap
from whylens.ui.page.layout import build_page

REGISTRY = load_registry()


def fake(number: int, family: str = "Test"):
    """Return an explainer of a class of its own."""

    class Fake(Explainer[NoParams]):
        name, title = f"fake-{number}", f"Fake {number}"
        summary = limits = source = cost = "<b>words</b>"
        needs = frozenset()
        Params = NoParams

        def explain(self, subject, params):
            if number == 0:
                picture = np.full((8, 8, 3), 200, np.uint8)
                return Examples((Example(picture, "a neighbour", 0.5),), "cosine")
            return Heatmap([[0.0, float(number)]], "units")

    Fake.family = family
    return Fake()


def registry_of(*explainers, problems=()) -> Registry:
    entries = {e.name: Entry(e, e.name, "stranger", "0.1") for e in explainers}
    return Registry(entries, tuple(problems))


# What the page sends with most events, but for the photo.
FORM = {
    "model": "resnet18", "target": "predicted", "quantity": "logit", "versus": "runner-up",
    "framing": "network", "colormap": "viridis", "opacity": 0.7,
    "significant_only": False, "under": "auto",
}  # fmt: skip


def page_of(*explainers):
    """Return a page with a toy network under every name, and a visitor's request."""
    engine = Engine(
        registry_of(*explainers),
        loader=lambda *_: wrap(seeded(GapNet()), input_spec=plain_spec(32, 32)),
    )
    return build_page(engine, judges=False), type("Request", (), {"session_hash": "x"})()


def events_filling(page, *elem_ids) -> list:
    """Return the events that fill exactly these components, in the page's order."""
    ids = {b["id"]: b["props"].get("elem_id") for b in page.config["components"]}
    return [
        page.fns[d["id"]]
        for d in page.config["dependencies"]
        if [ids[i] for i in d["outputs"]] == list(elem_ids)
    ]


CARD = ("answer-head", "predictions", "answer-picture", "answer-examples", "answer-legend",
        "answer-by", "answer-truth", "answer-verdict", "answer-agreement",
        "answer-covered")  # fmt: skip


def html_text(text: str) -> str:
    import html

    return html.unescape(text.replace("<code>", "`").replace("</code>", "`"))
