"""Photos of any size and mode, methods with any parameters: an answer, or a refusal in words."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.quick import some_quick
from whylens.core.conformance.randomness import default_network
from whylens.core.conformance.under_test import ExplainerUnderTest, figures
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, CoreError
from whylens.core.explanation import Question
from whylens.core.inputs.photo import photo_of, read_photo
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.inputs.spec import InputSpec
from whylens.core.inputs.view import on_original
from whylens.core.outputs.render import Style, render_explanation
from whylens.core.params import controls_of
from whylens.core.registry import load_registry
from whylens.core.results import Heatmap

# Drawn alike on every machine, and none is remembered from one run to the next.
draw_alike = settings(
    max_examples=25, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
SIDES = st.integers(8, 90)
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "F", "CMYK", "YCbCr", "LAB", "HSV")
LOSSLESS = {"PNG", "TIFF", "BMP", "GIF"}
REGISTRY = load_registry()


@draw_alike
@given(
    st.integers(1, 90), SIDES, st.sampled_from(MODES), st.sampled_from([*sorted(LOSSLESS), "JPEG"])
)
def test_a_photo_of_any_size_and_mode_is_read_as_it_looks(width, height, mode, kind):
    grey = np.arange(width * height, dtype=np.uint32).reshape(height, width) % 251
    image = Image.fromarray(grey.astype(np.uint8)).convert(mode if mode != "I;16" else "I")
    stream = io.BytesIO()
    try:
        (image.convert("I;16") if mode == "I;16" else image).save(stream, kind)
    except (OSError, ValueError):
        assume(False)  # there is no such file
    try:
        photo = read_photo(stream.getvalue())
    except BadInput as exc:
        if "at least 8 x 8" in str(exc):
            assert width < 8
        else:  # Pillow writes some that it does not read
            with pytest.raises(OSError, match=r"."):
                Image.open(stream).load()
        return
    assert photo.size == (width, height)
    if kind in LOSSLESS and mode in ("L", "RGB", "P"):
        assert (photo.pixels == grey[..., None]).all()


@draw_alike
@given(
    SIDES, SIDES, SIDES, SIDES, st.floats(0.3, 1.0), st.sampled_from(["center", "border", "squash"])
)
def test_a_map_lies_where_the_network_looked(width, height, rows, columns, crop, mode):
    input_spec = InputSpec(
        size=(rows, columns), mean=(0,) * 3, std=(1,) * 3, crop=crop, crop_mode=mode
    )
    pixels = np.zeros((height, width, 3), np.uint8)
    x, view = photo_tensor(photo_of(pixels), input_spec)
    assert x.shape == (1, 3, rows, columns)
    values, visible = on_original(np.ones((rows, columns), np.float32), view)
    assert values.shape == visible.shape == (height, width)
    assert visible.any()
    assert np.allclose(values[visible], 1)


def params_of(method: str) -> st.SearchStrategy[dict[str, object]]:
    """Return parameters within a method's bounds, no dearer than about twice those of its trial."""
    explainer = REGISTRY.explainers[method]
    trial = ExplainerUnderTest(explainer).params.model_dump()

    def values(field) -> st.SearchStrategy[object]:
        if field.kind == "bool":
            return st.booleans()
        if field.kind == "choice":
            return st.sampled_from(field.choices)
        if field.kind == "float":
            return st.floats(field.low, field.high)
        step = int(field.step) or 1
        highest = max(field.low, min(field.high, 2 * float(trial[field.name])))
        return st.integers(0, int(highest - field.low) // step).map(
            lambda k: int(field.low) + k * step
        )

    fields = controls_of(explainer.Params)
    return st.fixed_dictionaries({field.name: values(field) for field in fields})


@pytest.mark.parametrize(
    "method", some_quick(REGISTRY.explainers, lambda number, _: number % 2 == 0)
)
def test_any_parameters_and_any_photo_give_an_answer_or_a_refusal_in_words(method):
    under_test = ExplainerUnderTest(REGISTRY.explainers[method])
    backbone = default_network(under_test)
    engine = Engine(REGISTRY, loader=lambda name, progress: backbone)
    if under_test.explainer.artifact_kind:
        artifact = under_test.artifact(backbone)
        engine.artifact_store.put_for_visitor(under_test.explainer, backbone, "me", artifact)
    answers = []

    @settings(draw_alike, max_examples=3)
    @given(params_of(method), SIDES, SIDES, st.integers(0, 2))
    def ask(params, width, height, target):
        pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        question = Question("toy", pixels, target=target, visitor="me")
        try:
            *_, last = engine.explain(question, method, params)
        except CoreError:
            return
        assert np.isfinite(figures(last.result)).all()
        if isinstance(last.result, Heatmap):
            assert render_explanation(last, Style()).size == (width, height)
        answers.append(last)

    ask()
    assert answers
