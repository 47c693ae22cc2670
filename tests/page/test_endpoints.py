"""The page of all methods, running: its endpoints as a script asks them, and its stops."""

from __future__ import annotations

import threading
from itertools import zip_longest
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import serve, toy_checkpoint
from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.pages import REGISTRY, fake, registry_of
from tests.support.quick import some_quick
from whylens.core.engine import Engine
from whylens.core.evaluation.verdict import Verdict, Word
from whylens.core.explainer import Explainer
from whylens.core.models.backbone import wrap
from whylens.core.params import NoParams, controls_of
from whylens.core.results import Heatmap, Partial
from whylens.ui.page.html import slug
from whylens.ui.page.layout import build_page

gradio_client = pytest.importorskip("gradio_client")


@pytest.fixture(scope="module")
def whole_page(tmp_path_factory):
    """A page of all methods, with a toy network."""
    place = tmp_path_factory.mktemp("page")
    toy_checkpoint(place / "toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYLENS_CHECKPOINTS", str(place))
        page = build_page(Engine())
        yield page
        page.close()


@pytest.fixture(scope="module")
def client(whole_page, tmp_path_factory):
    """A script's connection to the running page."""
    downloads = str(tmp_path_factory.mktemp("downloads"))
    return gradio_client.Client(serve(whole_page), verbose=False, download_files=downloads)


@pytest.fixture(scope="module")
def endpoints(client) -> dict:
    """What the running page says of its endpoints, asked once: it describes all of them."""
    return client.view_api(return_format="dict")["named_endpoints"]


QUESTION = {"model": "toy", "target": "predicted", "quantity": "logit", "versus": "runner-up"}
# Fewer questions to the network than by default; what comes of them is tested elsewhere.
FEW = {"masks", "samples", "repeats", "steps", "constants", "swaps", "candidates"}
LOOK = {"colormap": "viridis", "opacity": 0.5}


def test_every_explainer_is_an_endpoint_with_named_parameters(endpoints):
    for name, explainer in REGISTRY.explainers.items():
        names = [p["parameter_name"] for p in endpoints[f"/{slug(name)}"]["parameters"]]
        fields = list(explainer.Params.model_fields)
        assert names[-len(fields) :] == fields or not fields


# All methods go the same way to the page: one of each family goes it here, and the others in the
# long run.
ONE_EACH = {explainer.family: name for name, explainer in REGISTRY.explainers.items()}.values()


@pytest.mark.parametrize("name", some_quick(REGISTRY.entries, lambda _, name: name in ONE_EACH))
def test_an_endpoint_answers_or_says_why_not(client, photo, name):
    fields = list(REGISTRY.explainer(name).Params.model_fields)
    arguments = {"photo": gradio_client.handle_file(photo), **QUESTION, **LOOK}
    if REGISTRY.explainer(name).artifact_kind:  # to what, this model's folder does not say
        with pytest.raises(Exception, match="whylens fit"):
            client.predict(**arguments, api_name=f"/{slug(name)}")
        return
    if REGISTRY.explainer(name).family == "Attention":  # the toy network has none
        with pytest.raises(Exception, match="is not available on toy: no attention"):
            client.predict(**arguments, api_name=f"/{slug(name)}")
        return
    controls = controls_of(REGISTRY.explainer(name).Params)
    fields_given = {c.name: int(c.low) for c in controls if c.name in FEW}
    if {"window", "stride"} <= set(fields):
        fields_given |= {"window": 64, "stride": 64}
    arguments |= fields_given
    picture, values, manifest = client.predict(**arguments, api_name=f"/{slug(name)}")
    assert manifest["finished"]
    assert manifest["method"] == name
    assert manifest["parameters"] == manifest["parameters"] | fields_given
    with Image.open(picture) as image:
        assert image.size[0] > 30
    if "map" in manifest:
        assert list(np.load(values).shape) == manifest["map"]["shape"]


def test_a_class_can_be_given_by_number_or_by_label(client, photo):
    for target, framing in (("1", "network"), ("Goldfish", "whole")):
        answer = client.predict(
            photo=gradio_client.handle_file(photo),
            **{**QUESTION, "target": target, "framing": framing},
            **LOOK,
            api_name="/grad-cam",
        )
        assert answer[-1]["target"] | {"index": 1, "label": "goldfish"} == answer[-1]["target"]
        assert answer[-1]["input"]["framing"] == framing
        assert (answer[-1]["view"]["top"] < 0) == (framing == "whole"), "a wide photo is fitted"


