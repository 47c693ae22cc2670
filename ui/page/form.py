"""The question's form and the maps' style: their components, and what the values mean.

Handlers get the values under the names of the fields, and so do scripts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from gradio.components import Component

from whylens.core.explanation import Question
from whylens.core.inputs.arrays import reads_photos
from whylens.core.inputs.framing import WHOLE, parse_framing
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.labels import class_index
from whylens.core.outputs.render import Style
from whylens.ui.page.session import PREDICTED, RUNNER_UP, Session, takes_signals


@dataclass(frozen=True)
class QuestionForm:
    """The components of the left side that make up a question."""

    photo: Component
    model: Component
    target: Component
    quantity: Component
    versus: Component
    framing: Component

    @property
    def inputs(self) -> dict[str, Component]:
        """The components by name."""
        return dict(vars(self))

    @staticmethod
    def read(values: Mapping[str, Any], session: Session, visitor: str = "") -> Question:
        """Return the question that the form's values ask.

        Args:
            visitor: Whose own artifacts come first.

        Raises:
            CoreError: A value is missing or wrong.
        """
        model, quantity = session.model_name(values["model"]), values["quantity"]
        card = session.engine.card(model)
        input_spec = InputSpec.model_validate(card.input)
        photo = signal = None
        notes: tuple[str, ...] = ()
        if takes_signals(card):
            signal = session.store.signal(values["photo"])
        elif not reads_photos(input_spec):
            signal, notes = session.store.channels(values["photo"], input_spec)
        else:
            framing = parse_framing(values["framing"])
            photo = replace(session.store.photo(values["photo"]), framing=framing)

        def index(text: object, default: str) -> int | None:
            return None if text in (default, "", None) else class_index(str(text), card.labels)

        return Question(
            model=model,
            photo=photo,
            signal=signal,
            target=index(values["target"], PREDICTED),
            quantity=quantity,
            versus=index(values["versus"], RUNNER_UP) if quantity == "contrast" else None,
            visitor=visitor,
            signal_notes=notes,
        )


def question_id(values: Mapping[str, Any]) -> str:
    """Return the id of the question that the form's values ask: equal values, equal ids."""
    versus = values["versus"] if values["quantity"] == "contrast" else None
    parts = [values[name] for name in ("photo", "model", "target", "quantity", "framing")]
    return hashlib.sha256(repr([*parts, versus]).encode()).hexdigest()[:12]


def network_id(values: Mapping[str, Any]) -> str:
    """Return the id of what any photo would be asked: the network, and whether it is shown whole.

    A chosen part is of one photo, so that others are shown as by the network's own crop.
    """
    return f"{values['model'] or ''}{' whole' if values['framing'] == WHOLE else ''}"


@dataclass(frozen=True)
class StyleControls:
    """The components that decide how maps are laid over the photo."""

    colormap: Component
    opacity: Component
    significant_only: Component
    under: Component

    @property
    def inputs(self) -> dict[str, Component]:
        """The components by name."""
        return dict(vars(self))

    @staticmethod
    def read(values: Mapping[str, Any]) -> Style:
        """Return the style that the controls' values ask for."""
        return Style(**{field.name: values[field.name] for field in fields(Style)})
