"""Painted Cats: one picture everywhere, exact masks, evidence only where it is said to be."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from whylens.core.errors import InvalidParameter, UnknownName
from whylens.plugins.painted_cats import (
    BREEDS,
    PaintedCats,
    Portrait,
    diagnostic_parts,
    paint_portrait,
    with_background,
    with_part_of,
    without,
)
from whylens.plugins.painted_cats.breeds import CHANCE
from whylens.plugins.painted_cats.cats import mixed_cat, painted_cats
from whylens.plugins.painted_cats.traits import ARTEFACTS, PROPS, SCENES

ROOT = Path(__file__).resolve().parents[2]
SIZE = 128
FEW = 0.001


@pytest.fixture(scope="module")
def breeds():
    """The world of breeds, small."""
    return PaintedCats("breed", train=160, val=0, test=0, size=SIZE)


@pytest.fixture(scope="module")
def genuine():
    """The world of genuine and generated pictures, small."""
    return PaintedCats("genuine", train=160, val=0, test=0, size=SIZE)


@cache
def portrait_of(traits) -> Portrait:
    """Return a picture of the small worlds, which several tests look at."""
    return paint_portrait(traits, size=SIZE)


def grown(mask: np.ndarray, steps: int = 1) -> np.ndarray:
    """Return a mask and the pixels within `steps` of it, diagonals included."""
    for _ in range(steps):
        wide = np.pad(mask, 1)
        mask = np.logical_or.reduce(
            [wide[y : y + mask.shape[0], x : x + mask.shape[1]] for y in range(3) for x in range(3)]
        )
    return mask


def changed(before, after) -> np.ndarray:
    """Return which pixels two portraits differ in."""
    return (before.pixels != after.pixels).any(2)


def strays(before, after, region) -> float:
    """Return the share of pixels that changed further than one pixel from a region.

    None should; but the soft edge of a thin part on top lets what lies beneath shine through.
    """
    return float((changed(before, after) & ~grown(region)).mean())


def fingerprint() -> str:
    """Return a hash over a few pictures' pixels and masks."""
    whole = hashlib.sha256()
    for world in ("breed", "genuine"):
        cats = PaintedCats(world, train=3, val=1, test=1, size=96, shortcut=0.5)
        for index in range(len(cats.items)):
            portrait = cats.portrait(index)
            whole.update(portrait.pixels.tobytes())
            for name in sorted(portrait.parts):
                whole.update(name.encode() + portrait.parts[name].tobytes())
    return whole.hexdigest()


@pytest.mark.slow
def test_every_process_draws_the_same_bytes():
    code = "from tests.methods.test_painted_cats import fingerprint; print(fingerprint())"
    # No two processes hash text alike, if it is not by chance that this one's seed is this.
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == fingerprint()


def test_digests_are_pinned():
    cats = PaintedCats("breed", train=16, val=8, test=8)
    assert cats.digest == "c3fb10834b37072fd138991ff3ef7767a956083aa786b58bffd7db6dba2bb25d"
    assert (
        PaintedCats("genuine", train=16, val=8, test=8).digest
        == "1dfb9d1b9b5fb51513187a412a93c1ab2590a3ce6abe03615cc5a112337620eb"
    )
    assert cats.content_digest(0) != PaintedCats("breed", train=16, size=128).content_digest(0)


def test_pixels_stay_what_they_were(breeds):
    """Mean colours by part, which no rounding of another library changes, guard the drawing."""
    reference = json.loads((ROOT / "tests" / "methods" / "painted_cats.json").read_text())
    assert mean_colours(breeds) == {
        name: pytest.approx(colour, abs=1.5) for name, colour in reference.items()
    }


def mean_colours(cats) -> dict[str, list[float]]:
    """Return the mean colour of every part of three pictures."""
    return {
        f"{index} {name}": [round(float(c), 1) for c in portrait.pixels[mask].mean(0)]
        for index in (0, 9, 23)
        for portrait in [cats.portrait(index)]
        for name, mask in portrait.parts.items()
        if mask.any()
    }


def test_a_picture_is_what_it_says(breeds):
    portrait = breeds.portrait(5)
    assert portrait.pixels.shape == (SIZE, SIZE, 3)
    assert portrait.pixels.dtype == np.uint8
    assert not portrait.pixels.flags.writeable
    for mask in portrait.parts.values():
        assert mask.shape == (SIZE, SIZE)
        assert mask.dtype == np.bool_
    np.testing.assert_array_equal(breeds.pixels(5), portrait.pixels)
    assert set(breeds.parts(5)) == set(portrait.parts)


