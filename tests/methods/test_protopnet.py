"""ProtoPNet: its parts against literal copies, a world where the evidence is planted, edits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize

from tests.support.networks import GapNet, plain_spec, seeded
from whylens.core.conformance.toy_networks import dead_network
from whylens.core.datasets.dataset import Dataset, Item
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, InvalidParameter
from whylens.core.explanation import Question
from whylens.core.models.backbone import wrap
from whylens.core.registry import load_registry
from whylens.plugins.protopnet.editing import edit_prototypes
from whylens.plugins.protopnet.head import PENALTIES, Head, choose_penalty, solve_head
from whylens.plugins.protopnet.init import (
    discriminative_patches,
    fit_linear_probe,
    fit_whitening,
    spherical_kmeans,
)
from whylens.plugins.protopnet.optimise import FeatureCache, project
from whylens.plugins.protopnet.quality import parts_in, small_parts
from whylens.plugins.protopnet.similarity import PatchMetric, similarities

REGISTRY = load_registry()
ME = "me"
CELL = 8
FIT = {"steps": 60, "penalty": 0.003}
# Two kinds of evidence for each class: one picture shows one of them.
COLOURS = np.array(
    [
        [[250, 20, 20], [250, 250, 20]],
        [[20, 250, 20], [20, 250, 250]],
        [[20, 20, 250], [250, 20, 250]],
    ]
)


class Planted(Dataset):
    """Grey noise with one bright cell whose colour is of the class; where it lies is known."""

    name = "planted"
    labels = ("ant", "bee", "cat")
    items = tuple(
        Item(f"planted/{i}", i % 3, "train" if i < 60 else "val" if i < 90 else "test")
        for i in range(150)
    )

    def place(self, index):
        rng = np.random.default_rng([3, index])
        return int(rng.integers(4)), int(rng.integers(6))

    def pixels(self, index):
        rng = np.random.default_rng([5, index])
        cells = np.repeat(rng.integers(60, 160, (4, 6, 1)), 3, 2).astype(np.uint8)
        cells[self.place(index)] = COLOURS[self.items[index].label, index // 3 % 2]
        return cells.repeat(CELL, 0).repeat(CELL, 1)

    def parts(self, index):
        spot = np.zeros((4 * CELL, 6 * CELL), bool)
        row, column = self.place(index)
        spot[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = True
        return {"spot": spot, "background": ~spot}

    def content_digest(self, index):
        return str(index)


@pytest.fixture(scope="module")
def page():
    net = wrap(seeded(GapNet(width=12)), input_spec=plain_spec(32, 48), labels=Planted.labels)
    return Engine(REGISTRY, loader=lambda name, progress: net)


@pytest.fixture(scope="module")
def artifact(page):
    *_, last = page.fit("toy", "protopnet", Planted(), FIT, visitor=ME)
    return last.artifact


@pytest.fixture(scope="module")
def sparse(page):
    """The head's penalty chosen by the data: only prototypes that are needed are left."""
    *_, last = page.fit("toy", "protopnet", Planted(), {"steps": 60}, visitor="sparse")
    return last.artifact


def explained(page, index, target=None, **params):
    question = Question("toy", Planted().pixels(index), target=target, visitor=ME)
    *_, answer = page.explain(question, "protopnet", params)
    return answer


def random_metric(rng, patches=5, member=None) -> PatchMetric:
    unit = rng.normal(size=(patches, 4))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    parts = [rng.normal(size=6), rng.normal(size=(4, 6)), rng.normal(size=(4, 4)), unit]
    tensors = [torch.from_numpy(p.astype(np.float32)) for p in parts]
    return PatchMetric(*tensors, torch.tensor(member or list(range(patches))))


