"""Test 18: methods that rest on pictures never show the question as its own answer.

May touch what lies below, and the disk: what was fitted is written and read again.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from whylens.core.conformance.outcome import Broken, NotForThis, require
from whylens.core.conformance.randomness import home
from whylens.core.conformance.toy_inputs import TWIN_OF_FIRST, Tinted
from whylens.core.conformance.under_test import Candidate
from whylens.core.datasets.tensors import inputs_from
from whylens.core.errors import BadArtifact
from whylens.core.results import Examples
from whylens.core.storage.artifacts import read_artifact, write_artifact


def never_itself(candidate: Candidate) -> None:
    """A picture of the gallery is not shown itself, nor a copy of it, byte for byte."""
    _needs_fitting(candidate)
    backbone, data = home(candidate), Tinted()
    result = candidate.answer(backbone, inputs_from(data.pixels(0), backbone.spec)).result
    if not isinstance(result, Examples):
        raise NotForThis("it shows no pictures of a gallery as they are")
    shown = {item.key for item in result.items if item.key}
    if not shown:
        raise NotForThis("its examples carry no keys")
    found = sorted(shown & {data.items[0].key, data.items[TWIN_OF_FIRST].key})
    require(
        not found,
        f"Asked about a picture of its own gallery it shows {found}: the picture itself, or a "
        "copy of it. Leave out what equals the question.",
    )


def bound_to_weights(candidate: Candidate) -> None:
    """What was fitted survives the disk, answers the same, and is refused for other weights."""
    _needs_fitting(candidate)
    backbone, name = home(candidate), candidate.explainer.name
    subject = candidate.subject(backbone, inputs_from(Tinted().pixels(1), backbone.spec))
    wanted = candidate.asked(subject).values
    own, other = backbone.identity.digest, home(candidate, seed=8).identity.digest
    spec = backbone.spec
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "network" / name
        try:
            write_artifact(
                folder, subject.artifact, method=name, model="network", weights=own, spec=spec
            )
        except (TypeError, ValueError, KeyError) as exc:
            raise Broken(
                f"What fit() made cannot be written ({exc}). Arrays are of float16, float32, "
                "uint8, int32 or int64, and facts are what JSON knows."
            ) from exc
        again = read_artifact(folder, method=name, weights=own, spec=spec)
        got = candidate.asked(replace(subject, fitted=again)).values
        require(
            np.array_equal(got, wanted),
            "What was fitted answers otherwise once it was written and read. Keep all that an "
            "answer needs in the artifact's arrays and facts.",
        )
        try:
            read_artifact(folder, method=name, weights=other, spec=spec)
        except BadArtifact:
            return
        finally:
            del again, got  # maps of the file, which is about to go
    raise Broken("What was fitted for one network was accepted for another's weights.")


def _needs_fitting(candidate: Candidate) -> None:
    if not candidate.explainer.fitted:
        raise NotForThis("it is not fitted: it has no gallery")
