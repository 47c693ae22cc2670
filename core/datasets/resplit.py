"""A set with all its splits, where its maker has not made them: stratified, copies together."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace

from whylens.core.datasets.dataset import Dataset, Item, Mask, Pixels
from whylens.core.datasets.dataset_notes import check_counts, dataset_notes
from whylens.core.datasets.splits import complete_splits, fingerprint, group_copies


class Resplit(Dataset):
    """The pictures of another set in other splits."""

    def __init__(
        self,
        whole: Dataset,
        items: tuple[Item, ...],
        contents: tuple[str, ...],
        notes: tuple[str, ...],
    ) -> None:
        """Wrap a set; `resplit` finds what this takes.

        Args:
            items: Those of `whole` in the same order, with other splits.
        """
        self.name, self.labels, self.licence = whole.name, whole.labels, whole.licence
        self.items, self.notes = items, notes
        self._whole, self._contents = whole, contents

    def pixels(self, index: int) -> Pixels:
        """Return a picture."""
        return self._whole.pixels(index)

    def parts(self, index: int) -> Mapping[str, Mask]:
        """Return the masks of a picture's parts, where any are known."""
        return self._whole.parts(index)

    def content_digest(self, index: int) -> str:
        """Return the digest of what a picture shows."""
        return self._contents[index]


def resplit(
    whole: Dataset, *, val: float = 0.15, test: float = 0.15, seed: int = 0
) -> Generator[float, None, Resplit]:
    """Yield the share of pictures compared, and return the set with train, val and test.

    Args:
        val: Share for validation.
        test: Share for the test; 0 for none.

    Raises:
        BadInput: A class has too few pictures to be in every split.
    """
    labels = [item.label for item in whole.items]
    check_counts(whole.name, whole.labels, [whole.labels[label] for label in labels])
    prints = []
    for index in range(len(labels)):
        prints.append(fingerprint(whole.pixels(index), whole.content_digest(index)))
        yield (index + 1) / len(labels)
    groups = group_copies(prints)
    own = [item.split for item in whole.items]
    splits, split_notes = complete_splits(own, labels, groups, val=val, test=test, seed=seed)
    items = tuple(
        replace(item, split=split) for item, split in zip(whole.items, splits, strict=True)
    )
    contents = tuple(print_.content for print_ in prints)
    notes = (*whole.notes, *split_notes, *dataset_notes(items, whole.labels, groups))
    return Resplit(whole, items, contents, notes)
