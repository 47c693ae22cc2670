"""Counterfactual patches: the paper's search written out, cells that are known, real flips."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.networks import GapNet, MlpHeadNet, TokenNet, plain_spec, seeded
from tests.support.pictures import Tinted
from tests.support.toys import attention_net, final, noise, precise, subject_of
from whylens.core.datasets.tensors import decode_images, encode_images
from whylens.core.engine import Engine
from whylens.core.errors import BadInput
from whylens.core.explanation import Question
from whylens.core.models.backbone import wrap
from whylens.core.registry import load_registry
from whylens.core.results import NumberedBox
from whylens.core.storage.artifacts import Artifact
from whylens.core.targets import Target
from whylens.plugins._near_duplicates import same_picture, thumbnail
from whylens.plugins.counterfactual_patches import CounterfactualParams, CounterfactualPatches
from whylens.plugins.counterfactual_patches.gallery import (
    DistractorParams,
    choose_positions,
    fit_gallery,
    rank_candidates,
)
from whylens.plugins.counterfactual_patches.swaps import (
    Decision,
    apply_swaps,
    candidate_swaps,
    find_decision,
    greedy_swaps,
)

REGISTRY = load_registry()
METHOD = CounterfactualPatches()
ME = "me"
QUERY, DISTRACTOR = noise(1, 3, 16, 24, seed=1), noise(1, 3, 16, 24, seed=2)
NETS = {
    "gap": GapNet,
    "mlp": MlpHeadNet,
    "tokens": TokenNet,
    "class token": attention_net,
    "registers": lambda: attention_net(reg_tokens=4),
    "average": lambda: attention_net(class_token=False, global_pool="avg"),
}


def loud(kind: str) -> nn.Module:
    """Return a toy network whose scores lie apart."""
    module = seeded(NETS[kind]())
    with torch.no_grad():
        (module.head if hasattr(module, "patch_embed") else module.fc).weight *= 10
    return module


def searched(subject, distractor, aim, **options):
    arguments = {"budget": 3, "candidates": 10**6, **options}
    return [
        swap for _, swap in greedy_swaps(subject, distractor, aim, **arguments) if swap is not None
    ]


def literal_search(head, query, distractor, aim, budget):
    """Return algorithm 1: at each step every pair is tried, in float64, one map at a time."""
    current, steps = query.clone(), []
    size = query.shape[2] * query.shape[3]
    used_here, used_there = set(), set()
    for _ in range(budget):
        best = None
        for i, j in itertools.product(range(size), range(size)):
            if i in used_here or j in used_there:
                continue
            trial = current.clone()
            a, b = divmod(i, query.shape[3]), divmod(j, query.shape[3])
            trial[0, :, a[0], a[1]] = distractor[0, :, b[0], b[1]]
            logits = head(trial)[0]
            chance = float(logits[aim.goal] - logits.logsumexp(0))
            if best is None or chance > best[0] + 1e-12:
                best = chance, i, j, trial, logits
        _, i, j, current, logits = best
        used_here.add(i)
        used_there.add(j)
        steps.append((i, j, logits))
        if int(logits.argmax()) == aim.goal:
            break
    return steps


@pytest.mark.parametrize("kind", ["mlp", "tokens"])
def test_the_search_is_the_paper_s_written_out(kind):
    module = loud(kind)
    # The convolution's grid of 8 x 12 is long to search literally; a smaller picture does.
    size = (8, 12) if kind == "mlp" else (16, 24)
    if kind == "tokens":
        query, distractor = QUERY, DISTRACTOR
    else:
        query, distractor = noise(1, 3, *size, seed=1), noise(1, 3, *size, seed=2)
    subject = subject_of(module, query, batch_size=7)
    backbone, twin = subject.backbone, precise(module)
    aim = Decision(
        int(subject.forward_pass.logits.argmax()), int(subject.forward_pass.logits.argmin()), False
    )

    def head(maps):
        if kind == "mlp":
            return twin.head(maps)
        tokens = maps.flatten(2).transpose(1, 2)
        return twin.head(torch.cat([torch.zeros(1, 2, 8).double(), tokens], 1))

    distractor_map = backbone.features(distractor).map.double()
    expected = literal_search(head, subject.features.double(), distractor_map, aim, 3)
    actual = searched(subject, distractor_map.float(), aim)
    assert [(s.query_cell, s.distractor_cell) for s in actual] == [(i, j) for i, j, _ in expected]
    for swap, (_, _, logits) in zip(actual, expected, strict=True):
        assert torch.allclose(swap.logits.double(), logits.detach(), atol=1e-4)
        assert swap.pair_count == swap.possible


@pytest.mark.parametrize("kind", NETS)
def test_what_is_said_to_flip_does_flip_the_network_s_own_head(kind):
    module, flips = loud(kind), 0
    last = module.head if hasattr(module, "patch_embed") else module.fc
    for seed in range(2):
        x = noise(1, 3, 16, 24, seed=seed)
        ranks = module(x)[0].detach()
        first, second = ranks.argsort(descending=True)[:2].tolist()
        with torch.no_grad():  # a close decision, which a few patches can turn
            last.bias[second] += 0.97 * (ranks[first] - ranks[second])
        subject = subject_of(module, x, batch_size=9)
        backbone, aim = subject.backbone, Decision(first, second, False)
        features = backbone.features(x)
        for distractor_seed in (10, 11):
            distractor = backbone.features(noise(1, 3, 16, 24, seed=distractor_seed)).map
            swaps = searched(subject, distractor, aim, budget=4, candidates=60)
            maps = features.map.clone().flatten(2)
            for n, swap in enumerate(swaps, 1):
                maps[0, :, swap.query_cell] = distractor[0].flatten(1)[:, swap.distractor_cell]
                logits = backbone.head(replace(features, map=maps.reshape(features.map.shape)))[0]
                assert torch.allclose(logits, swap.logits, atol=1e-3)
                # The search ends with the flip, and only with it or with the budget.
                assert (int(logits.argmax()) == second) <= (n == len(swaps))
            flipped = int(logits.argmax()) == second
            assert flipped or len(swaps) == 4
            flips += flipped
            for side in ("query_cell", "distractor_cell"):
                assert len({getattr(s, side) for s in swaps}) == len(swaps)
    assert flips >= 1


def test_maps_put_in_place_are_read_by_the_network_s_head_with_its_own_prefix_tokens():
    module = loud("registers")
    subject = subject_of(module, QUERY, Target(2, "contrast", 0), batch_size=2)
    logits = subject.feature_logits(subject.features.repeat(5, 1, 1, 1))
    assert torch.allclose(logits, subject.forward_pass.logits.expand(5, -1), atol=1e-4)
    scores = subject.target.score(
        subject.feature_logits(torch.cat([subject.features, subject.features.abs()]))
    )
    assert float(scores[0]) == pytest.approx(subject.score, rel=1e-4)
    assert abs(float(scores[1]) - subject.score) > 1e-2
    assert not scores.requires_grad
    slope = subject.feature_gradients(subject.features.repeat(3, 1, 1, 1))
    assert torch.allclose(slope, subject.gradients.expand_as(slope), atol=1e-5)


@pytest.mark.parametrize("candidates", [10, 200])
def test_the_pairs_that_promise_most_are_those_of_the_largest_first_order_gain(candidates):
    module = loud("mlp")
    subject = subject_of(module, QUERY)
    distractor = subject.backbone.features(DISTRACTOR).map
    aim = Decision(0, 2, True)
    cells = list(range(3, 40)), list(range(5, 50))
    actual = candidate_swaps(subject, subject.features, distractor, aim, cells, candidates)
    leaf = subject.features.double().requires_grad_()
    logits = precise(module).head(leaf)[0]
    (slope,) = torch.autograd.grad(logits[2] - logits[0], leaf)
    slope, old, new = (t[0].flatten(1).detach().double() for t in (slope, leaf, distractor))
    gains = {
        (i, j): float(slope[:, i] @ (new[:, j] - old[:, i])) for i in cells[0] for j in cells[1]
    }
    expected = sorted(gains, key=lambda pair: -gains[pair])[:candidates]
    assert len(set(actual)) == candidates
    assert len(set(actual) & set(expected)) >= candidates - 1  # ties of rounding at the very end


def test_under_a_linear_head_the_promise_is_kept_by_the_best_of_all():
    subject = subject_of(loud("gap"), QUERY)
    distractor = subject.backbone.features(DISTRACTOR).map
    order = subject.forward_pass.logits[0].argsort(descending=True).tolist()
    aim = Decision(order[0], order[1], False)
    (all_tried,), (few_tried,) = (
        searched(subject, distractor, aim, budget=1, candidates=n) for n in (10**6, 300)
    )
    assert (few_tried.pair_count, all_tried.pair_count) == (300, 96 * 96)
    assert (few_tried.query_cell, few_tried.distractor_cell) == (
        all_tried.query_cell,
        all_tried.distractor_cell,
    )


def test_cells_are_exchanged_and_nothing_else():
    query, distractor = noise(1, 2, 3, 4, seed=1), noise(1, 2, 3, 4, seed=2)
    maps = apply_swaps(query, distractor, [(0, 11), (5, 2)])
    expected = query.repeat(2, 1, 1, 1)
    expected[0, :, 0, 0] = distractor[0, :, 2, 3]
    expected[1, :, 1, 1] = distractor[0, :, 0, 2]
    assert torch.equal(maps, expected)


@pytest.mark.parametrize(
    ("target", "aim"),
    [
        (Target(1), Decision(1, 2, False)),
        (Target(2), Decision(1, 2, False)),
        (Target(0, "probability"), Decision(1, 0, False)),
        (Target(1, "contrast", 0), Decision(1, 0, True)),
        (Target(0, "contrast", 2), Decision(2, 0, True)),
    ],
    ids=str,
)
def test_the_decision_is_the_one_that_is_asked_about(target, aim):
    module = seeded(GapNet())
    with torch.no_grad():
        module.fc.weight.zero_()
        module.fc.bias.copy_(torch.tensor([0.0, 2.0, 1.0]))
        module.fc.weight[0, 0] = 1e-3  # the head must still read something
    assert find_decision(subject_of(module, QUERY, target)) == aim
    assert not aim.is_reached(torch.tensor([0.0, 2.0, 1.0]))
    assert aim.is_reached(torch.tensor([9.0 * (aim.goal == c) for c in range(3)]))


class RedOrGreen(nn.Module):
    """Says "green" where one 4 x 4 cell is greener than all others are red."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.fc.weight.copy_(torch.eye(2))

    def features(self, x):
        return functional.avg_pool2d(x, 4)[:, :2]

    def head(self, f):
        # Squares, so that one strong cell outweighs many weak ones.
        return self.fc((8 * f**2).flatten(2).mean(-1))

    def forward(self, x):
        return self.head(self.features(x))