@pytest.mark.parametrize("size", [(9,), (3, 4), (2, 3, 2)])
def test_similarities_are_those_of_the_formula_on_any_axes(rng, size):
    metric = random_metric(rng, member=[0, 1, 1, 2, 0])
    features = rng.normal(size=(2, 6, *size)).astype(np.float32)
    actual = similarities(torch.from_numpy(features), metric).numpy()
    mean, whiten, rotation, patches = (
        t.double().numpy() for t in (metric.mean, metric.whiten, metric.rotation, metric.patches)
    )
    for n in range(2):
        values = []
        for patch in patches:
            cosines = []
            for place in features[n].reshape(6, -1).T.astype(np.float64):
                z = rotation @ (whiten @ (place - mean))
                cosines.append(float(z @ patch / np.sqrt(z @ z)))
            values.append(np.mean(sorted(cosines)[-3:]))
        expected = [max(values[0], values[4]), max(values[1], values[2]), values[3]]
        np.testing.assert_allclose(actual[n], expected, atol=1e-5)


def test_whitened_patches_have_unit_variance_and_no_correlation(rng):
    patches = (rng.normal(size=(4000, 6)) @ rng.normal(size=(6, 6)) + 3).astype(np.float32)
    mean, whiten = fit_whitening(patches, 4)
    white = (patches - mean) @ whiten.T
    assert white.shape == (4000, 4)
    np.testing.assert_allclose(np.cov(white.T), np.eye(4), atol=1e-3)


def test_dead_directions_are_left_out(rng):
    patches = rng.normal(size=(300, 5)).astype(np.float32)
    patches[:, 3] = 7
    assert len(fit_whitening(patches, 5)[1]) == 4


def test_the_probe_minimises_its_loss(rng):
    x = rng.normal(size=(90, 3)).astype(np.float32)
    y = (x @ rng.normal(size=(3, 3))).argmax(1)
    weights = fit_linear_probe(x, y, 3).astype(np.float64)
    design = np.concatenate([x, np.ones((90, 1))], 1)

    def loss(w):
        scores = design @ w.T
        logp = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        per_class = [-logp[y == c, c].mean() / 3 for c in range(3)]
        return sum(per_class) + 0.005 * (w**2).sum()

    best = loss(weights)
    for _ in range(50):
        assert loss(weights + 0.02 * rng.normal(size=weights.shape)) > best - 1e-7


def test_centres_find_planted_clusters(rng):
    truth = np.linalg.qr(rng.normal(size=(8, 8)))[0][:3]
    patches = np.repeat(truth, 60, 0) * 5 + 0.2 * rng.normal(size=(180, 8))
    centres = spherical_kmeans(patches.astype(np.float32), 3, seed=0)
    assert ((centres @ truth.T).max(1) > 0.99).all()
    assert len({int(i) for i in (centres @ truth.T).argmax(1)}) == 3


def test_fewer_distinct_patches_give_fewer_centres():
    assert len(spherical_kmeans(np.ones((9, 4), np.float32), 5, seed=0)) == 1


def test_telling_patches_are_those_that_speak_for_the_class(rng):
    white = 0.1 * rng.normal(size=(20, 4, 10)).astype(np.float32)
    places = rng.integers(0, 10, 20)
    white[np.arange(20), 1, places] = 5
    weights = np.zeros((3, 5), np.float32)
    weights[2, 1] = 1
    patches = discriminative_patches(white, weights, 2, share=0.1)
    np.testing.assert_allclose(np.sort(patches[:, 1]), np.sort(white[np.arange(20), 1, places]))


def head_loss(head, x, y, classes):
    """Return the objective, written out."""
    spread = x.std(0)
    scores = x @ head.weight.T + head.bias
    logp = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    present = [c for c in range(classes) if (y == c).any()]
    fit = np.mean([-logp[y == c, c].mean() for c in present])
    return fit + head.penalty * np.abs(head.weight * spread).sum()


