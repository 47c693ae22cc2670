"""The contract's metadata: what a screen can draw, and what is wrong with a would-be explainer."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Optional

import pytest
from pydantic import Field, ValidationError

from whylens.core.errors import InvalidParameter
from whylens.core.explainer import Explainer, Need, contract_errors
from whylens.core.params import ControlSpec, NoParams, Params, control_of, controls_of


class FourKinds(Params):
    """One parameter of each kind."""

    steps: int = Field(32, ge=8, le=128, multiple_of=8, title="Steps", description="More is finer.")
    sigma_share: float = Field(0.1, ge=0, le=0.5)
    signed: bool = Field(True, title="Show evidence against")
    fill: Literal["black", "blur"] = "blur"


def only(**fields) -> type[Params]:
    """Return a parameters class of one field, as `name=(type, default)`."""
    annotations = {name: kind for name, (kind, _) in fields.items()}
    defaults = {name: default for name, (_, default) in fields.items() if default is not ...}
    return type(
        "P", (Params,), {"__annotations__": annotations, "__module__": __name__, **defaults}
    )


def test_the_four_kinds_become_four_controls_in_order():
    assert controls_of(FourKinds) == (
        ControlSpec(name="steps", kind="int", title="Steps", help="More is finer.", default=32,
                 low=8, high=128, step=8),
        ControlSpec(name="sigma_share", kind="float", title="Sigma share", help="", default=0.1,
                 low=0, high=0.5, step=0.005),
        ControlSpec(name="signed", kind="bool", title="Show evidence against", help="",
                 default=True),
        ControlSpec(name="fill", kind="choice", title="Fill", help="", default="blur",
                 choices=("black", "blur")),
    )  # fmt: skip


def test_defaults_keep_their_type():
    steps, sigma, signed, fill = (d.default for d in controls_of(FourKinds))
    assert [type(v) for v in (steps, sigma, signed, fill)] == [int, float, bool, str]


def test_a_whole_number_moves_in_steps_of_one_unless_told_otherwise():
    (control,) = controls_of(only(k=(int, Field(5, ge=1, le=9))))
    assert control.step == 1


def test_bounds_in_an_annotation_count():
    (control,) = controls_of(only(k=(Annotated[int, Field(ge=2, le=6)], 3)))
    assert (control.low, control.high, control.default) == (2, 6, 3)


def test_what_else_an_annotation_tells_is_no_matter():
    (control,) = controls_of(only(k=(Annotated[int, Field(ge=2, le=6), ["a note"]], 3)))
    assert (control.low, control.high, control.default) == (2, 6, 3)
    with pytest.raises(InvalidParameter, match="refuses itself"):
        controls_of(only(k=(Annotated[int, Field(ge=2, le=6), ["a note"]], 7)))


def test_a_default_that_is_computed_is_shown():
    (control,) = controls_of(only(k=(int, Field(default_factory=lambda: 4, ge=1, le=9))))
    assert control.default == 4


def test_a_method_without_parameters_has_no_controls():
    assert controls_of(NoParams) == ()


@pytest.mark.parametrize(
    ("kind", "default", "message"),
    [
        (int, 3, r"'k' needs both ge= and le=: a slider has two ends"),
        (int, Field(3, ge=1), "needs both ge= and le="),
        (int, Field(3, le=9), "needs both ge= and le="),
        (float, Field(3.0, gt=0, lt=9), "needs both ge= and le="),
        (float, Field(3.0, ge=0, le=math.inf), "from 0 to inf; a slider needs two finite ends"),
        (float, Field(3.0, ge=math.nan, le=9), "from nan to 9; a slider needs two finite ends"),
        (int, Field(5, ge=9, le=1), "goes from 9 to 1; .* the smaller first"),
        (int, Field(1, ge=1, le=1), "goes from 1 to 1; .* the smaller first"),
        (int, Field(ge=1, le=9), "needs a default, so that a click is enough"),
        (bool, ..., "needs a default"),
        (str, "x", "is of type str; use a bounded int or float, a bool or a Literal"),
        (list[int], [1], "is of type list"),
        (dict, {}, "is of type dict"),
        (Literal[1, 2], 1, "is of type Literal"),
        (Literal["a", 2], "a", "is of type Literal"),
        (int | None, 3, r"is of type int \| None"),
        (Optional[bool], True, "is of type Optional;"),  # noqa: UP045
        (complex, 1j, "is of type complex"),
        (int, Field(10, ge=1, le=9), "default 10, which it refuses itself: .*less than or equal"),
        (int, Field(5, ge=0, le=9, multiple_of=2), "default 5, .*multiple of 2"),
        (int, Field("5", ge=0, le=9), "default '5', .*valid integer"),
        (int, Field(True, ge=0, le=9), "default True, .*valid integer"),
        (float, Field(math.nan, ge=0, le=9), "default nan, which it refuses itself"),
        (bool, 1, "default 1, .*valid boolean"),
        (Literal["a", "b"], "c", "default 'c', .*'a' or 'b'"),
    ],
    ids=str,
)
def test_a_parameter_without_a_control_is_refused(kind, default, message):
    with pytest.raises(InvalidParameter, match=message):
        controls_of(only(k=(kind, default)))


def test_the_refusal_names_the_field_it_is_about():
    fields = only(good=(bool, True), bad=(str, "x")).model_fields
    assert control_of("good", fields["good"]).kind == "bool"
    with pytest.raises(InvalidParameter, match="'bad'"):
        control_of("bad", fields["bad"])


def test_parameters_are_frozen_and_closed():
    with pytest.raises(ValidationError, match="frozen"):
        FourKinds().steps = 16
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        FourKinds(colour="red")


class Sound(Explainer[NoParams]):
    """An explainer with nothing wrong about it."""

    name = "sound-method++"
    title = "Sound"
    family = "CAM"
    summary = "Shows nothing."
    limits = "Cannot show anything."
    source = "None, eq. 1."
    cost = "none"
    needs = frozenset({Need.GRADIENTS})
    Params = NoParams

    def explain(self, subject, params):
        raise NotImplementedError


def spoilt(**attributes) -> Explainer:
    """Return the sound explainer with other metadata."""
    return type("Spoilt", (Sound,), attributes)()


def test_a_sound_explainer_has_no_faults():
    assert contract_errors(Sound()) == []
    assert Sound().why_not(None) is None


@pytest.mark.parametrize(
    "field", ["name", "title", "family", "summary", "limits", "source", "cost"]
)
@pytest.mark.parametrize("value", ["", "  ", None, 3], ids=repr)
def test_each_text_must_be_there(field, value):
    errors = contract_errors(spoilt(**{field: value}))
    assert f"Spoilt.{field} must be a non-empty string." in errors
    assert all(f"Spoilt.{field}" in f or "kebab-case" in f for f in errors)


@pytest.mark.parametrize(
    "name", ["Grad-CAM", "grad_cam", "-cam", "cam-", "a--b", "a b", "cam+++", "é"]
)
def test_a_name_must_be_kebab_case(name):
    assert contract_errors(spoilt(name=name)) == [
        f"The name {name!r} must be kebab-case: lower-case words joined by '-'."
    ]


@pytest.mark.parametrize("name", ["cam", "grad-cam", "grad-cam++", "x2-cam", "3d"])
def test_kebab_case_names_pass(name):
    assert contract_errors(spoilt(name=name)) == []


@pytest.mark.parametrize("needs", [None, (), {Need.GRADIENTS}, frozenset({"gradients"})], ids=repr)
def test_needs_must_be_a_frozen_set_of_needs(needs):
    assert contract_errors(spoilt(needs=needs)) == ["Spoilt.needs must be a frozenset of Need."]


@pytest.mark.parametrize("params", [None, dict, NoParams(), Field], ids=lambda v: type(v).__name__)
def test_parameters_must_be_a_class_of_ours(params):
    assert contract_errors(spoilt(Params=params)) == [
        "Spoilt.Params must be a subclass of whylens.Params."
    ]


@pytest.mark.parametrize("trial", [3, {}, NoParams], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("field", ["test_params", "test_fit_params"])
def test_trial_parameters_must_be_of_the_explainers_own_class(field, trial):
    (error,) = contract_errors(spoilt(**{field: trial}))
    assert error == f"Spoilt.{field} must be a NoParams or None."
    assert contract_errors(spoilt(Params=FourKinds, test_params=NoParams())) == [
        "Spoilt.test_params must be a FourKinds or None."
    ]
    assert contract_errors(spoilt(Params=FourKinds, test_params=FourKinds(steps=16))) == []


def test_every_parameter_that_cannot_be_drawn_is_listed():
    errors = contract_errors(spoilt(Params=only(a=(str, "x"), b=(bool, True), c=(int, 3))))
    assert len(errors) == 2
    assert "'a' is of type str" in errors[0]
    assert "'c' needs both ge= and le=" in errors[1]


@pytest.mark.parametrize("stranger", [None, "cam", Sound, object()], ids=lambda v: type(v).__name__)
def test_what_is_no_explainer_is_named_by_its_type(stranger):
    assert contract_errors(stranger) == [
        f"explainers() returned a {type(stranger).__name__}, not an Explainer."
    ]


def test_all_faults_are_found_at_once():
    errors = contract_errors(spoilt(name="Bad Name", title="", needs=(), Params=only(k=(int, 3))))
    assert len(errors) == 4
