"""Every method's map can be seen on a photo: no photo comes back as if nothing had been found."""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.support.shipped_networks import COUNTS, QUICK, SHIPPED, available, shipped_engine
from whylens.core.explanation import Question
from whylens.core.inputs.photo import read_photo
from whylens.core.outputs.render import Style, render_explanation, scale_of
from whylens.core.params import controls_of
from whylens.core.results import Heatmap

NAME = "imagenet-lite0"
EXAMPLE = SHIPPED.parent / "examples" / "photos" / "squirrel.jpg"
LEAST, SEEN = 0.03, 20  # share of the pixels, levels of 255


@pytest.fixture(scope="module")
def engine():
    with shipped_engine() as shipped:
        yield shipped


def changed_share(picture, reference) -> float:
    """Return the share of pixels in which two pictures differ to the eye."""
    first, second = (np.asarray(p, np.int16) for p in (picture, reference))
    return float((np.abs(first - second).max(-1) > SEEN).mean())


def check_visible(answer) -> None:
    if not isinstance(answer.result, Heatmap) or answer.reason:
        return
    picture = render_explanation(answer, Style())
    blank = replace(answer.result, values=np.zeros_like(answer.result.values))
    ground = render_explanation(
        replace(answer, result=blank), Style(under="photo"), scale=scale_of(answer.result)
    )
    assert changed_share(picture, ground) >= LEAST, f"{answer.method}: the photo looks unchanged"
    # Nor is it what lies under the map that makes the difference.
    for under in ("photo", "faded", "alone"):
        with_map, without = (
            render_explanation(
                replace(answer, result=result), Style(under=under), scale=scale_of(answer.result)
            )
            for result in (answer.result, blank)
        )
        assert changed_share(with_map, without) >= LEAST / 2, f"{answer.method} over {under}"


def first_part(engine, question, method: str):
    """Return a part of a method's answer with few samples: maps on the way are shown as well."""
    params = engine.registry.explainers[method].Params
    params_given = {key: value for key, value in QUICK.items() if key in params.model_fields}
    params_given |= {c.name: int(c.low) for c in controls_of(params) if c.name in COUNTS}
    with closing(engine.explain(question, method, params_given)) as parts:
        return next(part for part in parts if part.fraction >= 0.05)


@pytest.mark.slow
def test_maps_with_few_samples_on_a_shipped_photo(engine):
    small = io.BytesIO()
    with Image.open(EXAMPLE) as photo:
        photo.reduce(2).save(small, "png")
    question = Question(NAME, read_photo(small.getvalue()))
    answers = [first_part(engine, question, method) for method in available(engine, NAME)]
    assert any(isinstance(answer.result, Heatmap) for answer in answers)
    for answer in answers:
        check_visible(answer)


@pytest.mark.slow
def test_maps_at_their_defaults_on_a_shipped_photo(engine):
    question = Question(NAME, read_photo(EXAMPLE.read_bytes()))
    for method in available(engine, NAME):
        *_, answer = engine.explain(question, method)
        check_visible(answer)


@pytest.mark.slow
def test_maps_with_few_samples_on_many_photos(engine, shared):
    photos = sorted(p for p in (shared / "photos").iterdir() if p.suffix != ".json")
    assert len(photos) > 10
    for path in photos:
        question = Question(NAME, read_photo(path.read_bytes()))
        for method in available(engine, NAME):
            check_visible(first_part(engine, question, method))
