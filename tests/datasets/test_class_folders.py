"""Folders as people name them: splits are splits, classes are classes, or one clear sentence."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.support.pictures import colour_folder, noisy
from whylens.core.datasets.class_folders import place_files, split_word
from whylens.core.datasets.code_pages import code_page
from whylens.core.datasets.dataset import Dataset
from whylens.core.datasets.files import ZipFiles
from whylens.core.datasets.folder import ImageFolder
from whylens.core.datasets.resplit import resplit
from whylens.core.datasets.zip import pictures_in_zip
from whylens.core.errors import BadInput
from whylens.core.progress import run

SPLIT = {"train", "test"}


def tree(*folders: str, names=("a.png", "b.png")) -> list[str]:
    return [f"{folder}/{name}" if folder else name for folder in folders for name in names]


def crossed(outer, inner=("cat", "dog")) -> list[str]:
    return tree(*(f"{o}/{i}" for o in outer for i in inner))


def splits_by_class(paths: list[str]) -> dict[str, set[str | None]]:
    """Return the splits of every class."""
    splits: dict[str, set[str | None]] = {}
    for file in place_files(paths, "The folder").files:
        splits.setdefault(file.label, set()).add(file.split)
    return splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((n, "train") for n in ("train", "Training", "training_set", "seg_train", "TrainData")),
        *((n, "val") for n in ("VAL", "valid", "validation", "dev", "eval", "val2017", "val-set")),
        *((n, "test") for n in ("Test", "testing", "test_images", "01_test")),
        *(
            (n, "train")
            for n in ("Entrenamiento", "treino", "训练集", "Trainingsdaten", "Обучение")
        ),
        *(
            (n, "val")
            for n in ("Validierung", "valida\u0063\u0327a\u0303o", "验证", "検証", "vali")
        ),
        *((n, "test") for n in ("prueba", "Teste", "测试集", "テスト", "Test-Set")),
        *((n, None) for n in ("trainers", "cat_train", "latest", "value", "dataset", "1", "猫")),
    ],
)
def test_a_split_is_known_by_its_name(name, split):
    assert split_word(name) == split


@pytest.mark.parametrize(
    ("paths", "splits"),
    [
        (crossed(("train", "valid", "test")), {"train", "val", "test"}),
        (crossed(("Training", "Testing")), {"train", "test"}),
        (crossed(("TRAIN", "dev")), {"train", "val"}),
        (crossed(("set/train", "set/validation")), {"train", "val"}),
        (crossed(("cat", "dog"), ("train", "val")), {"train", "val"}),
        ([*crossed(("train", "val")), "runs/log.txt", "readme.md"], {"train", "val"}),
        ([*crossed(("train", "val")), *tree("pred")], {"train", "val"}),
        ([*crossed(("train",)), *tree("test")], {"train"}),
        (crossed(("train",)), {None}),
        ([*crossed(("images/train", "images/val")), "labels/train/1.txt"], {"train", "val"}),
        (tree("cat", "dog"), {None}),
        (crossed(("pets/cat", "pets/dog"), ("indoor", "outdoor")), {None}),
        # As sets of Kaggle, of PyTorch's tutorials and of image servers lie on a disk.
        ([*crossed(("seg_train/seg_train", "seg_test/seg_test")), *tree("seg_pred")], SPLIT),
        ([*crossed(("asl_train/asl_train",)), *tree("asl_test/asl_test")], {"train"}),
        (crossed(("FER2013Train", "FER2013Test")), SPLIT),
        (crossed(("ILSVRC_img_train", "ILSVRC_img_val")), {"train", "val"}),
        (crossed(("train_processed", "test_processed")), SPLIT),
        (crossed(("trainval", "test")), SPLIT),
        (crossed(("train/data", "val/data")), {"train", "val"}),
        ([*crossed(("cat", "dog"), ("train", "test")), "cat/Thumbs.db"], SPLIT),
        ([*crossed(("train", "test")), "train/labels/1.txt"], SPLIT),
        (crossed(("tr", "va", "te")), {"train", "val", "test"}),
        (crossed(("TR", "TS")), SPLIT),
        (crossed(("entrenamiento", "prueba")), SPLIT),
        (crossed(("Training", "Validierung")), {"train", "val"}),
        (crossed(("数据/训练集", "数据/测试集")), SPLIT),
        (crossed(("cat", "dog"), ("tr", "te")), SPLIT),
    ],
)
def test_splits_are_honoured_under_every_usual_name(paths, splits):
    assert splits_by_class(paths) == {"cat": splits, "dog": splits}


def test_a_class_may_be_called_as_a_split_where_it_is_one():
    assert splits_by_class(tree("train", "bus", "car")).keys() == {"train", "bus", "car"}
    assert splits_by_class(tree("control", "test")).keys() == {"control", "test"}
    assert splits_by_class(tree("de", "tr", "te")).keys() == {"de", "tr", "te"}
    assert splits_by_class(tree("set 1", "other")).keys() == {"set 1", "other"}


@pytest.mark.parametrize("name", ["data.zip", "train.tar.gz", "images.7z"])
def test_an_archive_in_place_of_pictures_is_named(name):
    with pytest.raises(BadInput, match=f"It holds '{name}': unpack that first"):
        splits_by_class(["readme.txt", name])


def test_folders_of_pictures_that_are_called_like_splits_of_some_language_stay_classes():
    assert splits_by_class(tree("prova", "teste", "cat")).keys() == {"prova", "teste", "cat"}
    with pytest.raises(BadInput, match="are splits by their names"):
        splits_by_class(tree("treino", "teste"))


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (tree("train", "valid"), "splits by their names.*no folders of classes"),
        (crossed(("train", "val", "validation")), "several folders for the val split"),
        (crossed(("valid", "test")), "may be a split"),
        ([*crossed(("train",)), *tree("cat", "dog")], "may be a split"),
        ([*crossed(("train",)), *crossed(("val",), ("Cat", "dog"))], "'Cat' and 'cat' lie in"),
        ([*tree("x"), "notes/a.xml"], r"one class only, 'x'.*'notes' holds no pictures \(1 file"),
        (["a.png"], "no pictures in subfolders"),
        (tree("trainA", "trainB", "testA", "testB"), "name splits and classes at once"),
        ([*tree("train", "test"), *tree("outputs")], "splits by their names"),
        ([*tree("train/images", "valid/images"), "train/labels/1.txt"], "no folders of classes"),
        ([*crossed(("set/train", "set/val")), *tree("test")], "'set' holds the splits"),
        ([*crossed(("cat", "dog"), ("train", "val")), *tree("bird")], "divide all classes so"),
        (tree("images/train", "images/val", "masks/train", "masks/val"), "what is marked in them"),
        *(
            (crossed(names), "parts of one set")
            for names in (("fold_1", "fold_2"), ("set1", "set2"))
        ),
        (crossed(("Part 1", "Part 2")), "parts of one set"),
        (tree("tr", "te"), "splits by their names.*no folders of classes"),
    ],
)
def test_what_can_be_misread_is_refused(paths, message):
    with pytest.raises(BadInput, match=message):
        place_files(paths, "The folder")


COMPOSED, APART = "H\u00fcte", "Hu\u0308te"  # of Windows, and of a Mac


@pytest.mark.parametrize(
    "paths",
    [
        tree(COMPOSED, APART, "dog"),
        [*crossed(("train",), (COMPOSED, "dog")), *crossed(("test",), (APART, "dog"))],
        tree(APART, "dog"),
    ],
)
def test_a_name_with_its_accents_apart_is_the_same_class(paths):
    assert splits_by_class(paths).keys() == {COMPOSED, "dog"}
    assert len(place_files(paths, "The folder").files) == len(paths)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (tree("Cat", "cat", "dog"), "'Cat' and 'cat' seem to be one class in two spellings"),
        (tree("cat ", "cat", "dog"), "'cat' and 'cat ' seem to be one class"),
        (tree("a ", "a"), "'a' and 'a ' seem to be one class"),
        (crossed(("train", "val"), ("Cat", "cat")), "'Cat' and 'cat' seem to be one class"),
        ([*crossed(("train",), ("cat ", "dog")), *crossed(("val",))], "'cat' and 'cat ' lie in"),
    ],
)
def test_one_class_in_two_spellings_is_refused(paths, message):
    with pytest.raises(BadInput, match=message):
        place_files(paths, "The folder")


def test_letters_and_names_that_differ_otherwise_are_classes():
    for names in (("A", "a", "B", "b"), ("cat", "cats"), ("Hute", COMPOSED), ("cat 1", "cat1")):
        assert splits_by_class(tree(*names)).keys() == set(names)


@pytest.mark.parametrize(
    ("versions", "classes"), [("raw processed", "cat dog"), ("40X 100X", "benign malignant")]
)
def test_splits_within_versions_of_a_set_are_refused(versions, classes):
    parts = [f"{version}/{split}" for version in versions.split() for split in ("train", "test")]
    with pytest.raises(BadInput, match=rf"hold splits.*'{classes.split()[0]}'.*by itself"):
        place_files(crossed(parts, classes.split()), "The folder")


def test_classes_within_patients_are_noted():
    patients = [f"{split}/patient{n}" for split in ("train", "test") for n in range(3)]
    each_ill = [f"{p}/{'benign' if p[-1] == '0' else 'malignant'}" for p in [*patients, "test/p0"]]
    for paths in (
        crossed(patients, ("benign", "malignant")),
        tree(*each_ill, "train/p1/benign", "test/p2/malignant"),
    ):
        (note,) = place_files(paths, "The folder").notes
        assert "taken for the classes, and hold folders of the same names, 'benign', 'mal" in note
        assert note.endswith("If those are the classes, put them straight into 'test', 'train'.")


@pytest.mark.parametrize(
    "paths",
    [
        tree(*(f"train/{c}" for c in ("cat/tabby", "cat/manx", "dog/pug", "dog/chow")),
             "test/cat/tabby", "test/dog/pug"),
        [*crossed(("cat/train", "dog/train", "cat/test", "dog/test"), ("day",)), "cat/test/a/1.md"],
        [*crossed(("train/cat", "train/dog"), ("day", "night")), *crossed(("train",), ("fox",)),
         *crossed(("test",))],
        crossed(("cat/train", "dog/train", "cat/test", "dog/test"), ("images",)),
    ],
)  # fmt: skip
def test_folders_in_classes_that_are_their_own_are_not_noted(paths):
    assert {"cat", "dog"} <= splits_by_class(paths).keys()
    assert place_files(paths, "The folder").notes == ()


def test_what_is_left_out_is_named():
    paths = [*crossed(("train", "val")), *tree("extra"), "cover.jpg", "val/sheet.png", "info.txt"]
    notes = " ".join(place_files(paths, "The folder").notes)
    assert "Beside 'train', 'val', 'extra' (2 files) was left out" in notes
    assert "2 files in no class's folder were left out: cover.jpg, val/sheet.png." in notes
    assert "info" not in notes
    stray_paths = [
        *crossed(("train", "val")),
        *tree("extra"),
        *tree("more"),
        "old.zip",
        "val/new.rar",
    ]
    notes = " ".join(place_files(stray_paths, "The folder").notes)
    assert "'extra', 'more' (4 files) were left out: they are no split by name" in notes
    assert "2 files beside the classes were left out: old.zip, val/new.rar." in notes
    packed_notes = " ".join(place_files([*tree("x", "y"), "old.zip"], "The folder").notes)
    assert "1 file beside the classes was left out: old.zip. What is packed is not" in packed_notes
    (note,) = place_files(crossed(("real", "fake")), "The folder").notes
    assert (
        "'fake', 'real' were taken for the classes, and hold folders of the same names, 'cat'"
        in note
    )
    looked_into = place_files(crossed(("data",)), "The folder")
    assert looked_into.notes == ("All classes were found in 'data'.",)


def zipped(root: Path) -> Path:
    return Path(shutil.make_archive(str(root), "zip", root))


def in_zip(path: Path) -> Dataset:
    return run(resplit(run(pictures_in_zip(path))))


@pytest.fixture
def untidy(tmp_path) -> Path:
    """Splits under odd names, a file that is damaged and one that lies beside the classes."""
    root = tmp_path / "untidy"
    colour_folder(root / "Training", {"x": 12, "y": 12})
    colour_folder(root / "Testing", {"x": 4, "y": 4}, first=500)
    Image.fromarray(noisy(900, 0)).save(root / "Training" / "y" / "photo.jfif", format="JPEG")
    (root / "Training" / "x" / "bad.png").write_bytes(b"no picture")
    (root / "Testing" / "cover.png").write_bytes(b"")
    return root


def test_a_zip_is_read_as_the_folder_that_it_holds(untidy):
    folder = ImageFolder(untidy)
    for dataset in (ImageFolder(zipped(untidy)), in_zip(zipped(untidy))):
        assert dataset.labels == folder.labels == ("x", "y")
        assert dataset.items == folder.items
        assert dataset.notes == folder.notes
        assert (dataset.pixels(5) == folder.pixels(5)).all()
    assert ImageFolder(zipped(untidy)).digest == folder.digest
    assert {item.split for item in folder.items} == {"train", "val", "test"}
    assert all(i.key.startswith("Testing") == (i.split == "test") for i in folder.items)
    assert "Training/y/photo.jfif" in {item.key for item in folder.items}
    notes = " ".join(folder.notes)
    assert "1 of 34 files was left out, which could not be read. Training/x/bad.png: " in notes
    assert "1 file in no class's folder was left out: Testing/cover.png" in notes
    assert "no validation split: 4 pictures of train were drawn for it" in notes


def test_too_few_pictures_say_how_many_cannot_be_read(tmp_path):
    root = colour_folder(tmp_path / "d", {"x": 6, "y": 2})
    (root / "y" / "scan.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"'y' in .* has 2 pictures and 1 that cannot .*scan\.png"):
        ImageFolder(root)


def test_names_that_are_not_utf_8_are_read_and_said(tmp_path):
    root = colour_folder(tmp_path / "d", {"x": 4, "y": 4})
    (root / "y").rename(os.fsdecode(os.fsencode(root) + b"/h\xfcnd"))
    dataset = ImageFolder(root)
    assert dataset.labels == ("hünd", "x")
    assert len(dataset.digest) == 64
    assert dataset.pixels(0).shape == (32, 32, 3)
    assert "4 names not in UTF-8 read as Latin-1, such as 'hünd/000.png'" in dataset.notes[0]


@pytest.mark.parametrize(
    ("label", "page", "noted"),
    [
        ("hünd", "utf-8", False),
        ("hünd", "cp437", True),
        ("ação", "cp850", True),  # of Windows' own packer in the west
        ("ação", "cp1252", True),
        ("café", "cp1252", True),
        ("łódź", "cp852", True),
        ("łódź", "cp1250", True),
        ("кошка", "cp866", True),
        ("кошка", "cp1251", True),
        ("лес", "cp1251", True),
        ("猫", "cp932", True),
        ("小狗", "gbk", True),
        ("马", "gbk", True),
        ("犬", "cp932", True),
        ("貓", "big5", True),
        ("車", "big5", True),
        ("새", "euc-kr", True),
        ("차", "euc-kr", True),
    ],
)
def test_a_zip_without_a_mark_of_its_code_page_is_read(tmp_path, label, page, noted):
    path = tmp_path / "x.zip"
    picture = (colour_folder(tmp_path / "d", {"x": 1}) / "x" / "000.png").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/1.png", picture)
        archive.writestr("TOKEN/1.png", picture)
    name, raw = b"TOKEN", label.encode(page)
    data = path.read_bytes()
    # Names are of one length, so that the offsets inside stay.
    path.write_bytes(data.replace(name, raw.ljust(5, b"_")))
    dataset = run(pictures_in_zip(path))
    assert label in {name.rstrip("_") for name in dataset.labels}
    assert any("code page" in note for note in dataset.notes) is noted


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("cp949", "고양이 강아지 정상 불량 사과 자동차 트럭 토끼 학습 폐렴"),
        ("gbk", "猫 鸟 正常 异常 苹果 汽车 飞机 训练 良品 肺炎"),
        ("cp950", "貓 鳥 正常 異常 蘋果 汽車 飛機 訓練 不良品 車"),
        ("cp932", "猫 子犬 りんご バナナ 自動車 飛行機 うさぎ 不良品 人 男/女"),
        ("cp866", "кошка собака мышь ёж роза норма пневмония самолёт яблоко лиса"),
        ("cp1251", "кошка собака мышь ёж роза Норма Пневмония самолёт Яблоко лиса"),
        ("cp850", "hünd Größe château forêt crème brûlée señal coração løvetann ål"),
        ("cp1252", "hünd Größe château garçon crème brûlée señal coração løvetann ål"),
    ],
)
def test_a_code_page_is_known_by_one_word(page, words):
    for word in words.split():
        encoding, _ = code_page([f"{word}/1.png".encode(page)])
        assert f"{word}/1.png".encode(page).decode(encoding) == f"{word}/1.png", encoding


def test_what_names_may_read_as_otherwise_is_said(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("TOKE/1.png", b"")
    path.write_bytes(path.read_bytes().replace(b"TOKE", "蝴蝶".encode("gbk")))
    (note,) = ZipFiles(path).notes
    assert "'蝴蝶/1.png'" in note
    assert "code page 936, simplified Chinese" in note
    misread_name = "蝴蝶".encode("gbk").decode("cp949")
    assert f"or '{misread_name}/1.png' in code page 949, Korean" in note


def test_what_has_no_label_is_no_class():
    placement = place_files(
        [*tree("labeled/cat", "labeled/dog", "unlabeled"), "x.txt"], "The folder"
    )
    assert {file.label for file in placement.files} == {"cat", "dog"}
    assert "2 files in 'unlabeled' were left out: a class has labels." in placement.notes
    assert {file.path for file in placement.files} == {0, 1, 2, 3}
    # What lies beside is counted all the same, and keeps its number.
    placement = place_files([*tree("unlabeled"), "stray.jpg", *tree("cat", "dog")], "The folder")
    assert {file.path for file in placement.files} == {3, 4, 5, 6}
    assert any(note.startswith("1 file in no class's folder") for note in placement.notes)


@pytest.mark.parametrize("words", ["trainen validatie testen", "träning validering test"])
def test_splits_of_more_languages_are_splits(words):
    assert [split_word(word) for word in words.split()] == ["train", "val", "test"]


def test_a_split_may_have_one_class_of_the_others():
    paths = [*crossed(("train",)), *tree("test/cat/indoor", "test/cat/outdoor")]
    assert splits_by_class(paths) == {"cat": SPLIT, "dog": {"train"}}


def test_what_systems_put_into_folders_is_no_class(tmp_path):
    root = colour_folder(tmp_path / "d", {"x": 4, "y": 4, "@eaDir": 4})
    assert ImageFolder(root).labels == in_zip(zipped(root)).labels == ("x", "y")


def test_links_in_a_circle_end(tmp_path):
    root = colour_folder(tmp_path / "d", {"x": 4, "y": 4})
    (root / "x" / "round").symlink_to(root)
    (root / "z").symlink_to(root / "y")
    dataset = ImageFolder(root)
    assert dataset.labels == ("x", "y", "z")
    assert len(dataset.items) == 12
