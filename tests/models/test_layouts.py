"""Tensors of any layout, read as maps and written back; a patch of the input is its own cell."""

from __future__ import annotations

import pytest
import torch

from tests.support.modules import Bare, backbone_of, noise
from tests.support.networks import TokenNet
from whylens.core.errors import NeedsNotMet
from whylens.core.models.layouts import (
    ChannelsFirst,
    ChannelsLast,
    Features,
    Tokens,
    layout_of,
    proportional,
)

# --- layouts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "shape", "expected"),
    [
        (ChannelsFirst(), (2, 5, 3, 4), (2, 5, 3, 4)),
        (ChannelsFirst(), (2, 5, 7), (2, 5, 7)),
        (ChannelsLast(), (2, 3, 4, 5), (2, 5, 3, 4)),
        (ChannelsLast(), (2, 2, 3, 4, 5), (2, 5, 2, 3, 4)),
        (Tokens(0, (3, 4)), (2, 12, 5), (2, 5, 3, 4)),
        (Tokens(1, (3, 4)), (2, 13, 5), (2, 5, 3, 4)),
        (Tokens(5, (3, 4)), (2, 17, 5), (2, 5, 3, 4)),
        (Tokens(2, (7,)), (2, 9, 5), (2, 5, 7)),
    ],
)
def test_a_layout_read_and_written_is_the_same_tensor(layout, shape, expected):
    raw = noise(*shape)
    features = layout.read(raw)
    assert tuple(features.map.shape) == expected
    original = features.map.clone()
    tensor = layout.write(features)
    assert torch.equal(tensor, raw)
    tensor += 1
    assert torch.equal(features.map, original), "a head that works in place changed the map"


def test_tokens_are_placed_row_by_row_behind_the_prefix():
    tokens = torch.arange(2.0 + 12).reshape(1, 14, 1)
    features = Tokens(2, (3, 4)).read(tokens)
    assert features.map[0, 0].tolist() == [[2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 12, 13]]
    assert features.prefix_tokens.flatten().tolist() == [0, 1]


def test_prefix_tokens_of_one_input_serve_a_whole_batch():
    single = Tokens(1, (2, 2)).read(noise(1, 5, 3))
    batch = Features(single.map.expand(4, -1, -1, -1), single.prefix_tokens)
    assert Tokens(1, (2, 2)).write(batch).shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("shape", "size", "attributes", "expected"),
    [
        ((1, 8, 4, 6), (64, 96), {}, ChannelsFirst()),
        ((1, 4, 6, 8), (64, 96), {"output_fmt": "NHWC"}, ChannelsLast()),
        ((1, 4, 4, 8), (64, 64), {"num_features": 8}, ChannelsLast()),
        ((1, 4, 6, 300), (64, 96), {}, ChannelsLast()),  # 6 x 300 is no map of 64 x 96
        ((1, 24, 8), (64, 96), {}, Tokens(0, (4, 6))),
        ((1, 25, 8), (64, 96), {"num_prefix_tokens": 1}, Tokens(1, (4, 6))),
        ((1, 26, 8), (64, 96), {}, Tokens(2, (4, 6))),
        ((1, 29, 8), (64, 96), {"num_prefix_tokens": 5}, Tokens(5, (4, 6))),
        # Class-attention networks say one prefix token, but add it only later.
        ((1, 24, 8), (64, 96), {"num_prefix_tokens": 1}, Tokens(0, (4, 6))),
        ((1, 8, 9), (40,), {}, ChannelsFirst()),
        ((1, 10, 8), (40,), {"num_prefix_tokens": 1}, Tokens(1, (9,))),
    ],
)
def test_the_layout_is_told_from_shapes_and_from_what_the_network_says(
    shape, size, attributes, expected
):
    assert layout_of(torch.zeros(shape), size, Bare(**attributes)) == expected


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([torch.zeros(1, 2, 3, 3)], "several tensors"),
        (torch.zeros(1, 8), "no positions left"),
        (torch.zeros(1, 31, 8), "31 tokens do not form a grid"),
    ],
)
def test_features_without_places_are_refused_in_words(raw, words):
    with pytest.raises(NeedsNotMet, match=words):
        layout_of(raw, (64, 64), Bare())


def test_a_grid_is_proportional_give_or_take_a_cell():
    assert proportional((7, 7), (224, 224))
    assert proportional((8, 5), (299, 200))
    assert not proportional((1, 768), (224, 224))
    assert not proportional((300, 300), (224, 224))


# --- tokens and locality --------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("cell", [(0, 0), (1, 4), (3, 5)])
def test_a_changed_patch_changes_its_own_cell_and_no_other(prefix, cell):
    net = backbone_of(TokenNet(grid=(4, 6), prefix=prefix), 16, 24)
    x = noise(1, 3, 16, 24)
    changed_x = x.clone()
    row, column = cell
    changed_x[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
    change = (net.features(changed_x).map - net.features(x).map).abs().sum(1)[0]
    assert tuple(change.shape) == (4, 6)
    assert change[cell] > 0
    change[cell] = 0
    assert float(change.abs().max()) == 0


def test_a_mixing_network_changes_most_where_the_input_changed():
    import timm

    net = backbone_of(timm.create_model("test_vit", num_classes=5, img_size=(64, 96)), 64, 96)
    x = noise(1, 3, 64, 96)
    for row, column in [(0, 0), (2, 5), (3, 1)]:
        changed_x = x.clone()
        changed_x[..., 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 2
        change = (net.features(changed_x).map - net.features(x).map).abs().sum(1)[0]
        assert tuple(change.shape) == (4, 6)
        assert divmod(int(change.argmax()), 6) == (row, column)
