"""What the configuration of a network of Hugging Face says of its scores, by its attributes alone.

That of a folder and that of a module are read by one function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from whylens.core.errors import BadArtifact
from whylens.core.models.labels import labels_by_index
from whylens.core.targets import Outputs


def stated_outputs(
    config: Any, name: str, scores: int, given: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], Outputs]:
    """Return the labels of a configuration and what the scores are of.

    Args:
        config: With `id2label` and `problem_type`, or without.
        name: Of the network, for messages.
        scores: How many it gives.
        given: Labels of the caller's, which come first; of several the scores are no value.

    Raises:
        BadArtifact: Its labels have no order, or it gives several numbers that are no scores.
    """
    labels = given or _labels(getattr(config, "id2label", None), name)
    kind = getattr(config, "problem_type", None)
    if kind == "regression" and len(given) < 2:
        if scores > 1:
            raise BadArtifact(
                f"{name} gives {scores} numbers that are no scores of classes: its config says "
                "regression. Give it as a module and explain a function of them: target=."
            )
        # What transformers writes where it was told no name.
        return (("value",) if labels == ("LABEL_0",) else labels), "value"
    return labels, "labels" if kind == "multi_label_classification" else "classes"


def _labels(names: Any, name: str) -> tuple[str, ...]:
    if not isinstance(names, Mapping):
        return ()
    try:
        return tuple(str(label) for label in labels_by_index(names))
    except ValueError as exc:
        raise BadArtifact(
            f"The labels in the config of {name} cannot be used: {exc}. Correct its id2label."
        ) from exc
