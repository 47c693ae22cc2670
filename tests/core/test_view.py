"""Views: the pixels that timm and torchvision would feed, and maps back on the right pixels."""

from __future__ import annotations

import io
import json
import pickle
from itertools import product

import numpy as np
import pytest
import torchvision.transforms as tv
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import InterpolationMode

import whylens.core.inputs.view
from tests.support.quick import some_quick
from whylens.core.inputs.photo import photo_of, read_photo
from whylens.core.inputs.spec import InputSpec
from whylens.core.inputs.view import View, model_view, on_original, view_of

SMOOTH = ("bilinear", "bicubic", "lanczos", "hamming")
SIZES = [
    (333, 500),
    (500, 333),
    (97, 1001),
    (1001, 97),
    (224, 224),
    (50, 31),
    (257, 256),
    (641, 480),
]


def spec_of(*size, crop=1.0, crop_mode="center", interpolation="bilinear") -> InputSpec:
    return InputSpec(size=size, crop=crop, crop_mode=crop_mode, interpolation=interpolation)


def seen_by_timm(image: Image.Image, input_spec: InputSpec) -> np.ndarray:
    transform = create_transform(
        input_spec.size,
        interpolation=input_spec.interpolation,
        crop_pct=input_spec.crop,
        crop_mode=input_spec.crop_mode,
        mean=input_spec.mean,
        normalize=False,
    )
    return transform(image).permute(1, 2, 0).numpy()


def noise(size, rng) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def levels(view, reference) -> int:
    return int(np.abs(view.astype(int) - np.asarray(reference).astype(int)).max())


# The same pixels as timm and torchvision ---------------------------------------------------------


MODELS = [(224, 224), (227, 227), (160, 224), (225, 96)]


@pytest.mark.parametrize(
    ("size", "model", "crop_mode"),
    # In turn every size of a photo with one of a network.
    some_quick(
        product(SIZES, MODELS, ["center", "squash", "border"]),
        lambda _, case: SIZES.index(case[0]) % 4 == MODELS.index(case[1]),
    ),
    ids=str,
)
def test_the_network_sees_what_timm_would_show_it(size, model, crop_mode, rng):
    image = noise(size, rng)
    for crop in (0.875, 1.0, 0.95):
        for interpolation in (*SMOOTH, "nearest", "box") if crop == 0.875 else SMOOTH[:2]:
            input_spec = spec_of(
                *model, crop=crop, crop_mode=crop_mode, interpolation=interpolation
            )
            actual = model_view(image, view_of(size, input_spec), input_spec)
            assert levels(actual, seen_by_timm(image, input_spec)) <= 1, (crop, interpolation)


CROPS = [(256, 224), (232, 224), (342, 299), (384, 384)]


@pytest.mark.parametrize(
    ("size", "cut", "interpolation"),
    some_quick(
        product(SIZES, CROPS, ["bilinear", "bicubic"]),
        lambda _, case: SIZES.index(case[0]) % 4 == CROPS.index(case[1]),
    ),
    ids=str,
)
def test_the_network_sees_what_torchvision_would_show_it(size, cut, interpolation, rng):
    short, crop = cut
    image = noise(size, rng)
    reference = tv.CenterCrop(crop)(tv.Resize(short, InterpolationMode(interpolation))(image))
    input_spec = spec_of(crop, crop, crop=crop / short, interpolation=interpolation)
    assert levels(model_view(image, view_of(size, input_spec), input_spec), reference) <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(8, 700), (800, 9)], ids=str)
def test_an_elongated_photo_is_seen_as_timm_would_show_it(size, interpolation, rng):
    image, input_spec = noise(size, rng), spec_of(224, 224, crop=0.875, interpolation=interpolation)
    view = view_of(size, input_spec)
    assert np.prod(view.whole_size) > whylens.core.inputs.view._WHOLE
    assert levels(model_view(image, view, input_spec), seen_by_timm(image, input_spec)) <= 1


