"""Splits are stratified and seeded, and copies of a picture never lie on two sides."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import noisy
from whylens.core.datasets.splits import (
    NEAR,
    Fingerprint,
    fingerprint,
    group_copies,
    split_stratified,
)


def printed(pixels):
    return fingerprint(pixels, hashlib.sha256(pixels.tobytes()).hexdigest())


def photo(seed: int) -> np.ndarray:
    """Return smooth structure, as photos have."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
    return np.asarray(small.resize((140, 120), Image.Resampling.BICUBIC))


def test_the_difference_hash_is_the_literal_one():
    pixels = photo(1)
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX))
    bits = "".join(
        "1" if grey[row, column + 1] > grey[row, column] else "0"
        for row in range(8)
        for column in range(8)
    )
    assert printed(pixels).gradients == int(bits, 2)


def test_recompressed_resized_and_brighter_copies_share_a_group():
    pixels = photo(1)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=60)
    jpeg = np.asarray(Image.open(stream).convert("RGB"))
    small = np.asarray(Image.fromarray(pixels).resize((70, 60)))
    brighter = (pixels * 0.9 + 20).astype(np.uint8)
    groups = group_copies([printed(p) for p in (pixels, photo(2), jpeg, small, brighter)])
    assert groups == [0, 1, 0, 0, 0]


def test_unrelated_pictures_do_not_share_a_group():
    assert group_copies([printed(photo(seed)) for seed in range(300)]) == list(range(300))


def test_plain_pictures_are_told_apart_by_content_only():
    plain = [np.full((40, 40, 3), value, np.uint8) for value in (10, 200, 10)]
    assert group_copies([printed(p) for p in plain]) == [0, 1, 0]


def test_groups_reach_through_chains_and_stop_at_the_bound():
    colours = np.arange(192).astype(np.uint8)
    start = 0x0F0F0F0F0F0F0F0F
    hashes = [start, start ^ 0b111, start ^ 0b111111, start ^ (0xF << 40)]
    prints = [Fingerprint(str(i), h, colours) for i, h in enumerate(hashes)]
    assert NEAR == 3
    assert group_copies(prints) == [0, 0, 0, 1]


def test_near_copies_are_those_of_the_slow_comparison():
    rng = np.random.default_rng(4)
    hashes = rng.integers(0, 2**63, 60, dtype=np.uint64)
    flips = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 63, (60, 4)).astype(np.uint64), 1)
    colours = np.zeros(192, np.uint8)
    every = [int(h) for h in (*hashes, *(hashes ^ flips))]
    prints = [Fingerprint(str(i), h, colours) for i, h in enumerate(every)]
    groups = group_copies(prints)
    for first in range(len(every)):
        for second in range(first):
            is_copy = (every[first] ^ every[second]).bit_count() <= 3
            if is_copy:
                assert groups[first] == groups[second]
    distances = [(every[i] ^ every[i + 60]).bit_count() for i in range(60)]
    assert 0 < sum(d <= 3 for d in distances) < 60
    assert len(set(groups)) == 120 - sum(d <= 3 for d in distances)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_shares_hold_within_each_class_and_groups_are_whole(seed):
    labels = [0] * 100 + [1] * 40
    groups = [i // 2 for i in range(140)]
    splits = split_stratified(labels, groups, val=0.15, test=0.1, seed=seed)
    for label, size in ((0, 100), (1, 40)):
        class_splits = [
            s for s, item_label in zip(splits, labels, strict=True) if item_label == label
        ]
        # Groups of two cannot fill an odd count.
        assert class_splits.count("val") == round(0.15 * size) // 2 * 2
        assert class_splits.count("test") == round(0.1 * size) // 2 * 2
    assert all(splits[i] == splits[i + 1] for i in range(0, 140, 2))


def test_a_draw_can_be_repeated_and_depends_on_its_seed():
    labels, groups = [0, 1] * 50, list(range(100))
    first = split_stratified(labels, groups, val=0.2, test=0.2, seed=5)
    assert first == split_stratified(labels, groups, val=0.2, test=0.2, seed=5)
    assert first != split_stratified(labels, groups, val=0.2, test=0.2, seed=6)


def test_four_pictures_give_every_split_one():
    splits = split_stratified([0] * 4, list(range(4)), val=0.15, test=0.15, seed=0)
    assert sorted(splits) == ["test", "train", "train", "val"]


def test_a_class_that_is_one_group_is_trained_on():
    assert set(split_stratified([0] * 6, [0] * 6, val=0.15, test=0.15, seed=0)) == {"train"}


def test_noise_of_the_tests_is_no_copy_of_itself():
    prints = [printed(noisy(seed, seed % 3)) for seed in range(80)]
    assert len(set(group_copies(prints))) == 80