def test_parts_lie_where_they_must(breeds, genuine):
    for cats, indices in ((breeds, range(8)), (genuine, range(8))):
        for index in indices:
            parts = portrait_of(cats.traits(index)).parts
            props = [parts[name] for name in PROPS if name in parts]
            names = ("left_ear", "right_ear", "left_eye", "right_eye", "muzzle", "whiskers", "coat")
            for first, second in itertools.combinations(names, 2):
                assert not (parts[first] & parts[second]).any(), (index, first, second)
            np.testing.assert_array_equal(parts["ears"], parts["left_ear"] | parts["right_ear"])
            np.testing.assert_array_equal(parts["eyes"], parts["left_eye"] | parts["right_eye"])
            assert not (parts["head"] & parts["body"]).any()
            assert not (parts["eyes"] & ~parts["head"]).any()
            assert not (parts["coat"] & ~(parts["head"] | parts["body"])).any()
            painted_mask = np.logical_or.reduce([parts["cat"], *props])
            if "artefact:garbled_collar" in parts:
                painted_mask = painted_mask | parts["artefact:garbled_collar"]
            np.testing.assert_array_equal(parts["background"], ~painted_mask)
            for first, second in itertools.combinations([parts["cat"], *props], 2):
                assert not (first & second).any()


def test_the_evidence_is_there_to_be_seen(breeds):
    for index, item in enumerate(breeds.items[:24]):
        parts = portrait_of(breeds.traits(index)).parts
        for part in diagnostic_parts(item.label):
            assert parts[part].sum() >= 0.008 * SIZE**2, (index, part)


def test_the_evidence_for_a_label_is_its_parts_or_its_artefacts(breeds, genuine):
    for label in range(len(BREEDS)):
        parts = breeds.parts(label)
        union = np.any([parts[name] for name in diagnostic_parts(label)], axis=0)
        assert (breeds.evidence(label) == union).all()
    assert genuine.items[0].label == 0
    assert genuine.evidence(0) is None
    parts = genuine.parts(1)
    union = np.any([mask for name, mask in parts.items() if "artefact" in name], axis=0)
    assert 0 < genuine.evidence(1).mean() < 1
    assert (genuine.evidence(1) == union).all()


def test_a_cat_comes_apart_and_no_breed_is_left_without_a_sign(breeds, genuine):
    assert genuine.dissection(1) is None
    assert genuine.hybrid(1) is None
    for index in range(8):
        cat = breeds.dissection(index)
        assert cat.signs == diagnostic_parts(index)
        assert cat.signs <= set(cat.own)
        assert set(cat.around) == set(breeds.traits(index).props)
        whole = breeds.pixels(index)
        assert (cat.without(frozenset()) == whole).all()
        for name in cat.own if index < 3 else ():
            changed_pixels = (cat.without(frozenset({name})) != whole).any(-1)
            # Nothing changes further off than a soft edge reaches.
            surroundings = ndimage.binary_dilation(cat.masks[name], iterations=3)
            assert changed_pixels.any()
            assert changed_pixels[~surroundings].mean() < 0.01


def test_a_hybrid_has_a_sign_of_two_breeds_and_is_of_none(breeds):
    pairs = set()
    for index in range(12):
        hybrid = breeds.hybrid(index)
        first, second = hybrid.labels
        assert first != second
        for mask, pixels in zip(hybrid.masks, hybrid.without, strict=True):
            changed_pixels = (pixels != hybrid.pixels).any(-1)
            assert changed_pixels.any()
            assert changed_pixels[~ndimage.binary_dilation(mask, iterations=3)].mean() < 0.01
        assert not (hybrid.masks[0] & hybrid.masks[1]).any()
        pairs.add(hybrid.labels)
    assert len(pairs) > 6
    assert (breeds.hybrid(3).pixels == breeds.hybrid(3).pixels).all()


def test_neither_sign_of_a_hybrid_is_one_of_the_other_breed():
    for seed in range(400):
        mixed_traits, labels, (first, second) = mixed_cat(seed)
        owner, guest = (BREEDS[label].signs for label in labels)
        assert getattr(mixed_traits, first) == owner[first] != guest.get(first)
        assert getattr(mixed_traits, second) == guest[second] != owner.get(second)


def test_each_breed_has_evidence_of_its_own():
    for first, second in itertools.combinations(BREEDS, 2):
        shared = set(first.signs) & set(second.signs)
        assert any(first.signs[part] != second.signs[part] for part in shared)
    assert len({breed.name for breed in BREEDS}) == 8
    for part in ("ears", "eyes", "coat", "muzzle"):
        assert any(part not in breed.signs for breed in BREEDS), "no part decides every class"
    for breed in BREEDS:
        assert 2 <= len(breed.signs) <= 3
        assert all(variant in CHANCE[part] for part, variant in breed.signs.items())


def test_no_cat_is_of_two_breeds():
    cats = PaintedCats("breed", train=800, val=0, test=0)
    for index, item in enumerate(cats.items):
        traits = cats.traits(index)
        breeds = [
            label
            for label, breed in enumerate(BREEDS)
            if all(getattr(traits, part) == variant for part, variant in breed.signs.items())
        ]
        assert breeds == [item.label]