@pytest.mark.parametrize("interpolation", SMOOTH)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_resizing_a_strip_gives_what_resizing_the_whole_gives(
    size, interpolation, rng, monkeypatch
):
    monkeypatch.setattr(whylens.core.inputs.view, "_WHOLE", 0)
    image = noise(size, rng)
    for model, crop in (((224, 224), 0.875), ((96, 160), 0.95)):
        for crop_mode in ("center", "squash", "border"):
            input_spec = spec_of(
                *model, crop=crop, crop_mode=crop_mode, interpolation=interpolation
            )
            actual = model_view(image, view_of(size, input_spec), input_spec)
            assert levels(actual, seen_by_timm(image, input_spec)) <= 1, (model, crop_mode)


def test_an_elongated_photo_is_never_resized_whole(monkeypatch, rng):
    image, input_spec = (
        noise((8, 12000), rng),
        spec_of(448, 448, crop=0.875, interpolation="bicubic"),
    )
    view = view_of(image.size, input_spec)
    assert np.prod(view.whole_size) > 300e6
    pixel_counts = []
    resize = Image.Image.resize

    def counting_resize(self, size, *args, **kwargs):
        pixel_counts.append(self.width * self.height + size[0] * size[1])
        return resize(self, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", counting_resize)
    assert model_view(image, view, input_spec).shape == (448, 448, 3)
    values, _ = on_original(np.ones((448, 448), np.float32), view)
    assert values.shape == (12000, 8)
    assert max(pixel_counts) < 2e6


@pytest.mark.parametrize(
    ("crop_mode", "colour"), [("border", (128, 51, 204)), ("center", (0, 0, 0))]
)
def test_padding_has_the_colour_of_the_library_whose_transform_it_is(crop_mode, colour):
    # Crops above 1 shrink the photo below the input, as timm's volo_d5 asks.
    means = {"size": (60, 60), "mean": (0.5, 0.2, 0.8), "std": (1.0,) * 3, "channels": 3}
    input_spec = InputSpec.model_construct(
        **means, crop=1.15, crop_mode=crop_mode, interpolation="bicubic"
    )
    image = Image.new("RGB", (200, 200), (9, 8, 7))
    actual = model_view(image, view_of(image.size, input_spec), input_spec)
    assert levels(actual, seen_by_timm(image, input_spec)) == 0
    assert tuple(actual[0, 0]) == colour
    assert tuple(actual[30, 30]) == (9, 8, 7)


# Maps back on the photo --------------------------------------------------------------------------

PLACES = [
    ((333, 500), spec_of(224, 224, crop=0.875)),
    ((500, 333), spec_of(224, 224, crop=0.875, interpolation="bicubic")),
    ((301, 257), spec_of(225, 160)),
    ((301, 257), spec_of(160, 225, crop=0.95)),
    ((50, 31), spec_of(224, 224, crop=0.9)),
    ((333, 500), spec_of(224, 224, crop=0.875, crop_mode="squash")),
    ((333, 501), spec_of(224, 224, crop_mode="border")),
    ((60, 41), spec_of(224, 192, crop_mode="border", interpolation="bicubic")),
    ((8, 5000), spec_of(224, 224, crop=0.875)),
    ((2000, 9), spec_of(224, 224, crop_mode="border")),
    ((5000, 8), spec_of(224, 224, crop_mode="squash")),
]
IDS = [f"{w}x{h} {s.crop_mode} {s.size}" for (w, h), s in PLACES]


def dot(size, x, y) -> Image.Image:
    image = Image.new("RGB", size)
    image.putpixel((x, y), (255, 255, 255))
    return image


def luminance(image: Image.Image, view: View, input_spec: InputSpec) -> np.ndarray:
    """Return (H, W) what the network sees of a photo, without what it sees of a black one."""
    pair = (image, Image.new("RGB", image.size))
    bright, dark = (model_view(i, view, input_spec).astype(np.float32).mean(-1) for i in pair)
    return bright - dark


def spots(view: View, rng, count=4) -> list[tuple[int, int]]:
    """Return seeded pixels of the photo that the network sees whole, the corners among them."""
    x0, y0, x1, y1 = view.visible_box
    left, right = int(np.ceil(x0)), int(np.floor(x1)) - 1
    top, bottom = int(np.ceil(y0)), int(np.floor(y1)) - 1
    inner = [(int(rng.integers(left, right + 1)), int(rng.integers(top, bottom + 1)))
             for _ in range(count)]  # fmt: skip
    return [(left, top), (right, top), (left, bottom), (right, bottom), *inner]


def distance_to_peak(values: np.ndarray, x: int, y: int) -> tuple[float, float]:
    """Return how far x and y are from the highest values; at the rims these form a plateau."""
    ys, xs = np.nonzero(values >= values.max() * (1 - 1e-6))
    return float(np.abs(xs - x).min()), float(np.abs(ys - y).min())


@pytest.mark.parametrize(("size", "input_spec"), PLACES, ids=IDS)
def test_a_bright_pixel_is_found_again_at_full_resolution(size, input_spec, rng):
    view = view_of(size, input_spec)
    for x, y in spots(view, rng):
        light = luminance(dot(size, x, y), view, input_spec)
        if light.max() < 8:
            continue  # shrunk so far that 8 bits do not hold it
        across, down = distance_to_peak(on_original(light, view)[0], x, y)
        # Where the photo was shrunk, one input pixel is several of its own.
        assert across <= max(1.0, 0.5 / view.scale_x + 0.5), (x, y, across)
        assert down <= max(1.0, 0.5 / view.scale_y + 0.5), (x, y, down)


@pytest.mark.parametrize(("size", "input_spec"), PLACES, ids=IDS)
def test_a_bright_pixel_is_found_again_in_a_coarse_grid(size, input_spec, rng):
    view = view_of(size, input_spec)
    tall, wide = input_spec.size
    for cells, (x, y) in product((7, 14), spots(view, rng)):
        light = luminance(dot(size, x, y), view, input_spec)
        grid = Image.fromarray(light).resize((cells, cells), Image.Resampling.BOX)
        across, down = distance_to_peak(on_original(np.asarray(grid), view)[0], x, y)
        # Half a cell, and a pixel for a dot that lies on the line between two.
        assert across <= wide / cells / 2 / view.scale_x + 1, (x, y, across)
        assert down <= tall / cells / 2 / view.scale_y + 1, (x, y, down)


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_bright_pixel_of_a_turned_photo_is_found_where_the_visitor_sees_it(kind, orientation):
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90,
            8: Image.Transpose.ROTATE_270}[orientation]  # fmt: skip
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    dot((333, 251), 210, 97).transpose(turn).save(buffer, kind, exif=exif, quality=95)
    photo, input_spec = read_photo(buffer.getvalue()), spec_of(224, 224, crop=0.875)
    view = view_of(photo.size, input_spec)
    light = luminance(photo.image(), view, input_spec)
    assert photo.size == (333, 251)
    assert max(distance_to_peak(on_original(light, view)[0], 210, 97)) <= 1
    grid = light.reshape(7, 32, 7, 32).mean((1, 3))
    across, down = distance_to_peak(on_original(grid, view)[0], 210, 97)
    assert max(across * view.scale_x, down * view.scale_y) <= 16 + 1


