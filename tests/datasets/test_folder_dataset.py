"""Folders, archives and names become sets of pictures, or one clear sentence."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import colour_folder, noisy
from whylens.core.datasets.by_name import load_dataset
from whylens.core.datasets.folder import ImageFolder
from whylens.core.datasets.npz import ImageArchive
from whylens.core.errors import BadInput


def test_classes_are_the_subfolders_and_pixels_those_of_the_files(tmp_path):
    root = colour_folder(tmp_path / "fruit", {"apple": 20, "plum": 20})
    (root / ".git").mkdir()
    (root / "apple" / ".DS_Store").write_bytes(b"x")
    dataset = ImageFolder(root)
    assert dataset.name == "fruit"
    assert dataset.labels == ("apple", "plum")
    assert [len(dataset.of(s)) for s in ("train", "val", "test")] == [28, 6, 6]
    for index, item in enumerate(dataset.items):
        name, file = item.key.split("/")
        assert dataset.labels[item.label] == name
        seed = 1000 * item.label + int(file[:3])
        assert (dataset.pixels(index) == noisy(seed, item.label)).all()
    assert dataset.unreadable == ()
    assert dataset.notes == ()


def test_the_same_files_give_the_same_digest_and_another_file_another(tmp_path):
    root = colour_folder(tmp_path / "a", {"x": 6, "y": 6})
    before = ImageFolder(root).digest
    shutil.copytree(root, tmp_path / "b")
    assert ImageFolder(tmp_path / "b").digest == before
    Image.fromarray(noisy(77, 0)).save(root / "x" / "000.png")
    assert ImageFolder(root).digest != before


def test_own_splits_are_honoured_and_leaks_between_them_named(tmp_path):
    colour_folder(tmp_path / "d" / "train", {"x": 6, "y": 6})
    colour_folder(tmp_path / "d" / "val", {"x": 4, "y": 4}, first=500)
    shutil.copy(tmp_path / "d/train/x/000.png", tmp_path / "d/val/x/again.png")
    dataset = ImageFolder(tmp_path / "d")
    assert all(item.key.startswith(item.split) for item in dataset.items)
    assert [len(dataset.of(s)) for s in ("train", "val", "test")] == [12, 9, 0]
    assert any("1 of these groups lies in more than one" in note for note in dataset.notes)


def test_a_leaky_copy_is_never_in_two_splits(tmp_path):
    root = colour_folder(tmp_path / "d", {"x": 20, "y": 20})
    for i in range(10):
        image = Image.open(root / "x" / f"{i:03d}.png").resize((48, 48), Image.Resampling.BOX)
        image.save(root / "x" / f"copy-of-{i}.jpg", quality=90)
    for seed in range(8):
        dataset = ImageFolder(root, seed=seed, val=0.3, test=0.3)
        split = {item.key: item.split for item in dataset.items}
        for i in range(10):
            assert split[f"x/{i:03d}.png"] == split[f"x/copy-of-{i}.jpg"]
    assert any("20 pictures are copies" in note for note in dataset.notes)


def test_unreadable_files_are_counted_and_named(tmp_path):
    root = colour_folder(tmp_path / "d", {"x": 20, "y": 20})
    whole = (root / "x" / "000.png").read_bytes()
    (root / "x" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "y" / "notes.txt").write_text("not a picture")
    dataset = ImageFolder(root)
    assert [key for key, _ in dataset.unreadable] == ["x/cut.png", "y/notes.txt"]
    assert "damaged" in dataset.unreadable[0][1]
    assert len(dataset.items) == 40
    assert dataset.notes[0].startswith(
        "2 of 42 files were left out, which could not be read. x/cut"
    )
    assert "y/notes.txt: This is not a readable" in dataset.notes[0]


def test_few_pictures_and_uneven_classes_are_noted(tmp_path):
    dataset = ImageFolder(colour_folder(tmp_path / "d", {"x": 5, "y": 45}))
    assert any("Fewer than 20 pictures in x (5)" in note for note in dataset.notes)
    assert any("uneven: 45 of y, 5 of x" in note for note in dataset.notes)


def test_the_same_picture_under_two_labels_is_noted(tmp_path):
    root = colour_folder(tmp_path / "d", {"x": 20, "y": 20})
    shutil.copy(root / "x" / "000.png", root / "y" / "other.png")
    notes = ImageFolder(root).notes
    assert any("1 of these groups carries different labels" in note for note in notes)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"x": 9}, "one class only, 'x'"),
        ({}, "holds no pictures in subfolders"),
        ({"x": 9, "y": 3}, "'y' in .* has 3 pictures; at least 4"),
        ({"x": 9, "y": 1}, "has 1 picture;"),
    ],
)
def test_too_little_is_refused_in_one_sentence(tmp_path, counts, message):
    (tmp_path / "d").mkdir()
    with pytest.raises(BadInput, match=message):
        ImageFolder(colour_folder(tmp_path / "d", counts))


def test_a_folder_that_is_not_there_and_one_without_readable_pictures_are_refused(tmp_path):
    with pytest.raises(BadInput, match="There is no folder"):
        ImageFolder(tmp_path / "nowhere")
    for name in ("x", "y"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"No picture in .* can be read\. The first: x/a.jpg"):
        ImageFolder(tmp_path / "d")


def archive(path, *, count=40, **changes):
    pictures = []
    for i in range(count):
        stream = io.BytesIO()
        Image.fromarray(noisy(i, i % 2)).save(stream, "JPEG", quality=95)
        pictures.append(stream.getvalue())
    parts = {
        "jpeg": np.frombuffer(b"".join(pictures), np.uint8),
        "offset": np.cumsum([0, *map(len, pictures)]),
        "label": np.arange(count, dtype=np.uint8) % 2,
        "classes": np.array(["even", "odd"]),
        "is_test": np.arange(count) >= count - 10,
        **changes,
    }
    np.savez(path, **{name: part for name, part in parts.items() if part is not None})
    return path


def test_an_archive_keeps_its_test_and_gives_validation_from_the_rest(tmp_path):
    dataset = ImageArchive(archive(tmp_path / "toy.npz"), val=0.2)
    assert dataset.labels == ("even", "odd")
    assert [len(dataset.of(s)) for s in ("train", "val", "test")] == [24, 6, 10]
    assert dataset.of("test") == tuple(range(30, 40))
    difference = dataset.pixels(3).astype(int) - noisy(3, 1)
    assert np.abs(difference).mean() < 12  # JPEG halves the resolution of colour
    assert ImageArchive(tmp_path / "toy.npz", val=0.2).items == dataset.items


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "not an archive of pictures"),
        ({"offset": np.arange(12)}, "contradict one another"),
        ({"label": np.full(40, 7)}, "contradict one another"),
        ({"classes": np.array(["one"]), "label": np.zeros(40, int)}, "one class only"),
    ],
)
def test_broken_archives_are_refused(tmp_path, changes, message):
    with pytest.raises(BadInput, match=message):
        ImageArchive(archive(tmp_path / "toy.npz", **changes))


def test_an_archive_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK nonsense")
    with pytest.raises(BadInput, match="not a readable"):
        ImageArchive(tmp_path / "x.npz")
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        ImageArchive(tmp_path / "y.npz")
    for code in (0x110000, 0xD800):
        odd = np.array([code, 97], np.uint32).view("U1")
        with pytest.raises(BadInput, match="characters that there are not"):
            ImageArchive(archive(tmp_path / "u.npz", classes=odd))
    np.savez(tmp_path / "z.npz", jpeg=np.array([{}], dtype=object))
    with pytest.raises(BadInput, match=r"is not an? "):
        ImageArchive(tmp_path / "z.npz")


def test_names_lead_to_their_sets(tmp_path):
    assert isinstance(load_dataset(str(archive(tmp_path / "toy.npz")), {}), ImageArchive)
    folder = colour_folder(tmp_path / "d", {"x": 5, "y": 5})
    assert isinstance(load_dataset(str(folder), {}), ImageFolder)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train_images train_labels", "test_images test_labels"),
        ("x_train y_train", "x_test y_test"),
    ],
)
def test_arrays_of_images_and_labels_are_a_set(tmp_path, train, test):
    images = np.stack([noisy(i, i % 2) for i in range(40)])
    labels = np.arange(40)[:, None] % 2 + 3
    arrays = {name: part[:30] for name, part in zip(train.split(), (images, labels), strict=True)}
    arrays |= {name: part[30:] for name, part in zip(test.split(), (images, labels), strict=True)}
    np.savez(tmp_path / "medmnist.npz", **arrays)
    dataset = load_dataset(str(tmp_path / "medmnist.npz"), {})
    assert dataset.labels == ("3", "4")
    assert dataset.of("test") == tuple(range(30, 40))
    assert len(dataset.of("val")) == 4
    assert all((dataset.pixels(i) == images[i]).all() for i in (0, 7, 35))
    assert [dataset.items[i].label for i in (0, 7)] == [0, 1]
    assert "no validation split" in dataset.notes[0]


def test_grey_images_without_splits_are_split_and_several_labels_refused(tmp_path):
    grey = np.stack([noisy(i, i % 2)[..., 0] for i in range(40)])
    np.savez(tmp_path / "x.npz", images=grey, labels=np.arange(40) % 2)
    dataset = load_dataset(str(tmp_path / "x.npz"), {})
    assert [len(dataset.of(s)) for s in ("train", "val", "test")] == [28, 6, 6]
    assert (dataset.pixels(3) == grey[3][..., None]).all()
    names = np.array(["cat", "dog"])[np.arange(40) % 2]
    for labels in (names, np.eye(2)[np.arange(40) % 2], (np.arange(40) % 2).astype(float)):
        np.savez(tmp_path / "n.npz", images=grey, labels=labels)
        named_set = load_dataset(str(tmp_path / "n.npz"), {})
        assert named_set.labels == (("cat", "dog") if labels is names else dataset.labels)
        assert [item.label for item in named_set.items] == [item.label for item in dataset.items]
    np.save(tmp_path / "n.npy", grey)
    with pytest.raises(BadInput, match=r"n\.npy is a file\. Give a folder"):
        load_dataset(str(tmp_path / "n.npy"), {})
    np.savez(tmp_path / "y.npz", images=grey, labels=np.zeros((40, 14), int))
    with pytest.raises(BadInput, match="several labels for an image"):
        load_dataset(str(tmp_path / "y.npz"), {})
