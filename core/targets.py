"""Which number is being explained: a logit, a probability, A rather than B, or any function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from whylens.core.errors import BadInput

if TYPE_CHECKING:
    import torch

Quantity = Literal["logit", "probability", "contrast", "function"]
# What a network's scores are of: classes that exclude each other, or labels that each hold or not.
Outputs = Literal["classes", "labels"]


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
        quantity: "logit" of A, "probability" of A, "contrast": logit A minus logit B, or
            "function": whatever `function` returns.
        versus: The class B of a contrast, else None.
        outputs: What the network's scores are of; decides what a probability is.
        function: From (N, C) logits to (N,) numbers; None where an answer was read from a file.
    """

    index: int
    quantity: Quantity = "logit"
    versus: int | None = None
    outputs: Outputs = "classes"
    function: Callable[[torch.Tensor], torch.Tensor] | None = None

    def __post_init__(self) -> None:
        if self.quantity not in get_args(Quantity):
            raise BadInput(
                f"A target is a logit, a probability or a contrast, not {self.quantity}."
            )
        if (self.quantity == "contrast") != (self.versus is not None):
            raise BadInput("A contrast needs a second class to compare with, and only a contrast.")
        if self.versus == self.index:
            raise BadInput("A contrast needs two different classes; choose another second class.")

    def checked(self, classes: int) -> Target:
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
        if self.versus is not None:
            return logits[:, self.index] - logits[:, self.versus]
        return logits[:, self.index]

    @property
    def unit(self) -> str:
        """What one unit of the score is."""
        return {
            "logit": "logit",
            "probability": "probability",
            "contrast": "logit difference",
            "function": "value of the function",
        }[self.quantity]


def target_of(
    logits: torch.Tensor,
    index: int | None,
    quantity: Quantity,
    versus: int | None,
    outputs: Outputs = "classes",
) -> Target:
    """Return what is explained: the predicted class, against the runner-up, where not said.

    Args:
        logits: (C,) of the input.
        index: The class A, or None for the predicted one.
        quantity: As in `Target`.
        versus: The class B of a contrast, or None for the best other one.
        outputs: As in `Target`.

    Raises:
        BadInput: There is no such class.
    """
    if quantity == "function":
        raise BadInput("A function of the outputs is given in Python: whylens.explain(target=f).")
    ranked = logits.argsort(descending=True, stable=True)
    chosen = int(ranked[0]) if index is None else index
    if quantity == "contrast" and versus is None:
        versus = next(int(i) for i in ranked if int(i) != chosen)
    if quantity != "contrast":
        versus = None
    return Target(chosen, quantity, versus, outputs).checked(len(logits))
