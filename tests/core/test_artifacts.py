"""Fitted artifacts come back as they were written, or are refused with the reason."""

from __future__ import annotations

import json
import os
import pickle
import subprocess

import numpy as np
import pytest

from tests.support.killed import killed_at
from tests.support.networks import plain_spec
from whylens.core.errors import BadArtifact
from whylens.core.storage.artifacts import (
    ARRAYS,
    FACTS,
    Artifact,
    is_artifact,
    read_artifact,
    write_artifact,
)

SPEC = plain_spec(16, 24)
BOUND = {"method": "twin", "weights": "a" * 64, "input_spec": SPEC}


@pytest.fixture
def artifact(rng) -> Artifact:
    return Artifact(
        {
            "vectors": rng.normal(size=(7, 5)).astype(np.float16),
            "labels": np.arange(7, dtype=np.int32),
            "bytes": rng.integers(0, 256, 100, dtype=np.uint8),
            "ends": np.array([3, 1 << 40], np.int64),
            "none": np.zeros((0, 4), np.float32),
        },
        {"labels": ["cat", "dög"], "count": 7, "nested": {"x": [1.5]}},
    )


@pytest.fixture
def folder(tmp_path, artifact):
    place = tmp_path / "resnet18" / "twin"
    write_artifact(place, artifact, model="resnet18", **BOUND)
    return place


def test_arrays_and_facts_come_back_as_they_were_written(folder, artifact):
    copy = read_artifact(folder, **BOUND)
    assert dict(copy.facts) == dict(artifact.facts)
    assert set(copy.arrays) == set(artifact.arrays)
    for name, array in artifact.arrays.items():
        assert copy.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(copy.arrays[name], array)


def test_arrays_stay_on_disk_and_cannot_be_written_through(folder):
    vectors = read_artifact(folder, **BOUND).arrays["vectors"]
    assert isinstance(vectors, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        vectors[0, 0] = 1


def test_the_file_is_the_one_that_safetensors_writes(folder, artifact, monkeypatch):
    from safetensors.numpy import save

    expected = save(dict(artifact.arrays))
    assert (folder / ARRAYS).read_bytes() == expected
    monkeypatch.setattr("whylens.core.storage.artifacts._PIECE", 3)  # less than a row
    write_artifact(folder, artifact, model="resnet18", **BOUND)
    assert (folder / ARRAYS).read_bytes() == expected


def test_other_readers_of_safetensors_agree(folder, artifact):
    from safetensors.numpy import load_file

    for name, array in load_file(folder / ARRAYS).items():
        np.testing.assert_array_equal(array, artifact.arrays[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "b" * 64}, "other weights .resnet18, sha256 aaaaaaaaaaaa. than those in use"),
        ({"input_spec": plain_spec(24, 16)}, "another image transform"),
        ({"method": "protopnet"}, "was fitted for 'twin', not 'protopnet'"),
    ],
)
def test_an_artifact_of_something_else_is_refused_by_name(folder, change, message):
    with pytest.raises(BadArtifact, match=message):
        read_artifact(folder, **{**BOUND, **change})


@pytest.mark.parametrize("place", [0, 7, 40, 400, -1])
def test_a_changed_byte_is_noticed(folder, place):
    data = bytearray((folder / ARRAYS).read_bytes())
    data[place] ^= 1
    (folder / ARRAYS).write_bytes(bytes(data))
    with pytest.raises(BadArtifact, match="damaged or was replaced"):
        read_artifact(folder, **BOUND)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 64,
        (8).to_bytes(8, "little") + b"not json",
        (2).to_bytes(8, "little") + b"{}x",
    ],
)
def test_what_is_no_safetensors_file_is_refused_even_with_a_fitting_hash(folder, content):
    import hashlib

    (folder / ARRAYS).write_bytes(content)
    facts = json.loads((folder / FACTS).read_text())
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / FACTS).write_text(json.dumps(facts))
    if content.startswith((2).to_bytes(8, "little")):
        assert not read_artifact(folder, **BOUND).arrays
        return
    with pytest.raises(BadArtifact, match="no safetensors file"):
        read_artifact(folder, **BOUND)


def test_a_half_written_artifact_does_not_count(folder):
    assert is_artifact(folder)
    (folder / FACTS).unlink()
    assert not is_artifact(folder)
    with pytest.raises(BadArtifact, match="cannot be read"):
        read_artifact(folder, **BOUND)


def test_one_crosses_into_another_process_as_it_is(folder):
    original = read_artifact(folder, **BOUND)
    copy = pickle.loads(pickle.dumps(original))
    assert (copy.facts, copy.digest, copy.bytes) == (
        original.facts,
        original.digest,
        original.bytes,
    )
    for name, array in original.arrays.items():
        assert copy.arrays[name].dtype == array.dtype
        assert np.array_equal(copy.arrays[name], array)
    with pytest.raises(BadArtifact, match="damaged: 'rows' is missing"):
        copy.facts["rows"]


def test_what_is_missing_is_the_artifact_s_fault_and_not_a_method_s(folder):
    copy = read_artifact(folder, **BOUND)
    assert copy.facts.get("rows") is None
    assert "rows" not in copy.facts
    for part in (copy.facts, copy.arrays):
        with pytest.raises(BadArtifact, match="damaged: 'rows' is missing"):
            part["rows"]


def test_killed_at_any_step_the_old_artifact_or_the_new_is_whole(folder, artifact, monkeypatch):
    changed_artifact = Artifact({"labels": np.arange(3, dtype=np.int32)}, {"count": 3})
    outcomes, step = [], 1
    while killed_at(
        step, monkeypatch, lambda: write_artifact(folder, changed_artifact, model="r", **BOUND)
    ):
        assert is_artifact(folder)
        copy = read_artifact(folder, **BOUND)
        assert (copy.facts["count"], len(copy.arrays["labels"])) in ((7, 7), (3, 3))
        outcomes.append(copy.facts["count"])
        # Whatever was left, the next one is written and read.
        write_artifact(folder, artifact, model="resnet18", **BOUND)
        assert read_artifact(folder, **BOUND).facts["count"] == 7
        step += 1
    assert sorted(outcomes, reverse=True) == outcomes  # old up to a moment, then new
    assert {3, 7} == set(outcomes)


def test_what_ended_processes_left_is_removed_and_nothing_else(folder, artifact, monkeypatch):
    process = subprocess.Popen(["true"])
    process.wait()
    old, fresh = (folder / f".{ARRAYS}.{process.pid}-{name}.part" for name in ("old", "new"))
    own_part = folder / f".{ARRAYS}.{os.getpid()}-own.part"
    for path in (old, fresh, own_part):
        path.write_bytes(b"half")
    for path in (old, own_part):
        os.utime(path, (1e9, 1e9))
    write_artifact(folder, artifact, model="resnet18", **BOUND)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [ARRAYS, FACTS, fresh.name, own_part.name]
    )