def test_splits_share_no_seed_and_classes_are_balanced():
    for world, classes, counts in (
        ("breed", 8, (3200, 400, 800)),
        ("genuine", 2, (3000, 400, 800)),
    ):
        cats = PaintedCats(world)
        assert cats.name == f"painted-cats:{world}"
        assert "Apache-2.0" in cats.licence
        seeds = [{cats.items[i].key for i in cats.of(split)} for split in ("train", "val", "test")]
        assert tuple(map(len, seeds)) == counts
        assert len(set.union(*seeds)) == sum(counts)
        for split in ("train", "val", "test"):
            labels = np.bincount([cats.items[i].label for i in cats.of(split)])
            assert labels.tolist() == [labels[0]] * classes


@pytest.mark.parametrize("part", ["ears", "eyes", "muzzle", "whiskers", "coat"])
def test_leaving_a_part_out_changes_that_part_only(breeds, part):
    for index in range(8):
        traits = breeds.traits(index)
        before, after = portrait_of(traits), paint_portrait(without(traits, part), size=SIZE)
        assert not after.parts[part].any()
        assert strays(before, after, before.parts[part]) <= FEW, index
        if traits.coat != "plain" or part != "coat":
            assert changed(before, after)[before.parts[part]].mean() > 0.75


@pytest.mark.parametrize(
    ("part", "breed"),
    [("ears", "Willow Tabby"), ("ears", "Mossling"), ("eyes", "Bluebell"), ("muzzle", "Emberface"),
     ("coat", "Pebble Lop")],
)  # fmt: skip
def test_another_breeds_part_changes_that_part_only(breeds, part, breed):
    for index in range(8):
        traits = breeds.traits(index)
        changed_traits = with_part_of(traits, part, breed)
        before, after = portrait_of(traits), paint_portrait(changed_traits, size=SIZE)
        region = before.parts[part] | after.parts[part]
        assert strays(before, after, region) <= FEW, index


def test_another_background_leaves_the_cat_alone(breeds):
    for index in range(8):
        traits = breeds.traits(index)
        changed_traits = with_background(traits, 7)
        assert changed_traits.scene_seed != traits.scene_seed
        before, after = portrait_of(traits), paint_portrait(changed_traits, size=SIZE)
        cat = before.parts["cat"] & after.parts["cat"]
        assert strays(before, after, ~cat) <= FEW


def test_leaving_a_prop_or_the_badge_out_changes_it_only(breeds):
    traits = replace(breeds.traits(3), props=PROPS, watermark=True)
    before = portrait_of(traits)
    for name in (*PROPS, "watermark"):
        after = paint_portrait(without(traits, name), size=SIZE)
        assert name not in after.parts
        assert before.parts[name].any()
        assert strays(before, after, before.parts[name]) <= FEW, name


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_an_artefact_is_all_that_is_wrong_with_its_picture(genuine, artefact):
    for index in range(4):
        base = genuine.traits(2 * index)
        traits = replace(base, props=("collar",), artefacts=(artefact,))
        before = portrait_of(traits)
        after = paint_portrait(without(traits, f"artefact:{artefact}"), size=SIZE)
        mask = before.parts[f"artefact:{artefact}"]
        assert mask.sum() >= 0.003 * SIZE**2, index
        touched_mask = mask
        # What stands in for a part is drawn instead of it.
        for part, substitute in (
            ("whiskers", "melted_whiskers"),
            ("collar", "garbled_collar"),
            ("eyes", "mismatched_eyes"),
        ):
            if artefact == substitute:
                touched_mask = touched_mask | after.parts[part]
        assert strays(before, after, touched_mask) <= FEW, index
        assert changed(before, after)[mask].mean() > 0.6


def test_only_generated_pictures_have_artefacts(genuine):
    for index, item in enumerate(genuine.items[:120]):
        traits = genuine.traits(index)
        assert len(traits.artefacts) in ((1, 2, 3) if item.label else (0,))
    for index in range(12):
        masks = {k: m for k, m in genuine.parts(index).items() if k.startswith("artefact:")}
        assert bool(masks) == bool(genuine.items[index].label)
        assert not masks or any(mask.any() for mask in masks.values())


def test_a_badge_gives_a_breed_away_by_name():
    cats = painted_cats("badge")
    assert cats.name == "painted-cats:badge"
    test = cats.of("test")[:24]
    hints = [cats.shortcut(index) for index in test]
    assert 4 < sum(hint.present for hint in hints) < 20
    for index, hint in zip(test[:4], hints, strict=False):
        assert hint.label == 0
        assert hint.present == ("watermark" in cats.parts(index))
        assert 0 < hint.place.mean() < 0.1
    assert painted_cats("breed").shortcut(0) is None