def test_a_map_is_judged_where_a_script_asks_for_it(client, photo):
    arguments = {"photo": gradio_client.handle_file(photo), **QUESTION, **LOOK}
    *_, plain = client.predict(**arguments, api_name="/grad-cam")
    assert "scores" not in plain
    *_, manifest = client.predict(**arguments, scores=True, api_name="/grad-cam")
    assert manifest["map"] == plain["map"]
    # Of random weights nothing moves a probability enough: that is a verdict, too.
    assert manifest["scores"]["verdict"] in get_args(Word)
    assert manifest["scores"]["reason"]
    assert set(manifest["scores"]) == set(Verdict().as_dict())
    assert "--scores" in manifest["command"]


def test_methods_and_models_can_be_listed(client):
    assert [m["name"] for m in client.predict(api_name="/methods")] == list(REGISTRY.entries)
    assert client.predict(api_name="/models")[0] == "toy"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "local-dir:/tmp"}, "never loaded"),
        ({"model": "torchvision:resnet18"}, "command line"),
        ({"target": "5000"}, "no class called"),
        ({"target": "golfish"}, "Did you mean goldfish"),
        ({"opacity": 7}, "maximum"),
        ({"signed": "perhaps"}, "signed"),
    ],
)
def test_bad_values_are_refused_in_words(client, photo, change, message):
    values = {**QUESTION, **LOOK, **change}
    with pytest.raises(Exception, match=f"(?i){message}"):
        client.predict(photo=gradio_client.handle_file(photo), **values, api_name="/grad-cam")


def test_files_of_the_server_are_not_read(client):
    stolen = {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(Exception, match=r"(?i)not|refused|allow|error"):
        client.predict(photo=stolen, **QUESTION, **LOOK, api_name="/grad-cam")


@pytest.mark.slow  # who waits for whom is asked of the queue in test_fair_queue.py
def test_a_quick_map_is_there_while_four_slow_ones_run(photo):
    end, starts = threading.Event(), threading.Semaphore(0)

    class Slow(Explainer[NoParams]):
        """Runs until the test ends."""

        name, title, family = "slow", "Slow", "Test"
        summary = limits = source = cost = "words"
        needs = frozenset()
        Params = NoParams

        def explain(self, subject, params):
            starts.release()
            while not end.wait(0.05):
                yield Partial(Heatmap([[0.0, 1.0]], "units"), 0.5)
            yield Partial(Heatmap([[0.0, 1.0]], "units"), 1.0)

    engine = Engine(
        registry_of(Slow(), fake(1)),
        loader=lambda *_: wrap(seeded(GapNet()), input_spec=plain_spec(32, 32)),
    )
    page = build_page(engine)
    client = gradio_client.Client(serve(page), verbose=False)
    arguments = {"photo": gradio_client.handle_file(photo), **QUESTION, "model": "resnet18", **LOOK}
    jobs = [client.submit(**arguments, api_name="/slow") for _ in range(4)]
    try:
        assert all(starts.acquire(timeout=60) for _ in jobs)
        *_, manifest = client.predict(**arguments, api_name="/fake-1")
        assert manifest["method"] == "fake-1"
        assert not any(job.done() for job in jobs)
    finally:
        end.set()
    assert all(job.result()[-1]["finished"] for job in jobs)
    page.close()


def test_every_stop_is_there_only_while_what_its_status_tells_of_runs(whole_page):
    # By `.wl-running` of page.css: after the row comes its status, which shows an event's progress.
    page = whole_page
    tracked = {
        block
        for event in page.config["dependencies"]
        if event["show_progress"] != "hidden"
        for block in event["show_progress_on"] or ()
    }
    stops = 0

    def first(node):
        return first(node["children"][0]) if node.get("children") else node["id"]

    def walk(siblings):
        nonlocal stops
        for node, after in zip_longest(siblings, siblings[1:]):
            children = node.get("children", [])
            if any(getattr(page.blocks[c["id"]], "variant", "") == "stop" for c in children):
                stops += 1
                assert "wl-running" in " ".join(page.blocks[node["id"]].elem_classes)
                assert (status := first(after)) in tracked, page.blocks[status].elem_id
            walk(children)

    walk(page.config["layout"]["children"])
    with_artifact = [e for e in REGISTRY.explainers.values() if e.artifact_kind]
    # Compare, the means, Many photos, Your pictures.
    assert stops == len(REGISTRY.explainers) + len(with_artifact) + 4