@pytest.mark.parametrize("penalty", [0.1, 0.01, 0.001])
def test_the_head_is_the_minimum_of_its_objective(rng, penalty):
    y = rng.integers(0, 3, 120)
    owner = np.array([0, 0, 1, 1, 2, 2])
    x = rng.normal(size=(120, 6)) * 0.1 + 0.5 + 0.15 * (owner[None] == y[:, None])
    head = solve_head(x, y, owner, 3, penalty, steps=20_000)
    own_class = owner[None] == np.arange(3)[:, None]
    assert (head.weight[own_class] >= 0).all()
    best = head_loss(head, x, y, 3)

    # A general solver on the split weights w = p - q, p, q >= 0, finds nothing better.
    def objective(flat):
        p, q, b = np.split(flat, [18, 36])
        weight = np.where(own_class, p.reshape(3, 6), (p - q).reshape(3, 6))
        return head_loss(Head(weight, b, penalty), x, y, 3)

    start = np.concatenate(
        [np.maximum(head.weight, 0).ravel(), np.maximum(-head.weight, 0).ravel()]
    )
    answer = optimize.minimize(
        objective, np.concatenate([start, head.bias]), method="L-BFGS-B",
        bounds=[(0, None)] * 36 + [(None, None)] * 3,
    )  # fmt: skip
    assert best <= answer.fun + 1e-5


def test_a_stronger_penalty_uses_fewer_prototypes(rng):
    y = rng.integers(0, 2, 200)
    owner = np.array([0] * 5 + [1] * 5)
    x = rng.normal(size=(200, 10)) + 0.5 * (owner[None] == y[:, None])
    counts = [(np.abs(solve_head(x, y, owner, 2, p).weight) > 1e-9).sum() for p in PENALTIES]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_a_warm_start_changes_nothing_but_the_time(rng):
    y = rng.integers(0, 2, 100)
    owner = np.array([0, 0, 1, 1])
    x = rng.normal(size=(100, 4)) + (owner[None] == y[:, None])
    cold = solve_head(x, y, owner, 2, 0.01, steps=20_000)
    warm = solve_head(x, y, owner, 2, 0.01, steps=20_000, start=solve_head(x, y, owner, 2, 0.1))
    np.testing.assert_allclose(warm.weight, cold.weight, atol=1e-4)


def test_the_chosen_penalty_is_the_strongest_that_is_as_good_as_the_best(rng):
    y = np.repeat([0, 1], 60)
    owner = np.array([0, 1])
    x = np.stack([1.0 - y, y], 1) + 0.01 * rng.normal(size=(120, 2))
    assert choose_penalty(x, y, owner, 2, seed=0) == max(PENALTIES)


def test_rare_classes_weigh_as_much_as_common_ones(rng):
    y = np.array([0] * 190 + [1] * 10)
    owner = np.array([0, 1])
    x = np.stack([1.0 - y, y], 1) * 0.5 + 0.1 * rng.normal(size=(200, 2))
    head = solve_head(x, y, owner, 2, 0.01)
    assert (head.scores(x[190:]).argmax(1) == 1).all()


def test_projection_uses_no_picture_twice_and_every_prototype_is_a_patch(rng):
    plain = torch.from_numpy(rng.normal(size=(12, 4, 3, 3)).astype(np.float32))
    labels = torch.tensor([0, 1] * 6)
    cache = FeatureCache(plain, torch.zeros(12, 0, 4, 3, 3), labels, 2)
    metric = random_metric(rng, patches=6)
    owner = torch.tensor([0, 0, 0, 1, 1, 1])
    projected_metric, owners, sources = project(cache, metric, owner)
    for c in (0, 1):
        pictures = [s.picture for s, o in zip(sources, owners, strict=True) if o == c]
        assert len(set(pictures)) == len(pictures)
    for patch, label, source in zip(projected_metric.patches, owners, sources, strict=True):
        assert labels[source.picture] == label
        vector = metric.rotation @ plain[source.picture].flatten(1)[:, source.place]
        assert float(patch @ vector / vector.norm()) == pytest.approx(1, abs=1e-5)


def test_prototypes_that_meet_are_merged(rng):
    plain = torch.from_numpy(rng.normal(size=(1, 4, 1, 1)).astype(np.float32)).repeat(6, 1, 2, 2)
    cache = FeatureCache(plain, torch.zeros(6, 0, 4, 2, 2), torch.zeros(6, dtype=torch.long), 1)
    merged_metric, owners, _ = project(cache, random_metric(rng, patches=3), torch.zeros(3).long())
    assert len(merged_metric.patches) == len(owners) == 1


