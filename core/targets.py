"""Which number is explained: a logit, a probability, A rather than B, a value, or any function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, SupportsIndex, get_args

from whylens.core.errors import BadInput, InvalidParameter, quote
from whylens.core.words import percent

if TYPE_CHECKING:
    import torch

Quantity = Literal["logit", "probability", "contrast", "value", "function"]
# What a network's scores are of: classes that exclude each other, labels that each hold or not, or
# one number that is read as it is, as an age. A number v comes as two logits, -v/2 and v/2, like
# any single score; their difference is v, to the last bit.
Outputs = Literal["classes", "labels", "value"]
EACH_ITS_OWN = "Each label has a probability of its own."


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class with its probability, or the number that a network gives.

    Attributes:
        probability: None of a number.
        logit: Or the number itself.
        unit: Of the number, as in "years".
    """

    index: int
    label: str
    probability: float | None
    logit: float
    unit: str = ""

    @property
    def amount(self) -> str:
        """The probability or the number in words, as in "83.1 %" or "34.2 years"."""
        if self.probability is None:
            return f"{self.logit:.4g} {self.unit}".strip()
        return percent(self.probability, 1)

    def __str__(self) -> str:
        return f"{self.label} {self.amount}"


def class_scores(
    logits: torch.Tensor, labels: Sequence[str], outputs: Outputs, unit: str, *, top: int
) -> tuple[ClassScore, ...]:
    """Return the most probable classes, best first; of a network with one number, that number.

    Args:
        logits: (C,) of one input.
        top: How many.

    Raises:
        InvalidParameter: `top` is no whole number of at least 1.
    """
    if not isinstance(top, SupportsIndex) or top < 1:  # NumPy's whole numbers are some, too
        raise InvalidParameter(
            f"top is how many classes are wanted: a whole number of at least 1, not "
            f"{quote(str(top))}."
        )
    if outputs == "value":
        return (ClassScore(0, labels[0], None, float(logits[1] - logits[0]), unit),)
    probabilities = probabilities_of(logits[None], outputs)[0]
    return tuple(
        ClassScore(i, labels[i], float(probabilities[i]), float(logits[i]))
        for i in logits.argsort(descending=True, stable=True)[:top].tolist()
    )


def probabilities_of(logits: torch.Tensor, outputs: Outputs) -> torch.Tensor:
    """Return (N, C) probabilities of (N, C) logits.

    Args:
        outputs: "classes" share one softmax and add up to 1; "labels" have a sigmoid each.
    """
    return logits.sigmoid() if outputs == "labels" else logits.softmax(-1)


@dataclass(frozen=True, slots=True)
class Target:
    """The scalar whose value is explained.

    Attributes:
        index: The class A.
        quantity: "logit" of A, "probability" of A, "contrast": logit A minus logit B, "value":
            the one number that the network gives, or "function": whatever `function` returns.
        versus: The class B of a contrast, else None.
        outputs: What the network's scores are of; decides what a probability is.
        function: From (N, C) logits to (N,) numbers; None where an answer was read from a file.
        value_unit: Of a value, as in "years".
    """

    index: int
    quantity: Quantity = "logit"
    versus: int | None = None
    outputs: Outputs = "classes"
    function: Callable[[torch.Tensor], torch.Tensor] | None = None
    value_unit: str = ""

    def __post_init__(self) -> None:
        if self.quantity not in get_args(Quantity):
            raise BadInput(
                f"A target is a logit, a probability or a contrast, not {self.quantity}."
            )
        if (self.quantity == "contrast") != (self.versus is not None):
            raise BadInput("A contrast needs a second class to compare with, and only a contrast.")
        if self.versus == self.index:
            raise BadInput("A contrast needs two different classes; choose another second class.")

    def check(self, classes: int) -> Target:
        """Return this target if its classes exist.

        Raises:
            BadInput: A class index is out of range.
        """
        for index in (self.index, self.versus):
            if index is not None and not 0 <= index < classes:
                raise BadInput(f"The model has classes 0 to {classes - 1}; there is no {index}.")
        return self

    def score(self, logits: torch.Tensor) -> torch.Tensor:
        """Return (N,) the explained quantity of each row, differentiable.

        Args:
            logits: (N, C) class scores.
        """
        if self.quantity == "function":
            if self.function is None:
                raise BadInput("The function that was explained is not here. Explain it anew.")
            return self.function(logits)
        if self.quantity == "probability":
            return probabilities_of(logits, self.outputs)[:, self.index]
        if self.quantity == "value":
            return logits[:, 1] - logits[:, 0]
        if self.versus is not None:
            return logits[:, self.index] - logits[:, self.versus]
        return logits[:, self.index]

    def as_probability(self) -> Target:
        """Return the probability of this target's class; a value, which has none, is itself."""
        if self.quantity == "value":
            return self
        return replace(self, quantity="probability", versus=None)

    @property
    def unit(self) -> str:
        """What one unit of the score is."""
        return {
            "logit": "logit",
            "probability": "probability",
            "contrast": "logit difference",
            "value": self.value_unit or "value",
            "function": "value of the function",
        }[self.quantity]


def check_value_question(index: int | None, quantity: Quantity, versus: int | None) -> None:
    """Raise BadInput where a question to a network with one number is one about classes."""
    if index not in (None, 0) or versus is not None or quantity not in ("logit", "value"):
        raise BadInput(
            "This network gives one number: it has no classes to choose or to compare, and no "
            "probability. Ask without them."
        )


def target_of(
    logits: torch.Tensor,
    index: int | None,
    quantity: Quantity,
    versus: int | None,
    outputs: Outputs = "classes",
    unit: str = "",
) -> Target:
    """Return what is explained: the predicted class, against the runner-up, where not said.

    Args:
        logits: (C,) of the input.
        index: The class A, or None for the predicted one.
        quantity: As in `Target`.
        versus: The class B of a contrast, or None for the best other one.
        outputs: As in `Target`.
        unit: Of a value.

    Raises:
        BadInput: There is no such class, or the network gives a number and knows no classes.
    """
    if outputs == "value":
        check_value_question(index, quantity, versus)
        return Target(0, "value", outputs="value", value_unit=unit)
    if quantity == "value":
        raise BadInput("This network gives scores of classes, not a value. Ask for a class.")
    if quantity == "function":
        raise BadInput("A function of the outputs is given in Python: whylens.explain(target=f).")
    class_order = logits.argsort(descending=True, stable=True)
    index = int(class_order[0]) if index is None else index
    if quantity == "contrast" and versus is None:
        versus = next(int(i) for i in class_order if int(i) != index)
    if quantity != "contrast":
        versus = None
    return Target(index, quantity, versus, outputs).check(len(logits))
