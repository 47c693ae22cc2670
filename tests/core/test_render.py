"""Pictures of maps: a fixed zero, a shared scale, hatching; by the numbers of pixels."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tests.support.networks import plain_spec
from whylens.core.errors import BadInput, InvalidParameter
from whylens.core.explanation import Explanation, ModelCard, Question
from whylens.core.inputs.view import view_of, whole_view
from whylens.core.outputs.render import (
    Scale,
    Style,
    colour,
    colour_names,
    colour_stops,
    is_pixelwise,
    overlay,
    render_explanation,
    scale_of,
    scale_words,
    scales_together,
    share_of,
)
from whylens.core.results import Example, Examples, Heatmap
from whylens.core.targets import Target


def view(width=64, height=48):
    return view_of((width, height), plain_spec(48, 48))


@pytest.fixture
def photo(rng):
    return rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)


def card() -> ModelCard:
    return ModelCard("toy", "0" * 64, "free", "made", True, (), ("a", "b"), {})


def explanation(result, question, view=None) -> Explanation:
    return Explanation(
        "m", "M", "test 1", card(), question, Target(0), ("a",), 1.0, 0.5, result, view
    )


@pytest.mark.parametrize("name", colour_names())
@pytest.mark.parametrize("diverges", [False, True])
def test_every_colour_scale_exists_and_changes_all_along(name, diverges):
    steps = np.linspace(-1 if diverges else 0, 1, 17, dtype=np.float32)
    colours = colour(steps, name, diverges=diverges).astype(int)
    assert (np.abs(np.diff(colours, axis=0)).sum(1) > 0).all()
    assert len(set(colour_stops(name, diverges=diverges))) == 9


def test_an_unknown_colour_scale_is_refused():
    with pytest.raises(InvalidParameter, match="There are the colours"):
        colour(np.zeros(1, np.float32), "pink", diverges=False)


@pytest.mark.parametrize(
    ("style", "words"),
    [
        ({"under": "phto"}, "one of auto, photo, faded, alone; not 'phto'"),
        ({"opacity": 7.0}, "in 0 to 1; 7.0 does not"),
        ({"opacity": -0.1}, "in 0 to 1"),
        ({"opacity": float("nan")}, "in 0 to 1"),
    ],
)
def test_a_style_that_would_be_drawn_as_another_is_refused(style, words):
    with pytest.raises(InvalidParameter, match=words):
        Style(**style)


def test_zero_is_fixed_and_signed_maps_are_symmetric():
    assert scale_of(Heatmap([[0.5, 2.0]], "u")) == Scale(0.0, 2.0, "u", 2.0)
    assert scale_of(Heatmap([[-3.0, 1.0]], "u", signed=True)) == Scale(-3.0, 3.0, "u", 3.0)
    # Two maps of the same shape but another size look alike only on scales of their own.
    small = Heatmap([[0.0, 1.0]], "u")
    assert share_of(small.values, Scale(0, 4, "u")).max() == 0.25


@pytest.mark.parametrize(
    ("values", "high"),
    [
        (range(1, 101), 100),  # one place in a hundred would be the largest: it has full colour
        (range(1, 201), 199),  # of two hundred, one place lies beyond
        ([-v for v in range(1, 301)], 298),  # by magnitude
        ([0] * 199 + [7], 7),  # one place in two hundred says something
        ([0] * 200 + [1, 2, 3, 4], 2),
        ([5] * 300, 5),
        ([0] * 300, 0),
    ],
)
def test_full_colour_is_a_value_that_one_place_in_a_hundred_exceeds(values, high):
    heat = Heatmap([list(values)], "u")
    scale = scale_of(heat)
    assert (scale.high, scale.largest) == (high, np.abs(heat.values).max())
    assert np.mean(np.abs(heat.values) > scale.high) <= 0.01
    assert np.abs(share_of(heat.values, scale)).max() == (high > 0)


def test_the_legend_tells_what_full_colour_is_and_what_lies_beyond():
    assert (
        scale_words(scale_of(Heatmap([[1, 2.5]], "u"))) == "Full colour is 2.5, the largest value."
    )
    words = scale_words(scale_of(Heatmap([list(range(201))], "u")))
    assert words == (
        "Full colour begins at 198, which no more than 1 place in 100 exceeds; "
        "the largest value is 200."
    )


def test_maps_side_by_side_have_colours_of_their_own_and_only_equal_units_share_values():
    maps = [Heatmap([[0, 2.0]], "u"), Heatmap([[-5.0, 1]], "v", signed=True), Heatmap([[8.0]], "u")]
    scales = scales_together(maps)
    assert scales == [Scale(0, 2, "u", 2), Scale(-5, 5, "v", 5), Scale(0, 8, "u", 8)]
    shared = scales_together(maps, same_values=True)
    assert shared == [Scale(-8, 8, "u", 8), Scale(-5, 5, "v", 5), Scale(-8, 8, "u", 8)]
    assert scales_together([maps[0]]) == [Scale(0, 2, "u", 2)]


def test_a_map_of_single_pixels_is_told_from_a_map_of_regions(rng):
    view = whole_view(64, 64)
    noise = Heatmap(rng.normal(size=(64, 64)), "u", signed=True)
    regions = Heatmap(np.kron(rng.normal(size=(4, 4)), np.ones((16, 16))), "u", signed=True)
    assert is_pixelwise(noise, view)
    assert not is_pixelwise(regions, view)
    assert not is_pixelwise(Heatmap(rng.normal(size=(16, 16)), "u", signed=True), view)
    assert not is_pixelwise(Heatmap(np.zeros((64, 64)), "u"), view)


def test_what_lies_under_a_map_is_the_photo_a_pale_one_or_nothing(photo, rng):
    seen_all, heat = whole_view(64, 48), Heatmap(np.eye(48, 64), "u")
    over_plain, over_faded, map_alone = (
        np.asarray(overlay(photo, heat, seen_all, Style(under=under))).astype(int)
        for under in ("photo", "faded", "alone")
    )
    away = np.eye(48, 64) == 0
    assert np.array_equal(over_plain[away], photo[away])
    assert np.array_equal(
        map_alone, colour(np.eye(48, 64, dtype=np.float32), "heat", diverges=False)
    )
    assert (over_faded[away].max(-1) <= 0.3 * 255 + 4).all()  # towards heat's black
    assert over_faded[away].std() > 5  # the photo can still be made out
    top = colour(np.ones(1, np.float32), "heat", diverges=False)[0].astype(int)
    assert np.abs(over_faded[~away] - top).max() < np.abs(over_plain[~away] - top).max()
    for heatmap, expected in ((heat, over_faded), (Heatmap(np.ones((48, 64)), "u"), None)):
        auto = np.asarray(overlay(photo, heatmap, seen_all, Style()))
        over_photo = np.asarray(overlay(photo, heatmap, seen_all, Style(under="photo")))
        assert np.array_equal(auto, over_photo if expected is None else expected)


def test_a_constant_positive_map_is_not_painted_as_zero():
    shares = share_of(Heatmap([[2.0, 2.0]], "u").values, scale_of(Heatmap([[2.0, 2.0]], "u")))
    assert (shares == 1).all()


def test_an_empty_map_leaves_the_photo_as_it_is(photo):
    seen_all = view_of((64, 48), plain_spec(48, 64))
    picture = overlay(photo, Heatmap(np.zeros((4, 4)), "u"), seen_all, Style())
    assert np.array_equal(np.asarray(picture), photo)


def test_opacity_one_shows_the_colours_alone_where_the_map_is_strongest(photo):
    seen_all = view_of((64, 48), plain_spec(48, 64))
    picture = overlay(photo, Heatmap(np.ones((3, 4)), "u"), seen_all, Style(opacity=1.0))
    top = colour(np.ones(1, np.float32), Style().colormap, diverges=False)[0]
    assert (np.asarray(picture) == top).all()
    clear_overlay = overlay(photo, Heatmap(np.ones((3, 4)), "u"), seen_all, Style(opacity=0.0))
    assert np.array_equal(np.asarray(clear_overlay), photo)


def test_what_the_model_never_saw_is_hatched_and_the_rest_is_not(photo):
    picture = np.asarray(overlay(photo, Heatmap(np.zeros((4, 4)), "u"), view(), Style()))
    assert picture.shape == photo.shape
    assert np.array_equal(picture[:, 8:56], photo[:, 8:56])
    hatching = picture[:, :8]
    assert (hatching == 96).all(-1).any(), "no line"
    assert not (hatching == photo[:, :8]).all(-1).any(), "unseen pixels shown as if seen"


def test_a_shared_scale_makes_equal_values_equal_colours(photo):
    seen_all = view_of((64, 48), plain_spec(48, 64))
    shared, style = Scale(0.0, 4.0, "u"), Style(opacity=1.0)
    first = overlay(photo, Heatmap(np.full((2, 2), 4.0), "u"), seen_all, style, scale=shared)
    third = overlay(photo, Heatmap(np.full((2, 2), 1.0), "u"), seen_all, style, scale=shared)
    second = overlay(photo, Heatmap(np.full((2, 2), 4.0), "u"), seen_all, style)
    assert np.array_equal(np.asarray(first), np.asarray(second))
    assert not np.array_equal(np.asarray(first), np.asarray(third))


def test_signals_become_a_plot_whose_colour_follows_the_map():
    signal = np.sin(np.arange(40, dtype=np.float32))[None]
    heat = Heatmap([0.0, 0.0, 0.0, 4.0], "u")
    plot = render_explanation(explanation(heat, Question("toy", signal=signal)), Style(opacity=1.0))
    pixels = np.asarray(plot).astype(int)
    quarter = pixels.shape[1] // 4
    means = [pixels[:, i * quarter : (i + 1) * quarter].mean() for i in range(4)]
    assert means[0] == pytest.approx(means[1], rel=0.1)
    assert means[3] < means[0] - 20  # coloured; white where the map says nothing


def test_examples_are_no_map(photo):
    items = Examples((Example(photo, "a cat", 0.5),), "cosine")
    with pytest.raises(BadInput, match="set of examples"):
        render_explanation(explanation(items, Question("toy", photo), view()), Style())


def test_what_may_be_chance_can_be_hidden_and_the_scale_stays():
    signal = np.zeros((1, 40), np.float32)
    heat = Heatmap([4.0, 1.0], "u", error=[3.0, 0.1])
    answer = explanation(heat, Question("toy", signal=signal))
    plain, sure = (
        np.asarray(render_explanation(answer, Style(opacity=1.0, significant_only=s)))[:, 77:-13]
        for s in (False, True)
    )  # between the axes
    half = plain.shape[1] // 2
    top = slice(30, 100)  # above the line of the signal
    assert (plain[top, : half - 9] < 255).any(-1).all()
    assert (sure[top, : half - 9] == 255).all()
    assert np.array_equal(plain[:, half + 9 :], sure[:, half + 9 :])


def test_an_overlay_takes_no_more_memory_for_a_larger_photo():
    # But for Pillow's picture itself, 4 bytes a pixel, which is not counted here.
    def peak(height: int) -> int:
        photo = np.full((height, 1000, 3), 90, np.uint8)
        photo_view = view_of((1000, height), plain_spec(48, 48))
        tracemalloc.start()
        overlay(photo, Heatmap(np.eye(7), "u"), photo_view, Style(under="faded"))
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak_bytes

    assert peak(3600) < 1.5 * peak(1200)
