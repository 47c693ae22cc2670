"""What an explainer may answer with: a closed set of frozen, validated values.

Values are raw, in the method's own stated unit; nothing here normalises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from whylens.core.errors import BadInput

Array = npt.NDArray[np.float32]
Z95 = 1.96  # standard errors within which 95 of 100 estimates of 0 lie


def _read_only(values: npt.ArrayLike, what: str) -> Array:
    array = np.array(values, dtype=np.float32)  # a copy: the caller keeps theirs writable
    if not np.isfinite(array).all():
        raise BadInput(
            f"The {what} holds NaN or infinite values. Check the image and the weights; "
            "a map with gaps is never shown."
        )
    array.setflags(write=False)
    return array


# Values that hold arrays compare by identity: == of arrays has no single truth value.
@dataclass(frozen=True, slots=True, eq=False)
class Heatmap:
    """One attribution per position of the model's view.

    Attributes:
        values: (*S) float32, raw and, where the method is, signed; S is one or more axes and may
            be coarser than the model's input: every cell covers an equal share of the view.
        unit: What one unit of `values` is, as in "class-score units".
        signed: Whether negative values mean evidence against the target.
        diagnostics: Named figures by which the map can be judged, as in IG's completeness gap.
        note: One sentence for the visitor, empty where there is nothing to say.
        error: (*S) float32 standard error of `values`, for a method that samples; None for one
            that does not.
    """

    values: Array
    unit: str
    signed: bool = False
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    error: Array | None = None

    def __post_init__(self) -> None:
        values = _read_only(self.values, "map")
        if values.ndim < 1 or values.size < 1:
            raise BadInput("A map needs at least one position.")
        object.__setattr__(self, "values", values)
        if self.error is not None:
            error = _read_only(self.error, "standard error")
            if error.shape != values.shape or (error < 0).any():
                raise BadInput("A map has one standard error per position, none below 0.")
            object.__setattr__(self, "error", error)
        object.__setattr__(self, "diagnostics", MappingProxyType(dict(self.diagnostics)))

    def __reduce__(self) -> tuple[object, ...]:
        # A read-only mapping does not pickle; results must cross process boundaries.
        plain = np.array(self.values), self.unit, self.signed, dict(self.diagnostics), self.note
        return (Heatmap, (*plain, None if self.error is None else np.array(self.error)))

    def significant(self) -> Heatmap:
        """Return this map with 0 where the value does not differ from 0 at 95 %.

        A map without a standard error comes back as it is: all of it is measured.
        """
        if self.error is None:
            return self
        beyond_error = np.abs(self.values) > Z95 * self.error
        return replace(self, values=np.where(beyond_error, self.values, np.float32(0)))

    def blank_reason(self) -> str:
        """Return why this map shows nothing, or "" where it shows something."""
        low, high = float(self.values.min()), float(self.values.max())
        if low == high == 0:
            if self.signed:
                return (
                    "The map is zero everywhere: no place of this view adds to the target score or "
                    "takes from it."
                )
            return (
                "No positive evidence: the method keeps only what speaks for the target, and "
                "nothing in this view does. Try another class, or signed values where offered."
            )
        spread, scale = high - low, max(abs(low), abs(high))
        if spread <= 1e-6 * scale:
            return (
                f"The map has the same value everywhere ({low:.4g} {self.unit}): it points at "
                "no place. A network with a 1 x 1 feature map, or a constant image, does this."
            )
        return ""


@dataclass(frozen=True, slots=True)
class NumberedBox:
    """A numbered box on a picture; boxes of one number on two pictures belong together.

    Attributes:
        number: From 1.
        left: Share of the width, 0 to 1, as are the others of width and height.
        top: Upper edge.
        right: Right edge.
        bottom: Lower edge.
    """

    number: int
    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        if not (0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1):
            raise BadInput("A mark is a box within the picture, in shares of its sides.")

    @classmethod
    def of_cell(
        cls, cell: tuple[int, int], grid: tuple[int, int], number: int = 1, *, reach: float = 0.0
    ) -> NumberedBox:
        """Return the box of a feature map's cell on the picture.

        Args:
            cell: Row and column.
            grid: Rows and columns of the feature map; a signal's has one row.
            reach: Cells more on every side, since a feature sees beyond its own.
        """
        (row, column), (rows, columns) = cell, grid
        return cls(
            number,
            max(0.0, (column - reach) / columns),
            max(0.0, (row - reach) / rows),
            min(1.0, (column + 1 + reach) / columns),
            min(1.0, (row + 1 + reach) / rows),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The visitor's own view, shown beside an example to say where the two meet.

    Attributes:
        image: (H, W, 3) uint8, what the network saw.
        marks: Boxes on it.
        similarity: (h, w) float32 over the view, or None where there is no map.
    """

    image: npt.NDArray[np.uint8]
    marks: tuple[NumberedBox, ...] = ()
    similarity: Array | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", _picture(self.image))
        if self.similarity is not None:
            object.__setattr__(self, "similarity", _read_only(self.similarity, "similarity map"))


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One image that stands for the decision, with a caption.

    Attributes:
        image: (H, W, 3) uint8.
        caption: Plain text; label, distance, or points contributed.
        value: The figure by which it was ranked.
        key: Id of the training picture, where it has one.
        group: Heading under which it is shown; items of one group follow one another.
        marks: Boxes on it.
        comparison: What of the visitor's own view it is compared with, or None.
        diagnostics: Named figures by which it can be judged.
    """

    image: npt.NDArray[np.uint8]
    caption: str
    value: float
    key: str = ""
    group: str = ""
    marks: tuple[NumberedBox, ...] = ()
    comparison: Comparison | None = None
    diagnostics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", _picture(self.image))
        if not np.isfinite(self.value):
            raise BadInput("An example's value must be finite.")
        object.__setattr__(self, "diagnostics", MappingProxyType(dict(self.diagnostics)))

    def __reduce__(self) -> tuple[object, ...]:
        fields = self.image, self.caption, self.value, self.key, self.group, self.marks
        return (Example, (*fields, self.comparison, dict(self.diagnostics)))


def _picture(image: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    array = np.array(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise BadInput("An example image must be (height, width, 3) bytes.")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True)
class Examples:
    """Images of the training set that explain the decision, best first.

    Attributes:
        items: The examples, in the order to show them.
        unit: What `value` of each item is, as in "cosine similarity".
        note: One sentence for the visitor.
    """

    items: tuple[Example, ...]
    unit: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Prototypes:
    """Prototypes that fired, with the points each adds to the class score.

    Attributes:
        items: One example per prototype; `value` is the points it contributes.
        unit: What one point is.
        predicted: Label that the prototypes' own head chose; it may differ from the model's.
        score: The class score that the points of all items and `rest` add up to.
        rest: Points that are in no item: the constant, and prototypes too small to show.
        note: One sentence for the visitor.
    """

    items: tuple[Example, ...]
    unit: str
    predicted: str
    score: float
    rest: float = 0.0
    note: str = ""


Result = Heatmap | Examples | Prototypes


@dataclass(frozen=True, slots=True)
class Partial:
    """A result that is still being worked on.

    Attributes:
        result: What can be shown already.
        fraction: Share of the work done, 0 to 1.
    """

    result: Result
    fraction: float

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise BadInput(f"A fraction done lies between 0 and 1, not at {self.fraction}.")
