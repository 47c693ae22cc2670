"""A visitor's ZIP is read under limits, and refused in words."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from whylens.core.datasets import zip as zipped
from whylens.core.datasets.zip import ZippedPictures, pictures_in_zip
from whylens.core.errors import BadInput
from whylens.core.inputs.photo import ImageLimits
from whylens.core.progress import run


def png(colour, size=(20, 12)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def zip_at(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def read_zip(path) -> ZippedPictures:
    return run(pictures_in_zip(path))


@pytest.fixture
def good(tmp_path):
    files = {
        "set/cat/1.png": png("red"),
        "set/dog/1.png": png("blue"),
        "set/cat/2.PNG": png("green"),
        "set/readme.txt": b"hello",
        "__MACOSX/set/cat/._1.png": b"junk",
        "set/.hidden/x.png": b"junk",
    }
    return zip_at(tmp_path / "mine.zip", files)


def test_folders_are_classes_and_pictures_come_back_exactly(good):
    dataset = read_zip(good)
    assert dataset.labels == ("cat", "dog")
    assert [(i.key, i.label, i.split) for i in dataset.items] == [
        ("set/cat/1.png", 0, "train"),
        ("set/cat/2.PNG", 0, "train"),
        ("set/dog/1.png", 1, "train"),
    ]
    assert dataset.pixels(2).shape == (12, 20, 3)
    assert (dataset.pixels(2) == (0, 0, 255)).all()


def test_the_digest_follows_the_contents(good, tmp_path):
    changed_zip = zip_at(
        tmp_path / "b.zip", {"set/cat/1.png": png("red"), "set/dog/1.png": png("black")}
    )
    assert read_zip(good).digest == read_zip(good).digest != read_zip(changed_zip).digest


def test_large_pictures_are_kept_small(tmp_path):
    path = zip_at(tmp_path / "x.zip", {"a/1.png": png("red", (900, 450)), "b/1.png": png("blue")})
    assert read_zip(path).pixels(0).shape == (160, 320, 3)


def test_progress_rises_to_the_end(good):
    shares = list(pictures_in_zip(good))
    assert shares == [0, 1 / 3, 2 / 3]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"cat/1.png": png("red")}, "one class only, 'cat'"),
        ({"1.png": png("red"), "dog/1.png": png("red")}, "1 file in no class's folder .* 1.png"),
        ({"cat/readme.txt": b"x"}, "no class with pictures.* 'cat' holds no pictures"),
        ({"cat/1.png": b"no picture", "dog/1.png": png("red")}, "of cat can be read. cat/1.png: "),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path, files, message):
    with pytest.raises(BadInput, match=message):
        read_zip(zip_at(tmp_path / "x.zip", files))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + b"\0" * 40, b"\x89PNG\r\n"])
def test_what_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(BadInput, match="no ZIP that can be read"):
        read_zip(tmp_path / "x.zip")


def test_a_bomb_is_stopped_by_its_real_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(zipped, "MOST_EACH", 50_000)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", png("red"))
        archive.writestr("b/1.png", b"\0" * 1_000_000)
    assert path.stat().st_size < 5_000
    with pytest.raises(BadInput, match="is larger than"):
        read_zip(path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_what_is_unpacked_whole_whatever_is_asked_is_not_read(tmp_path, kind):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("a/1.png", bytes(1_000_000))
        archive.writestr("b/1.png", png("red"))
    with pytest.raises(BadInput, match="packed in a way that is not read"):
        read_zip(path)


def test_a_picture_of_more_pixels_than_a_camera_s_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(zipped, "LIMITS", ImageLimits(pixels=300))
    files = {"a/1.png": png("red"), "a/2.png": png("red", (30, 12)), "b/1.png": png("blue")}
    assert [item.key for item in read_zip(zip_at(tmp_path / "x.zip", files)).items] == [
        "a/1.png",
        "b/1.png",
    ]


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MOST_FILES", 2, "more than 2 pictures"),
        ("MOST_BYTES", 100, "more than 0 MB of pictures"),
        ("MOST_PIXELS", 500, "too large together"),
        ("MOST_KEPT_BYTES", 1500, "too large together"),
        ("MOST_CLASSES", 1, "holds 2 classes; 1 are allowed"),
    ],
)
def test_limits_hold(good, monkeypatch, limit, value, message):
    monkeypatch.setattr(zipped, limit, value)
    with pytest.raises(BadInput, match=message):
        read_zip(good)


def test_names_choose_no_path(tmp_path):
    files = {
        "../../evil/1.png": png("red"),
        "/abs/1.png": png("blue"),
        "c:\\other\\1.png": png("blue"),
    }
    dataset = read_zip(zip_at(tmp_path / "x.zip", files))
    assert dataset.labels == ("abs", "other")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.zip"]


def test_encrypted_archives_are_refused(good):
    data = bytearray(good.read_bytes())
    # The flag of encryption, in the local and in the central header.
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        place = data.find(mark)
        while place >= 0:
            data[place + (6 if mark[2] == 3 else 8)] |= 1
            place = data.find(mark, place + 4)
    good.write_bytes(bytes(data))
    with pytest.raises(BadInput, match="encrypted"):
        read_zip(good)


@pytest.mark.parametrize(
    "values", [(0x2F, 0xFF), pytest.param((0x00, 0x90), marks=pytest.mark.slow)]
)
def test_a_damaged_directory_is_refused_in_words_or_its_pictures_are_left_out(good, values):
    data = good.read_bytes()
    start = data.index(b"PK\x01\x02")
    read_anyway = 0
    for place in range(start, len(data)):
        for value in values:
            good.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
            try:
                read_anyway += len(read_zip(good).items) > 0
            except BadInput:
                continue
    assert read_anyway  # what does not matter does not count


def test_pictures_can_be_turned_into_arrays_by_anyone(good):
    assert isinstance(np.asarray(read_zip(good).pixels(0)), np.ndarray)
