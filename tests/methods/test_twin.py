"""Twin: neighbours against a literal search, groups, duplicates, patches and hints."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.browser import toy_checkpoint
from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.pictures import Tinted
from whylens.core.datasets.tensors import (
    concat_views,
    decode_images,
    decode_tensor,
    encode_views,
    to_tensor,
)
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, NeedsNotMet
from whylens.core.explanation import Question
from whylens.core.inputs.preprocess import signal_tensor
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.backbone import wrap
from whylens.core.models.load import from_folder
from whylens.core.registry import load_registry
from whylens.core.results import NumberedBox
from whylens.core.storage.artifacts import Artifact
from whylens.plugins._near_duplicates import same_picture, same_signal, thumbnail
from whylens.plugins.twin import cosine_search as neighbours
from whylens.plugins.twin.cosine_search import cosines, top_positions
from whylens.plugins.twin.gallery import GalleryParams, choose_positions
from whylens.plugins.twin.patch_matches import match_cells

REGISTRY = load_registry()
ME = "me"


@pytest.fixture
def page():
    net = wrap(seeded(GapNet()), input_spec=plain_spec(32, 48), labels=Tinted.labels)
    return Engine(REGISTRY, loader=lambda name, progress: net)


@pytest.fixture
def artifact(page):
    *_, last = page.fit("toy", "twin", Tinted(), {"splits": "all"}, visitor=ME)
    return last.artifact


def question_about(pixels, target=None) -> Question:
    return Question("toy", pixels, target=target, visitor=ME)


def explained(page, question, **params):
    *_, answer = page.explain(question, "twin", params)
    return answer


def literal_cosine(a, b) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float((a * b).sum() / ((a * a).sum() ** 0.5 * (b * b).sum() ** 0.5))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("chunk", [3, 64, 1000])
def test_similarities_are_those_of_the_formula_for_any_chunk(rng, monkeypatch, weighted, chunk):
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    vectors = rng.normal(size=(101, 7)).astype(np.float32)
    query, weights = rng.normal(size=(2, 7)).astype(np.float32)
    actual = cosines(vectors, query, weights if weighted else None)
    w = weights if weighted else np.ones(7)
    expected = [literal_cosine(v * w, query * w) for v in vectors]
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_a_channel_of_no_weight_does_not_count(rng):
    vectors = rng.normal(size=(20, 4)).astype(np.float32)
    query, weights = rng.normal(size=4).astype(np.float32), np.array([1, 2, 0, 1], np.float32)
    loud = vectors.copy()
    loud[:, 2] += 100 * rng.normal(size=20)
    np.testing.assert_allclose(
        cosines(vectors, query, weights), cosines(loud, query, weights), atol=1e-6
    )


def test_vectors_of_zeros_are_like_nothing():
    assert cosines(np.zeros((2, 3), np.float16), np.ones(3, np.float32)).tolist() == [0, 0]
    assert cosines(np.ones((2, 3), np.float16), np.zeros(3, np.float32)).tolist() == [0, 0]


@pytest.mark.parametrize("count", [1, 3, 50])
def test_the_best_are_those_that_sorting_finds(rng, count):
    values = rng.integers(0, 12, 200).astype(np.float32)  # many ties
    candidates = rng.random(200) < 0.5
    expected = sorted(np.flatnonzero(candidates), key=lambda i: (-values[i], i))[:count]
    assert top_positions(values, candidates, count) == expected


def test_fewer_than_asked_is_fine():
    assert top_positions(np.zeros(3, np.float32), np.array([False, True, False]), 5) == [1]
    assert top_positions(np.zeros(3, np.float32), np.zeros(3, bool), 5) == []


def test_a_mapped_gallery_is_searched_where_it_lies(tmp_path, rng):
    vectors = rng.normal(size=(100_000, 8)).astype(np.float16)
    (tmp_path / "v").write_bytes(vectors.tobytes())
    mapped = np.memmap(tmp_path / "v", np.float16, "r", 0, vectors.shape)
    query = vectors[77_777].astype(np.float32)
    assert top_positions(cosines(mapped, query), np.ones(len(vectors), bool), 1) == [77_777]


def jpeg(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def test_copies_are_known_and_other_pictures_are_not(rng):
    scenes = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((96, 64), 3)
        )
        for _ in range(30)
    ]
    tinies = np.stack([thumbnail(s) for s in scenes])
    for i, scene in enumerate(scenes):
        bigger = np.asarray(Image.fromarray(scene).resize((230, 150), 3))
        for version in (jpeg(scene, 60), scene[:, ::-1], bigger):
            assert np.flatnonzero(same_picture(tinies, thumbnail(version))).tolist() == [i]


def test_a_signal_written_as_decimals_is_known_again_and_its_neighbour_is_not(rng):
    signals = rng.normal(size=(30, 2, 40)).astype(np.float32)
    for i, signal in enumerate(signals):
        rounded_signal = np.round(signal, 3)
        assert np.flatnonzero(same_signal(signals, rounded_signal)).tolist() == [i]
        assert not same_signal(signals, signal + 0.05).any()
        assert not same_signal(signals, signal[:, ::-1]).any()


def test_views_packed_in_parts_are_those_packed_at_once(rng):
    input_spec = plain_spec(32, 48)
    views = [torch.from_numpy(rng.random((1, 3, 32, 48), np.float32)) for _ in range(7)]
    whole = encode_views(views, input_spec)
    parts = concat_views([encode_views(views[:3], input_spec), encode_views(views[3:], input_spec)])
    assert whole.keys() == parts.keys()
    assert all((whole[key] == parts[key]).all() for key in whole)
    for n, view in enumerate(views):
        assert (decode_tensor(parts, n, input_spec) - view).abs().mean() < 0.05
        errors = [
            (decode_tensor(parts, n, input_spec) - candidate).abs().mean() for candidate in views
        ]
        assert int(np.argmin(errors)) == n


def test_signals_are_packed_as_they_were_given(rng):
    input_spec = InputSpec(size=(40,), channels=1, mean=(0.3,), std=(2.0,))
    views = [
        signal_tensor(rng.normal(size=(1, 40)).astype(np.float32), input_spec) for _ in range(5)
    ]
    arrays = concat_views(
        [encode_views(views[:2], input_spec), encode_views(views[2:], input_spec)]
    )
    for n, view in enumerate(views):
        assert torch.allclose(decode_tensor(arrays, n, input_spec), view, atol=1e-6)
    pictures = decode_images(arrays, [0, 1])
    assert pictures[0].shape[2] == 3
    assert (pictures[0] != pictures[1]).any()


def test_neighbours_by_another_network_are_those_of_its_own_vectors(page, tmp_path, monkeypatch):
    toy_checkpoint(tmp_path / "eyes", labels=("a", "b", "c"))
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path))
    fit_params = {"splits": "all", "vectors_by": "eyes"}
    *_, last = page.fit("toy", "twin", Tinted(), fit_params, visitor=ME)
    arrays, facts = last.artifact.arrays, last.artifact.facts
    eyes = from_folder(tmp_path / "eyes")
    assert facts["vectors_by"] == {"name": "eyes", "digest": eyes.identity.digest}
    data = Tinted()
    answer = explained(page, question_about(data.pixels(3)), count=12)
    assert answer.result.unit == "cosine of vectors by eyes"

    def embedding(pixels):
        x = to_tensor(pixels, eyes.input_spec)
        return eyes.module.global_pool(eyes.module.forward_features(x)).flatten()

    query = embedding(data.pixels(3))
    similarities = {item.key: item.value for item in answer.result.items}
    assert len(similarities) >= 12
    for key, value in similarities.items():
        (picture,) = decode_images(arrays, [facts["keys"].index(key)])
        assert value == pytest.approx(literal_cosine(query, embedding(picture)), abs=2e-3)
    own_keys = [item.key for item in explained_by_itself(data.pixels(3)).result.items]
    assert own_keys != list(similarities)


def explained_by_itself(pixels):
    net = wrap(seeded(GapNet()), input_spec=plain_spec(32, 48), labels=Tinted.labels)
    page = Engine(REGISTRY, loader=lambda name, progress: net)
    for _ in page.fit("toy", "twin", Tinted(), {"splits": "all"}, visitor=ME):
        pass
    return explained(page, question_about(pixels), count=12)


def test_other_eyes_than_those_of_the_gallery_are_refused(page, tmp_path, monkeypatch):
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path))
    toy_checkpoint(tmp_path / "eyes", labels=("a", "b", "c"))
    *_, last = page.fit("toy", "twin", Tinted(), {"vectors_by": "eyes"}, visitor=ME)
    facts = {**last.artifact.facts, "vectors_by": {"name": "eyes", "digest": "0" * 64}}
    explainer = REGISTRY.explainers["twin"]
    page.artifact_store.put_for_visitor(
        explainer, page.backbone("toy"), ME, replace(last.artifact, facts=facts)
    )
    with pytest.raises(BadInput, match="other weights of eyes"):
        explained(page, question_about(Tinted().pixels(3)))


def test_a_set_of_pictures_is_refused_by_a_network_for_signals():
    net = wrap(seeded(GapNet(axes=1)), input_spec=plain_spec(64))
    with pytest.raises(BadInput, match="holds pictures"):
        list(REGISTRY.explainers["twin"].fit(Tinted(), net, GalleryParams()))


def test_the_query_and_its_copies_never_come_back(page, artifact):
    data = Tinted()
    for i in range(0, len(data.items), 7):
        for pixels in (data.pixels(i), data.pixels(i)[:, ::-1].copy()):
            keys = {e.key for e in explained(page, question_about(pixels), count=12).result.items}
            assert keys
            assert data.items[i].key not in keys


def test_groups_are_the_class_the_other_labels_and_the_other_predictions(page, artifact):
    labels = np.asarray(artifact.arrays["labels"])
    predicted_labels = np.asarray(artifact.arrays["predicted"])
    keys = artifact.facts["keys"]
    for target in range(3):
        question = question_about(Tinted().pixels(4), target)
        answer = explained(page, question, weighting="plain", count=3, matches=False)
        groups: dict[str, list[str]] = {}
        for item in answer.result.items:
            groups.setdefault(item.group, []).append(item.key)
        query = page.backbone("toy").embed(torch.from_numpy(question.pixels / 255).float()
                                           .permute(2, 0, 1)[None])[0].numpy()  # fmt: skip
        similarities = cosines(artifact.arrays["vectors"], query)
        similarities[keys.index("tinted/4")] = -np.inf
        name = Tinted.labels[target]
        expected = {
            f"Nearest labelled {name}": labels == target,
            "Nearest with another label": labels != target,
            "Nearest that the network calls something else": predicted_labels != target,
        }
        actual = {
            heading: [
                keys[i]
                for i in top_positions(similarities, candidates & np.isfinite(similarities), 3)
            ]
            for heading, candidates in expected.items()
        }
        first, by_label, by_word = actual
        if actual[by_label] == actual[by_word]:
            heading_of_both = (
                "Nearest with another label, which the network also calls something else"
            )
            actual = {first: actual[first], heading_of_both: actual[by_label]}
        assert groups == {heading: members for heading, members in actual.items() if members}


def test_values_are_what_the_captions_say_and_fall_within_a_group(page, artifact):
    items = explained(page, question_about(Tinted().pixels(5)), count=5).result.items
    for a, b in pairwise(items):
        assert a.group != b.group or a.value >= b.value
    for item in items:
        assert f"cosine {item.value:.3f}" in item.caption
        i = artifact.facts["keys"].index(item.key)
        assert item.caption.startswith(Tinted.labels[artifact.arrays["labels"][i]])
        assert ("in training" in item.caption) == (artifact.facts["splits"][i] == "train")


def test_weighting_uses_the_derivative_of_the_score(page, artifact):
    question = question_about(Tinted().pixels(6), 1)
    net = page.backbone("toy")
    x = torch.from_numpy(question.pixels / 255).float().permute(2, 0, 1)[None]
    w = net.module.fc.weight[1].numpy()
    similarities = [
        literal_cosine(np.asarray(v, np.float64) * w, net.embed(x)[0].numpy() * w)
        for v in artifact.arrays["vectors"]
    ]
    for item in explained(page, question).result.items:
        assert item.value == pytest.approx(
            similarities[artifact.facts["keys"].index(item.key)], abs=1e-5
        )


def test_a_written_gallery_serves_all_and_is_refused_for_other_weights(
    page, artifact, tmp_path, monkeypatch
):
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(tmp_path))
    page.artifact_store.save(REGISTRY.explainers["twin"], page.backbone("toy"), artifact)
    assert (tmp_path / "GapNet" / "twin").is_dir()
    everyone = replace(question_about(Tinted().pixels(0)), visitor="")
    assert explained(page, everyone).result.items
    other_net = wrap(seeded(GapNet(), 4), input_spec=plain_spec(32, 48), labels=Tinted.labels)
    strange = Engine(REGISTRY, loader=lambda name, progress: other_net)
    with pytest.raises(NeedsNotMet, match="GapNet/twin was made with other weights"):
        explained(strange, everyone)


def test_without_a_gallery_the_page_says_how_to_get_one(page):
    with pytest.raises(NeedsNotMet, match=r"a gallery of training pictures.*whylens fit"):
        explained(page, replace(question_about(Tinted().pixels(0)), visitor=""))


def test_a_rare_class_keeps_all_it_has():
    class Lopsided(Tinted):
        items = tuple(
            replace(item, label=2 if n < 4 else n % 2, split="train")
            for n, item in enumerate(Tinted.items)
        )

    positions = choose_positions(Lopsided(), GalleryParams(limit=20))
    labels = [Lopsided.items[i].label for i in positions]
    assert [labels.count(c) for c in range(3)] == [8, 8, 4]


def test_a_gallery_of_a_split_without_pictures_is_refused():
    class Empty(Tinted):
        items = tuple(replace(item, split="test") for item in Tinted.items)

    with pytest.raises(BadInput, match="no pictures in train"):
        choose_positions(Empty(), GalleryParams())


def with_labels(artifact: Artifact, labels) -> Artifact:
    new_labels = np.asarray(labels, np.int32)
    return Artifact({**artifact.arrays, "labels": new_labels}, artifact.facts)


def test_neighbours_that_disagree_make_the_hint(page, artifact):
    explainer, net = REGISTRY.explainers["twin"], page.backbone("toy")
    question = question_about(Tinted().pixels(7), 0)
    page.artifact_store.put_for_visitor(explainer, net, ME, with_labels(artifact, np.zeros(54)))
    assert explained(page, question).result.note.startswith("10 of the 10 nearest in")
    page.artifact_store.put_for_visitor(explainer, net, ME, with_labels(artifact, np.ones(54)))
    note = explained(page, question).result.note
    assert note.startswith("Look twice: only 0 of the 10")
    assert "10 are labelled bee" in note


def test_a_gallery_with_other_classes_goes_by_the_networks_word(page, artifact):
    explainer, net = REGISTRY.explainers["twin"], page.backbone("toy")
    facts = {**artifact.facts, "labels": ["oak", "elm", "fir"]}
    page.artifact_store.put_for_visitor(explainer, net, ME, Artifact(artifact.arrays, facts))
    groups = {e.group for e in explained(page, question_about(Tinted().pixels(8), 1)).result.items}
    assert groups <= {
        "Nearest that the network also calls bee",
        "Nearest that the network calls something else",
    }


def test_a_planted_patch_is_matched_to_its_copy(rng):
    query, gallery = rng.normal(size=(2, 16, 6, 9)).astype(np.float32)
    mark = 4 * rng.normal(size=16).astype(np.float32)
    query[:, 4, 7], gallery[:, 1, 2] = mark, mark
    weights = np.sign(mark)
    pairs = match_cells(query, gallery, weights, 3)
    assert pairs[0][:2] == ((4, 7), (1, 2))
    assert pairs[0][2] == pytest.approx(1, abs=1e-5)
    for k, (a, b, _) in enumerate(pairs):
        for c, d, _ in pairs[k + 1 :]:
            assert max(abs(a[0] - c[0]), abs(a[1] - c[1])) > 1
            assert max(abs(b[0] - d[0]), abs(b[1] - d[1])) > 1


def test_marks_lie_within_the_picture_and_around_their_cell():
    for cell in [(0, 0), (5, 8), (2, 3)]:
        mark = NumberedBox.of_cell(cell, (6, 9), reach=0.5)
        assert mark.left <= (cell[1] + 0.5) / 9 <= mark.right
        assert mark.top <= (cell[0] + 0.5) / 6 <= mark.bottom


def test_the_first_of_each_group_is_compared_patch_by_patch(page, artifact):
    items = explained(page, question_about(Tinted().pixels(9)), count=3).result.items
    firsts = {}
    for item in items:
        firsts.setdefault(item.group, item)
    for item in items:
        assert (item.comparison is not None) == (item is firsts[item.group])
        if item.comparison is not None:
            assert [m.number for m in item.marks] == [m.number for m in item.comparison.marks]
            assert item.marks
    items_alone = explained(page, question_about(Tinted().pixels(9)), matches=False).result.items
    assert all(item.comparison is None and not item.marks for item in items_alone)


def test_familiarity_is_the_share_of_the_gallery_that_is_as_far_from_its_nearest(
    page, artifact, rng
):
    pixels = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
    vectors = np.asarray(artifact.arrays["vectors"], np.float64)
    query = page.subject(question_about(pixels)).embedding.double().numpy()
    nearest = [
        max(literal_cosine(a, b) for j, b in enumerate(vectors) if j != i)
        for i, a in enumerate(vectors)
    ]
    similar = max(literal_cosine(query, v) for v in vectors)
    low, high = (sum(o <= similar + sign * 1e-6 for o in nearest) for sign in (-1, 1))
    share = page.familiarity(question_about(pixels))
    assert low <= round(share * len(nearest)) <= high
    # What lies in the gallery is as usual as anything.
    assert page.familiarity(question_about(decode_images(artifact.arrays, [0])[0])) > 0.9
    assert page.familiarity(Question("toy", pixels)) is None, "nothing is fitted for others"