def test_planted_evidence_is_learnt_and_measured(sparse):
    report = sparse.facts["report"]
    assert report["validation_accuracy"] == 1
    assert report["test_accuracy"] == 1
    assert min(report["test_recall_each"]) == 1
    assert report["part_each"] == ["spot"] * report["prototypes"]
    assert report["purity"] >= 0.9
    assert report["own_similarity"] > report["other_similarity"] + 0.05


def test_every_class_has_a_prototype_that_speaks_for_it(sparse):
    owner, weight = np.asarray(sparse.arrays["owner"]), np.asarray(sparse.arrays["weight"])
    for c in range(3):
        assert (weight[c, owner == c] > 0).any()


def test_every_prototype_is_the_planted_cell_of_its_training_picture(sparse):
    data = Planted()
    rows, columns = sparse.facts["grid"]
    hits = 0
    for key, place in zip(sparse.facts["keys"], sparse.arrays["places"], strict=True):
        row, column = data.place(int(key.rsplit("/", 1)[1]))
        y, x = (int(place) // columns + 0.5) / rows, (int(place) % columns + 0.5) / columns
        # Within the cell or on its rim: a convolution at the edge sees the colour as well.
        hits += abs(y - (row + 0.5) / 4) <= 0.7 / 4 and abs(x - (column + 0.5) / 6) <= 0.7 / 6
    assert hits == len(sparse.facts["keys"])


@pytest.mark.parametrize("target", [0, 1, 2, None])
@pytest.mark.parametrize("index", [90, 101, 130])
def test_points_add_up_to_the_class_score(page, artifact, index, target):
    result = explained(page, index, target, patches=False, count=4).result
    total = sum(item.value for item in result.items) + result.rest
    assert total == pytest.approx(result.score, abs=1e-4)
    assert result.predicted == Planted.labels[index % 3]


def test_points_are_weight_times_similarity(page, artifact):
    net, index = page.backbone("toy"), 97
    x = torch.from_numpy(Planted().pixels(index) / 255).float().permute(2, 0, 1)[None]
    from whylens.plugins.protopnet.similarity import metric_from_arrays

    sims = (
        similarities(net.features(x).map, metric_from_arrays(artifact.arrays))[0].double().numpy()
    )
    scores = artifact.arrays["weight"].astype(np.float64) @ sims + artifact.arrays["bias"]
    result = explained(page, index, 1, patches=False, count=20).result
    assert result.score == pytest.approx(scores[1], abs=1e-4)
    points = artifact.arrays["weight"][1] * sims
    names = artifact.facts["names"]
    for item in result.items:
        i = names.index(item.caption.split(": likeness")[0])
        assert item.value == pytest.approx(points[i], abs=1e-4)


def test_the_checked_patch_lies_on_the_evidence_and_covering_it_matters(page, artifact, sparse):
    page.artifact_store.put_for_visitor(
        REGISTRY.explainers["protopnet"], page.backbone("toy"), ME, sparse
    )
    data = Planted()
    hits = total = 0
    for index in range(90, 111):
        for item in explained(page, index, index % 3, count=1).result.items:
            # What hardly fires rests on nothing in particular.
            if float(item.caption.split("likeness ")[1].split()[0]) < 0.7:
                continue
            (mark,) = item.comparison.marks
            row, column = data.place(index)
            total += 1
            hits += (
                mark.left <= (column + 0.5) / 6 <= mark.right
                and mark.top <= (row + 0.5) / 4 <= mark.bottom
                and item.diagnostics["drop when covered"] > item.diagnostics["drop elsewhere"]
            )
    page.artifact_store.put_for_visitor(
        REGISTRY.explainers["protopnet"], page.backbone("toy"), ME, artifact
    )
    assert total >= 10
    assert hits >= 0.9 * total


def test_answers_come_in_parts_and_the_last_is_whole(page, artifact):
    question = Question("toy", Planted().pixels(93), visitor=ME)
    shares = [a.fraction for a in page.explain(question, "protopnet", {"count": 3})]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] == 1


