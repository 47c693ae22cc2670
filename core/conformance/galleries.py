"""Test 18: methods that rest on pictures never show the question as its own answer."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from whylens.core.conformance.outcome import CheckFailed, NotApplicable, require
from whylens.core.conformance.randomness import default_network
from whylens.core.conformance.toy_inputs import TWIN_OF_FIRST, Tinted
from whylens.core.conformance.under_test import ExplainerUnderTest
from whylens.core.datasets.tensors import to_tensor
from whylens.core.errors import BadArtifact
from whylens.core.results import Examples
from whylens.core.storage.artifacts import read_artifact, write_artifact


def never_itself(candidate: ExplainerUnderTest) -> None:
    """A picture of the gallery is not shown itself, nor a copy of it, byte for byte."""
    _needs_fitting(candidate)
    backbone, data = default_network(candidate), Tinted()
    result = candidate.answer(backbone, to_tensor(data.pixels(0), backbone.input_spec)).result
    if not isinstance(result, Examples):
        raise NotApplicable("it shows no pictures of a gallery as they are")
    keys = {item.key for item in result.items if item.key}
    if not keys:
        raise NotApplicable("its examples carry no keys")
    repeated = sorted(keys & {data.items[0].key, data.items[TWIN_OF_FIRST].key})
    require(
        not repeated,
        f"Asked about a picture of its own gallery it shows {repeated}: the picture itself, or a "
        "copy of it. Leave out what equals the question.",
    )


def bound_to_weights(candidate: ExplainerUnderTest) -> None:
    """What was fitted survives the disk, answers the same, and is refused for other weights."""
    _needs_fitting(candidate)
    backbone, name = default_network(candidate), candidate.explainer.name
    subject = candidate.subject(backbone, to_tensor(Tinted().pixels(1), backbone.input_spec))
    expected = candidate.answer_to(subject).values
    digest, other_digest = (
        backbone.identity.digest,
        default_network(candidate, seed=8).identity.digest,
    )
    input_spec = backbone.input_spec
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "network" / name
        try:
            write_artifact(
                folder,
                subject.artifact,
                method=name,
                model="network",
                weights=digest,
                input_spec=input_spec,
            )
        except (TypeError, ValueError, KeyError) as exc:
            raise CheckFailed(
                f"What fit() made cannot be written ({exc}). Arrays are of float16, float32, "
                "uint8, int32 or int64, and facts are what JSON knows."
            ) from exc
        loaded = read_artifact(folder, method=name, weights=digest, input_spec=input_spec)
        actual = candidate.answer_to(replace(subject, stored_artifact=loaded)).values
        require(
            np.array_equal(actual, expected),
            "What was fitted answers otherwise once it was written and read. Keep all that an "
            "answer needs in the artifact's arrays and facts.",
        )
        try:
            read_artifact(folder, method=name, weights=other_digest, input_spec=input_spec)
        except BadArtifact:
            return
        finally:
            del loaded, actual  # maps of the file, which is about to go
    raise CheckFailed("What was fitted for one network was accepted for another's weights.")


def _needs_fitting(candidate: ExplainerUnderTest) -> None:
    if not candidate.explainer.artifact_kind:
        raise NotApplicable("it is not fitted: it has no gallery")
