"""A class is found by what people call it, and never another one in its place."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.modules import Bare
from whylens.core.errors import BadInput, UnknownName
from whylens.core.explanation import Explanation, ModelCard, Question
from whylens.core.models.labels import class_index, class_text, imagenet_1k, labels_of
from whylens.core.outputs.export import bundle_files, write_files
from whylens.core.results import Heatmap
from whylens.core.targets import Target
from whylens.ui.cli.common import split_names, unique_names
from whylens.ui.cli.explain_photos import _folder_of

NUMBERS = ("1", "10", "100", "2")


def test_a_label_that_is_a_number_comes_before_an_index():
    assert class_index("2", NUMBERS) == 3
    assert class_index("#2", NUMBERS) == 2
    with pytest.raises(UnknownName, match=r"called '3'.*#3 is the class of that index"):
        class_index("3", NUMBERS)
    assert [class_index(class_text(i, NUMBERS), NUMBERS) for i in range(4)] == [0, 1, 2, 3]
    assert class_text(2, ("cat", "dog", "cow")) == "2"


def test_two_classes_of_one_label_are_both_named():
    labels = ("crane", "dog", "crane")
    with pytest.raises(UnknownName, match=r"2 classes are called 'Crane': 0 .* 2 .*Give the index"):
        class_index("Crane", labels)
    assert class_index("2", labels) == 2
    assert class_index("crane", ("Crane", "crane")) == 1
    with pytest.raises(UnknownName, match=r"134 \(crane: large long-necked .*517 \(crane: lifts"):
        class_index("crane", imagenet_1k())


@pytest.mark.parametrize(
    ("name", "index"),
    [("n02123045", 281), ("white shark", 2), ("Carcharodon carcharias", 2), ("tabby cat", 281)],
)
def test_synonyms_and_wordnet_ids_of_imagenet_are_known(name, index):
    labels = imagenet_1k()
    assert class_index(name, labels) == index
    spelt_by_another_maker = ("a tench", *labels[1:])
    assert class_index(name, spelt_by_another_maker) == index
    with pytest.raises(UnknownName):
        class_index(name, tuple(reversed(labels)))


def answer_to(pixels, **changes):
    """An answer as the command line writes it."""
    card = ModelCard("toy", "w", "none", "here", True, (), ("cat", "dog"), {})
    fields = {
        "method": "grad-cam", "title": "Grad-CAM", "plugin": "test 1", "model": card,
        "question": Question("toy", pixels, seed=changes.pop("seed", 0)),
        "target": Target(changes.pop("index", 0), "logit"), "labels": ("cat",), "score": 1.0,
        "probability": 0.5, "result": Heatmap(np.ones((4, 4), np.float32), "logit"), "view": None,
    }  # fmt: skip
    return Explanation(**{**fields, **changes})


def test_no_answer_is_written_over_another_or_over_a_file_of_somebody_s(tmp_path, rng):
    photos = [rng.integers(0, 255, (16, 16, 3), np.uint8) for _ in range(4)]
    paths = [tmp_path / p for p in ("a/cat.png", "b/cat.png", "cat-2.png", "Cat.jpg")]
    out, owners = tmp_path / "out", {}
    folders = [
        _folder_of(out, path, answer_to(photo), owners, alone=False)
        for path, photo in zip(paths, photos, strict=True)
    ]
    assert len({str(folder).lower() for folder in folders}) == 4
    assert unique_names(["C", "C++", "c"]) == ["C", "C++", "c-2"]

    def place_of(answer):
        folder = _folder_of(out, paths[0], answer, {}, alone=True)
        write_files(folder, bundle_files(answer))
        return str(folder.relative_to(tmp_path))

    first = answer_to(photos[0])
    assert place_of(first) == place_of(first) == "out", "the same again takes its own place"
    assert place_of(answer_to(photos[0], index=1)) == "out/cat"
    assert place_of(answer_to(photos[0], params={"window": 3})) == "out/cat-2"
    assert place_of(answer_to(photos[0], seed=1)) == "out/cat-3"
    assert place_of(answer_to(photos[0], method="occlusion")) == "out"
    assert place_of(answer_to(photos[1])) == "out/cat-4"
    for kind in ("folder", "file", "unread"):
        own_path = tmp_path / "out" / f"own-{kind}"
        if kind == "file":
            own_path.write_text("mine")
        else:
            own_path.mkdir()
            (own_path / ("manifest.json" if kind == "unread" else "overlay.png")).write_text("mine")
        # A manifest that cannot be read may be about anything.
        assert place_of(answer_to(photos[0], method=own_path.name)).startswith("out/cat")
    assert (tmp_path / "out" / "own-folder" / "overlay.png").read_text() == "mine"


def test_a_list_of_methods_names_one():
    assert split_names(" a, b,,a") == ["a", "b"]
    with pytest.raises(BadInput.__base__, match="names no method"):
        split_names(" , ")


def test_a_question_takes_what_a_script_holds_and_refuses_in_words():
    pixels = np.zeros((16, 16, 3), np.uint8)
    for image in (pixels / 255.0, pixels[..., 0], np.moveaxis(pixels, 2, 0)):
        assert Question("m", image).pixels.shape == (16, 16, 3)
    for fields, message in (
        ({"target": "dog"}, "target of a question is the index of a class, not 'dog'"),
        ({"versus": 3}, 'give quantity="contrast" with it'),
        ({"model": object()}, "names its model; this is a object"),
    ):
        with pytest.raises(BadInput, match=message):
            Question(**{"model": "m", "photo": pixels, **fields})


def test_a_kind_of_thing_is_no_class_and_leads_to_the_classes_of_that_kind():
    with pytest.raises(UnknownName, match=r"no class called 'dog'. 54 classes .*: Chihuahua"):
        class_index("dog", imagenet_1k())
    with pytest.raises(UnknownName, match="Did you mean goldfish"):
        class_index("golfish", imagenet_1k())
    with pytest.raises(UnknownName, match="Did you mean hotdog"):
        class_index("hotdogs", ("hotdog", "cat"))


def test_imagenet_labels_are_in_the_usual_order():
    labels = imagenet_1k()
    assert len(labels) == 1000
    assert (labels[0], labels[281], labels[999]) == ("tench", "tabby", "toilet tissue")


def test_a_class_is_meant_by_index_or_by_name():
    labels = ("Cat", "dog", "7")
    assert class_index(" cat ", labels) == 0
    assert class_index("1", labels) == 1
    assert class_index("7", labels) == 2  # no such index, but such a label
    with pytest.raises(UnknownName, match="Did you mean dog"):
        class_index("dgo", labels)


def test_labels_that_travel_with_a_network_are_read():
    assert labels_of(Bare(pretrained_cfg={"label_names": ["a", "b"]})) == ("a", "b")


def test_a_class_is_found_however_its_accents_are_typed():
    composed, apart = "H\u00fchner", "Hu\u0308hner"
    assert class_index(apart, (composed, "Huhner")) == 0
    assert class_index(composed.lower(), ("Huhner", apart)) == 1
    with pytest.raises(UnknownName, match="2 classes are called"):
        class_index(apart, (composed, apart))
