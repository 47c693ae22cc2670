"""Framings: the whole photo, or a part of it, reaches the network, and maps come back to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import whylens
from tests.support.networks import GapNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.errors import BadInput
from whylens.core.explanation import Question
from whylens.core.inputs.framing import framed_view, framing_text, parse_framing
from whylens.core.inputs.photo import photo_of
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.inputs.spec import InputSpec
from whylens.core.inputs.view import on_original
from whylens.core.models.backbone import wrap
from whylens.core.outputs.export import bundle_files, read_explanation, write_files

SPEC = InputSpec(size=(64, 64), mean=(0.2, 0.4, 0.6), std=(1.0, 1.0, 1.0), crop=0.875)


@pytest.fixture
def portrait(rng):
    return photo_of(rng.integers(0, 256, (180, 90, 3), dtype=np.uint8))


def test_a_photo_that_is_shown_whole_is_fitted_between_the_networks_mean_colour(portrait):
    x, view = photo_tensor(replace(portrait, framing="whole"), SPEC)
    small = np.asarray(portrait.image().resize((32, 64), Image.Resampling.BILINEAR)) / 255
    expected = np.empty((64, 64, 3))
    expected[:] = np.round(255 * np.array(SPEC.mean)) / 255
    expected[:, 16:48] = small
    expected -= SPEC.mean
    assert np.abs(x[0].permute(1, 2, 0).numpy() - expected).max() < 1e-6
    assert view.visible_box == (0, 0, 90, 180)
    _, visible = on_original(np.ones((4, 4), np.float32), view)
    assert visible.all(), "nothing of it is unseen"


@pytest.mark.parametrize("size", [(90, 180), (300, 110), (64, 64), (1000, 700)], ids=str)
@pytest.mark.parametrize("part", [(0.0, 0.0, 0.5, 0.5), (0.3, 0.6, 1.0, 1.0), (0, 0.2, 1, 0.4)])
def test_a_part_is_what_cutting_it_out_by_hand_shows(size, part, rng):
    photo = photo_of(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    x, view = photo_tensor(replace(photo, framing=part), SPEC)
    x0, y0, x1, y1 = view.visible_box
    # A square of the photo, inside the part but for the rounding of one input pixel.
    pixel = 1 / view.scale_x
    assert x1 - x0 == pytest.approx(64 / view.scale_x)
    assert y1 - y0 == pytest.approx(64 / view.scale_y)
    part_box = [part[0] * size[0], part[1] * size[1], part[2] * size[0], part[3] * size[1]]
    assert x0 > part_box[0] - 1.1 * pixel
    assert y0 > part_box[1] - 1.1 * pixel
    assert x1 < part_box[2] + 1.1 * pixel
    assert y1 < part_box[3] + 1.1 * pixel
    assert min(part_box[2] - part_box[0], part_box[3] - part_box[1]) == pytest.approx(
        x1 - x0, rel=0.05
    )
    by_hand = photo.image().resize((64, 64), Image.Resampling.BILINEAR, (x0, y0, x1, y1))
    pixels = 255 * (x[0].permute(1, 2, 0).numpy() + SPEC.mean)
    # Pillow rounds after each of its two passes, along one axis and then along the other.
    assert np.abs(pixels - np.asarray(by_hand)).max() <= 2.01


def test_the_networks_own_crop_is_as_it_was(portrait):
    assert torch.equal(photo_tensor(portrait, SPEC)[0], photo_tensor(portrait, SPEC)[0])
    assert framed_view((90, 180), SPEC, "network").visible_box[1] > 40


@pytest.mark.parametrize(
    "text", ["hole", "0,0,1", "0.5,0,0.5,1", "-0.1,0,1,1", "0,0,1,2", "a,b,c,d", "nan,0,1,1"]
)
def test_what_is_no_framing_is_refused_in_words(text):
    with pytest.raises(BadInput, match=r"framing|no part"):
        parse_framing(text)


def test_text_and_numbers_come_back():
    for framing in ("network", "whole", (0.1, 0.2, 0.75, 1.0)):
        assert parse_framing(framing_text(framing)) == framing
    assert parse_framing([0, 0, 1, 1]) == (0, 0, 1, 1)


def test_two_framings_are_two_questions_and_a_manifest_tells_which(portrait, tmp_path):
    backbone = wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))
    engine = Engine(loader=lambda *_: backbone)
    maps = {}
    for framing in ("network", "whole", (0.0, 0.0, 1.0, 0.5)):
        question = Question("toy", replace(portrait, framing=framing))
        *_, answer = engine.explain(question, "grad-cam", {"signed": True})
        maps[framing] = answer.result.values
        manifest = write_files(tmp_path / framing_text(framing), bundle_files(answer))[-1]
        copy, _ = read_explanation(manifest)
        assert copy.question.photo.framing == framing
        assert copy.view == answer.view
        assert ("--framing" in manifest.read_text()) == (framing != "network")
    values = list(maps.values())
    assert not np.allclose(values[0], values[1])
    assert not np.allclose(values[1], values[2])
    net = backbone.module
    why = whylens.explain(
        net, portrait.image(), "grad-cam", framing="whole", size=32, mean=0, std=1, signed=True
    )
    np.testing.assert_allclose(why.values, maps["whole"], atol=1e-5)
