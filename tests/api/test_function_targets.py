"""Any function of a network's outputs is explained as a class is."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import whylens
from tests.support.networks import GapNet, seeded
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, NeedsNotMet
from whylens.core.explanation import Question

PLAIN = {"size": (24, 24), "mean": 0.0, "std": 1.0}
PIXELS = np.random.default_rng(3).integers(0, 256, (24, 24, 3), dtype=np.uint8)
X = torch.from_numpy(PIXELS.astype(np.float32) / 255).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def net():
    return seeded(GapNet())


def twice_the_first_less_the_second(outputs):
    return 2 * outputs[:, 0] - outputs[:, 1]


@pytest.mark.parametrize("method", ["grad-cam", "integrated-gradients", "occlusion"])
def test_what_is_linear_in_the_classes_has_the_same_sum_of_their_maps(net, method):
    params = {"signed": True} if method == "grad-cam" else {}

    def values(target):
        return whylens.explain(net, PIXELS, method, target=target, **PLAIN, **params).values

    expected = 2 * values(0) - values(1)
    assert np.abs(expected).max() > 1e-4
    actual = values(twice_the_first_less_the_second)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_its_value_name_and_unit_are_told_and_it_has_no_probability(net, tmp_path):
    why = whylens.explain(
        net, PIXELS, "occlusion", target=lambda y: (y**2).sum(1), **PLAIN, stride=8
    )
    assert why.score == pytest.approx(float((net(X) ** 2).sum().detach()), rel=1e-4)
    assert (why.probability, str(why.target), why.target.quantity) == (
        None, "the function", "function",
    )  # fmt: skip
    assert why.unit == "value of the function"
    paths = {path.name: path for path in why.save(tmp_path)}
    text = paths["manifest.json"].read_text()
    manifest = json.loads(text, parse_constant=pytest.fail)
    assert manifest["target"]["quantity"] == "function"
    assert "target=the_function" in text
    assert "the function" in why._repr_html_()


class Segmenter(nn.Module):
    """Two classes at every place; the second is the sum of the channels there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight[1] = 1.0

    def forward(self, x):
        return {"out": self.conv(x)}


def test_a_region_of_a_segmentation_is_explained_by_the_pixels_it_is_read_from():
    def mask(outputs):
        return outputs["out"][:, 1, 8:16, 4:12].mean((1, 2))

    why = whylens.explain(
        Segmenter(), PIXELS, "integrated-gradients", target=mask, baseline="black", **PLAIN
    )
    expected = np.zeros((24, 24))
    expected[8:16, 4:12] = X[0].sum(0)[8:16, 4:12].numpy() / 64
    np.testing.assert_allclose(why.values, expected, atol=1e-5)
    assert why.score == pytest.approx(expected.sum(), rel=1e-4)
    assert str(why.target) == "mask"


def test_a_regression_of_one_number_is_that_number():
    net = seeded(GapNet(classes=1))
    why = whylens.explain(net, PIXELS, "grad-cam", target=lambda y: y[:, 0], **PLAIN)
    assert why.score == pytest.approx(float(net(X).detach()), rel=1e-4)


def test_several_methods_and_steps_take_a_function(net):
    row = whylens.compare(
        net, PIXELS, ["grad-cam", "contrastive"], target=twice_the_first_less_the_second, **PLAIN
    )
    assert [why.method for why in row] == ["grad-cam"]
    assert "explains a class, not a function" in row.problems["contrastive"]
    *_, last = whylens.explain_steps(
        net, PIXELS, "occlusion", target=twice_the_first_less_the_second, **PLAIN
    )
    assert last.target.label == "twice_the_first_less_the_second"


@pytest.mark.parametrize(
    ("function", "method", "words"),
    [
        (lambda y: y, "occlusion", r"one number for each input.*not \(1, 3\)"),
        (lambda y: 3.0, "occlusion", "one number for each input.*not float"),
        (lambda y: y[:, 7], "occlusion", r"target= failed on outputs of shape \(1, 3\)"),
        (lambda y: y.detach()[:, 0], "grad-cam", "target= has none"),
    ],
)
def test_a_function_that_is_none_of_the_outputs_is_refused_in_words(net, function, method, words):
    with pytest.raises(BadInput, match=words):
        whylens.explain(net, PIXELS, method, target=function, **PLAIN)


def test_a_function_stands_alone(net):
    for options in ({"versus": 1}, {"quantity": "probability"}):
        with pytest.raises(BadInput, match="leave versus= and quantity= out"):
            whylens.explain(net, PIXELS, "occlusion", target=lambda y: y[:, 0], **PLAIN, **options)
    with pytest.raises(NeedsNotMet, match="explains a class"):
        whylens.explain(net, PIXELS, "contrastive", target=lambda y: y[:, 0], **PLAIN)


def test_no_question_of_plain_data_names_a_function(net):
    engine = Engine(loader=lambda name, progress: whylens.load_model(net, **PLAIN))
    question = Question("toy", PIXELS, quantity="function")
    with pytest.raises(BadInput, match="is given in Python"):
        list(engine.explain(question, "occlusion"))