def test_disagreement_with_the_network_is_said(page, artifact):
    # The network has random weights; it often says something else than the prototypes.
    notes = []
    for index in range(90, 110):
        answer = explained(page, index, patches=False)
        logits = page.predict(answer.question).classes[0].label
        says = "disagree" in answer.result.note
        assert says == (logits != answer.result.predicted)
        notes.append(says)
    assert any(notes)


def test_deleting_solves_the_head_again_and_says_what_it_cost(artifact):
    names = artifact.facts["names"]
    owner = np.asarray(artifact.arrays["owner"])
    victim = next(i for i, o in enumerate(owner) if (owner == o).sum() > 1)
    # From the artifact alone: it has neither the network nor pictures to learn from.
    after = edit_prototypes(artifact, "delete", (names[victim],), "")
    assert after.facts["names"] == [n for n in names if n != names[victim]]
    assert "% before" in after.facts["edited"]
    indices = [i for i in range(len(names)) if i != victim]
    head = solve_head(
        np.asarray(artifact.arrays["train_similarities"], np.float64)[:, indices],
        np.asarray(artifact.arrays["train_labels"], np.int64),
        owner[indices].astype(np.int64),
        3,
        artifact.facts["report"]["penalty"],
    )
    np.testing.assert_allclose(after.arrays["weight"], head.weight, atol=1e-4)


def test_merged_prototypes_fire_as_their_strongest_and_still_add_up(page, artifact):
    owner = np.asarray(artifact.arrays["owner"])
    names = artifact.facts["names"]
    pair = [i for i in range(len(names)) if owner[i] == 1][:2]
    after = edit_prototypes(artifact, "merge", tuple(names[i] for i in pair), "a red spot")
    assert "a red spot" in after.facts["names"]
    assert len(after.facts["names"]) == len(names) - 1
    sims = np.asarray(artifact.arrays["train_similarities"])
    merged_similarities = np.asarray(after.arrays["train_similarities"])[
        :, after.facts["names"].index("a red spot")
    ]
    np.testing.assert_array_equal(merged_similarities, sims[:, pair].max(1))
    explainer, net = REGISTRY.explainers["protopnet"], page.backbone("toy")
    page.artifact_store.put_for_visitor(explainer, net, "other", after)
    question = Question("toy", Planted().pixels(91), visitor="other")
    *_, answer = page.explain(question, "protopnet", {"patches": False, "count": 20})
    total = sum(i.value for i in answer.result.items) + answer.result.rest
    assert total == pytest.approx(answer.result.score, abs=1e-4)


def test_edits_can_follow_one_another(artifact):
    owner, names = np.asarray(artifact.arrays["owner"]), artifact.facts["names"]
    class_names = [names[i] for i in range(len(names)) if owner[i] == 1]
    merged_artifact = edit_prototypes(artifact, "merge", tuple(class_names), "all of them")
    renamed_artifact = edit_prototypes(
        merged_artifact, "rename", ("all of them",), "  the   first "
    )
    assert "the first" in renamed_artifact.facts["names"]
    deleted_name = next(
        n for n, o in zip(names, owner, strict=True) if (owner == o).sum() > 1 and o != 1
    )
    last = edit_prototypes(renamed_artifact, "delete", (deleted_name,), "")
    assert len(last.arrays["patches"]) == len(artifact.arrays["patches"]) - 1
    assert len(last.facts["names"]) == len(names) - len(class_names)