@pytest.mark.parametrize(("size", "input_spec"), PLACES, ids=IDS)
def test_a_ramp_comes_back_as_the_same_ramp(size, input_spec):
    view = view_of(size, input_spec)
    for cells in ((224, 224), (14, 14), (7, 9)):
        _check_ramp(size, input_spec, view, cells)


def _check_ramp(size, input_spec, view, cells):
    # The value of a cell is the place of its middle in the photo; so each pixel must get its own.
    across = (np.arange(cells[1]) + 0.5) * input_spec.size[1] / cells[1]
    down = (np.arange(cells[0]) + 0.5) * input_spec.size[0] / cells[0]
    xs = np.array([view.to_original(a, 0)[0] for a in across], np.float32)
    ys = np.array([view.to_original(0, d)[1] for d in down], np.float32)
    for ramp, length, axis, first, last in (
        (np.broadcast_to(xs, cells), size[0], 1, xs[0], xs[-1]),
        (np.broadcast_to(ys[:, None], cells), size[1], 0, ys[0], ys[-1]),
    ):
        values, visible = on_original(ramp, view)
        centres = np.arange(length) + 0.5
        # Beyond the middles of the outermost cells a ramp has nothing to lie between; a filter
        # that widens for a coarser photo reads one photo pixel further.
        inner = (centres - 1 >= first) & (centres + 1 <= last)
        # Where a photo pixel covers several cells, the filter weighs whole cells.
        several = cells[axis] / input_spec.size[axis] * (view.scale_y, view.scale_x)[axis] > 1
        expected = np.broadcast_to(centres if axis else centres[:, None], values.shape)
        keep = visible & np.broadcast_to(inner if axis else inner[:, None], values.shape)
        assert keep.any() or last - first < 4
        error = np.abs(values - expected)[keep]
        assert error.max(initial=0) <= (0.1 if several else 1e-3 + 2e-6 * length)