def pixels_of_cells(cells: dict[tuple[int, int], tuple[int, int, int]]) -> np.ndarray:
    pixels = np.full((16, 24, 3), 20, np.uint8)
    for (row, column), colour in cells.items():
        pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = colour
    return pixels


class Painted(Tinted):
    """One red picture, one green one and one that is green to its label only, and blue."""

    labels = ("red", "green")
    items = tuple(
        replace(item, key=f"painted/{n}", label=int(n > 0), split="train")
        for n, item in enumerate(Tinted.items[:3])
    )

    def pixels(self, index):
        return [
            pixels_of_cells({(0, 0): (250, 10, 10)}),
            pixels_of_cells({(3, 5): (10, 250, 10), (1, 1): (10, 120, 10)}),
            pixels_of_cells({(2, 2): (60, 10, 10), **{(r, 0): (20, 20, 250) for r in range(4)}}),
        ][index]


@pytest.fixture
def colours():
    net = wrap(RedOrGreen().eval(), input_spec=plain_spec(16, 24), labels=Painted.labels)
    page = Engine(REGISTRY, loader=lambda name, progress: net)
    for _ in page.fit("toy", METHOD.name, Painted(), {}, visitor=ME):
        pass
    return page


def explained(page, pixels, **params):
    question = Question("toy", pixels, visitor=ME)
    *_, answer = page.explain(question, METHOD.name, params)
    return answer


