"""What to tell whoever trains on a set: too few pictures, uneven classes, copies, empty splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from whylens.core.datasets.dataset import SPLITS, Item
from whylens.core.errors import BadInput, quote
from whylens.core.words import number_of, was

FEWEST, FEW, UNEVEN = 4, 20, 3.0


def dataset_notes(
    items: Sequence[Item], labels: Sequence[str], groups: Sequence[int]
) -> tuple[str, ...]:
    """Return sentences on a set that is split.

    Args:
        groups: Number of each picture's group; copies of one picture share one.
    """
    counts = Counter(labels[item.label] for item in items)
    return (
        *_count_notes(labels, counts),
        *_copy_notes(items, groups),
        *_split_notes(items, labels),
    )


def check_counts(
    place: str,
    labels: Sequence[str],
    readable: Iterable[str],
    unreadable: Sequence[tuple[str, str, str]] = (),
) -> None:
    """Refuse a set that has too few pictures of a class.

    Args:
        readable: Label of every picture.
        unreadable: Label, key and reason of every file that is left out.

    Raises:
        BadInput: It has.
    """
    counts = Counter(readable)
    if not counts and unreadable:
        _, key, reason = unreadable[0]
        raise BadInput(f"No picture in {place} can be read. The first: {key}: {reason}")
    for label in labels:
        count = counts[label]
        if count < FEWEST:
            bad = [f"{key}: {reason}" for name, key, reason in unreadable if name == label]
            more = f" and {len(bad)} that cannot be read ({bad[0]})" if bad else ""
            raise BadInput(
                f"{quote(label)} in {place} has {pictures(count)}{more}; at least {FEWEST} per "
                "class are needed, and 50 or more to learn anything."
            )


def left_out_notes(unreadable: Sequence[tuple[str, str]], count: int) -> tuple[str, ...]:
    """Return how many files were left out, and which, by reason.

    Args:
        unreadable: Key and reason of each.
        count: Of all files.
    """
    if not unreadable:
        return ()
    keys: dict[str, list[str]] = defaultdict(list)
    for key, reason in unreadable:
        keys[reason].append(key)
    by_number = sorted(keys.items(), key=lambda pair: -len(pair[1]))
    reasons = [
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' * (len(names) > 3)}: {reason}"
        for reason, names in by_number[:5]
    ]
    if len(by_number) > 5:
        reasons.append(f"{number_of(len(by_number) - 5, 'more reason')}.")
    number = len(unreadable)
    files = number_of(count, "file")
    head = f"{number:,} of {files} {was(number)} left out, which could not be read. "
    return (head + " ".join(reasons),)


def pictures(count: int) -> str:
    """Return a number of pictures in words."""
    return number_of(count, "picture")


def _count_notes(labels: Sequence[str], counts: Mapping[str, int]) -> Iterable[str]:
    small = [f"{label} ({counts[label]})" for label in labels if counts[label] < FEW]
    if small:
        yield (
            f"Fewer than {FEW} pictures in {', '.join(small[:5])}: its figures are hardly more "
            "than chance. Add pictures."
        )
    most, least = max(labels, key=counts.__getitem__), min(labels, key=counts.__getitem__)
    if counts[most] > UNEVEN * counts[least]:
        yield (
            f"The classes are uneven: {counts[most]} of {most}, {counts[least]} of {least}. Rare "
            "classes are weighted up; read the recall of each class, not the accuracy."
        )


def _copy_notes(items: Sequence[Item], groups: Sequence[int]) -> Iterable[str]:
    members: dict[int, list[Item]] = defaultdict(list)
    for item, group in zip(items, groups, strict=True):
        members[group].append(item)
    copied = [group for group in members.values() if len(group) > 1]
    if not copied:
        return
    yield (
        f"{sum(map(len, copied))} pictures are copies or near copies of one another, in "
        f"{number_of(len(copied), 'group')}, as {copied[0][0].key} and {copied[0][1].key}."
    )
    split_groups = [group for group in copied if len({item.split for item in group}) > 1]
    if split_groups:
        yield (
            f"{len(split_groups)} of these groups {'lies' if len(split_groups) == 1 else 'lie'} in "
            "more than one of the set's own splits: the figures are too good by them. Split it "
            "again."
        )
    mixed = [group for group in copied if len({item.label for item in group}) > 1]
    if mixed:
        yield (
            f"{len(mixed)} of these groups {'carries' if len(mixed) == 1 else 'carry'} different "
            f"labels, as {mixed[0][0].key}: correct them."
        )


def _split_notes(items: Sequence[Item], labels: Sequence[str]) -> Iterable[str]:
    present = {(item.split, item.label) for item in items}
    splits = [split for split in SPLITS if any(item.split == split for item in items)]
    for split in splits:
        missing = [label for i, label in enumerate(labels) if (split, i) not in present]
        if missing:
            yield f"The {split} split has no picture of {', '.join(missing[:5])}."
