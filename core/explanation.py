"""Questions to the engine and its explanations: plain data that can cross a process boundary."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from whylens.core.errors import BadInput
from whylens.core.inputs.arrays import to_photo
from whylens.core.inputs.photo import Photo
from whylens.core.inputs.view import View
from whylens.core.results import Heatmap, Result
from whylens.core.targets import ClassScore, Outputs, Quantity, Target

if TYPE_CHECKING:
    from whylens.core.evaluation.verdict import Verdict


@dataclass(frozen=True)
class Question:
    """An input, a model and what about it is to be explained.

    Attributes:
        model: The model's name.
        photo: A photo, or any image that `to_photo` takes; None for a signal.
        signal: (C, L) float32, or None for a photo.
        target: Class to explain; None means the predicted one.
        quantity: "logit", "probability" or "contrast"; of a network with one number, "logit".
        versus: The other class of a contrast; None means the runner-up.
        seed: For methods that draw random numbers.
        visitor: Id of a visitor whose own fitted artifacts come first; "" for none.
        signal_notes: What was done to the values of a signal or of bands, for those who look on.
    """

    model: str
    photo: Photo | None = None
    signal: npt.NDArray[np.float32] | None = None
    target: int | None = None
    quantity: Quantity = "logit"
    versus: int | None = None
    seed: int = 0
    visitor: str = ""
    signal_notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.photo is not None and not isinstance(self.photo, Photo):  # scripts give pixels
            object.__setattr__(self, "photo", to_photo(self.photo))  # type: ignore[unreachable]
        for name, index in (("target", self.target), ("versus", self.versus)):
            if index is not None and not isinstance(index, int | np.integer):
                raise BadInput(
                    f"{name} of a question is the index of a class, not {index!r}. "
                    "whylens.explain takes labels; class_index(label, labels) finds their index."
                )
        if not isinstance(self.model, str):
            raise BadInput(
                f"A question names its model; this is a {type(self.model).__name__}. "
                "whylens.explain takes networks themselves; an engine takes them by its loader=."
            )
        if self.versus is not None and self.quantity != "contrast":
            raise BadInput(
                'versus= names the other class of a contrast: give quantity="contrast" with it.'
            )

    @property
    def pixels(self) -> npt.NDArray[np.uint8] | None:
        """(H, W, 3) uint8 of the photo, or None for a signal."""
        return None if self.photo is None else self.photo.pixels

    @property
    def array(self) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
        """The input itself.

        Raises:
            BadInput: There is none, or there are two.
        """
        if self.photo is not None and self.signal is None:
            return self.photo.pixels
        if self.signal is not None and self.photo is None:
            return self.signal
        raise BadInput("A question needs a photo or a signal, and only one of them.")

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the input that a visitor should know, as in "laid on white"."""
        return self.signal_notes if self.photo is None else self.photo.notes

    def digest(self) -> str:
        """Return the hex sha256 of the input's values and shape."""
        array = np.ascontiguousarray(self.array)
        head = f"{array.shape} {array.dtype}".encode()
        return hashlib.sha256(head + array.tobytes()).hexdigest()


@dataclass(frozen=True)
class Prediction:
    """What a model says to an input.

    Attributes:
        model: Its name.
        classes: Best first; of a network with one number, that number.
        seconds: Time taken, loading not counted.
        outputs: What the model's scores are of.
    """

    model: str
    classes: tuple[ClassScore, ...]
    seconds: float
    outputs: Outputs = "classes"


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model, as plain data.

    Attributes:
        name: Its name.
        digest: sha256 of its weights.
        licence: Licence of the weights.
        source: Where the weights came from.
        trained: False for random weights.
        notes: For visitors.
        labels: One per class.
        input: How images are fed, as plain data.
        outputs: "classes" that exclude each other, "labels" that each hold or not: their
            probabilities do not add up to 1; or "value": one number.
        unit: Of the number.
        output: Of several outputs of a module, the name or number of the one that is explained.
    """

    name: str
    digest: str
    licence: str
    source: str
    trained: bool
    notes: tuple[str, ...]
    labels: tuple[str, ...]
    input: Mapping[str, object]
    outputs: Outputs = "classes"
    unit: str = ""
    output: str | int | None = None


@dataclass(frozen=True)
class Explanation:
    """One answer, partial or final.

    Attributes:
        method: Name of the explainer.
        title: Its title.
        plugin: Who owns it, "distribution version".
        model: The model's card.
        question: What was asked; its input included.
        target: What was explained.
        labels: Label of the target class and, for a contrast, of the other.
        score: The target score.
        probability: Of the target class; None where a value or a function is explained.
        result: The result.
        view: How the photo reached the network; None for a signal.
        params: Parameters by name.
        fraction: Share of the work done.
        seconds: Computing time so far.
        finished: False for a partial result.
        reference: Paper and equation of the method.
        verdict: Whether the map is to be believed, once it was judged.
        reason: Why a map shows nothing, or "".
    """

    method: str
    title: str
    plugin: str
    model: ModelCard
    question: Question
    target: Target
    labels: tuple[str, ...]
    score: float
    probability: float | None
    result: Result
    view: View | None
    params: Mapping[str, object] = field(default_factory=dict)
    fraction: float = 1.0
    seconds: float = 0.0
    finished: bool = True
    reference: str = ""
    verdict: Verdict | None = None

    @property
    def reason(self) -> str:
        """Why a map shows nothing, or "" where it shows something."""
        return self.result.blank_reason() if isinstance(self.result, Heatmap) else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the input that a visitor should know, as in "laid on white"."""
        return self.question.notes

    @property
    def seconds_left(self) -> float | None:
        """An estimate of the time left, None before it can be made."""
        if self.fraction <= 0 or self.finished:
            return None
        return self.seconds * (1 - self.fraction) / self.fraction

    @property
    def question_text(self) -> str:
        """The question in words, as in "tiger cat rather than boxer"."""
        words = " rather than ".join(self.labels)
        return f"probability of {words}" if self.target.quantity == "probability" else words


def of_several_networks(explanations: Iterable[Explanation]) -> bool:
    """Return whether explanations are of more than one network, which then has to be named."""
    return len({explanation.model.name for explanation in explanations}) > 1


def titles_of(explanations: Sequence[Explanation]) -> list[str]:
    """Return the title of each, with its network's name where they are of several."""
    several = of_several_networks(explanations)
    return [f"{e.title} on {e.model.name}" if several else e.title for e in explanations]
