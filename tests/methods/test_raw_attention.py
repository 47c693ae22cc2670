"""Raw attention: written out from a block's weights, for every layer and head."""

from __future__ import annotations

import pytest

from tests.methods.test_attention_rollout import SMALL, literal_attentions, small
from tests.support.networks import TokenNet, seeded
from tests.support.toys import difference, final, noise, subject_of
from whylens.core.errors import InvalidParameter, NeedsNotMet
from whylens.core.targets import Target
from whylens.plugins.raw_attention import RawAttention

METHOD = RawAttention()
X = noise(1, 3, 16, 24)


def raw_attention(subject, **params):
    return final(METHOD.explain(subject, METHOD.Params(**params)))


@pytest.mark.parametrize("kind", SMALL)
def test_the_map_is_a_head_s_attention_or_the_mean_of_all(kind):
    module, (_, prefix, readers) = small(kind), SMALL[kind]
    subject, layers = subject_of(module, X), literal_attentions(module, X)
    for layer in (1, 2):
        heads = layers[-layer]
        for head, attention in ((0, heads.mean(0)), (1, heads[0]), (2, heads[1])):
            values = raw_attention(subject, layer=layer, head=head).values
            rows = attention[list(readers)].mean(0)[prefix:].reshape(4, 6)
            assert difference(values, rows) < 1e-5


def test_shares_of_places_and_prefix_tokens_add_up_to_one():
    mean_map = raw_attention(subject_of(small("average"), X))
    assert mean_map.diagnostics["share of all places"] == pytest.approx(1, abs=1e-5)
    heat = raw_attention(subject_of(small("registers"), X))
    assert 0 < heat.diagnostics["share of all places"] < 1
    assert (heat.diagnostics["layers"], heat.diagnostics["heads"]) == (2, 2)


def test_it_is_the_same_for_every_class_and_says_so():
    module = small("class token")
    first, second = (raw_attention(subject_of(module, X, Target(c))) for c in (0, 2))
    assert (first.values == second.values).all()
    assert "same for every class" in first.note


@pytest.mark.parametrize(
    ("params", "reason"),
    [({"layer": 3}, "2 layers: choose 1 to 2"), ({"head": 3}, "2 heads: choose 1 to 2")],
)
def test_a_layer_or_head_that_is_not_there_is_refused_with_what_there_is(params, reason):
    with pytest.raises(InvalidParameter, match=reason):
        raw_attention(subject_of(small("class token"), X), **params)


def test_a_network_without_attention_is_refused():
    subject = subject_of(seeded(TokenNet()), X)
    assert "no attention between tokens" in METHOD.why_not(subject.backbone)
    with pytest.raises(NeedsNotMet, match="no attention between tokens"):
        raw_attention(subject)