def test_the_known_cell_is_replaced_by_the_known_cell(colours):
    query = pixels_of_cells({(1, 4): (250, 10, 10), (2, 0): (60, 10, 10)})
    result = explained(colours, query).result
    (item,) = result.items
    assert item.key == "painted/1"
    (mark,), (query_mark,) = item.marks, item.comparison.marks
    assert (mark.number, mark.left, mark.top) == (1, pytest.approx(5 / 6), pytest.approx(3 / 4))
    assert (query_mark.number, query_mark.left, query_mark.top) == (
        1,
        pytest.approx(4 / 6),
        pytest.approx(1 / 4),
    )
    assert (mark.right, mark.bottom) == (1, 1)
    assert (item.diagnostics["swaps"], item.diagnostics["flipped"]) == (1, 1)
    assert item.diagnostics["share of swaps tried"] == pytest.approx(500 / 24**2)
    assert "After 1 swap red becomes green" in result.note
    assert item.group == "red → green"
    assert item.value == item.diagnostics["score after"] - item.diagnostics["score before"] < 0
    assert np.array_equal(item.comparison.image, query)


def test_the_caption_tells_the_chance_of_the_other_class_after_each_swap(colours):
    cells = {(r, c): (250, 10, 10) for r in range(2) for c in range(2)}
    (item,) = explained(colours, pixels_of_cells(cells), candidates=1000, swaps=4).result.items
    actual = [float(part.split()[-2]) for part in item.caption.split(" → ")]
    net = colours.backbone("toy")
    f = functional.avg_pool2d(
        torch.from_numpy(pixels_of_cells(cells)).permute(2, 0, 1)[None] / 255.0, 4
    )
    f = f[:, :2]
    expected = [100 * float(net.module.head(f).softmax(1)[0, 1])]
    (distractor,) = decode_images(
        _fitted(colours).arrays, [_fitted(colours).facts["keys"].index(item.key)]
    )
    g = functional.avg_pool2d(torch.from_numpy(distractor.copy()).permute(2, 0, 1)[None] / 255.0, 4)
    for source_mark, query_mark in zip(item.marks, item.comparison.marks, strict=True):
        place = [(round(m.top * 4), round(m.left * 6)) for m in (query_mark, source_mark)]
        f[0, :, place[0][0], place[0][1]] = g[0, :2, place[1][0], place[1][1]]
        expected.append(100 * float(net.module.head(f).softmax(1)[0, 1]))
    assert actual == pytest.approx(expected, rel=2e-2)
    assert len(actual) == len(item.marks) + 1 >= 3


