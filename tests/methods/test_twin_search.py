"""Large galleries: what an index finds is what an exact search finds, and copies never show."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.pictures import Tinted
from whylens.core.engine import Engine
from whylens.core.explanation import Question
from whylens.core.models.backbone import wrap
from whylens.core.registry import load_registry
from whylens.plugins._near_duplicates import same_picture
from whylens.plugins.twin import index, search
from whylens.plugins.twin.cosine_search import cosines, top_positions
from whylens.plugins.twin.index import build_index, search_index
from whylens.plugins.twin.search import drop_copies, nearest, similarities

COUNT, WIDTH, CLASSES = 6000, 24, 30


def vectors_of(kind: str, rng):
    """Return unit vectors with labels: around class centres, or anywhere."""
    labels = rng.integers(0, CLASSES, COUNT).astype(np.int32)
    noise = rng.normal(size=(COUNT, WIDTH))
    centres = 2 * rng.normal(size=(CLASSES, WIDTH)) if kind == "classes" else 0
    rows = noise + (centres[labels] if kind == "classes" else 0)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float16), labels


def found_of(expected, actual) -> float:
    """Return the share of what was wanted that was found."""
    return len(set(expected) & set(actual)) / len(expected)


@pytest.fixture(params=["classes", "sphere"])
def vector_index(request, rng):
    pytest.importorskip("faiss")
    vectors, labels = vectors_of(request.param, rng)
    return vectors, labels, build_index(vectors, labels)


def test_an_index_finds_the_ten_nearest_of_all_and_of_other_labels(vector_index, rng):
    vectors, labels, data = vector_index
    noisy_vectors = vectors[:40] + 0.02 * rng.normal(size=(40, WIDTH))
    queries = list(noisy_vectors.astype(np.float32))
    for allowed_of in (lambda i: None, lambda i: labels != labels[i]):
        shares = []
        for i, query in enumerate(queries):
            candidates = allowed_of(i)
            exact = top_positions(
                cosines(vectors, query),
                np.ones(COUNT, bool) if candidates is None else candidates,
                10,
            )
            actual = search_index(data, query, 10, candidates)
            assert candidates is None or candidates[actual].all()
            shares.append(found_of(exact, actual))
        assert np.mean(shares) >= 0.99


def test_the_same_vectors_make_the_same_index(vector_index):
    vectors, labels, data = vector_index
    assert np.array_equal(data, build_index(vectors, labels))


def test_structure_is_made_use_of_and_its_absence_noticed(rng):
    faiss = pytest.importorskip("faiss")
    probes = {
        kind: faiss.deserialize_index(build_index(*vectors_of(kind, rng))).nprobe
        for kind in ("classes", "sphere")
    }
    assert probes["classes"] < probes["sphere"] <= 64


def test_an_index_is_read_where_it_lies_whatever_its_place_in_the_file(vector_index, tmp_path):
    vectors, _, data = vector_index
    (tmp_path / "file").write_bytes(b"abc" + data.tobytes())
    mapped = np.memmap(tmp_path / "file", np.uint8, "r", 3, data.shape)
    query = vectors[7].astype(np.float32)
    assert search_index(mapped, query, 10).tolist() == search_index(data, query, 10).tolist()


def test_large_groups_are_searched_by_the_index_and_small_ones_exactly(vector_index, monkeypatch):
    vectors, labels, data = vector_index
    monkeypatch.setattr(search, "EXACT_LIMIT", 1000)
    monkeypatch.setattr(search, "SHORTLIST", 50)
    arrays = {"vectors": vectors, "index": data}
    shares = []
    for i in range(0, COUNT, 200):
        query = vectors[i].astype(np.float32)
        group = labels == (labels[i] + 1) % CLASSES  # not near, and yet all of it must be found
        other_labels = labels != labels[i]
        actual = similarities(arrays, query, None, [group, other_labels])
        exact = cosines(vectors, query)
        finite = np.isfinite(actual)
        assert finite[group].all()
        assert finite.sum() <= group.sum() + 100
        np.testing.assert_allclose(actual[finite], exact[finite], atol=1e-6)
        shares.append(
            found_of(top_positions(exact, other_labels, 10), nearest(actual, other_labels, 10))
        )
        everything = np.ones(COUNT, bool)
        shares.append(
            found_of(top_positions(exact, everything, 10), nearest(actual, everything, 10))
        )
    assert np.mean(shares) >= 0.99


def test_where_no_index_can_answer_the_search_is_exact(vector_index, monkeypatch):
    vectors, labels, data = vector_index
    query, weights = vectors[3].astype(np.float32), np.linspace(0, 1, WIDTH, dtype=np.float32)
    groups = [labels == 0]
    arrays = {"vectors": vectors, "index": data}
    assert np.isfinite(similarities(arrays, query, None, groups)).all()  # a small gallery
    monkeypatch.setattr(search, "EXACT_LIMIT", 1000)
    assert not np.isfinite(similarities(arrays, query, None, groups)).all()
    weighted = similarities(arrays, query, weights, groups)
    assert np.array_equal(weighted, cosines(vectors, query, weights))
    assert np.isfinite(similarities({"vectors": vectors}, query, None, groups)).all()
    monkeypatch.setattr(index.importlib.util, "find_spec", lambda name: None)
    assert np.isfinite(similarities(arrays, query, None, groups)).all()


def test_copies_are_dropped_however_many_there_are(rng):
    tinies = rng.integers(0, 256, (300, 16, 16, 3)).astype(np.uint8)
    query = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    copies = rng.choice(300, 60, replace=False)
    tinies[copies[:30]], tinies[copies[30:]] = query, query[:, ::-1]
    values = rng.random(300).astype(np.float32)
    values[copies] = 2 + rng.random(60)  # the nearest of all
    groups = [np.arange(300) % 2 == 0, np.arange(300) % 2 == 1]
    expected = values.copy()
    expected[copies] = -np.inf
    drop_copies(values, groups, 4, lambda positions: same_picture(tinies[positions], query))
    for group in [*groups, np.ones(300, bool)]:
        assert nearest(values, group, 4) == nearest(expected, group, 4)


def test_a_gallery_of_nothing_but_copies_shows_nothing_and_is_not_searched_for_ever():
    looks = []

    def is_copy(positions):
        looks.append(len(positions))
        return np.ones(len(positions), bool)

    values = np.linspace(0, 1, 20_000).astype(np.float32)
    group = np.ones(20_000, bool)
    drop_copies(values, [group], 4, is_copy)
    assert nearest(values, group, 4) == []
    assert sum(looks) == 20_000
    assert len(looks) < 20


def test_a_large_gallery_answers_through_its_index_as_a_small_one_does(monkeypatch):
    pytest.importorskip("faiss")
    net = wrap(seeded(GapNet()), input_spec=plain_spec(32, 48), labels=Tinted.labels)
    page = Engine(load_registry(), loader=lambda name, progress: net)
    question = Question("toy", Tinted().pixels(4), visitor="me")
    params = {"weighting": "plain", "matches": False}

    def answer():
        *_, last = page.fit("toy", "twin", Tinted(), {"splits": "all"}, visitor="me")
        *_, final_answer = page.explain(question, "twin", params)
        return last.artifact, [(i.key, i.value, i.group) for i in final_answer.result.items]

    small, exact = answer()
    assert "index" not in small.arrays
    monkeypatch.setattr(search, "EXACT_LIMIT", 20)
    large, by_index = answer()
    assert "index" in large.arrays
    assert [(k, g) for k, _, g in by_index] == [(k, g) for k, _, g in exact]
    np.testing.assert_allclose([v for _, v, _ in by_index], [v for _, v, _ in exact], atol=1e-5)
