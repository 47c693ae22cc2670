"""Which pictures go into which split: stratified, seeded, and copies never on both sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from whylens.core.datasets.dataset import Pixels, SplitName
from whylens.core.words import number_of, was

NEAR = 3  # bits of 64; beyond it unrelated photos begin to meet
_BANDS = NEAR + 1  # two hashes that differ in NEAR bits agree in at least one band whole
_COLOUR = 10.0  # grey levels: recompressed and resized copies stay below 3
_PLAIN = 4  # so few bits set, or unset, say nothing about a picture


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is compared to find copies of one picture.

    Attributes:
        content: Hex sha256 of its file or of whatever it is made from.
        gradients: 64-bit difference hash: which of two neighbours is brighter, on 8 rows of 9.
        colours: (192,) uint8: the picture on 8 x 8 pixels.
    """

    content: str
    gradients: int
    colours: npt.NDArray[np.uint8]


def fingerprint(pixels: Pixels, content: str) -> Fingerprint:
    """Return what identifies a picture and its near copies.

    Args:
        pixels: (H, W, 3) uint8.
        content: Hex sha256 of its file.
    """
    image = Image.fromarray(pixels)
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    bits = np.packbits((grey[:, 1:] > grey[:, :-1]).ravel())
    colours = np.asarray(image.resize((8, 8), Image.Resampling.BOX)).reshape(-1)
    return Fingerprint(content, int.from_bytes(bits.tobytes(), "big"), colours)


def group_copies(prints: Sequence[Fingerprint]) -> list[int]:
    """Return for each picture the number of its group; copies of one picture share a group.

    Same content is a copy. So is a difference hash within `NEAR` bits, where the hash says
    anything and the colours agree up to an even change of brightness.
    """
    parent = list(range(len(prints)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(a: int, b: int) -> None:
        a, b = sorted((root(a), root(b)))
        parent[b] = a

    first: dict[str, int] = {}
    for index, fingerprint_ in enumerate(prints):
        join(first.setdefault(fingerprint_.content, index), index)
    for a, b in _near_pairs(prints):
        join(a, b)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(index), len(numbers)) for index in range(len(prints))]


def _near_pairs(prints: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    hashes = np.array([p.gradients for p in prints], dtype=np.uint64)
    if not len(hashes):
        return []
    set_bits = np.bitwise_count(hashes)
    informative = np.flatnonzero((set_bits >= _PLAIN) & (set_bits <= 64 - _PLAIN))
    colours = np.stack([p.colours for p in prints]).astype(np.float32)
    colours -= colours.mean(1, keepdims=True)
    width = 64 // _BANDS
    pairs: list[tuple[int, int]] = []
    for band in range(_BANDS):
        part = (hashes[informative] >> np.uint64(band * width)) & np.uint64((1 << width) - 1)
        order = np.argsort(part, kind="stable")
        edges = np.flatnonzero(np.diff(part[order])) + 1
        for bucket in np.split(informative[order], edges):
            for position, i in enumerate(bucket[:-1]):
                rest = bucket[position + 1 :]
                close = rest[np.bitwise_count(hashes[rest] ^ hashes[i]) <= NEAR]
                same = np.abs(colours[close] - colours[i]).mean(1) <= _COLOUR
                pairs.extend((int(i), int(j)) for j in close[same])
    return pairs


def split_stratified(
    labels: Sequence[int], groups: Sequence[int], *, val: float, test: float, seed: int
) -> list[SplitName]:
    """Return the split of each picture; a group is never divided, every class is in each split.

    A group belongs to the class of its first picture. Where a class consists of few large
    groups, the training split is served first and another may stay without it.

    Args:
        val: Share for validation.
        test: Share for the test; 0 for none.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    by_class: dict[int, list[list[int]]] = defaultdict(list)
    for copies in members.values():
        by_class[labels[copies[0]]].append(copies)
    splits: list[SplitName] = ["train"] * len(labels)
    for label in sorted(by_class):
        rng = np.random.default_rng([seed, label])
        shuffled = [by_class[label][i] for i in rng.permutation(len(by_class[label]))]
        size = sum(map(len, shuffled))
        sizes: dict[SplitName, int] = {
            "test": max(1, round(test * size)) if test else 0,
            "val": max(1, round(val * size)) if val else 0,
        }
        # Large groups are set aside at the end of the draw, hence for training.
        remaining = len(shuffled)
        for copies in sorted(shuffled, key=len):
            for name, room in sizes.items():
                if len(copies) <= room and remaining > 1:
                    sizes[name] -= len(copies)
                    remaining -= 1
                    for index in copies:
                        splits[index] = name
                    break
    return splits


def complete_splits(
    own: Sequence[SplitName | None],
    labels: Sequence[int],
    groups: Sequence[int],
    *,
    val: float,
    test: float,
    seed: int,
) -> tuple[list[SplitName], tuple[str, ...]]:
    """Return the split of each picture, a set's own where it has any, and what was drawn.

    Args:
        own: By picture; a set that has only a training part is split anew.
        val: Share for validation where there is none.
        test: Share for the test where the set has no splits.
    """
    names = {name for name in own if name is not None}
    if names <= {"train"}:
        return split_stratified(labels, groups, val=val, test=test, seed=seed), ()
    splits: list[SplitName] = [name or "train" for name in own]
    if "val" in names:
        return splits, ()
    train = [index for index, name in enumerate(splits) if name == "train"]
    new_splits = split_stratified(
        [labels[i] for i in train], [groups[i] for i in train], val=val, test=0, seed=seed
    )
    for index, name in zip(train, new_splits, strict=True):
        splits[index] = name
    count = new_splits.count("val")
    origin = f"{number_of(count, 'picture')} of train {was(count)} drawn for it"
    return splits, (f"It has no validation split: {origin}.",)
