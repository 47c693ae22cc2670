"""Real photographs, a real network: maps peak on the object that they are asked about.

Occlusion takes 2,028 and Score-CAM 6,000 forward passes for all 12 objects: those answers are
awaited in the slow suite; the quick one stops them early, as a visitor may.
"""

from __future__ import annotations

import json
import math
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from whylens.core.engine import Engine
from whylens.core.explanation import Question
from whylens.core.inputs.view import on_original
from whylens.core.models.labels import class_index
from whylens.plugins.score_cam import ScoreCAM


@pytest.fixture(scope="module")
def page(squeezenet) -> Engine:
    return Engine(loader=lambda name, progress: squeezenet)


@pytest.fixture(scope="module")
def objects(shared) -> list[tuple[str, str, list[float]]]:
    """(file, label, box) of every object."""
    entries = json.loads((shared / "photos" / "boxes.json").read_text())
    return [(e["file"], o["label"], o["box"]) for e in entries for o in e["objects"]]


@pytest.fixture(scope="module")
def ask(page, shared, squeezenet):
    def answer(
        file: str, label: str, method: str, *, versus: str | None = None, stop: float = 1, **params
    ):
        """Return the first answer for which at least `stop` of the work is done."""
        pixels = np.asarray(Image.open(shared / "photos" / file).convert("RGB"))
        versus_index = None if versus is None else class_index(versus, squeezenet.labels)
        question = Question(
            "squeezenet",
            pixels,
            target=class_index(label, squeezenet.labels),
            quantity="logit" if versus_index is None else "contrast",
            versus=versus_index,
        )
        with closing(page.explain(question, method, params)) as parts:
            return next(part for part in parts if part.fraction >= stop)

    return answer


def on_photo(answer) -> np.ndarray:
    whole, visible = on_original(answer.result.values, answer.view)
    return np.where(visible, whole, -math.inf)


def peak(answer) -> tuple[float, float]:
    """Return where the map's maximum lies on the photo, as shares of its width and height."""
    whole = on_photo(answer)
    row, column = np.unravel_index(whole.argmax(), whole.shape)
    return float((column + 0.5) / whole.shape[1]), float((row + 0.5) / whole.shape[0])


def peaks_in(answer, box) -> bool:
    """Return whether the map's maximum lies in the object's box."""
    across, down = peak(answer)
    return box[0] <= across <= box[2] and box[1] <= down <= box[3]


def game(ask, objects, method: str, **options) -> list[bool]:
    """Return for each object whether the map peaks on it; the score is printed."""
    hits = [peaks_in(ask(file, label, method, **options), box) for file, label, box in objects]
    misses = [o[1] for o, is_hit in zip(objects, hits, strict=True) if not is_hit]
    print(  # noqa: T201
        f"pointing game, {method} {options or ''}: {sum(hits)} of {len(hits)}, missed {misses}"
    )
    return hits


def slow(method: str):
    return pytest.param(method, marks=pytest.mark.slow)


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", slow("occlusion"), slow("score-cam")])
def test_the_map_peaks_on_the_object(ask, objects, method):
    hits = game(ask, objects, method)
    assert len(hits) == 12
    assert sum(hits) >= 11


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rise", "sise"])
def test_random_masks_and_the_network_s_own_beat_a_random_map(ask, objects, method):
    four = objects[:4]
    by_chance = sum((x1 - x0) * (y1 - y0) for _, _, (x0, y0, x1, y1) in four)
    assert sum(game(ask, four, method)) >= by_chance + 1


@pytest.mark.slow
def test_a_quarter_of_the_windows_already_peaks_on_the_object(ask, objects):
    hits = game(ask, objects, "occlusion", stop=0.25)
    assert len(hits) == 12
    assert sum(hits) >= 11


@pytest.mark.slow
def test_an_eighth_of_the_channels_already_peaks_on_the_object(ask, objects):
    three = [o for o in objects if o[1] in ("ladybug", "tiger", "goose")]
    exact = {"mode": "exact"} if "mode" in ScoreCAM.Params.model_fields else {}
    assert game(ask, three, "score-cam", stop=0.125, **exact) == [True] * 3


def box_of(objects, label: str):
    return next(box for file, name, box in objects if (file, name) == ("dog_and_cat.png", label))


DOG, CAT = "bull mastiff", "tiger cat"


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++"])
def test_of_two_animals_each_is_found_when_asked_for(ask, objects, method):
    dog, cat = (ask("dog_and_cat.png", label, method) for label in (DOG, CAT))
    print(f"{method}: the dog's map peaks at {peak(dog)}, the cat's at {peak(cat)}")  # noqa: T201
    assert peaks_in(dog, box_of(objects, DOG))
    assert peaks_in(cat, box_of(objects, CAT))
    # The boxes overlap by a seventh of the height; the dog is above.
    assert not peaks_in(dog, box_of(objects, CAT))
    assert peak(cat)[1] - peak(dog)[1] > 0.14


def mean_inside(whole: np.ndarray, box, without) -> float:
    rows, columns = (np.arange(n) + 0.5 for n in whole.shape)
    rows, columns = rows / whole.shape[0], columns / whole.shape[1]

    def mask(b):
        down, across = (rows >= b[1]) & (rows <= b[3]), (columns >= b[0]) & (columns <= b[2])
        return down[:, None] & across[None]

    return float(whole[mask(box) & ~mask(without) & np.isfinite(whole)].mean())


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("grad-cam", {"signed": True}),
        pytest.param("occlusion", {"window": 64, "stride": 32}, marks=pytest.mark.slow),
    ],
)
def test_dog_rather_than_cat_is_positive_on_the_dog_and_negative_on_the_cat(
    ask, objects, method, params
):
    answer = ask("dog_and_cat.png", DOG, method, versus=CAT, **params)
    assert answer.question_text == f"{DOG} rather than {CAT}"
    whole, dog, cat = on_photo(answer), box_of(objects, DOG), box_of(objects, CAT)
    on_dog, on_cat = mean_inside(whole, dog, cat), mean_inside(whole, cat, dog)
    print(f"dog rather than cat, {method}: {on_dog:+.4f} on the dog, {on_cat:+.4f} on the cat")  # noqa: T201
    assert on_dog > 0 > on_cat
    assert peaks_in(answer, dog)
