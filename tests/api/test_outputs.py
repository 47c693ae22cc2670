"""Networks whose outputs are no logits, or no fixed answer, are found by numbers and named."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import whylens
from tests.support.networks import plain_spec
from tests.support.pictures import noisy
from whylens.core.inputs.spec import probe_inputs
from whylens.core.models.backbone import wrap

PLAIN = {"size": 32, "mean": 0, "std": 1}
PHOTO = noisy(3, 1)


class Then(nn.Module):
    """A small network, and what is done to its scores or its input."""

    def __init__(self, classes, output=lambda z: z, first=lambda x: x):
        super().__init__()
        torch.manual_seed(classes)
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, classes),
        )
        self.output, self.first = output, first

    def forward(self, x):
        return self.output(self.net(self.first(x)))


def own_answer(net) -> list[float]:
    x = torch.from_numpy(PHOTO).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        return net(x)[0].tolist()


def probabilities_of(net, **options) -> list[float]:
    scores = whylens.predict(net, PHOTO, top=9, **PLAIN, **options)
    return [score.probability for score in sorted(scores, key=lambda score: score.index)]


@pytest.mark.parametrize(
    "output",
    [
        lambda z: z.softmax(-1),
        lambda z: (9 * z).softmax(-1),
        lambda z: (z - 1).sigmoid(),
        torch.sigmoid,
    ],
)
def test_probabilities_are_shown_as_the_network_gives_them(output):
    net = Then(4, output).eval()
    backbone = whylens.load_model(net, **PLAIN)
    assert probabilities_of(net) == pytest.approx(own_answer(net), abs=1e-5)
    assert any("taken for" in note and "probabilit" in note for note in backbone.identity.notes)
    assert whylens.explain(backbone, PHOTO, "grad-cam").values.any()


def test_a_network_under_a_name_is_read_in_the_same_way():
    net = Then(4, lambda z: (9 * z).softmax(-1)).eval()
    backbone = wrap(net, input_spec=plain_spec(32, 32))
    assert backbone.probabilities(backbone.logits(probe_inputs(backbone.input_spec))).numpy() == (
        pytest.approx(net(probe_inputs(backbone.input_spec)).detach().numpy(), abs=1e-5)
    )
    dead = wrap(Then(2, lambda z: 0 * z), input_spec=plain_spec(32, 32))
    assert dead.outputs == "classes"
    assert dead.identity.notes == ()


def test_per_cent_are_probabilities():
    net, per_cent = Then(4).eval(), Then(4, lambda z: 100 * z.softmax(-1)).eval()
    assert probabilities_of(per_cent) == pytest.approx(probabilities_of(net), abs=1e-5)


def test_one_label_of_one_score_is_what_its_sigmoid_says():
    (answer,) = own_answer(Then(1).eval())
    absent, present = whylens.predict(Then(1), PHOTO, labels=["disease"], **PLAIN)[::-1]
    assert {absent.label, present.label} == {"not disease", "disease"}
    probability = present.probability if present.label == "disease" else absent.probability
    assert probability == pytest.approx(torch.tensor(answer).sigmoid().item(), abs=1e-5)


def test_one_sigmoid_decides_between_two_labels():
    net = Then(1, lambda z: (z - 5).sigmoid()).eval()
    no, yes = probabilities_of(net, labels=("no", "yes"))
    assert yes == pytest.approx(own_answer(net)[0], abs=1e-5)
    assert no > 0.9


def test_a_softmax_at_the_end_is_taken_off_and_its_logits_are_the_networks_own():
    inner = Then(4).eval()
    outer = nn.Sequential(inner, nn.Softmax(-1))
    scores = whylens.predict(outer, PHOTO, top=4, **PLAIN)
    assert sorted(s.logit for s in scores) == pytest.approx(sorted(own_answer(inner)), abs=1e-5)


@pytest.mark.parametrize("classes", [1, 4])
def test_logits_are_left_alone(classes):
    backbone = whylens.load_model(Then(classes), **PLAIN)
    assert backbone.outputs == "classes"
    assert backbone.identity.notes == ()


def test_a_number_with_a_unit_is_no_probability():
    backbone = whylens.load_model(Then(1, torch.sigmoid), unit="share", **PLAIN)
    assert backbone.outputs == "value"
    assert not any("probabilit" in note for note in backbone.identity.notes)


def test_a_network_that_is_random_in_eval_mode_is_named():
    noisy_net = Then(3, first=lambda x: x + torch.randn_like(x))
    notes = whylens.load_model(noisy_net, **PLAIN).identity.notes
    assert any("Then is random in eval mode" in note for note in notes)


def test_a_network_that_turns_itself_to_training_is_refused():
    class Trains(Then):
        def forward(self, x):
            self.train()
            return super().forward(x)

    with pytest.raises(whylens.CoreError, match="puts itself into training mode"):
        whylens.load_model(Trains(3), **PLAIN)


def test_weights_that_are_no_numbers_are_blamed():
    net = Then(3)
    net.net[0].weight.data[0] = float("nan")
    with pytest.raises(whylens.CoreError, match=r"weights of Then hold NaN .* net\.0\.weight"):
        whylens.load_model(net, **PLAIN)


class ReadsChannelsLast(Then):
    def forward(self, x):
        if x.shape[-1] != 3:
            raise ValueError("channels come last")
        return super().forward(x.permute(0, 3, 1, 2))


class ReadsOne(Then):
    def forward(self, x):
        return super().forward(x).view(1, 3)


class ReadsNoBatch(Then):
    def forward(self, x):
        channels, _, _ = x.shape
        assert channels == 3
        return super().forward(x[None])[0]


class PutsOnABatch(Then):
    def forward(self, x):
        return super().forward(x.unsqueeze(0))


ONE = "reads one input at a time"


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        (ReadsChannelsLast, "reads its channels last"),
        (ReadsOne, ONE),
        (ReadsNoBatch, ONE),
        (PutsOnABatch, ONE),
    ],
)
def test_networks_of_other_inputs_are_fed_as_they_want(kind, note):
    backbone = whylens.load_model(kind(3), **PLAIN)
    assert any(note in text for text in backbone.identity.notes)
    expected = whylens.predict(Then(3), PHOTO, **PLAIN)
    assert [s.logit for s in whylens.predict(backbone, PHOTO)] == pytest.approx(
        [s.logit for s in expected], abs=1e-5
    )
    assert whylens.explain(backbone, PHOTO, "input-x-gradient").values.any()


def test_a_function_that_makes_a_network_is_told_from_a_network():
    def small():
        return Then(3)

    with pytest.raises(whylens.CoreError, match=r"makes a network, give what it returns: small"):
        whylens.load_model(small, **PLAIN)


def notes_on(last, classes=3) -> str:
    return " ".join(whylens.load_model(Then(classes, last), **PLAIN).identity.notes)


def sharp(z):
    return (3 * z).softmax(-1)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (lambda z: -sharp(z).log(), "negative logarithms,"),
        (lambda z: sharp(z).log2(), "logarithms to base 2,"),
        (lambda z: -sharp(z).log2(), "negative logarithms to base 2"),
        (lambda z: sharp(z).log10(), "logarithms to base 10"),
        (lambda z: -sharp(z).log10(), "negative logarithms to base 10"),
        (lambda z: 10 * sharp(z).log10(), "decibels"),
        (lambda z: sharp(z) / (1 - sharp(z)), "odds, p / "),
        (lambda z: sharp(z).logit(), "logarithms of odds"),
        (lambda z: 1 - sharp(z), "1 minus"),
    ],
)
def test_what_is_made_of_probabilities_is_read_back(output, words):
    net = Then(4, output).eval()
    assert probabilities_of(net) == pytest.approx(own_answer(Then(4, sharp).eval()), abs=1e-5)
    assert words in notes_on(output, 4)
    if output(torch.zeros(1, 4)).min() > 0:  # of odds as well, where the largest is the likeliest
        pair_net = Then(2, output).eval()
        if words != "1 minus":  # of two classes that is the probability of the other
            assert probabilities_of(pair_net) == pytest.approx(
                own_answer(Then(2, sharp).eval()), abs=1e-5
            )


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(
    "output",
    [
        torch.nn.functional.logsigmoid,
        lambda z: z.sigmoid().log(),
        lambda z: 100 * z.sigmoid(),
        lambda z: ((z / 2).tanh() + 1) / 2,
    ],
)
def test_what_is_made_of_sigmoids_is_read_back(output, classes):
    net = Then(classes, output).eval()
    expected = own_answer(Then(classes, torch.sigmoid).eval())
    assert probabilities_of(net)[-classes:] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "output",
    [
        lambda z: (z + 1).tanh(),
        lambda z: 0.99 * (z + 1).tanh(),
        lambda z: nn.functional.softsign(z + 3),
    ],
)
def test_a_score_that_happens_to_be_positive_is_no_probability(output):
    net = Then(1, output).eval()
    x = probe_inputs(plain_spec(32, 32))
    with torch.no_grad():
        assert float(net(x).min()) > 0
    assert "as behind a tanh" in notes_on(output, 1)
    _, yes = probabilities_of(net)
    assert yes == pytest.approx(torch.tensor(own_answer(net)[0]).sigmoid().item(), abs=1e-5)


def test_a_last_layer_that_is_linear_gives_logits_whatever_they_are():
    class Bounded(Then):
        def forward(self, x):  # no input of any size takes it out of 0 to 1
            return nn.functional.linear(super().forward(x).tanh(), torch.tensor([[0.1]])) + 0.5

    assert whylens.load_model(Bounded(1), **PLAIN).identity.notes == ()


@pytest.mark.parametrize(
    ("output", "single_note", "several_note"),
    [
        (torch.relu, "never negative, so the second label", "the smallest decides"),
        (torch.exp, "odds or a distance", "if odds or counts"),
        (lambda z: -(z**2), "never positive, so the first label", "logarithms of sigmoids"),
        (torch.tanh, "say its unit", "taken as logits"),
        (lambda z: (z.sigmoid() + z.exp() / (1 + z.exp())) / 2, "another number", "taken for"),
    ],
)
def test_what_numbers_cannot_tell_is_said(output, single_note, several_note):
    assert single_note in notes_on(output, 1)
    assert several_note in notes_on(output)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("output", [lambda z: (z > 0.4).float(), lambda z: (z - 0.4).sign()])
def test_decisions_are_no_scores(output, classes):
    assert "they are decisions" in notes_on(output, classes)
    one_hot = notes_on(lambda z: nn.functional.one_hot(z.argmax(1), classes).float(), classes)
    assert classes == 1 or "they are decisions" in one_hot


@pytest.mark.parametrize(
    "output", [lambda z: z, lambda z: z.log_softmax(1), lambda z: 9 * z.tanh()]
)
def test_of_logits_nothing_is_said(output):
    assert notes_on(output) == ""


def test_a_map_of_one_position_is_scores():
    flat = whylens.predict(Then(3), PHOTO, **PLAIN)
    as_map = whylens.load_model(Then(3, lambda z: z[:, :, None, None]), **PLAIN)
    assert whylens.predict(as_map, PHOTO) == flat
    assert as_map.split is not None  # and is cut all the same


def test_features_without_a_classifier_are_noted():
    (note,) = whylens.load_model(Then(16, torch.relu), **PLAIN).identity.notes
    assert "None of its 16 scores is negative" in note


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_why_a_method_cannot_be_used_names_what_its_owner_can_change():
    def refusal(net, method="grad-cam"):
        with pytest.raises(whylens.NeedsNotMet) as error:
            whylens.explain(net, PHOTO, method, **PLAIN)
        return str(error.value)

    traced_net = torch.jit.trace(Then(3).net.eval(), torch.zeros(1, 3, 32, 32))
    assert "need the module that it was made from" in refusal(traced_net)
    by_chance = Then(3, first=lambda x: x + torch.randn_like(x))
    assert "random in eval mode" in refusal(by_chance)
    assert "let its forward take any number" in refusal(ReadsOne(3))
    assert "give the nn.Module" in refusal(lambda x: x.mean((2, 3)).detach())
    assert "take torch.no_grad()" in refusal(Then(3, first=lambda x: x.detach().abs()), "saliency")


def test_scores_that_are_no_numbers_though_the_weights_are_blame_the_network():
    with pytest.raises(whylens.CoreError, match="division by 0"):
        whylens.explain(Then(3, lambda z: z / 0), PHOTO, "occlusion", **PLAIN)


@pytest.mark.parametrize("model", [nn.Identity, {"conv.weight": torch.zeros(1)}])
def test_what_is_no_model_yet_is_refused_with_the_next_step(model):
    with pytest.raises(whylens.CoreError, match=r"Identity\(\.\.\.\)|load_state_dict"):
        whylens.explain(model, PHOTO, "occlusion", **PLAIN)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: Then(1, lambda z: z.mean()), "one number for all its inputs together"),
        (lambda: Then(3, lambda z: z.argmax(1)), "Then gives int64, as after an argmax"),
        (lambda: timm.create_model("test_resnet", num_classes=0), "96 outputs are features"),
        (lambda: Then(3, lambda z: z[:, :, None, None].expand(-1, -1, 4, 4)), "not class scores"),
        (lambda: Then(3, lambda z: {"last_hidden_state": z[None], "pooler_output": z}), "features"),
        (lambda: Then(3, lambda z: z.T), r"shape \(3, 2\) for 2 inputs"),
        (lambda: Then(3, first=lambda x: x["image"]), "Wrap it in a module whose forward takes"),
        (lambda: Then(3, first=lambda x: x.half()), r"in float32: take \.half\(\)"),
        (lambda: Then(3, first=lambda x: x.view(8, 3, 32, 32)), "let it take any number of inputs"),
    ],
)
def test_outputs_that_are_no_scores_are_refused_with_the_remedy(net, message):
    with pytest.raises(whylens.CoreError, match=message):
        whylens.load_model(net(), **PLAIN)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_torchscript_is_named_in_the_notes():
    scripted_net = torch.jit.script(Then(3).net.eval())
    assert any("TorchScript" in n for n in whylens.load_model(scripted_net, **PLAIN).identity.notes)
