"""Views: the pixels that timm and torchvision would feed, and maps back on the right pixels."""

from __future__ import annotations

import io
import json
import pickle

import numpy as np
import pytest
import torchvision.transforms as tv
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import InterpolationMode

from core.images import photo_of, read_photo
from core.models.spec import InputSpec
from core.view import View, model_view, on_original, view_of

SMOOTH = ("bilinear", "bicubic", "lanczos", "hamming")
SIZES = [(333, 500), (500, 333), (97, 1001), (1001, 97), (224, 224), (50, 31), (257, 256), (641, 480)]


def spec_of(*size, crop=1.0, crop_mode="center", interpolation="bilinear") -> InputSpec:
    return InputSpec(size=size, crop=crop, crop_mode=crop_mode, interpolation=interpolation)


def seen_by_timm(image: Image.Image, spec: InputSpec) -> np.ndarray:
    transform = create_transform(
        spec.size, interpolation=spec.interpolation, crop_pct=spec.crop, crop_mode=spec.crop_mode,
        mean=spec.mean, normalize=False,
    )  # fmt: skip
    return transform(image).permute(1, 2, 0).numpy()


def noise(size, rng) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def levels(ours, theirs) -> int:
    return int(np.abs(ours.astype(int) - np.asarray(theirs).astype(int)).max())


# The same pixels as timm and torchvision ---------------------------------------------------------


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("model", [(224, 224), (227, 227), (160, 224), (225, 96)], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_network_sees_what_timm_would_show_it(size, model, crop_mode, rng):
    image = noise(size, rng)
    for crop in (0.875, 1.0, 0.95, 0.9, 0.965):
        for interpolation in (*SMOOTH, "nearest", "box"):
            spec = spec_of(*model, crop=crop, crop_mode=crop_mode, interpolation=interpolation)
            ours = model_view(image, view_of(size, spec), spec)
            assert levels(ours, seen_by_timm(image, spec)) <= 1, (crop, interpolation)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("short", "crop"), [(256, 224), (232, 224), (342, 299), (384, 384)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_network_sees_what_torchvision_would_show_it(size, short, crop, interpolation, rng):
    image = noise(size, rng)
    theirs = tv.CenterCrop(crop)(tv.Resize(short, InterpolationMode(interpolation))(image))
    spec = spec_of(crop, crop, crop=crop / short, interpolation=interpolation)
    assert levels(model_view(image, view_of(size, spec), spec), theirs) <= 1


@pytest.mark.parametrize("interpolation", SMOOTH)
@pytest.mark.parametrize("size", [(8, 5000), (5000, 8), (9, 3000), (400, 7000), (5001, 300)], ids=str)
def test_an_elongated_photo_is_seen_as_timm_would_show_it(size, interpolation, rng):
    image = noise(size, rng)
    for model, crop in (((224, 224), 0.875), ((256, 192), 0.95)):
        spec = spec_of(*model, crop=crop, interpolation=interpolation)
        view = view_of(size, spec)
        ours = model_view(image, view, spec)
        assert levels(ours, seen_by_timm(image, spec)) <= 1, (crop, view.resized)


def test_an_elongated_photo_is_never_resized_whole(monkeypatch, rng):
    image, spec = noise((8, 12000), rng), spec_of(448, 448, crop=0.875, interpolation="bicubic")
    view = view_of(image.size, spec)
    assert np.prod(view.resized) > 300e6
    made = []
    resize = Image.Image.resize

    def watched(self, size, *args, **kwargs):
        made.append(self.width * self.height + size[0] * size[1])
        return resize(self, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watched)
    assert model_view(image, view, spec).shape == (448, 448, 3)
    values, _ = on_original(np.ones((448, 448), np.float32), view)
    assert values.shape == (12000, 8)
    assert max(made) < 2e6


@pytest.mark.parametrize(("crop_mode", "colour"), [("border", (128, 51, 204)), ("center", (0, 0, 0))])
def test_padding_has_the_colour_of_the_library_whose_transform_it_is(crop_mode, colour):
    # Crops above 1 shrink the photo below the input, as timm's volo_d5 asks.
    means = {"size": (60, 60), "mean": (0.5, 0.2, 0.8), "std": (1.0,) * 3, "channels": 3}
    spec = InputSpec.model_construct(
        **means, crop=1.15, crop_mode=crop_mode, interpolation="bicubic"
    )
    image = Image.new("RGB", (200, 200), (9, 8, 7))
    ours = model_view(image, view_of(image.size, spec), spec)
    assert levels(ours, seen_by_timm(image, spec)) == 0
    assert tuple(ours[0, 0]) == colour
    assert tuple(ours[30, 30]) == (9, 8, 7)


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


def luminance(image: Image.Image, view: View, spec: InputSpec) -> np.ndarray:
    return model_view(image, view, spec).astype(np.float32).mean(-1)


def dot(size, x, y, colour=(255, 255, 255)) -> np.ndarray:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[y, x] = colour
    return pixels


def spots(view: View, rng, count=12) -> list[tuple[int, int]]:
    """Return seeded pixels of the photo that the network sees whole, the corners among them."""
    x0, y0, x1, y1 = view.seen
    left, right = int(np.ceil(x0)), int(np.floor(x1)) - 1
    top, bottom = int(np.ceil(y0)), int(np.floor(y1)) - 1
    inner = [(int(rng.integers(left, right + 1)), int(rng.integers(top, bottom + 1)))
             for _ in range(count)]  # fmt: skip
    return [(left, top), (right, top), (left, bottom), (right, bottom), *inner]


def peak(values: np.ndarray) -> tuple[float, float]:
    """Return x and y of the middle of the highest values."""
    y, x = np.nonzero(values >= values.max() * (1 - 1e-6))
    return float(x.mean()), float(y.mean())


@pytest.mark.parametrize(("size", "spec"), PLACES, ids=IDS)
def test_a_bright_pixel_is_found_again_at_full_resolution(size, spec, rng):
    view = view_of(size, spec)
    for x, y in spots(view, rng):
        seen = luminance(Image.fromarray(dot(size, x, y)), view, spec)
        if seen.max() < 8:
            continue  # shrunk so far that 8 bits do not hold it
        there = peak(on_original(seen, view)[0])
        # Where the photo was shrunk, one input pixel is several of its own.
        assert abs(there[0] - x) <= max(1.0, 0.5 / view.scale_x + 0.5), (x, y, there)
        assert abs(there[1] - y) <= max(1.0, 0.5 / view.scale_y + 0.5), (x, y, there)


@pytest.mark.parametrize("cells", [7, 14])
@pytest.mark.parametrize(("size", "spec"), PLACES, ids=IDS)
def test_a_bright_pixel_is_found_again_in_a_coarse_grid(size, spec, cells, rng):
    view = view_of(size, spec)
    tall, wide = spec.size
    if tall % cells or wide % cells:
        pytest.skip("the grid does not divide this input")
    for x, y in spots(view, rng):
        seen = luminance(Image.fromarray(dot(size, x, y)), view, spec)
        grid = seen.reshape(cells, tall // cells, cells, wide // cells).mean((1, 3))
        across, down = peak(on_original(grid, view)[0])
        assert abs(across - x) <= wide / cells / 2 / view.scale_x + 0.5, (x, y, across)
        assert abs(down - y) <= tall / cells / 2 / view.scale_y + 0.5, (x, y, down)
