"""Photos: the right pixels from every accepted file (test_hostile_images has the others)."""

from __future__ import annotations

import io
import random
import re
import struct
import sys
import zlib
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageCms

from whylens.core.errors import BadInput
from whylens.core.inputs.arrays import to_photo
from whylens.core.inputs.photo import ImageLimits, photo_from_image, photo_of, read_photo

HEIGHT, WIDTH = 40, 56


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def patches() -> np.ndarray:
    """Return colours without symmetry, flat in the 8 x 8 blocks that JPEG works on."""
    flat = np.random.default_rng(4).integers(20, 236, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    return np.kron(flat, np.ones((8, 8, 1), np.uint8))


def picture(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(patches()).convert(mode)


def off(photo, expected) -> int:
    return int(np.abs(photo.pixels.astype(int) - np.asarray(expected).astype(int)).max())


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_primaries() -> bytes:
    """Return sRGB with the red and green primaries exchanged: its (r, g, b) is our (g, r, b)."""
    profile = srgb().replace(b"rXYZ", b"????", 1).replace(b"gXYZ", b"rXYZ", 1)
    return profile.replace(b"????", b"gXYZ", 1)


def cmyk_profile() -> bytes:
    """Return a profile whose lightness is 100 * (1 - K) * (1 - mean of C, M, Y), without colour."""
    steps = np.moveaxis(np.indices((2, 2, 2, 2)), 0, -1).reshape(-1, 4)
    light = (1 - steps[:, 3]) * (1 - steps[:, :3].mean(1))
    table = np.stack([light * 255, np.full(16, 128), np.full(16, 128)], -1).round().astype(np.uint8)
    identity, ramp = np.eye(3, dtype=">i4") * 65536, bytes(range(256))
    lut = b"mft1\0\0\0\0\4\3\2\0" + identity.astype(">i4").tobytes()
    lut += ramp * 4 + table.tobytes() + ramp * 3
    white = struct.pack(">3i", 63190, 65536, 54061)
    tags = {
        b"A2B0": lut + bytes(-len(lut) % 4),
        b"wtpt": b"XYZ \0\0\0\0" + white,
    }
    index, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        index += struct.pack(">4sII", name, 128 + 4 + 12 * len(tags) + len(body), len(value))
        body += value
    size, kinds = 128 + len(index) + len(body), (b"prtr", b"CMYK", b"Lab ")
    head = struct.pack(">I4sI4s4s4s", size, b"test", 0x2400000, *kinds)
    head += bytes(12) + b"acsp" + bytes(28) + white
    return head.ljust(128, b"\0") + index + body


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, colour, rows=None, extra=b"") -> bytes:
    """Return a PNG made by hand: of zeros unless `rows` holds its unfiltered bytes."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    if rows is None:
        packer, row = zlib.compressobj(1), bytes((width * samples * depth + 7) // 8 + 1)
        body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    else:
        body = zlib.compress(b"".join(b"\0" + row for row in rows))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("kind", "options", "levels"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 100, "subsampling": 0}, 2),
        ("JPEG", {"quality": 100, "subsampling": 0, "progressive": True}, 2),
    ],
)
def test_an_accepted_format_gives_the_pixels_that_were_saved(kind, options, levels):
    photo = read_photo(encoded(picture(), kind, **options))
    assert photo.size == (WIDTH, HEIGHT)
    assert off(photo, patches()) <= levels
    assert photo.notes == ()
    with pytest.raises(ValueError, match="read-only"):
        photo.pixels[0, 0, 0] = 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind):
    first, second = picture("P"), picture("P").rotate(180)
    frames = [f if kind == "GIF" else f.convert("RGB") for f in (first, second)]
    options = {} if kind == "GIF" else {"lossless": True}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert off(read_photo(data), first.convert("RGB")) == 0


def test_a_phone_jpeg_with_two_pictures_gives_the_first():
    data = encoded(
        picture(), "MPO", save_all=True, append_images=[picture().rotate(180)], quality=100,
        subsampling=0,
    )  # fmt: skip
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert off(read_photo(data), patches()) <= 2


def test_restarts_in_a_jpeg_and_a_film_behind_it_do_not_get_it_refused():
    film = random.Random(1).randbytes(4_000_000) + b"\xff\xda\0\2" * 400
    large = picture().resize((448, 320), Image.Resampling.NEAREST)
    data = encoded(large, "JPEG", quality=100, subsampling=0, restart_marker_blocks=1)
    assert data.count(b"\xff\xd3") > 256
    assert off(read_photo(data + film), large) <= 2


# How a camera held that way stores an upright picture, from the EXIF standard's wording.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: np.rot90,
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_gives_the_upright_picture(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"PNG": {}, "JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](patches())))
    photo = read_photo(encoded(stored, kind, exif=exif, **options[kind]))
    assert photo.size == (WIDTH, HEIGHT)
    assert off(photo, patches()) <= (2 if kind == "JPEG" else 0)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert off(read_photo(encoded(picture(), "PNG", exif=exif)), patches()) == 0


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # Pillow's, about that EXIF
def test_broken_exif_takes_nothing_from_the_picture():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\3\xff\xff\xff\xff\xff\xff\xff\xff"
    assert off(read_photo(encoded(picture(), "PNG", exif=exif)), patches()) == 0


def test_an_srgb_profile_changes_nothing():
    assert off(read_photo(encoded(picture(), "PNG", icc_profile=srgb())), patches()) == 0


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_another_profile_changes_the_colours_as_it_says(kind):
    data = encoded(picture(), kind, icc_profile=swapped_primaries(), lossless=True)
    photo = read_photo(data)
    assert off(photo, patches()[..., [1, 0, 2]]) <= 2
    assert off(photo, patches()) > 100


def test_colours_are_converted_beneath_the_transparency():
    alpha = np.full((HEIGHT, WIDTH, 1), 128, np.uint8)
    image = Image.fromarray(np.concatenate([patches(), alpha], -1))
    photo = read_photo(encoded(image, "PNG", icc_profile=swapped_primaries()))
    expected = patches()[..., [1, 0, 2]] * (128 / 255) + 255 * (127 / 255)
    assert off(photo, expected.round()) <= 2


@pytest.mark.parametrize(("mode", "profile"), [("L", swapped_primaries()), ("RGB", b"no profile")])
def test_an_unusable_profile_is_noted_and_the_colours_kept(mode, profile):
    photo = read_photo(encoded(picture(mode), "PNG", icc_profile=profile))
    assert off(photo, picture(mode).convert("RGB")) == 0
    assert photo.notes == ("Its colour profile is unusable; the colours were read as sRGB.",)


def inks(cyan, magenta, yellow, key) -> Image.Image:
    return Image.new("CMYK", (32, 32), (cyan, magenta, yellow, key))


@pytest.mark.parametrize("ink", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 90, 200, 40), (0, 0, 0, 255)])
def test_inks_without_a_profile_subtract_from_white(ink):
    photo = read_photo(encoded(inks(*ink), "JPEG", quality=100))
    expected = [(255 - c) * (255 - ink[3]) / 255 for c in ink[:3]]
    assert off(photo, np.broadcast_to(np.rint(expected), (32, 32, 3))) <= 2
    assert photo.notes == (
        "Its printing inks have no usable profile: its colours are approximate.",
    )


@pytest.mark.parametrize(
    ("values", "notes"),
    [
        (np.float32(0.5), ["Values of 0 to 1 were scaled to 8 bits."]),
        (np.float32(200), []),
        (np.int32(200), []),
        (np.int32(60_000), ["Values of 0 to 65,535 were scaled to 8 bits."]),
        (np.int32(4_095), ["Values of 0 to 65,535 were scaled to 8 bits.", "Only 12 of its 16"]),
    ],
)
def test_what_was_done_to_a_tiff_of_32_bits_is_told(values, notes):
    image = Image.fromarray(np.full((16, 16), values))
    for photo in (read_photo(encoded(image, "TIFF")), photo_from_image(image)):
        assert len(photo.notes) == len(notes)
        assert all(map(str.startswith, photo.notes, notes))


@pytest.mark.parametrize("ink", [(0, 0, 0, 0), (0, 0, 0, 128), (255, 0, 0, 0), (0, 0, 0, 255)])
def test_inks_with_a_profile_look_as_it_says(ink):
    data = encoded(inks(*ink), "JPEG", quality=100, icc_profile=cmyk_profile())
    light = 100 * (1 - ink[3] / 255) * (1 - sum(ink[:3]) / 3 / 255)
    linear = ((light + 16) / 116) ** 3 if light > 8 else light / 903.3
    grey = 255 * (1.055 * linear ** (1 / 2.4) - 0.055 if linear > 0.0031308 else 12.92 * linear)
    photo = read_photo(data)
    assert photo.notes == ("Its colours were converted to sRGB from its own profile.",)
    assert off(photo, np.full((32, 32, 3), round(grey))) <= 2


def test_a_16_bit_grey_ramp_stays_a_ramp():
    ramp = np.linspace(0, 65535, 256 * 32).round().astype(np.uint16).reshape(32, 256)
    photo = read_photo(encoded(Image.fromarray(ramp), "PNG"))
    assert off(photo, np.repeat((ramp / 257).round()[..., None], 3, -1)) == 0
    assert photo.notes == ("16-bit values were scaled to 8 bits.",)


def test_a_16_bit_grey_that_is_declared_clear_becomes_white():
    ramp = np.arange(64 * 16, dtype=np.uint16).reshape(16, 64) * 60
    photo = read_photo(encoded(Image.fromarray(ramp), "PNG", transparency=int(ramp[3, 5])))
    expected = (ramp / 257).round()
    expected[3, 5] = 255
    assert off(photo, np.repeat(expected[..., None], 3, -1)) == 0


@pytest.mark.parametrize(("colour", "samples"), [(2, 3), (6, 4), (4, 2)])
def test_16_bit_colours_and_transparency_are_scaled(colour, samples, rng):
    values = rng.integers(0, 65536, (16, 24, samples))
    photo = read_photo(png(24, 16, 16, colour, [r.astype(">u2").tobytes() for r in values]))
    colours = values[..., :3] if samples >= 3 else np.repeat(values[..., :1], 3, -1)
    alpha = values[..., -1:] / 65535 if samples in (2, 4) else 1
    assert off(photo, (colours / 257 * alpha + 255 * (1 - alpha)).round()) <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparent_parts_are_laid_on_white(mode, kind):
    alpha = np.tile(np.linspace(0, 255, WIDTH).round().astype(np.uint8), (HEIGHT, 1))
    image = picture(mode)
    image.putalpha(Image.fromarray(alpha))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    photo = read_photo(encoded(image, kind, **options))
    share = alpha[..., None] / 255
    base = np.asarray(picture(mode[:-1]).convert("RGB"))
    assert off(photo, (base * share + 255 * (1 - share)).round()) <= 1
    assert photo.notes == ("Transparent parts were laid on white.",)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_clear_palette_entry_becomes_white(kind):
    image = Image.fromarray((np.arange(32 * 32).reshape(32, 32) % 7).astype(np.uint8), "P")
    image.putpalette([v for i in range(7) for v in (30 * i, 200 - 20 * i, 7 * i)])
    photo = read_photo(encoded(image, kind, transparency=3))
    index = np.asarray(image)[..., None]
    expected = np.where(
        index == 3, 255, np.concatenate([30 * index, 200 - 20 * index, 7 * index], -1)
    )
    assert off(photo, expected) == 0


@pytest.mark.parametrize(("mode", "clear"), [("L", 7), ("RGB", (7, 7, 7)), ("1", 0)])
def test_a_colour_that_is_declared_clear_becomes_white(mode, clear, rng):
    values = rng.choice([0, 255] if mode == "1" else [7, 100], (16, 24)).astype(np.uint8)
    image = Image.fromarray(values).convert(mode)
    photo = read_photo(encoded(image, "PNG", transparency=clear))
    hidden = values == (0 if mode == "1" else 7)
    assert off(photo, np.repeat(np.where(hidden, 255, values)[..., None], 3, -1)) == 0


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_one_bit_is_black_and_white(kind, rng):
    bits = rng.random((16, 24)) < 0.5
    photo = read_photo(encoded(Image.fromarray(bits), kind))
    assert off(photo, np.repeat(bits[..., None] * 255, 3, -1)) == 0


def test_a_large_photo_is_converted_in_bands_without_a_seam(rng):
    noise = rng.integers(0, 256, (1500, 1001, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](noise)))
    assert off(read_photo(encoded(stored, "PNG", exif=exif, compress_level=0)), noise) == 0


@pytest.mark.parametrize(
    "pixels", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))]
)
def test_an_array_of_another_kind_is_refused(pixels):
    with pytest.raises(BadInput, match="must be \\(height, width, 3\\) of uint8"):
        photo_of(pixels)


def test_a_photo_of_an_array_is_a_read_only_copy():
    array = patches().copy()
    photo = photo_of(array)
    array[:] = 0
    assert off(photo, patches()) == 0
    assert not photo.pixels.flags.writeable
    assert photo != photo_of(patches())
    with pytest.raises(BadInput, match="at least 8 x 8"):
        photo_of(np.zeros((7, 9, 3), np.uint8))


@pytest.mark.parametrize(
    ("data", "limits", "message"),
    [
        (b"", {}, r"file is empty\. Choose"),
        (bytes(2001), {"bytes": 2000}, r"up to 0 MB are read\. Save it smaller"),
        (bytes(12_000_001), {}, r"has 12\.0 MB; up to 12 MB are read\. Save it smaller"),
        (png(6000, 5001, 1, 0), {}, r"6000 x 5001 pixels; up to 30 million are read\. Save it"),
        (png(12001, 8, 1, 0), {}, r"side of 12001 pixels is too long; up to 12000 are read\. Crop"),
        (png(7, 7, 8, 2), {}, r"7 x 7 pixels; at least 8 x 8 are needed .* Choose a larger one"),
        (png(7, 900, 8, 2), {}, r"7 x 900 pixels; at least 8 x 8 are needed"),
        (encoded(picture(), "WEBP"), {"memory": 9999}, r"as WEBP up to .* Save it smaller"),
        (encoded(picture(), "JPEG", progressive=True), {"memory": 9999}, r"progressive JPEG up"),
    ],
)  # fmt: skip
def test_each_limit_is_named_with_a_remedy(data, limits, message):
    with pytest.raises(BadInput, match=message):
        read_photo(data, limits=ImageLimits(**limits))


@pytest.mark.parametrize("size", [(8, 8), (8, 5000), (5000, 8), (12000, 8)])
def test_small_and_elongated_photos_are_read(size, rng):
    noise = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    assert off(read_photo(encoded(Image.fromarray(noise), "PNG")), noise) == 0


def test_the_size_is_checked_before_anything_is_decoded(monkeypatch):
    def decoded(*args):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    with pytest.raises(BadInput, match="side of 12001 pixels"):
        read_photo(png(12001, 8, 1, 0))


# --- what was done to a photo, and what is read of one that is not whole --------------------------


def slope(height=96, width=128) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x, y, (x + y) // 2], -1).astype(np.uint8))


@pytest.mark.parametrize("bits", [8, 12, 14, 15])
def test_16_bits_of_which_few_are_used_are_said_with_the_remedy(bits):
    ramp = np.linspace(0, (1 << bits) - 1, 64 * 32).astype(np.uint16).reshape(32, 64)
    for photo in (read_photo(encoded(Image.fromarray(ramp), "PNG")), to_photo(ramp)):
        is_noted = f"Only {bits} of its 16 bits are used" in " ".join(photo.notes)
        assert is_noted is (bits < 15)
        assert is_noted is (
            f"Multiply its values by {1 << (16 - bits)} to" in " ".join(photo.notes)
        )


@pytest.mark.parametrize("top", [0, 1, 16, 17, 40, 255])
def test_8_bits_of_which_few_are_used_are_said_with_the_remedy(top):
    grey = np.linspace(0, top, 64 * 32).round().astype(np.uint8).reshape(32, 64)
    colours = np.dstack([grey, grey // 2, grey])
    for values in (grey, colours, grey.astype(np.int64), grey.astype(np.int32)[..., None]):
        notes = " ".join(to_photo(values).notes)
        bits = top.bit_length()
        said = f"Only {bits} of its 8 bits are used (its largest value is {top} of 255)" in notes
        assert said is (0 < top <= 16)
        assert said is (f"Multiply its values by {1 << (8 - bits)} to" in notes)
    for image in map(Image.fromarray, (grey, colours, grey.astype(np.int32))):
        for photo in (to_photo(image), read_photo(encoded(image, "TIFF"))):
            assert " ".join(photo.notes).count("of its 8 bits") == (0 < top <= 16)


def test_indices_bits_and_shares_are_not_said_to_be_dark():
    grey = Image.fromarray(np.tile(np.arange(8, dtype=np.uint8), (16, 2)))
    palette = grey.copy()
    palette.putpalette([step for entry in range(256) for step in (entry, 0, 0)])
    shares = np.asarray(grey, np.float32) / 7
    for image in (palette, grey.point(lambda value: 255 * (value > 3), "1"), shares):
        assert "bits" not in " ".join(to_photo(image).notes)
    # Of the 16 bits of what counts to 4,095, too, it is said once.
    twelve_bits = np.tile(np.arange(0, 4096, 256, dtype=np.uint16), (16, 1))
    for values in (twelve_bits, Image.fromarray(twelve_bits.astype(np.int32))):
        assert " ".join(to_photo(values).notes).count("bits are used") == 1


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_picture_of_floats_that_are_no_numbers_is_refused(odd, rng):
    values = rng.random((40, 40), np.float32) * 200
    values[3, 5] = odd
    image = Image.fromarray(values)
    for source in (image, encoded(image, "TIFF")):
        with pytest.raises(BadInput, match="holds NaN or infinite values"):
            to_photo(source)


def test_16_bit_colours_are_said_to_be_scaled_and_dark():
    photo = read_photo(png(32, 32, 16, 2, [bytes([9, 200] * 3 * 32)] * 32))
    assert (photo.pixels == 9).all()
    assert photo.notes[0] == "16-bit values were scaled to 8 bits."
    assert "Only 12 of its 16 bits are used" in photo.notes[1]


@pytest.mark.parametrize(
    ("kind", "options"),
    [("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("AVIF", {"quality": 100})],
)
def test_tiff_and_avif_are_read(kind, options):
    picture = slope()
    photo = read_photo(encoded(picture, kind, **options))
    assert off(photo, np.asarray(picture)) <= (0 if kind == "TIFF" else 6)
    assert photo.notes == ()


def test_floats_of_a_tiff_are_read_where_they_are_shares():
    shares = np.linspace(0, 1, 64 * 32, dtype=np.float32).reshape(32, 64)
    photo = read_photo(encoded(Image.fromarray(shares), "TIFF"))
    assert off(photo, np.rint(shares * 255)[..., None].repeat(3, -1)) == 0
    with pytest.raises(BadInput, match="runs from"):
        read_photo(encoded(Image.fromarray(shares * -1000), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_pictures_in_a_file_the_first_is_shown_and_said_so(kind):
    pages = [slope().rotate(90 * i, expand=False) for i in (1, 2)]
    photo = read_photo(encoded(slope(), kind, save_all=True, append_images=pages))
    assert "Only the first of its 3 pictures is shown." in photo.notes


def test_a_colour_profile_that_changes_colours_is_said():
    assert read_photo(encoded(slope(), "PNG", icc_profile=srgb())).notes == ()
    changed_photo = read_photo(encoded(slope(), "PNG", icc_profile=swapped_primaries()))
    assert changed_photo.notes == ("Its colours were converted to sRGB from its own profile.",)


def test_a_jpeg_without_its_last_bytes_is_read_with_a_note():
    whole = encoded(slope(200, 160), "JPEG", quality=90)
    assert "cut off" in read_photo(whole[:-1]).notes[0]
    photo = read_photo(whole[:-2])
    assert photo.notes == ("The file is cut off; what is there is shown.",)
    assert off(photo, read_photo(whole).pixels) == 0
    part = read_photo(whole[: int(len(whole) * 0.92)])
    assert re.search(r"cut off.* The last 1?\d % of it are grey", part.notes[0])
    assert off(part, read_photo(whole).pixels) > 0
    assert (part.pixels[:140] == read_photo(whole).pixels[:140]).all()
    orientation = Image.Exif()
    orientation[0x0112] = 6
    rotated_bytes = encoded(slope(200, 160), "JPEG", quality=90, exif=orientation)
    assert "cut off" in read_photo(rotated_bytes[: int(len(rotated_bytes) * 0.92)]).notes[0]
    progressive = encoded(slope(200, 160), "JPEG", quality=90, progressive=True)
    assert "cut off" in read_photo(progressive[:-2]).notes[0]
    for data in (whole[: len(whole) // 2], progressive[: len(progressive) // 2]):
        with pytest.raises(BadInput, match="damaged or cut off"):
            read_photo(data)


def test_a_heic_photo_is_read_by_an_extra_or_refused_by_its_name():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(BadInput, match=r"HEIC photo, .* extra \[heic\], or save"):
            read_photo(b"\0\0\0\x18ftypheic" + bytes(200))
    heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    stream = io.BytesIO()
    heif.from_pillow(slope()).save(stream, quality=100)
    assert off(read_photo(stream.getvalue()), np.asarray(slope())) <= 8
    with pytest.raises(BadInput, match=r"damaged|not a readable"):
        read_photo(stream.getvalue()[:300])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04" + bytes(40), "but a ZIP. .* unpack it"),
        (b"%PDF-1.7\n", "but a PDF. Save"),
        (bytes(128) + b"DICM" + bytes(40), "but a DICOM file"),
        (b"\n<!DOCTYPE html><html>404</html>", "but a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"II*\0\x10\0\0\0CR\x02\0", "raw file"),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_what_a_file_is_instead_of_a_photo_is_said(data, message):
    with pytest.raises(BadInput, match=message):
        read_photo(data)