@pytest.mark.parametrize(
    ("action", "chosen", "text", "message"),
    [
        ("delete", (), "", "Nothing is ticked"),
        ("delete", ("nobody",), "", "no prototype called 'nobody'"),
        ("merge", ("ant 1",), "", "two or more"),
        ("merge", ("ant 1", "bee 1"), "", "of one class"),
        ("rename", ("ant 1",), "  ", "type its new name"),
        ("rename", ("ant 1",), "bee 1", "called 'bee 1.*' already"),
    ],
)
def test_edits_that_make_no_sense_are_refused(artifact, action, chosen, text, message):
    # Names go on with the part that a prototype is a patch of.
    full = {name.split(",")[0]: name for name in artifact.facts["names"]}
    ticked = tuple(full.get(name, name) for name in chosen)
    with pytest.raises(InvalidParameter, match=message):
        edit_prototypes(artifact, action, ticked, full.get(text, text))


def test_no_class_can_lose_its_last_prototype(artifact):
    ants = tuple(n for n in artifact.facts["names"] if n.startswith("ant"))
    with pytest.raises(InvalidParameter, match="ant would be left without"):
        edit_prototypes(artifact, "delete", ants, "")


def test_edits_are_a_visitors_own(page, artifact):
    names = artifact.facts["names"]
    page.edit("toy", "protopnet", "rename", (names[0],), "mine", visitor=ME)
    with pytest.raises(InvalidParameter, match="no action 'explode'"):
        page.edit("toy", "protopnet", "explode", (names[0],), "", visitor=ME)
    net, explainer = page.backbone("toy"), REGISTRY.explainers["protopnet"]
    assert "mine" in page.artifact_store.get(explainer, net, ME).facts["names"]
    page.artifact_store.put_for_visitor(explainer, net, ME, artifact)
    assert names[0] in artifact.facts["names"]


class Unlearnable(Planted):
    name = "unlearnable"

    def pixels(self, index):
        rng = np.random.default_rng([9, index])
        return rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)


class Tiny(Planted):
    items = tuple(Item(f"x/{i}", i % 3, "train") for i in range(9))


class OneClass(Planted):
    labels = ("ant",)


def test_prototypes_of_noise_are_not_shown(page):
    with pytest.raises(BadInput, match="No prototypes are shown"):
        list(page.fit("toy", "protopnet", Unlearnable(), {"steps": 20}, visitor="noise"))


@pytest.mark.parametrize(("data", "message"), [(Tiny, "fewer than 4"), (OneClass, "has one class")])
def test_too_little_to_learn_from_is_refused(page, data, message):
    with pytest.raises(BadInput, match=message):
        list(page.fit("toy", "protopnet", data(), visitor="few"))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_prototypes(page):
    params = {"steps": 10, "versions": 1, "penalty": 0.003}
    first, second = (
        list(page.fit("toy", "protopnet", Planted(), params, visitor=visitor))[-1].artifact
        for visitor in ("once", "again")
    )
    assert first.facts["keys"] == second.facts["keys"]
    np.testing.assert_allclose(first.arrays["weight"], second.arrays["weight"], atol=1e-4)


def test_parts_in_a_box_are_those_with_pixels_there():
    parts = {"ear": np.zeros((10, 20), bool), "eye": np.zeros((10, 20), bool)}
    parts["ear"][0, 0] = parts["eye"][9, 19] = True
    assert parts_in(parts, (0.1, 0.1), 0.2) == {"ear"}
    assert parts_in(parts, (0.95, 0.95), 0.2) == {"eye"}
    assert parts_in(parts, (0.5, 0.5), 0.2) == set()
    assert parts_in(parts, (0.5, 0.5), 1.0) == {"ear", "eye"}


def test_parts_that_are_everywhere_and_sides_do_not_count_for_purity():
    ear, head = np.zeros((10, 10), bool), np.ones((10, 10), bool)
    ear[0, 0] = True
    parts = {"ear": ear, "left_ear": ear, "head": head, "background": ~head}
    assert small_parts([parts, parts]) == {"ear", "background"}
    assert small_parts([parts, {"ear": head}]) == {"background"}


def test_a_network_to_which_all_places_look_the_same_is_refused():
    explainer = REGISTRY.explainer("protopnet")
    with pytest.raises(BadInput, match="all places of these pictures look the same"):
        list(explainer.fit(Planted(), dead_network(), explainer.FitParams()))