@pytest.mark.parametrize(("size", "input_spec"), PLACES, ids=IDS)
def test_a_constant_map_comes_back_constant_where_it_was_seen(size, input_spec):
    view = view_of(size, input_spec)
    for cells in ((1, 1), (7, 7), (224, 224), (3, 500)):
        values, visible = on_original(np.full(cells, -2.5, np.float32), view)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values[visible], -2.5, rtol=1e-6)
        assert (values[~visible] == 0).all()


@pytest.mark.parametrize(("size", "input_spec"), PLACES, ids=IDS)
def test_seen_is_exactly_what_the_crop_keeps(size, input_spec):
    view = view_of(size, input_spec)
    _, visible = on_original(np.ones((7, 7), np.float32), view)
    # Counted from timm's own integers: the resized size and the cut in whole input pixels.
    for axis, (length, resized_length, kept_length) in enumerate(
        zip(size, view.whole_size, reversed(input_spec.size), strict=True)
    ):
        cut = max(0, round((resized_length - kept_length) / 2))
        places = (np.arange(length) + 0.5) * resized_length / length - cut
        expected = (places >= 0) & (places < min(kept_length, resized_length))
        np.testing.assert_array_equal(visible.any(axis), expected)
    assert visible.sum() == visible.any(0).sum() * visible.any(1).sum()
    if input_spec.crop_mode == "border":
        assert visible.all()


def test_what_is_cut_off_does_not_change_what_is_seen(rng):
    # The mask is right if pixels beyond it, and the filter's reach, are without influence.
    size, input_spec = (401, 300), spec_of(224, 224, crop=0.875)
    view, pixels = view_of(size, input_spec), np.asarray(noise(size, rng))
    _, visible = on_original(np.ones((7, 7), np.float32), view)
    margin = np.zeros_like(visible)
    ys, xs = np.nonzero(visible)
    margin[ys.min() - 2 : ys.max() + 3, xs.min() - 2 : xs.max() + 3] = True
    changed_outside = np.where(margin[..., None], pixels, 255 - pixels)
    expected, actual = (
        model_view(Image.fromarray(p), view, input_spec) for p in (pixels, changed_outside)
    )
    np.testing.assert_array_equal(expected, actual)
    image = np.where(visible[..., None], 255 - pixels, pixels)
    assert (model_view(Image.fromarray(image), view, input_spec) != expected).any(-1).mean() > 0.95