def _fitted(page) -> Artifact:
    return page.artifact_store.get(REGISTRY.explainers[METHOD.name], page.backbone("toy"), ME)


def test_a_decision_that_does_not_flip_in_time_is_said_to_stand(colours):
    query = pixels_of_cells({(r, c): (250, 10, 10) for r in range(4) for c in range(6)})
    result = explained(colours, query, swaps=2, candidates=1000).result
    assert result.note == "2 patches taken over do not turn red into green."
    assert (result.items[0].diagnostics["swaps"], result.items[0].diagnostics["flipped"]) == (2, 0)


def test_every_part_of_the_answer_holds_the_swaps_so_far(colours):
    query = pixels_of_cells({(r, c): (250, 10, 10) for r in range(4) for c in range(6)})
    question = Question("toy", query, visitor=ME)
    parts = list(colours.explain(question, METHOD.name, {"swaps": 3, "candidates": 1000}))
    counts = [len(p.result.items[0].marks) for p in parts]
    assert counts == sorted(counts)
    assert {0, 1, 2, 3} == set(counts)
    assert [p.fraction for p in parts] == sorted(p.fraction for p in parts)


def test_the_visitor_s_own_picture_is_not_compared_with_itself(colours):
    keys = {
        item.key
        for item in explained(
            colours, Painted().pixels(0), pictures=4, candidates=1000
        ).result.items
    }
    assert keys == {"painted/1", "painted/2"}
    back = explained(colours, Painted().pixels(1), candidates=1000).result
    assert [item.key for item in back.items] == ["painted/0"]
    page = Engine(REGISTRY, loader=lambda name, progress: colours.backbone("toy"))
    lonely = _fitted(colours)
    only = Artifact({k: v[:1] if len(v) == 3 else v for k, v in lonely.arrays.items()},
                    {**lonely.facts, "keys": lonely.facts["keys"][:1]})  # fmt: skip
    page.artifact_store.put_for_visitor(
        REGISTRY.explainers[METHOD.name], page.backbone("toy"), ME, only
    )
    result = explained(page, Painted().pixels(0)).result
    assert result.items == ()
    assert result.note == "The gallery holds no picture of green other than this one."