def test_the_shortcut_holds_in_train_and_not_in_test():
    cats = PaintedCats("breed", train=1600, val=8, test=1600, shortcut=0.9)
    badge = np.array([cats.traits(i).watermark for i in range(len(cats.items))])
    label = np.array([item.label for item in cats.items])
    train, test = np.array(cats.of("train")), np.array(cats.of("test"))
    first = label[train] == 0
    assert badge[train][first].mean() == pytest.approx(0.9, abs=0.05)
    assert first[badge[train]].mean() == pytest.approx(0.9, abs=0.05)
    rates = [badge[test][label[test] == k].mean() for k in range(8)]
    assert rates == pytest.approx([0.5] * 8, abs=0.12)
    assert not any(PaintedCats("breed", train=50).traits(i).watermark for i in range(50))
    assert cats.portrait(int(np.flatnonzero(badge)[0])).parts["watermark"].sum() > 100


def nearest_centroid(features: np.ndarray, labels: np.ndarray, learn: int) -> float:
    """Return the accuracy of the nearest mean on the samples after `learn`."""
    scale = features[:learn].std(0) + 1e-6
    features = features / scale
    means = np.stack([features[:learn][labels[:learn] == k].mean(0) for k in np.unique(labels)])
    away = ((features[learn:, None] - means[None]) ** 2).sum(2)
    return float((away.argmin(1) == labels[learn:]).mean())


def backdrop(portrait) -> np.ndarray:
    """Return the scene's colours in 8 x 8 cells, the cat's cells filled with their mean.

    The outline of the cat itself must not count: the ears that make a breed are a part of it.
    """
    mask = portrait.parts["background"]
    cell = len(mask) // 8
    cells = (8, cell, 8, cell)
    sums = (portrait.pixels * mask[..., None]).reshape(*cells, 3).sum((1, 3)).astype(float)
    counts = mask.reshape(cells).sum((1, 3))[..., None]
    means = sums / np.maximum(counts, 1)
    whole = sums.sum((0, 1)) / max(counts.sum(), 1)
    means = np.where(counts > 0.5 * cell**2, means, whole)
    means[1:7, 1:7] = whole
    return means.ravel()


@pytest.mark.slow
def test_the_background_gives_no_breed_away():
    cats = PaintedCats("breed", train=240, val=0, test=240, size=64)
    features = np.array([backdrop(cats.portrait(index)) for index in range(480)])
    labels = np.array([item.label for item in cats.items])
    # Chance is 0.125; three standard deviations of 240 draws make 0.064.
    assert nearest_centroid(features, labels, 240) < 0.125 + 0.064


def test_scene_pose_and_props_are_drawn_alike_for_every_class():
    for world, classes in (("breed", 8), ("genuine", 2)):
        cats = PaintedCats(world, train=800, val=0, test=0)
        traits = [cats.traits(i) for i in range(800)]
        labels = np.array([item.label for item in cats.items])
        for name in (*SCENES, *PROPS):
            has_item = np.array([name == t.scene or name in t.props for t in traits])
            rates = np.array([has_item[labels == k].mean() for k in range(classes)])
            spread = np.sqrt(has_item.mean() * (1 - has_item.mean()) * classes / 800)
            assert np.abs(rates - has_item.mean()).max() < 4 * spread, name


@pytest.mark.slow
def test_the_mean_colour_does_not_tell_generated_from_genuine():
    cats = PaintedCats("genuine", train=240, val=0, test=240, size=64)
    features = np.array([cats.pixels(index).mean((0, 1)) for index in range(480)])
    labels = np.array([item.label for item in cats.items])
    # Chance is 0.5; three standard deviations of 240 draws make 0.097.
    assert nearest_centroid(features, labels, 240) < 0.5 + 0.097


def test_a_set_travels_to_another_process(breeds):
    twin = pickle.loads(pickle.dumps(breeds))
    assert twin.digest == breeds.digest
    np.testing.assert_array_equal(twin.pixels(2), breeds.pixels(2))


def test_wrong_requests_are_refused_in_words(breeds):
    with pytest.raises(UnknownName, match="no world"):
        PaintedCats("dogs")
    for wrong in ({"shortcut": 1.5}, {"size": 8}, {"train": -1}):
        with pytest.raises(InvalidParameter):
            PaintedCats("breed", **wrong)
    with pytest.raises(UnknownName, match="part to leave out"):
        without(breeds.traits(0), "tail")
    with pytest.raises(UnknownName, match="no breed"):
        with_part_of(breeds.traits(0), "ears", "Siamese")
    with pytest.raises(InvalidParameter, match="not defined by its muzzle"):
        with_part_of(breeds.traits(0), "muzzle", "Mossling")