def test_a_map_of_a_large_photo_is_written_in_bands_without_a_seam(rng):
    view = view_of((3000, 2000), spec_of(224, 224))
    values = rng.random((14, 14)).astype(np.float32)
    whole, visible = on_original(values, view)
    strips = np.abs(np.diff(whole, axis=0))[visible[1:] & visible[:-1]].max()
    # A cell covers 143 photo pixels, so neighbours differ by at most 1/143 of the range.
    assert strips <= 1 / 142


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_there_and_back_is_the_same_place(size, crop_mode):
    view = view_of(size, spec_of(224, 160, crop=0.9, crop_mode=crop_mode))
    for x, y in ((0, 0), (size[0], size[1]), (0.5, 0.5), (size[0] / 3, size[1] / 7)):
        assert view.to_original(*view.to_model(x, y)) == pytest.approx((x, y), abs=1e-9)


def test_a_view_survives_pickling_and_becomes_plain_json():
    view = view_of((333, 501), spec_of(224, 160, crop=0.9))
    assert pickle.loads(pickle.dumps(view)) == view
    plain = json.loads(json.dumps(view.as_dict()))
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
    assert View(**plain) == view


def test_a_view_between_two_pixels_shows_nothing_rather_than_failing():
    view = View(original=(8, 8), model=(4, 4), scale_x=40.0, scale_y=40.0, left=22.0, top=22.0)
    values, visible = on_original(np.ones((4, 4), np.float32), view)
    assert not visible.any()
    assert not values.any()


def test_a_square_photo_of_the_right_size_is_seen_as_it_is(rng):
    image, input_spec = noise((224, 224), rng), spec_of(224, 224)
    view = view_of(photo_of(np.asarray(image)).size, input_spec)
    assert levels(model_view(image, view, input_spec), image) == 0
    assert view == View((224, 224), (224, 224), 1.0, 1.0, 0.0, 0.0)
    values = rng.random((224, 224)).astype(np.float32)
    np.testing.assert_array_equal(on_original(values, view)[0], values)


@pytest.mark.parametrize("size", [(200, 200), (300, 200), (90, 250)])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_a_fine_photo_has_no_more_detail_than_the_network_learnt_from(size, crop_mode, rng):
    image = noise(size, rng)
    input_spec = spec_of(64, 64).model_copy(update={"crop": 1.0, "crop_mode": crop_mode})
    view = view_of(image.size, input_spec)
    sharp = np.asarray(model_view(image, view, input_spec), np.float64)
    blurred_view = model_view(image, view, input_spec.model_copy(update={"detail": 32}))
    if crop_mode != "border":  # whose padding stays as it is
        half_size = sharp.reshape(32, 2, 32, 2, 3).mean((1, 3)).round().astype(np.uint8)
        expected = Image.fromarray(half_size).resize((64, 64), Image.Resampling.BILINEAR)
        assert levels(blurred_view, expected) <= 1
    middle = np.s_[24:40, 24:40]  # inside of any padding
    assert sharp[middle].std() > 1.3 * blurred_view[middle].std()


def test_a_photo_with_as_little_detail_is_left_alone(rng):
    input_spec = spec_of(64, 64).model_copy(update={"crop": 1.0})
    for size in ((32, 32), (32, 50), (20, 32)):
        image = noise(size, rng)
        view = view_of(image.size, input_spec)
        plain = model_view(image, view, input_spec)
        assert (
            model_view(image, view, input_spec.model_copy(update={"detail": 32})) == plain
        ).all()


def test_less_detail_moves_nothing():
    pixels = np.zeros((150, 220, 3), np.uint8)
    pixels[40:60, 130:150] = 255
    input_spec = spec_of(64, 64).model_copy(update={"crop": 1.0, "detail": 24})
    image = Image.fromarray(pixels)
    view = view_of(image.size, input_spec)
    light = np.asarray(model_view(image, view, input_spec), np.float64)[..., 0]
    rows, columns = np.indices(light.shape) + 0.5
    x, y = view.to_original(*((light * at).sum() / light.sum() for at in (columns, rows)))
    assert (x, y) == pytest.approx((140, 50), abs=0.5)