def test_pictures_that_the_network_also_calls_so_come_first_then_the_nearest():
    vectors = np.eye(4, dtype=np.float16)[[0, 1, 2, 3, 0]]
    arrays = {
        "vectors": vectors,
        "labels": np.array([1, 1, 1, 0, 0]),
        "predicted": np.array([0, 1, 1, 1, 0]),
    }
    query = np.array([0.9, 0.1, 0.3, 0.0], np.float32)
    candidates = rank_candidates(arrays, ["a", "b"], (1, "b"), query)
    assert [i for i, _ in candidates] == [2, 1, 0]
    length = float(np.linalg.norm(query))
    assert [similarity for _, similarity in candidates] == pytest.approx(
        [0.3 / length, 0.1 / length, 0.9 / length]
    )
    # A gallery with classes of its own: what the network calls so.
    assert [i for i, _ in rank_candidates(arrays, ["oak", "elm"], (1, "b"), query)] == [2, 1, 3]


def test_the_gallery_holds_pictures_vectors_and_the_network_s_word():
    net = wrap(seeded(GapNet()), input_spec=plain_spec(32, 48), labels=Tinted.labels)
    *_, last = fit_gallery(Tinted(), net, DistractorParams(per_class=5))
    arrays, facts = last.artifact.arrays, last.artifact.facts
    assert [list(arrays["labels"]).count(c) for c in range(3)] == [5, 5, 5]
    data = Tinted()
    for n, key in enumerate(facts["keys"]):
        index = int(key.split("/")[1])
        assert data.items[index].split == "train"
        x = torch.from_numpy(data.pixels(index)).permute(2, 0, 1)[None] / 255.0
        vector = net.embed(x)[0].numpy()
        assert arrays["vectors"][n] == pytest.approx(vector / np.linalg.norm(vector), abs=2e-3)
        assert arrays["predicted"][n] == int(net.logits(x).argmax())
        (picture,) = decode_images(arrays, [n])
        assert same_picture(arrays["tinies"][n : n + 1], thumbnail(data.pixels(index)))[0]
        assert same_picture(thumbnail(picture)[None], thumbnail(data.pixels(index)))[0]
        assert not same_picture(thumbnail(picture)[None], thumbnail(data.pixels((index + 3) % 54)))[
            0
        ]


def test_a_gallery_of_a_split_without_pictures_is_refused():
    with pytest.raises(BadInput, match="no pictures in train"):
        choose_positions(type("E", (Tinted,), {"items": tuple(
            replace(i, split="test") for i in Tinted.items)})(), DistractorParams())  # fmt: skip


def test_a_signal_has_no_picture_to_take_from():
    net = wrap(seeded(GapNet(axes=1)), input_spec=plain_spec(64))
    assert "patches of pictures" in METHOD.why_not(net)


@pytest.mark.parametrize("grid", [(4, 6), (7, 7), (3, 11)])
def test_marks_tile_the_view(grid):
    marks = [NumberedBox.of_cell(divmod(c, grid[1]), grid) for c in range(grid[0] * grid[1])]
    area = sum((m.right - m.left) * (m.bottom - m.top) for m in marks)
    assert area == pytest.approx(1)
    middle = [((m.left + m.right) / 2 * grid[1], (m.top + m.bottom) / 2 * grid[0]) for m in marks]
    assert middle[1] == (pytest.approx(1.5), pytest.approx(0.5))
    assert len({(int(x), int(y)) for x, y in middle}) == len(marks)


def test_a_vision_transformer_is_turned_by_patches_entering_its_last_block():
    net = wrap(loud("class token"), input_spec=plain_spec(16, 24), labels=Tinted.labels)
    rng = np.random.default_rng(4)
    pictures = [rng.integers(0, 256, (16, 24, 3), dtype=np.uint8) for _ in range(6)]
    x = torch.stack([torch.from_numpy(p).permute(2, 0, 1) / 255.0 for p in pictures])
    unit = functional.normalize(net.embed(x)).numpy()
    arrays = {
        "vectors": unit.astype(np.float16),
        "labels": np.arange(6, dtype=np.int32) % 3,
        "predicted": net.logits(x).argmax(1).numpy().astype(np.int32),
        **encode_images(pictures, quality=95),
        "tinies": np.stack([thumbnail(picture) for picture in pictures]),
    }
    facts = {"labels": list(Tinted.labels), "keys": [str(n) for n in range(6)]}
    subject = subject_of(net.module, QUERY, backbone=net)
    subject = replace(subject, stored_artifact=Artifact(arrays, facts))
    result = final(METHOD.explain(subject, CounterfactualParams(candidates=50, swaps=3)))
    (item,) = result.items
    assert item.diagnostics["swaps"] == len(item.marks) == len(item.comparison.marks)
    assert abs(item.value) > 0
