"""Painted Cats as a set of labelled pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import Literal, cast, get_args

import numpy as np

from whylens import (
    Dataset,
    Dissection,
    Hybrid,
    InvalidParameter,
    Item,
    Shortcut,
    UnknownName,
)
from whylens.plugins.painted_cats.breeds import BREEDS, CHANCE, diagnostic_parts
from whylens.plugins.painted_cats.canvas import Mask
from whylens.plugins.painted_cats.changes import with_part_of, without
from whylens.plugins.painted_cats.portrait import paint_portrait
from whylens.plugins.painted_cats.seeds import pick, stream
from whylens.plugins.painted_cats.tasks import GENUINE, World, any_cat, traits_function
from whylens.plugins.painted_cats.traits import Pixels, Portrait, Traits

SplitName = Literal["train", "val", "test"]
# Seeds of a split start here; no split may hold more pictures than lie between two starts.
STARTS: tuple[tuple[SplitName, int], ...] = (
    ("train", 0),
    ("val", 1_000_000_000),
    ("test", 2_000_000_000),
)
MOST = 1_000_000_000
SMALLEST_SIDE = 64
BADGE, BADGE_RATE = "badge", 0.98


def painted_cats(option: str) -> PaintedCats:
    """Return the set that is called so after a colon: a world, or breeds with a badge."""
    if option != BADGE:
        return PaintedCats(cast("World", option))
    cats = PaintedCats("breed", shortcut=BADGE_RATE)
    cats.name = f"painted-cats:{BADGE}"
    return cats


class PaintedCats(Dataset):
    """Cats whose evidence is known, drawn when asked for.

    Picture i of a split has the seed `start of the split + i` and the label `i mod classes`: the
    splits share no seed and every class comes equally often. Seeds go through a hash before
    anything is drawn from them, so neighbours have nothing in common.

    With a shortcut, a badge lies in the corner of pictures of the first class: in train and val,
    `shortcut` of the first class's pictures carry it, and as many of the pictures that carry
    it are of the first class. In test half of every class carries it, so it tells nothing.

    Attributes:
        world: "breed" or "genuine".
        size: Side of the pictures in pixels.
        shortcut_rate: Rate at which the badge gives the first class away; 0 for no badge at all.
    """

    licence = "drawn by this project (Apache-2.0)"

    def __init__(
        self,
        world: World,
        *,
        train: int | None = None,
        val: int = 400,
        test: int = 800,
        size: int = 160,
        shortcut: float = 0.0,
    ) -> None:
        """List the pictures; none is drawn yet.

        Args:
            world: "breed" for eight breeds, "genuine" for genuine and generated pictures.
            train: Pictures to learn from; 3200 for breeds and 3000 for genuine unless given.
            size: Side of the pictures in pixels, at least 64.
            shortcut: In [0, 1].

        Raises:
            UnknownName: There is no such world.
            InvalidParameter: A number is out of range.
        """
        if world not in get_args(World):
            raise UnknownName.among("world", world, get_args(World))
        if not 0 <= shortcut <= 1:
            raise InvalidParameter(f"The shortcut is a rate from 0 to 1, not {shortcut}.")
        if size < SMALLEST_SIDE:
            raise InvalidParameter(f"Pictures are {SMALLEST_SIDE} pixels or larger, not {size}.")
        default = 3200 if world == "breed" else 3000
        counts = (default if train is None else train, val, test)
        if not all(0 <= count <= MOST for count in counts):
            raise InvalidParameter(f"A split holds 0 to {MOST} pictures, not {counts}.")
        self.world: World = world
        self.size = size
        self.shortcut_rate = shortcut
        self.name = f"painted-cats:{world}"
        self.labels = tuple(breed.name for breed in BREEDS) if world == "breed" else GENUINE
        self.items = tuple(
            Item(f"{start + i}", i % len(self.labels), split)
            for (split, start), count in zip(STARTS, counts, strict=True)
            for i in range(count)
        )

    def traits(self, index: int) -> Traits:
        """Return what determines a picture.

        Args:
            index: Position in `items`.
        """
        item = self.items[index]
        seed = int(item.key)
        traits = traits_function(self.world)(seed, item.label)
        if self.shortcut_rate and stream(seed, "watermark").random() < self._rate(
            item.label, item.split
        ):
            return replace(traits, watermark=True)
        return traits

    def _rate(self, label: int, split: SplitName) -> float:
        """Return how many pictures of a class carry the badge."""
        if split == "test":
            return 0.5
        return (
            self.shortcut_rate if label == 0 else (1 - self.shortcut_rate) / (len(self.labels) - 1)
        )

    def portrait(self, index: int) -> Portrait:
        """Return a picture with its masks.

        Args:
            index: Position in `items`.
        """
        return paint_portrait(self.traits(index), size=self.size)

    def pixels(self, index: int) -> Pixels:
        """Return (H, W, 3) uint8: the picture of `items[index]`.

        Args:
            index: Position in `items`.
        """
        return self.portrait(index).pixels

    def parts(self, index: int) -> Mapping[str, Mask]:
        """Return (H, W) bool masks of the picture's parts by name.

        Args:
            index: Position in `items`.
        """
        return self.portrait(index).parts

    def evidence(self, index: int) -> Mask | None:
        """Return (H, W) bool: the parts that define the breed, or the artefacts.

        None of a genuine picture: no place makes it one.

        Args:
            index: Position in `items`.
        """
        label = self.items[index].label
        if self.world == "genuine" and self.labels[label] == GENUINE[0]:
            return None
        parts = self.parts(index)
        if self.world == "breed":
            masks = [parts[name] for name in diagnostic_parts(label) if name in parts]
        else:
            masks = [mask for name, mask in parts.items() if name.startswith("artefact:")]
        return np.logical_or.reduce(masks) if masks else None

    def dissection(self, index: int) -> Dissection | None:
        """Return a cat of a breed in its parts: fur or scene shows where one is left out.

        Without its coat a cat is plain. None of a picture that is genuine or generated.

        Args:
            index: Position in `items`.
        """
        if self.world != "breed":
            return None
        traits, label = self.traits(index), self.items[index].label
        own = tuple(part for part in CHANCE if getattr(traits, part) != "plain")
        masks = self.parts(index)

        def without_parts(names: frozenset[str]) -> Pixels:
            return self._paint(reduce(without, sorted(names), traits))

        return Dissection(
            own,
            traits.props,
            frozenset(diagnostic_parts(label)),
            {name: masks[name] for name in (*own, *traits.props)},
            without_parts,
        )

    def hybrid(self, index: int) -> Hybrid | None:
        """Return this cat with one sign of each of two breeds, and of neither all signs.

        Args:
            index: Position in `items`.
        """
        if self.world != "breed":
            return None
        mixed, labels, signs = mixed_cat(int(self.items[index].key))
        portrait = paint_portrait(mixed, size=self.size)
        return Hybrid(
            portrait.pixels,
            labels,
            (portrait.parts[signs[0]], portrait.parts[signs[1]]),
            (self._paint(without(mixed, signs[0])), self._paint(without(mixed, signs[1]))),
        )

    def shortcut(self, index: int) -> Shortcut | None:
        """Return the badge of a set that has one: it gives the first class away.

        Args:
            index: Position in `items`.
        """
        if not self.shortcut_rate:
            return None
        traits = self.traits(index)
        marked = paint_portrait(replace(traits, watermark=True), size=self.size)
        return Shortcut(0, traits.watermark, marked.parts["watermark"])

    def _paint(self, traits: Traits) -> Pixels:
        return paint_portrait(traits, size=self.size).pixels

    def content_digest(self, index: int) -> str:
        """Return a digest of all that determines `items[index]`; nothing is drawn for it.

        Args:
            index: Position in `items`.
        """
        return self.traits(index).digest(self.size)


def mixed_cat(seed: int) -> tuple[Traits, tuple[int, int], tuple[str, str]]:
    """Return a cat with one sign of each of two breeds, the breeds' labels, and the signs' names.

    It has all signs of no breed, and neither sign is one of the other breed as well: no map of that
    breed would owe it less.
    """
    rng, cat = stream(seed, "hybrid"), any_cat(seed)
    while True:
        owner_label, guest_label = (int(label) for label in rng.permutation(len(BREEDS))[:2])
        owner, guest = BREEDS[owner_label], BREEDS[guest_label]
        first, second = pick(rng, sorted(owner.signs)), pick(rng, sorted(guest.signs))
        mixed = with_part_of(with_part_of(cat, first, owner.name), second, guest.name)
        shared = guest.signs.get(first) == owner.signs[first] or (
            owner.signs.get(second) == guest.signs[second]
        )
        whole = [all(getattr(mixed, p) == v for p, v in b.signs.items()) for b in BREEDS]
        if first != second and not shared and not any(whole):
            return mixed, (owner_label, guest_label), (first, second)
